/** `ostraka config`: what the server would run with, and where each value comes from. Secrets are not shown. */
import type { Command } from 'commander'

import type { LoadedConfig } from '../server/config/load.js'
import { settings } from '../server/config/settings.js'
import type { Config, Setting } from '../server/config/settings.js'
import { addSettings, readSettings } from './settings_options.js'

export interface ConfigRow {
  key: string
  /** As an operator would write it; null when the setting has no value. */
  value: string | null
  from: string
}

export function configRows({ config, origins }: LoadedConfig): ConfigRow[] {
  return (Object.keys(settings) as (keyof Config)[]).map((name) => {
    const setting: Setting<unknown> = settings[name]
    const shown = setting.shape.show(config[name])
    const value = shown === '' ? null : setting.secret === true ? '(set)' : shown
    return { key: setting.key, value, from: origins[name] }
  })
}

export function addConfigCommand(parent: Command): void {
  const command = parent
    .command('config')
    .description('show every setting, its value and where it comes from')
  addSettings(command)
  command.option('--json', 'print JSON; a setting without a value is null')
  command.action(() => {
    const rows = configRows(readSettings(command))
    if (command.getOptionValue('json') === true) {
      process.stdout.write(`${JSON.stringify(rows, null, 2)}\n`)
      return
    }
    for (const { key, value, from } of rows)
      process.stdout.write(`${key.padEnd(32)} ${(value ?? '-').padEnd(24)} ${from}\n`)
  })
}
