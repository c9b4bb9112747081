/** Module hooks (registered by main.ts): the modules of dist/ts are instrumented as they are loaded. */
import type { LoadHook } from 'node:module'

import { instrument } from './instrument.js'

const INSTRUMENTED = new URL('../../ts/', import.meta.url).href

export const load: LoadHook = async (url, context, nextLoad) => {
  const loaded = await nextLoad(url, context)
  if (!url.startsWith(INSTRUMENTED) || loaded.source === undefined || loaded.source === null) return loaded
  const source = typeof loaded.source === 'string' ? loaded.source : Buffer.from(loaded.source as Uint8Array).toString()
  return { ...loaded, source: instrument(url.slice(INSTRUMENTED.length), source).code }
}
