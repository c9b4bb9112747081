/** `ostraka serve`: runs the server until a signal ends it. */
import type { Command } from 'commander'

import { addSettings, readSettings } from './settings_options.js'

export function addServeCommand(parent: Command): void {
  const command = parent.command('serve').description('serve S3 from a set of drives')
  addSettings(command)
  command.action(async () => {
    const { config } = readSettings(command)
    const { serve } = await import('../server/serve.js')
    await serve(config)
  })
}
