/** One metadata copy: a log and a view on one drive, as long as both can be trusted. */
import { applyBatch, decodeBatch, readApplied } from './apply/apply.js'
import { CheckedView, emptyView } from './chain.js'
import { listNames, LOG, makeDirectory, META, readSmall, removeDirectory, replaceFile, UNCLEAN } from './drive_files.js'
import type { MetaDrive } from './drive_files.js'
import { MetadataError } from './engine.js'
import { CommandLog } from './log/command_log.js'
import type { LogOptions } from './log/command_log.js'
import type { LogRecord } from './log/frame.js'
import type { RawWrite, ViewStore } from './view_store.js'
import { nextViewName } from './views.js'
import type { ViewFactory } from './views.js'

/** What waits for a secondary view is applied at the latest when it is this large. */
const PENDING_BYTES = 4 << 20

export class MetadataCopy {
  readonly drive: MetaDrive
  readonly log: CommandLog
  readonly view: ViewStore
  readonly viewName: string
  /** Log index that the view has applied. */
  applied: number
  /** Writes of records that the view lacks, in order. */
  #pending: RawWrite[] = []
  #pendingBytes = 0
  #pendingApplied: number
  flushing: Promise<void> | undefined

  constructor(drive: MetaDrive, log: CommandLog, view: ViewStore, viewName: string) {
    this.drive = drive
    this.log = log
    this.view = view
    this.viewName = viewName
    this.applied = readApplied(new CheckedView(view)).index
    this.#pendingApplied = this.applied
  }

  /** Applies a record to this view alone, as a replay does. Throws MetadataError 'corrupt'. */
  replay(record: LogRecord): void {
    const batch = decodeBatch(record.payload)
    const { writes } = applyBatch(this.view, { index: record.index, term: record.term }, batch)
    this.commit(writes, record.index)
  }

  commit(writes: readonly RawWrite[], index: number): void {
    this.drain()
    this.view.commit(writes)
    const { index: written } = readApplied(new CheckedView(this.view))
    if (written !== index) throw new MetadataError('corrupt', `the view says ${String(written)} after ${String(index)}`)
    this.applied = index
    this.#pendingApplied = index
  }

  /** Bytes of writes that wait for `drain`. */
  get pendingBytes(): number {
    return this.#pendingBytes
  }

  /** Takes a write set of the primary; it is applied with others, by the next `drain` at the latest. */
  follow(writes: readonly RawWrite[], index: number): void {
    if (index !== this.#pendingApplied + 1)
      throw new MetadataError('corrupt', `write set ${String(index)} out of order`)
    for (const write of writes) {
      this.#pending.push(write)
      this.#pendingBytes += write.key.length + (write.value?.length ?? 0)
    }
    this.#pendingApplied = index
    if (this.#pendingBytes > PENDING_BYTES) this.drain()
  }

  /** Applies what waits, as one transaction. */
  drain(): void {
    if (this.#pending.length === 0) return
    this.view.commit(this.#pending)
    this.#pending = []
    this.#pendingBytes = 0
    this.applied = this.#pendingApplied
  }

  /** Makes the view durable as far as it is applied. One at a time. */
  async flush(): Promise<void> {
    if (this.flushing !== undefined) return this.flushing
    this.drain()
    if (this.applied === this.view.flushedPosition) return
    this.flushing = this.view.flush(this.applied)
    try {
      await this.flushing
    } finally {
      this.flushing = undefined
    }
  }

  async close(clean: boolean): Promise<void> {
    if (clean) await this.flush()
    else await this.flushing?.catch(() => undefined)
    await this.view.close()
    await this.log.close()
    if (clean) await this.drive.io.run([{ op: 'unlink', path: UNCLEAN }, { op: 'syncDir', path: META }])
  }
}

/** Removes everything of a metadata copy from a drive; false when there was nothing. */
export async function wipeCopy(drive: MetaDrive, views: ViewFactory): Promise<boolean> {
  if ((await listNames(drive.io, META)).length === 0) return false
  for (const name of await views.list(drive)) await views.remove(drive, name)
  await removeDirectory(drive.io, LOG)
  for (const name of await listNames(drive.io, META)) {
    await drive.io.run([{ op: 'unlink', path: `${META}/${name}` }, { op: 'syncDir', path: META }])
  }
  return true
}

/** Says that the copy is in use, and how many times in a row it was opened without a clean stop in between. */
export async function markUnclean(drive: MetaDrive, starts = 1): Promise<void> {
  await replaceFile(drive.io, UNCLEAN, Buffer.from(`${String(starts)}\n`))
}

/** How many times in a row the copy was opened and not closed cleanly: 0 after a clean stop. */
export async function uncleanStarts(drive: MetaDrive): Promise<number> {
  const bytes = await readSmall(drive.io, UNCLEAN, 1024)
  if (bytes === undefined) return 0
  const starts = Number.parseInt(bytes.toString('latin1'), 10)
  return Number.isInteger(starts) && starts > 0 ? starts : 1
}

/** A copy of a store that has no commands yet. */
export async function createEmptyCopy(
  drive: MetaDrive,
  views: ViewFactory,
  options: LogOptions,
): Promise<MetadataCopy> {
  await wipeCopy(drive, views)
  await makeDirectory(drive.io, META)
  await markUnclean(drive)
  const name = nextViewName([])
  const view = await views.create(drive, name)
  view.commit(emptyView())
  await view.flush(0)
  const log = await CommandLog.create(drive.io, LOG, 1, options)
  await drive.io.run([{ op: 'syncDir', path: META }])
  return new MetadataCopy(drive, log, view, name)
}
