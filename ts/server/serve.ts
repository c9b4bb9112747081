import type { Config } from './config/settings.js'
export async function serve(config: Config): Promise<void> { await Promise.resolve(config) }
