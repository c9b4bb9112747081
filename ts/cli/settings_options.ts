/** Turns the table of settings into options of a command, and the options given back into text per flag. */
import { Option } from 'commander'
import type { Command } from 'commander'

import { flagOf, settings } from '../server/config/settings.js'
import type { Config, Setting } from '../server/config/settings.js'
import { loadConfig } from '../server/config/load.js'
import type { LoadedConfig } from '../server/config/load.js'

/** `only`: those settings, for commands that need few. */
export function addSettings(command: Command, only?: readonly (keyof Config)[]): Command {
  command.option('--config <file>', 'YAML file with settings (OSTRAKA_CONFIG)')
  for (const name of only ?? (Object.keys(settings) as (keyof Config)[])) {
    const setting: Setting<unknown> = settings[name]
    const standard = setting.derived ?? (setting.default === '' ? 'none' : setting.default)
    const about = `${setting.about.split('. ')[0] ?? ''} (default: ${standard.replaceAll('`', '')})`
    command.addOption(new Option(`--${flagOf(setting)} <value>`, about))
  }
  return command
}

/** Only flags that were on the command line, by their names without dashes. */
export function readSettings(command: Command): LoadedConfig {
  const flags: Record<string, string> = {}
  for (const option of command.options) {
    const value: unknown = command.getOptionValue(option.attributeName())
    if (option.long !== '--config' && typeof value === 'string') flags[(option.long ?? '').slice(2)] = value
  }
  const file: unknown = command.getOptionValue('config')
  return loadConfig({ flags, env: process.env, ...(typeof file === 'string' ? { file } : {}) })
}
