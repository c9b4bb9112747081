/**
 * Group commit into segments: one writer for each thread and drive, so that appends take no lock.
 *
 * Model: records queue up; whenever no batch is in flight, all that wait become the next one, written and synced in one
 * submission. There is no timer: an idle writer commits at the end of the turn of the event loop, with what other
 * requests brought in it; a busy one gathers while the drive syncs. What is in a batch is acknowledged together, and
 * named by the index before it is acknowledged.
 *
 * Zeros are written ahead of small batches. A batch that makes the file longer, or lands in blocks that were never
 * written, has its sync write the file system's journal too: twice the time of a sync of blocks that have been. They
 * are cut off when the segment is sealed, or found unsealed at the next start. Large batches do without: for them it
 * would be twice the bytes, for small ones it is no more than the journal they spare.
 *
 * The active segment is sealed when it is full, and at a clean end; the next one is made, with its directory synced,
 * while the last quarter of it is filled, so that nobody waits for that.
 *
 * Invariants:
 * - One batch at a time; its syncedTo is where it begins, since everything before it was synced.
 * - After a failed write or sync the segment is never written to again, but for a full drive: then what the batch left
 *   is cut off first. The sync is not tried again. Tombstones that found no room are tried once more without the
 *   ballast.
 * - A record that is to replace another goes behind it: to the same segment or one of a higher number
 *   (segment_index.ts says why).
 */
import { type DataId, ShardError, type ShardHeader } from '../drive.js'
import { IoError, type IoOp, LAST_OPENED } from '../io.js'
import type { DriveAccess } from '../local_drive.js'
import { encodeBatchHeader } from './batch.js'
import { BatchBuilder } from './batch_builder.js'
import { HintBuilder } from './hint.js'
import {
  BALLAST_PATH,
  encodeSegmentHeader,
  hintPath,
  MAX_OFFSET,
  SEGMENT_HEADER_SIZE,
  segmentPath,
  SEGMENTS_DIRECTORY,
  segmentSeed,
} from './segment_file.js'
import type { SegmentIndex } from './segment_index.js'

export interface SegmentWriterOptions {
  driveId: string
  /** A segment is sealed when it has so many bytes, or so many records. */
  sealBytes: number
  sealRecords: number
  /** Bounds of one batch. */
  batchBytes: number
  /** Bytes that may wait; more are refused. */
  queueBytes: number
  /** Zeros written ahead of small batches, at a time; 0: none. */
  aheadBytes: number
  /** Making and sealing segments waits behind foreground work as well. */
  background?: boolean
}

export const DEFAULT_WRITER_OPTIONS: Omit<SegmentWriterOptions, 'driveId'> = {
  sealBytes: 256 * 2 ** 20, sealRecords: 2 ** 18, batchBytes: 4 * 2 ** 20, queueBytes: 64 * 2 ** 20,
  aheadBytes: 2 ** 20,
}

/** Zeros are written ahead behind batches of at most so many bytes, when less than an eighth of them is left. */
const AHEAD_BATCH = 128 * 1024

/** A shard with its cells, or a tombstone. What compaction moves may use the reserve of a full drive. */
export type NewRecord =
  | { kind: 'shard'; header: ShardHeader; cells: readonly Uint8Array[]; moved?: true }
  | { kind: 'tombstone'; dataId: DataId; buried: number }

export interface Append {
  record: NewRecord
  /** Its segment has at least this number. */
  notBelow: number
  background: boolean
  /** How the record, now durable at (number, offset), is told to the index; undefined: it is added. */
  place: ((number: number, offset: number, size: number) => void) | undefined
  /** One of these is called, once, and must not throw. */
  resolve: () => void
  reject: (error: unknown) => void
}

interface Item extends Append {
  bytes: number
  /** Tried again after the ballast was given up. */
  again: boolean
  /** Once it is in a batch: where it lies in the segment, and its bytes without padding. */
  offset: number
  size: number
}

/** A segment that is open for writing, and everything that its hint will say. */
export interface OpenSegment {
  number: number
  seed: number
  file: number
  end: number
  /** Zeros lie before this offset, if it is beyond the end. */
  zeroedTo: number
  hint: HintBuilder
}

export class SegmentWriter {
  readonly #drive: DriveAccess
  readonly #index: SegmentIndex
  readonly #options: SegmentWriterOptions
  #queue: Item[] = []
  #queuedBytes = 0
  /** Of the batch that is next, or in flight. */
  #builder: BatchBuilder | undefined
  #active: OpenSegment | undefined
  #prepared: Promise<OpenSegment> | undefined
  #pump: Promise<void> | undefined
  /** Segments that are being sealed. */
  readonly #sealing = new Set<Promise<void>>()
  #closed = false

