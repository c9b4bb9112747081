/**
 * Compaction of one segment: what is still needed of it is copied into another one, then it is dropped.
 *
 *   records -> live ones, verified -> copied, durable -> index: old place to new one -> unlink, directory sync
 *
 * Rules:
 * - Live is the shard record that the index names, at the very place. It is copied only when its header and all its
 *   blocks hold. One that does not is never copied, and its segment stays: other blocks of it may still be good. It is
 *   reported, healed like any other, and the segment can go once the index names the healed record.
 * - The copy lies in a segment of a higher number, durable before the index is told by compare-and-set. If a delete or
 *   a heal was first, the copy is dead. After a crash both records lie there, with the same bytes.
 * - Tombstones are carried over, unless `tombstone_proof.ts` proves that nothing is left that they bury. One whose id
 *   has another tombstone, the one that the index names, is not needed.
 * - A segment is dropped only when the index names no record of it. Readers that have it open read on; others find it
 *   gone, and the record where the index says by then. A hint goes with its segment; left alone by a crash, it holds
 *   for no segment, its number is not used again, and the next start removes it.
 */
import { blockCount, blockSizeAt, type DataId, ShardError } from '../drive.js'
import type { LocalDrive } from '../local_drive.js'
import { ShardHeaderError } from '../shard_file.js'
import { verifyCells } from '../../native/erasure.js'
import { decodeRecord, type SegmentRecord } from './batch.js'
import type { HintEntry } from './hint.js'
import { scanSegment } from './scan.js'
import {
  hintPath,
  isDead,
  packLocation,
  segmentOf,
  segmentPath,
  SEGMENTS_DIRECTORY,
  segmentSeed,
} from './segment_file.js'
import type { SegmentIndex } from './segment_index.js'
import { readHint } from './segment_loader.js'
import type { SegmentWriter } from './segment_writer.js'

export interface CompactionParts {
  drive: LocalDrive
  writer: SegmentWriter
  /** Resolves when so many bytes may be moved. */
  permit: (bytes: number) => Promise<void>
  /** A live record that does not hold, or cannot be read. */
  damaged: (dataId: DataId, detail: string) => void
  /** Tells of tombstones of the segment whether they bury nothing any more (tombstone_proof.ts). */
  prove: (victim: number, tombstones: readonly HintEntry[]) => Promise<(dataId: DataId) => boolean>
  /** Whether to go on, when so many tombstones go with the segment. */
  worth: (tombstones: number) => boolean
}

export interface CompactionResult {
  dropped: boolean
  /** Of the segment that was dropped. */
  freedBytes: number
  copiedRecords: number
  copiedBytes: number
  carriedTombstones: number
  droppedTombstones: number
  /** Records that hold the segment back, for as long as the index names them. */
  blocked: { dataId: DataId; location: number }[]
}

const BACKGROUND = { background: true }
/** Neighbours are read at once, up to so many bytes, with no larger gap between them. */
const READ_MOST = 2 ** 20
const GAP_MOST = 32 * 1024
const TOMBSTONES_AT_ONCE = 512
const TOMBSTONE_BYTES = 48

