/** Offline restore of the metadata from a backup, onto drives that are locked for the time it takes. */
import { openDrives } from '../../drive/open_drives.js'
import { restoreBackup } from '../../meta/restore.js'
import { NodeIdentityError, readIdentity } from '../cluster/identity.js'
import { AUTO } from '../config/units.js'
import type { Config } from '../config/settings.js'
import { drivePaths } from './drive_paths.js'

/** A node of a replicated store gets its metadata from the others; its own past would stand against theirs. */
function refuseFork(config: Config): void {
  const identity = readIdentity(config)
  if (identity === undefined) return
  throw new NodeIdentityError(
    `this is node ${String(identity.nodeId)} of a replicated store: a restore here would fork its history. Remove the ` +
      'node and add it anew; if all nodes are lost, restore onto drives without node.json',
  )
}

/**
 * Rejects with DrivesRefusedError, NodeIdentityError, or MetadataError when drives have metadata or the backup is not
 * whole.
 */
export async function restoreMetadata(
  directory: string,
  config: Config,
): Promise<{ position: number; records: number }> {
  refuseFork(config)
  const opened = await openDrives({
    paths: drivePaths(config),
    setSize: config.setSize === AUTO ? 0 : config.setSize,
    parity: config.parity === AUTO ? undefined : config.parity,
    deadlineMs: config.driveDeadline,
  })
  try {
    const drives = opened.places.flatMap(({ state, format, io, path }) =>
      state === 'present' && format !== undefined ? [{ number: format.number, io, path }] : [],
    )
    const copies = config.metadataCopies === AUTO ? opened.layout.parity + 1 : config.metadataCopies
    const { position, records } = await restoreBackup(directory, {
      drives,
      copies: Math.min(copies, drives.length),
    })
    return { position, records }
  } finally {
    await opened.close()
  }
}
