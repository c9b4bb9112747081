/** `ostraka restore-metadata`: makes the metadata copies anew from a backup, while no server runs on the drives. */
import { resolve } from 'node:path'

import type { Command } from 'commander'

import { restoreMetadata } from '../server/control/restore.js'
import { addSettings, readSettings } from './settings_options.js'

const RESTORE_SETTINGS = ['drives', 'setSize', 'parity', 'metadataCopies', 'driveDeadline'] as const

export function addRestoreCommand(parent: Command): void {
  const command = parent
    .command('restore-metadata <directory>')
    .description('make the metadata copies anew from a backup; the server must not be running')
  addSettings(command, RESTORE_SETTINGS)
  command.action(async (directory: string) => {
    const { config } = readSettings(command)
    const { position, records } = await restoreMetadata(resolve(directory), config)
    process.stdout.write(
      `restored ${String(records)} records, as of log position ${String(position)}.\n` +
        'Collection is off, since data written after the backup looks unreferenced. Start the server, look,\n' +
        'then confirm with: ostraka admin metadata enable-collection\n',
    )
  })
}
