/**
 * Making a metadata copy while commands go on: the view of the primary is cloned from a snapshot at position P and
 * made durable, a log begins at P + 1 and is caught up from the primary's, and in a pause between two batches the
 * last records are taken over and the copy joins.
 */
import { markUnclean, MetadataCopy, wipeCopy } from './copy.js'
import { cloneView } from './clone.js'
import { LOG, makeDirectory, META } from './drive_files.js'
import type { MetaDrive } from './drive_files.js'
import { CommandLog } from './log/command_log.js'
import type { LogOptions } from './log/command_log.js'
import { catchUp } from './start.js'
import { nextViewName } from './views.js'
import type { ViewFactory } from './views.js'

/** Records that may be left for the pause. */
const NEARLY = 64
/** Rounds of catching up before the pause takes whatever is left. */
const ROUNDS = 20

export interface Joining {
  /** The copy to clone and catch up from: the primary of the moment. */
  source: () => MetadataCopy
  /** Runs work while no batch is in flight. */
  betweenBatches: <T>(work: () => Promise<T>) => Promise<T>
  /** True when the engine is closing: the clone is given up at its next slice. */
  stopped: () => boolean
  /** Makes the copy one of those that acknowledge. */
  join: (copy: MetadataCopy) => Promise<void>
}

export async function makeCopy(
  drive: MetaDrive,
  options: { views: ViewFactory; log: LogOptions },
  joining: Joining,
): Promise<MetadataCopy> {
  const { views } = options
  const used = await views.list(drive)
  await wipeCopy(drive, views)
  await makeDirectory(drive.io, META)
  await markUnclean(drive)
  const name = nextViewName(used)
  const view = await views.create(drive, name)
  let copy: MetadataCopy | undefined
  let log: CommandLog | undefined
  try {
    const source = joining.source()
    const position = source.applied
    const snapshot = source.view.snapshot()
    try {
      await cloneView(snapshot, view, () => {
        if (joining.stopped()) throw new Error('the engine is closing')
      })
    } finally {
      snapshot.release()
    }
    await view.flush(position)
    log = await CommandLog.create(drive.io, LOG, position + 1, options.log)
    await drive.io.run([{ op: 'syncDir', path: META }])
    copy = new MetadataCopy(drive, log, view, name)
    for (let round = 0; round < ROUNDS && source.log.lastIndex - log.lastIndex > NEARLY; round++) {
      await catchUpCopy(copy, joining.source())
    }
    const ready = copy
    await joining.betweenBatches(async () => {
      await catchUpCopy(ready, joining.source())
      await joining.join(ready)
    })
    return copy
  } catch (error) {
    await view.close().catch(() => undefined)
    await log?.close().catch(() => undefined)
    throw error
  }
}

async function catchUpCopy(copy: MetadataCopy, source: MetadataCopy): Promise<void> {
  await catchUp(copy.log, source.log, source.applied)
  if (copy.applied < copy.log.lastIndex) for await (const record of copy.log.read(copy.applied + 1)) copy.replay(record)
}