export class Compaction {
  readonly #parts: CompactionParts
  readonly #index: SegmentIndex
  readonly #victim: number
  readonly #seed: number
  readonly #result: CompactionResult = {
    dropped: false, freedBytes: 0, copiedRecords: 0, copiedBytes: 0, carriedTombstones: 0, droppedTombstones: 0,
    blocked: [],
  }

  /** The segment must be in state 'compacting', set there by the caller, who sets it back if it is not dropped. */
  constructor(parts: CompactionParts, victim: number) {
    this.#parts = parts
    this.#index = parts.drive.segments.index
    this.#victim = victim
    this.#seed = segmentSeed(parts.drive.segments.driveId, victim)
  }

  /** Works from yield to yield; may be left at any of them. Rejects with ShardError when the drive fails. */
  async *run(): AsyncGenerator<undefined, CompactionResult> {
    const { prove, worth, permit } = this.#parts
    const entries = await this.#entries()
    yield
    const tombstones = this.#named(entries)
    const needless = tombstones.length === 0 ? (): boolean => false : await prove(this.#victim, tombstones)
    const gone = tombstones.filter(({ dataId }) => needless(dataId))
    if (!worth(gone.length)) return this.#result
    yield
    for (const run of neighbours(entries.filter((entry) => this.#isLive(entry)))) {
      await this.#copy(run)
      yield
    }
    const carried = tombstones.filter(({ dataId }) => !needless(dataId))
    for (let i = 0; i < carried.length; i += TOMBSTONES_AT_ONCE) {
      const some = carried.slice(i, i + TOMBSTONES_AT_ONCE)
      await permit(some.length * TOMBSTONE_BYTES)
      await all(some.map((tombstone) => this.#carry(tombstone)))
      yield
    }
    if (this.#result.blocked.length === 0 && (await this.#emptied())) await this.#drop(gone)
    return this.#result
  }

  #locationOf({ offset, size, tombstone }: HintEntry): number {
    return packLocation(this.#victim, offset, size, tombstone)
  }

  #isLive(entry: HintEntry): boolean {
    return !entry.tombstone && this.#index.get(entry.dataId) === this.#locationOf(entry)
  }

  /** All records of the segment: from its hint, if that agrees with what was counted, else from the segment. */
  async #entries(): Promise<HintEntry[]> {
    const { drive } = this.#parts
    const found = await readHint(drive, drive.segments.driveId, this.#victim)
    const info = this.#index.table.info(this.#victim)
    if (found !== undefined) {
      const entries = [...found.hint]
      const tombstones = entries.filter((entry) => entry.tombstone).length
      if (info?.tombstones === tombstones && info.records === entries.length - tombstones) return entries
    }
    return await this.#scanned(info?.bytes ?? 0)
  }

  async #scanned(size: number): Promise<HintEntry[]> {
    const { drive, permit } = this.#parts
    const entries: HintEntry[] = []
    const read = async (offset: number, length: number): Promise<Buffer> => {
      await permit(length)
      const into = Buffer.allocUnsafeSlow(length)
      return into.subarray(0, await drive.readFile(segmentPath(this.#victim), offset, into, BACKGROUND))
    }
    try {
      await scanSegment({ size, seed: this.#seed, read }, ({ records }) => {
        for (const { dataId, offset, size: bytes, header } of records) {
          entries.push({ dataId, offset, size: bytes, tombstone: header === undefined })
        }
      })
    } catch (error) {
      // What the index names in it is found missing at the end.
      if (!(error instanceof ShardError) || !drive.readable) throw error
    }
    return entries
  }

  async #copy(run: readonly HintEntry[]): Promise<void> {
    const first = run[0]
    const last = run.at(-1)
    if (first === undefined || last === undefined) return
    const { permit } = this.#parts
    const bytes = new Uint8Array(last.offset + last.size - first.offset)
    await permit(bytes.length + run.reduce((sum, { size }) => sum + size, 0))
    const found = await this.#read(first.offset, bytes)
    if (typeof found === 'string') {
      if (run.length > 1) for (const entry of run) await this.#copy([entry])
      else this.#block(first, found)
      return
    }
    await all(run.map((entry) => {
      const from = entry.offset - first.offset
      return this.#copyOne(entry, bytes.subarray(Math.min(from, found), Math.min(from + entry.size, found)))
    }))
  }

  /** The number of bytes found, or why they cannot be read. */
  async #read(offset: number, into: Uint8Array): Promise<number | string> {
    const { drive } = this.#parts
    try {
      return await drive.readFile(segmentPath(this.#victim), offset, into, BACKGROUND)
    } catch (error) {
      if (error instanceof ShardError && UNREADABLE.includes(error.code) && drive.readable) return error.message
      throw error
    }
  }

  async #copyOne(entry: HintEntry, bytes: Uint8Array): Promise<void> {
    const { writer } = this.#parts
    if (!this.#isLive(entry)) return
    const location = this.#locationOf(entry)
    const record = this.#checked(entry, bytes)
    if (typeof record === 'string') {
      this.#block(entry, record)
      return
    }
    const cells = [bytes.subarray(record.headerSize, record.size)]
    const header = record.header
    await writer.append({ kind: 'shard', header, cells, moved: true }, this.#victim, true, (number, offset, size) => {
      this.#index.move(entry.dataId, location, packLocation(number, offset, size, false))
    })
    this.#result.copiedRecords++
    this.#result.copiedBytes += record.size
  }

  /** The record that the bytes are, or what is wrong with it. */
  #checked(
    { dataId, offset, size }: HintEntry, bytes: Uint8Array,
  ): (SegmentRecord & { header: NonNullable<SegmentRecord['header']> }) | string {
    try {
      const record = decodeRecord(bytes, offset, this.#seed)
      const { header } = record
      if (header === undefined || Buffer.compare(record.dataId, dataId) !== 0) return 'another record lies there'
      if (record.size !== size || bytes.length !== size) return `it ends after ${String(bytes.length)} bytes`
      const blocks = blockCount(header.geometry)
      if (blocks === 0) return { ...record, header }
      const { geometry, shard } = header
      const lastSize = blockSizeAt(geometry, blocks - 1)
      const cells = bytes.subarray(record.headerSize)
      const bad = verifyCells(cells, blockSizeAt(geometry, 0), blocks, lastSize, dataId, shard, 0)
      return bad >= 0 ? `block ${String(bad)}` : { ...record, header }
    } catch (error) {
      if (error instanceof ShardHeaderError) return error.message
      throw error
    }
  }

  #block(entry: HintEntry, detail: string): void {
    if (!this.#isLive(entry)) return
    this.#result.blocked.push({ dataId: entry.dataId, location: this.#locationOf(entry) })
    this.#parts.damaged(entry.dataId, `segment ${String(this.#victim)} at ${String(entry.offset)}: ${detail}`)
  }

  /** Tombstones that the index names; the others are not needed beside those. */
  #named(entries: readonly HintEntry[]): HintEntry[] {
    return entries.filter((entry) => {
      if (!entry.tombstone) return false
      const current = this.#index.get(entry.dataId)
      return current === this.#locationOf(entry) || current === -1 || !isDead(current)
    })
  }

  async #carry(tombstone: HintEntry): Promise<void> {
    const { dataId } = tombstone
    const record = { kind: 'tombstone', dataId, buried: 0 } as const
    await this.#parts.writer.append(record, this.#victim, true, (number, offset, size) => {
      const current = this.#index.get(dataId)
      const to = packLocation(number, offset, size, true)
      if (current !== -1 && isDead(current)) this.#index.move(dataId, this.#locationOf(tombstone), to)
      // Not known as dead, though its tombstone is durable: after a restart it would be, so it is from now on.
      else this.#index.add(dataId, number, offset, size, true)
    })
    this.#result.carriedTombstones++
  }

  /** True when the index names no shard record of the segment any more; those that it does are reported. */
  async #emptied(): Promise<boolean> {
    // A delete that is under way in another thread has changed the index, and is about to count it.
    for (let turn = 0; turn < 50; turn++) {
      if (this.#index.table.info(this.#victim)?.live === 0) return true
      await new Promise((resolve) => setImmediate(resolve))
    }
    for (const { id, location } of this.#index.entries()) {
      if (segmentOf(location) !== this.#victim || isDead(location)) continue
      const dataId = Uint8Array.from(id)
      this.#result.blocked.push({ dataId, location })
      this.#parts.damaged(dataId, `segment ${String(this.#victim)}: its record is not found`)
    }
    return this.#result.blocked.length === 0
  }

  async #drop(gone: readonly HintEntry[]): Promise<void> {
    const { table } = this.#index
    const freedBytes = table.info(this.#victim)?.bytes ?? 0
    await this.#parts.drive.run('write', [
      { op: 'unlink', path: segmentPath(this.#victim) }, { op: 'unlink', path: hintPath(this.#victim) },
      { op: 'syncDir', path: SEGMENTS_DIRECTORY },
    ], BACKGROUND)
    table.remove(this.#victim)
    for (const entry of gone) this.#index.forget(entry.dataId, this.#locationOf(entry))
    this.#result.droppedTombstones = gone.length
    this.#result.freedBytes = freedBytes
    this.#result.dropped = true
  }
}

const UNREADABLE: readonly string[] = ['io', 'missing', 'corrupt']

/** Rejects with the first failure, when all have ended. */
async function all(work: readonly Promise<void>[]): Promise<void> {
  const failed = (await Promise.allSettled(work)).find((outcome) => outcome.status === 'rejected')
  if (failed !== undefined) throw failed.reason
}

/** Entries that are read together. */
function* neighbours(entries: readonly HintEntry[]): Generator<HintEntry[]> {
  let run: HintEntry[] = []
  let from = 0
  let end = 0
  for (const entry of entries) {
    const fits = entry.offset - end <= GAP_MOST && entry.offset + entry.size - from <= READ_MOST
    if (run.length > 0 && !fits) {
      yield run
      run = []
    }
    if (run.length === 0) from = entry.offset
    run.push(entry)
    end = entry.offset + entry.size
  }
  if (run.length > 0) yield run
}
