/** Making the metadata of a store from a backup (backup.ts), offline. */
import { readFile } from 'node:fs/promises'
import { BACKUP_FORMAT } from './backup.js'
import type { BackupManifest } from './backup.js'
import { cloneView } from './clone.js'
import { markUnclean, MetadataCopy, wipeCopy } from './copy.js'
import { readCopySets, writeCopySet } from './copy_set.js'
import { listNames, LOG, makeDirectory, META, plainDurability } from './drive_files.js'
import type { MetaDrive } from './drive_files.js'
import { MetadataError } from './engine.js'
import { LmdbView } from './lmdb_view.js'
import { LocalEngine } from './local_engine.js'
import type { LocalEngineOptions } from './local_engine.js'
import { CommandLog, DEFAULT_LOG_OPTIONS } from './log/command_log.js'
import { verifyView } from './verify.js'
import { verifyInChild } from './verify_child.js'
import { lmdbViews, nextViewName } from './views.js'

/** Throws MetadataError 'corrupt' when the directory is not a whole backup. */
export async function readManifest(path: string): Promise<BackupManifest> {
  let manifest: BackupManifest
  try {
    manifest = JSON.parse(await readFile(`${path}/manifest.json`, 'utf8')) as BackupManifest
  } catch (error) {
    throw new MetadataError('corrupt', `${path} is not a finished backup`, { cause: error })
  }
  if (manifest.format !== BACKUP_FORMAT)
    throw new MetadataError('corrupt', `the backup has format ${String(manifest.format)}`)
  return manifest
}

/**
 * Makes the first copies of a store from a backup. Offline: nobody serves these drives, and none of them has
 * metadata (MetadataError 'unavailable' otherwise). Collection is off afterwards, because data that was written
 * after the backup looks unreferenced: the operator confirms.
 */
export async function restoreBackup(path: string, options: LocalEngineOptions): Promise<BackupManifest> {
  const manifest = await readManifest(path)
  const { drives } = options
  const { newest, problems } = await readCopySets(drives)
  const used = await Promise.all(drives.map(async ({ io }) => (await listNames(io, META)).length > 0))
  if (newest !== undefined || problems.size > 0 || used.includes(true)) {
    throw new MetadataError('unavailable', 'these drives have metadata: remove it first')
  }
  const files = plainDurability(`${path}/view`)
  LmdbView.recover(files.path)
  await verifyInChild(files.path)
  const source = LmdbView.open(files)
  try {
    if (verifyView(source).digest !== manifest.digest) {
      throw new MetadataError('corrupt', 'the backup is not what its manifest says')
    }
    const chosen = drives.slice(0, Math.max(1, options.copies))
    for (const drive of chosen) await restoreCopy(source, manifest.position, drive, options)
    const failed = await writeCopySet(drives, { generation: 1, members: chosen.map(({ number }) => number) }, 60_000)
    for (const [drive, error] of failed) {
      throw new MetadataError('unavailable', `drive ${String(drive)} does not take the copy set`, { cause: error })
    }
  } finally {
    await source.close()
  }
  const engine = await LocalEngine.open(options)
  try {
    await engine.propose({ kind: 'setCollection', enabled: false })
  } finally {
    await engine.close()
  }
  return manifest
}

async function restoreCopy(
  source: LmdbView,
  position: number,
  drive: MetaDrive,
  options: LocalEngineOptions,
): Promise<void> {
  const views = options.views ?? lmdbViews
  await wipeCopy(drive, views)
  await makeDirectory(drive.io, META)
  await markUnclean(drive)
  const name = nextViewName([])
  const view = await views.create(drive, name)
  await cloneView(source, view)
  await view.flush(position)
  const log = await CommandLog.create(drive.io, LOG, position + 1, { ...DEFAULT_LOG_OPTIONS, ...options.log })
  await drive.io.run([{ op: 'syncDir', path: META }])
  await new MetadataCopy(drive, log, view, name).close(true)
}
