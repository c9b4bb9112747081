/**
 * Backups of the metadata: a directory with a view (as a copy has one) and `manifest.json` with position, number
 * of records and digest. Data is not in it: a restored store needs the drives with the shards.
 */
import { mkdir } from 'node:fs/promises'
import { readApplied } from './apply/apply.js'
import { CheckedView } from './chain.js'
import { cloneView } from './clone.js'
import { plainDurability } from './drive_files.js'
import { CLUSTER_KEY } from './keys.js'
import { LmdbView } from './lmdb_view.js'
import { unpack } from './record.js'
import type { ClusterRecord } from './schema.js'
import { verifyView } from './verify.js'
import type { ViewSnapshot } from './view_store.js'

export const BACKUP_FORMAT = 1

export interface BackupManifest {
  format: number
  position: number
  records: number
  digest: string
  clusterId: string
  createdMs: number
}

/** `path` must not exist. `total`: how many records to expect. */
export async function writeBackup(
  snapshot: ViewSnapshot,
  path: string,
  total: number,
  onProgress?: (done: number, total: number) => void,
): Promise<{ position: number; records: number }> {
  await mkdir(path)
  const state = new CheckedView(snapshot)
  const position = readApplied(state).index
  const cluster = state.get(CLUSTER_KEY)
  const files = plainDurability(`${path}/view`)
  const view = LmdbView.create(files)
  try {
    const records = await cloneView(snapshot, view, (done) => onProgress?.(done, Math.max(done, total)))
    await view.flush(position)
    const { digest } = verifyView(view)
    const clusterId = cluster === undefined ? '' : (unpack(cluster) as ClusterRecord).clusterId
    const manifest: BackupManifest = {
      format: BACKUP_FORMAT,
      position,
      records,
      digest,
      clusterId,
      createdMs: Date.now(),
    }
    await plainDurability(path).replace('manifest.json', Buffer.from(`${JSON.stringify(manifest, undefined, 2)}\n`))
    onProgress?.(records, records)
    return { position, records }
  } finally {
    await view.close()
  }
}