  constructor(drive: DriveAccess, index: SegmentIndex, options: SegmentWriterOptions) {
    this.#drive = drive
    this.#index = index
    this.#options = { ...options, sealBytes: Math.min(options.sealBytes, MAX_OFFSET - options.batchBytes) }
  }

  /** Number of the active segment, 0 without one. */
  get activeNumber(): number {
    return this.#active?.number ?? 0
  }

  /**
   * Resolves when the record is durable and the index knows it. The cells must stay as they are until then.
   * Rejects with ShardError, or RangeError when the header cannot be written.
   */
  append(
    record: NewRecord, notBelow: number, background: boolean, place?: Item['place'],
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      this.enqueue({ record, notBelow, background, place, resolve, reject })
    })
  }

  /** As `append`; throws when nothing can be appended. */
  enqueue({ record, notBelow, background, place, resolve, reject }: Append): void {
    let bytes = 40
    if (record.kind === 'shard') {
      bytes = 128
      for (const cell of record.cells) bytes += cell.length
    }
    if (this.#closed || this.#queuedBytes + bytes > this.#options.queueBytes) {
      const why = this.#closed ? 'the drive is closed' : 'too many bytes wait to be written'
      throw new ShardError('io', this.#drive.number, why)
    }
    this.#queuedBytes += bytes
    this.#queue.push({ record, bytes, notBelow, background, again: false, offset: 0, size: 0, place, resolve, reject })
    this.#pump ??= this.#run()
  }

  /** Seals the active segment, once nothing waits any more. Nothing is appended after this. */
  async close(): Promise<void> {
    this.#closed = true
    await this.#pump
    await this.roll()
    const prepared = await this.#prepared?.catch(() => undefined)
    this.#prepared = undefined
    if (prepared !== undefined) this.#seal(prepared)
    await Promise.all(this.#sealing)
  }

  /** Seals the active segment, once nothing waits; what is appended from now on goes to another. */
  async roll(): Promise<void> {
    await this.#pump
    const active = this.#active
    this.#active = undefined
    if (active !== undefined) this.#seal(active)
    await Promise.all(this.#sealing)
  }

  /** Call now and then: seals a segment that nothing is appended to, if compaction has asked for that. */
  async tend(): Promise<void> {
    const { sealBelow } = this.#index.table
    if (this.#pump !== undefined || sealBelow === 0) return
    const prepared = this.#prepared
    if (this.#active !== undefined && this.#active.number < sealBelow) {
      this.#seal(this.#active)
      this.#active = undefined
    }
    if (prepared === undefined) return
    this.#prepared = undefined
    const next = await prepared.catch(() => undefined)
    if (next === undefined) return
    if (next.number >= sealBelow && this.#prepared === undefined && !this.#closed) this.#prepared = prepared
    else this.#seal(next)
  }

  async #run(): Promise<void> {
    while (this.#queue.length > 0) {
      // What all requests of this turn of the event loop submit goes out together.
      await new Promise((resolve) => setImmediate(resolve))
      try {
        const segment = await this.#segmentFor(this.#queue[0])
        const builder = this.#builder ??= new BatchBuilder()
        const items = this.#compose(segment, builder)
        if (items.length === 0) continue
        await this.#commit(segment, builder, items)
        if (builder.length <= AHEAD_BATCH && segment === this.#active) await this.#writeAhead(segment)
      } catch (error) {
        // No segment could be made: everything that waits would meet the same.
        await this.#failAll(this.#queue.splice(0), error)
      }
    }
    // In the same turn in which the queue was seen empty: whoever comes later starts anew.
    this.#pump = undefined
  }

  /** The active segment, or the next one, not below that of what the item replaces. */
  async #segmentFor(item: Item | undefined): Promise<OpenSegment> {
    const { sealBytes, sealRecords } = this.#options
    const notBelow = item?.notBelow ?? 0
    for (;;) {
      const active = this.#active
      if (active !== undefined) {
        const full = active.end >= sealBytes || active.hint.count >= sealRecords ||
          active.number < this.#index.table.sealBelow
        if (!full && active.number >= notBelow) {
          if (active.end >= sealBytes * 0.75 || active.hint.count >= sealRecords * 0.75) this.#prepareNext()
          return active
        }
        this.#active = undefined
        this.#seal(active)
      }
      const next = this.#prepared ?? this.#create(this.#options.background === true)
      this.#prepared = undefined
      this.#active = await next
    }
  }

  #prepareNext(): void {
    if (this.#prepared !== undefined) return
    const next = this.#create(true)
    this.#prepared = next
    next.catch(() => { if (this.#prepared === next) this.#prepared = undefined })
  }

  async #create(background: boolean): Promise<OpenSegment> {
    const { driveId } = this.#options
    const { table } = this.#index
    const number = table.takeNumber()
    const header = encodeSegmentHeader(driveId, number)
    if (!table.add(number, 'active', SEGMENT_HEADER_SIZE)) {
      throw new ShardError('io', this.#drive.number, 'too many segments')
    }
    try {
      const file = await this.#createFile(number, header, background)
      const seed = segmentSeed(driveId, number)
      return { number, seed, file, end: SEGMENT_HEADER_SIZE, zeroedTo: 0, hint: new HintBuilder() }
    } catch (error) {
      table.remove(number)
      throw error
    }
  }

  async #createFile(number: number, header: Uint8Array, background: boolean): Promise<number> {
    const ops: IoOp[] = [
      { op: 'open', path: segmentPath(number), mode: 'create' },
      { op: 'write', file: LAST_OPENED, offset: 0, from: [header] },
      { op: 'sync', file: LAST_OPENED },
      { op: 'syncDir', path: SEGMENTS_DIRECTORY },
    ]
    try {
      return (await this.#drive.run('write', ops, { background }))[0] as number
    } catch (error) {
      if (!(error instanceof ShardError) || error.code !== 'missing') throw error
      // Somebody removed the directory: it is made again, once.
      const again: IoOp[] = [{ op: 'makeDir', path: SEGMENTS_DIRECTORY }, { op: 'syncDir', path: '.' }, ...ops]
      return (await this.#drive.run('write', again, { background }))[2] as number
    }
  }

  /** Takes what waits, in order, as far as it fits. */
  #compose(segment: OpenSegment, builder: BatchBuilder): Item[] {
    const { number, seed, end } = segment
    const items: Item[] = []
    builder.clear()
    while (this.#queue.length > 0) {
      const item = this.#queue[0] as Item
      const fits = items.length === 0 || builder.length + item.bytes <= this.#options.batchBytes
      if (!fits || item.notBelow > number) break
      const offset = end + builder.length
      const problem = this.#refusal(item) ?? addRecord(builder, item, seed)
      if (problem === 'no room') break
      this.#queue.shift()
      if (problem === undefined) {
        item.offset = offset
        items.push(item)
      } else {
        this.#fail(item, problem)
      }
    }
    return items
  }

  /** A drive that was taken out while records waited acknowledges none of them. */
  #refusal(item: Item): ShardError | undefined {
    const { number, row, readable } = this.#drive
    const spared = item.record.kind === 'tombstone' || item.record.moved === true
    const well = spared ? readable : row.state === 'online'
    return well ? undefined : new ShardError('driveOffline', number, this.#drive.health.reason)
  }

  async #commit(segment: OpenSegment, builder: BatchBuilder, items: readonly Item[]): Promise<void> {
    const { seed, end, file, hint } = segment
    const from = builder.finish(seed, end, end)
    const background = items.every((item) => item.background)
    try {
      await this.#drive.run('write', [{ op: 'write', file, offset: end, from }, { op: 'sync', file }], { background })
    } catch (error) {
      this.#builder = undefined
      await this.#afterFailure(segment, error)
      await this.#failAll(items, error)
      return
    }
    segment.end += builder.length
    hint.addBatch(from[0] as Uint8Array)
    this.#index.table.setLength(segment.number, segment.end)
    for (const item of items) {
      const { record, offset, size } = item
      const dataId = record.kind === 'shard' ? record.header.dataId : record.dataId
      const tombstone = record.kind === 'tombstone'
      hint.add(dataId, offset, size, tombstone)
      try {
        if (item.place === undefined) this.#index.add(dataId, segment.number, offset, size, tombstone)
        else item.place(segment.number, offset, size)
        this.#queuedBytes -= item.bytes
        item.resolve()
      } catch (error) {
        this.#fail(item, error)
      }
    }
  }

  /** Made durable by the next batch's sync, as its own blocks are. A full drive keeps its room for deletes. */
  async #writeAhead(segment: OpenSegment): Promise<void> {
    if (this.#drive.row.state !== 'online') return
    const { file, end } = segment
    const from = Math.max(segment.zeroedTo, end)
    const size = this.#options.aheadBytes
    if (from >= Math.min(end + size / 8, this.#options.sealBytes)) return
    const background = this.#options.background === true
    try {
      await this.#drive.run('write', [{ op: 'writeZeros', file, offset: from, size }], { background })
      segment.zeroedTo = from + size
    } catch (error) {
      await this.#afterFailure(segment, error)
    }
  }

  /** A write failed: the segment goes on only when it is known to be as it was before. */
  async #afterFailure(segment: OpenSegment, error: unknown): Promise<void> {
    segment.zeroedTo = Infinity // on a drive with so little room, or so ill, nothing is written ahead
    const cause = error instanceof ShardError ? error.cause : undefined
    if (cause instanceof IoError) {
      if (cause.opIndex === -1) return // nothing was started
      const writing = cause.op === 'write' || cause.op === 'writeZeros'
      if (writing && (cause.code === 'ENOSPC' || cause.code === 'EDQUOT')) {
        const cut = this.#drive.io.run([{ op: 'truncate', file: segment.file, size: segment.end }], DEADLINE)
        if (await cut.then(() => true, () => false)) return
      }
    }
    if (this.#active === segment) this.#active = undefined
    void this.#drive.io.run([{ op: 'close', file: segment.file }], DEADLINE).catch(ignore)
  }

  /** Deletes make room in the end, so on a full drive they may use what is kept for them. */
  async #failAll(items: readonly Item[], error: unknown): Promise<void> {
    const full = error instanceof ShardError && error.code === 'driveFull'
    const again = full ? items.filter(({ record, again: tried }) => record.kind === 'tombstone' && !tried) : []
    if (again.length > 0) {
      await this.#drive.io.run([{ op: 'unlink', path: BALLAST_PATH }], DEADLINE).catch(ignore)
      for (const item of again) item.again = true
      this.#queue.unshift(...again)
    }
    for (const item of items) if (!again.includes(item)) this.#fail(item, error)
  }

  #fail(item: Item, error: unknown): void {
    this.#queuedBytes -= item.bytes
    item.reject(error)
  }

  /** In the background. A segment that could not be sealed is read as a whole at the next start. */
  #seal(segment: OpenSegment): void {
    const work = this.#writeSeal(segment).catch(ignore)
    this.#sealing.add(work)
    void work.finally(() => this.#sealing.delete(work))
  }

  async #writeSeal({ number, seed, file, end, hint }: OpenSegment): Promise<void> {
    const { table } = this.#index
    const how = { background: this.#options.background === true }
    if (hint.count === 0) {
      await this.#drive.run('write', [{ op: 'close', file }, { op: 'unlink', path: segmentPath(number) }], how)
      table.remove(number)
      return
    }
    const ops = sealOps({ number, seed, file, end, hint })
    try {
      await this.#drive.run('write', ops, how)
    } finally {
      // Complete in any case: nothing is appended to it any more.
      table.setState(number, 'sealed')
    }
    table.setLength(number, end + 32)
  }
}

/** Ends a segment with an empty batch, cuts off what lies behind, and writes its hint. */
export function sealOps(segment: Omit<OpenSegment, 'zeroedTo'>): IoOp[] {
  const { number, seed, file, end, hint } = segment
  const closing = encodeBatchHeader(seed, end, end, 0, [])
  const length = end + closing.length
  hint.addBatch(closing)
  return [
    { op: 'write', file, offset: end, from: [closing] },
    ...cutOps(file, length),
    ...hintOps(number, hint.encode(number, length, seed)),
  ]
}

/** Ends a file where its closing batch does. */
export function cutOps(file: number, size: number): IoOp[] {
  return [{ op: 'truncate', file, size }, { op: 'sync', file }, { op: 'close', file }]
}

/** A hint needs no temporary name: one that is not whole is ignored. */
export function hintOps(number: number, hint: Buffer): IoOp[] {
  return [
    { op: 'unlink', path: hintPath(number) },
    { op: 'open', path: hintPath(number), mode: 'create' },
    { op: 'write', file: LAST_OPENED, offset: 0, from: [hint] },
    { op: 'sync', file: LAST_OPENED },
    { op: 'close', file: LAST_OPENED },
    { op: 'syncDir', path: SEGMENTS_DIRECTORY },
  ]
}

/** What stands in the way of adding the record to the batch, if anything does. */
function addRecord(builder: BatchBuilder, item: Item, seed: number): unknown {
  const { record } = item
  try {
    item.size = record.kind === 'shard'
      ? builder.addShard(record.header, record.cells, seed)
      : builder.addTombstone(record.dataId, record.buried, seed)
    return item.size === 0 ? 'no room' : undefined
  } catch (error) {
    return error
  }
}

const DEADLINE = { deadlineMs: 30_000 }

function ignore(): void {
  // The outcome does not matter to anyone.
}
