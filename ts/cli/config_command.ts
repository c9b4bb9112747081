/** `ostraka config`: what the server would run with, and where each value comes from. Secrets are not shown. */
import type { Command } from 'commander'

import { settings } from '../server/config/settings.js'
import type { Config, Setting } from '../server/config/settings.js'
import { addSettings, readSettings } from './settings_options.js'

export function addConfigCommand(parent: Command): void {
  const command = parent
    .command('config')
    .description('show every setting, its value and where it comes from')
  addSettings(command)
  command.option('--json', 'print JSON')
  command.action(() => {
    const { config, origins } = readSettings(command)
    const rows = (Object.keys(settings) as (keyof Config)[]).map((name) => {
      const setting: Setting<unknown> = settings[name]
      const value = setting.shape.show(config[name])
      return {
        key: setting.key,
        value: setting.secret === true && value !== '' ? '(set)' : value,
        from: origins[name],
      }
    })
    if (command.getOptionValue('json') === true) {
      process.stdout.write(`${JSON.stringify(rows, null, 2)}\n`)
      return
    }
    for (const row of rows)
      process.stdout.write(`${row.key.padEnd(32)} ${row.value.padEnd(24)} ${row.from}\n`)
  })
}
