/** Where the drives and the credentials file are, from the configuration. */
import { mkdirSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'

import { expandDrivePatterns } from '../config/drive_patterns.js'
import type { Config } from '../config/settings.js'

/** Without a configuration: four drives below the current directory. */
const DEFAULT_DRIVES = 'data/drive{1...4}'

/** Absolute paths of the drives, in the operator's order. Only the default ones are made. */
export function drivePaths(config: Config): string[] {
  if (config.drives !== '') return expandDrivePatterns(config.drives)
  const paths = expandDrivePatterns(DEFAULT_DRIVES)
  for (const path of paths) mkdirSync(path, { recursive: true })
  return paths
}

export function credentialsPath(config: Config): string {
  if (config.credentialsFile !== '') return resolve(config.credentialsFile)
  return join(folderOfDrives(config), 'credentials')
}

/** The directory above the first drive. */
export function folderOfDrives(config: Config): string {
  const [first = ''] = expandDrivePatterns(config.drives === '' ? DEFAULT_DRIVES : config.drives)
  return dirname(first)
}
