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
  command.action((directory: string) => restore(command, directory, false))
}

/** The same as `ostraka admin metadata snapshot restore --path DIRECTORY`. */
export function addSnapshotRestore(parent: Command): void {
  const command = parent
    .command('restore')
    .description('the same as restore-metadata: make the metadata anew from a snapshot, with no server running')
    .requiredOption('--path <directory>', 'directory that the snapshot was written to')
    .option('--json', 'print JSON')
  addSettings(command, RESTORE_SETTINGS)
  command.action(() =>
    restore(command, String(command.getOptionValue('path')), command.getOptionValue('json') === true),
  )
}

async function restore(command: Command, directory: string, json: boolean): Promise<void> {
  const { config } = readSettings(command)
  const { position, records } = await restoreMetadata(resolve(directory), config)
  if (json) process.stdout.write(`${JSON.stringify({ position, records, collectionEnabled: false }, null, 2)}\n`)
  else {
    process.stdout.write(
      `restored ${String(records)} records, as of log position ${String(position)}.\n` +
        'Collection is off, since data written after the backup looks unreferenced. Start the server, look,\n' +
        'then confirm with: ostraka admin metadata enable-collection\n',
    )
  }
}
