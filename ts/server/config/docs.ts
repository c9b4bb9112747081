/** The table of settings as Markdown: docs/configuration.md holds exactly this between its two marks. */
import { flagOf, settings, variableOf } from './settings.js'
import type { Config, Setting } from './settings.js'

export function settingsTable(): string {
  const lines: string[] = []
  for (const name of Object.keys(settings) as (keyof Config)[]) {
    const setting: Setting<unknown> = settings[name]
    const standard = setting.derived ?? (setting.default === '' ? 'none' : `\`${setting.default}\``)
    lines.push(
      `### ${setting.key}`,
      '',
      `\`${variableOf(setting)}\`, \`--${flagOf(setting)}\``,
      '',
      setting.about,
      '',
      `- Expected: ${setting.shape.expected}`,
      `- Default: ${standard}`,
      '',
    )
  }
  return lines.join('\n')
}
