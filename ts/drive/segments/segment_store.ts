/**
 * The packed shards of one drive, as one thread sees them: the shared index and table, this thread's own writer and
 * open files. docs/drives.md tells how segments live; segment_index.ts has the rules for several records of one id.
 *
 * `find` says what is known of an id; while segments are still being loaded an id that is not found yet is waited for,
 * never called missing. Only one object in the process loads (`loads`): the control thread's, or the only one.
 */
import { CHECKSUM_SIZE, type DataId, type ReadOptions, ShardError, type ShardHeader } from '../drive.js'
import type { DriveAccess } from '../local_drive.js'
import { RECORD_MAGIC, ShardHeaderError } from '../shard_file.js'
import { verifyCells } from '../../native/erasure.js'
import { putBallast } from './ballast.js'
import { decodeRecord, type SegmentRecord } from './batch.js'
import { isDead, segmentOf, segmentSeed, SIZE_CLASSES, unpackLocation } from './segment_file.js'
import { SegmentFiles } from './segment_files.js'
import { SegmentIndex } from './segment_index.js'
import { type LoadReport, SegmentLoader } from './segment_loader.js'
import { createSegmentsMemory, type SegmentInfo, type SegmentsMemory, type SegmentTable } from './segment_table.js'
import { DEFAULT_WRITER_OPTIONS, SegmentWriter, type SegmentWriterOptions } from './segment_writer.js'

export interface SegmentOptions extends Partial<SegmentWriterOptions> {
  /** Shared by all threads; absent: this object is the only one over the drive. */
  memory?: SegmentsMemory
  /** Whether this object loads the segments; true without `memory`. */
  loads?: boolean
  /** Shards of fewer bytes are packed; 0: none are. */
  threshold?: number
  /** Segments kept open for reading. */
  maxOpenSegments?: number
  /** Bytes kept aside for deletes on a drive that is full; 0, the default: none. */
  ballastBytes?: number
  /** How long a lookup waits for segments that are still being loaded. */
  loadWaitMs?: number
}

/** Shards of fewer bytes are packed. */
export const DEFAULT_THRESHOLD: number = 256 * 1024
/** Entries of an index that is nobody else's. */
const OWN_ENTRIES = 1 << 16
const OWN_SLOTS = 1024
const POLL_MS = 5
/** The first read of a record larger than all size classes: its header. */
const HEADER_READ = 8448
const MOVES_MOST = 16
/** Smallest header of a shard. */
const FIXED_SIZE = 40
/** Records are read here before their block is taken out: nothing else runs meanwhile. */
const scratch = Buffer.allocUnsafeSlow(SIZE_CLASSES[SIZE_CLASSES.length - 1] ?? 0)

/** A record that was read: its header, and the first bytes of it. */
export interface FoundRecord {
  location: number
  record: SegmentRecord & { header: ShardHeader }
  bytes: Uint8Array
}

export class SegmentStore {
  readonly index: SegmentIndex
  readonly threshold: number
  readonly driveId: string
  readonly #drive: DriveAccess
  readonly #writer: SegmentWriter
  readonly #files: SegmentFiles
  readonly #loads: boolean
  readonly #loadWaitMs: number
  readonly #ballastBytes: number
  #listing: Promise<readonly number[]> | undefined
  #loading: Promise<LoadReport> | undefined

  constructor(drive: DriveAccess, options: SegmentOptions = {}) {
    this.#drive = drive
    this.index = new SegmentIndex(options.memory ?? createSegmentsMemory(OWN_ENTRIES, OWN_SLOTS))
    this.threshold = options.threshold ?? DEFAULT_THRESHOLD
    this.driveId = options.driveId ?? ''
    const writing = { ...DEFAULT_WRITER_OPTIONS, ...options, driveId: this.driveId }
    this.#writer = new SegmentWriter(drive, this.index, writing)
    this.#files = new SegmentFiles(drive, this.index.table, options.maxOpenSegments ?? 32)
    this.#loads = options.loads ?? options.memory === undefined
    this.#ballastBytes = options.ballastBytes ?? 0
    this.#loadWaitMs = options.loadWaitMs ?? 5000
  }

  get table(): SegmentTable {
    return this.index.table
  }

  /** True when a shard with so many bytes of cells belongs into a segment. */
  takes(cellBytes: number): boolean {
    return cellBytes < this.threshold && !this.index.full
  }

  /** Reads what is on the drive into the index; the same promise for every caller. For the one object that loads. */
  load(): Promise<LoadReport> {
    if (!this.#loads) return Promise.reject(new Error('another thread loads this drive'))
    this.#loading ??= this.#load().catch((error: unknown) => {
      this.#loading = undefined
      this.#listing = undefined
      throw error
    })
    return this.#loading
  }

  /** Resolves when new segments can be made. */
  async listed(): Promise<void> {
    if (this.table.phase === 'listed' || this.table.phase === 'loaded') return
    if (this.#loads) {
      this.load().catch(ignore)
      await this.#listing
      return
    }
    await this.#poll(['listed', 'loaded'])
  }

  /** Resolves when what the index does not name is not packed on this drive. ShardError 'timeout' else. */
  async loaded(): Promise<void> {
    if (this.table.phase === 'loaded') return
    if (this.#loads) await this.load()
    else await this.#poll(['loaded'])
  }

  /** The location of a live record or a tombstone, -1 when there is neither. */
  async find(dataId: DataId): Promise<number> {
    const location = this.index.get(dataId)
    if (location !== -1 || this.table.phase === 'loaded') return location
    await this.loaded()
    return this.index.get(dataId)
  }

  /** Durable when it resolves. False: the id is dead here, and nothing was written. */
  async put(header: ShardHeader, cells: readonly Uint8Array[], options: ReadOptions): Promise<boolean> {
    if (this.table.phase !== 'loaded') await this.listed()
    const { dataId } = header
    const current = this.index.get(dataId)
    if (current !== -1 && isDead(current)) return false
    const notBelow = current === -1 ? 0 : segmentOf(current)
    await this.#writer.append({ kind: 'shard', header, cells }, notBelow, options.background === true)
    return true
  }

  /** True when the index is known to be whole and names no record of this id. */
  isNew(dataId: DataId): boolean {
    return this.table.phase === 'loaded' && this.index.get(dataId) === -1
  }

  /** As `put`, of an id that `isNew`: `ended` is called when it is durable, or with what it failed with. May throw. */
  putNew(header: ShardHeader, cells: readonly Uint8Array[], ended: (error?: unknown) => void): void {
    this.#writer.enqueue({
      record: { kind: 'shard', header, cells }, notBelow: 0, background: false, place: undefined, resolve: ended,
      reject: ended,
    })
  }

  /** Buries a packed shard; durable when it resolves. False: there was none, or it is dead already. */
  async delete(dataId: DataId): Promise<boolean> {
    const location = await this.find(dataId)
    if (location === -1 || isDead(location)) return false
    await this.#writer.append({ kind: 'tombstone', dataId, buried: segmentOf(location) }, 0, false)
    return true
  }

  /**
   * The record of an id: read at its place, its header verified, with as many of its bytes as a small one has.
   * Undefined: no live record. ShardError 'corrupt', 'missing' (its segment is gone), and what the drive fails with.
   */
  async open(dataId: DataId, options: ReadOptions): Promise<FoundRecord | undefined> {
    let location = await this.find(dataId)
    for (let moves = 0; location !== -1 && !isDead(location); moves++) {
      try {
        return await this.#read(dataId, location, options)
      } catch (error) {
        const now = this.index.get(dataId)
        if (now === location || moves >= MOVES_MOST) throw error
        location = now
      }
    }
    return undefined
  }

  /**
   * The first block of a record into `into`, verified, if it can be had without waiting; its length is known from the
   * metadata. Whatever is not as it should be is left to `open`.
   */
  readBlockNow(dataId: DataId, shard: number, into: Uint8Array): boolean {
    const location = this.index.get(dataId)
    if (location === -1 || isDead(location)) return false
    const { number, offset, sizeClass } = unpackLocation(location)
    const most = SIZE_CLASSES[sizeClass]
    if (most === undefined || into.length + CHECKSUM_SIZE >= most) return false
    // The last records of a segment end before their class does.
    const size = Math.min(most, this.table.length(number) - offset)
    if (size < FIXED_SIZE) return false
    const bytes = scratch.subarray(0, size)
    if (!this.#files.readNow(number, offset, bytes)) return false
    const headerSize = bytes.readUInt16LE(6)
    const end = headerSize + CHECKSUM_SIZE + into.length
    if (bytes.readUInt32LE(0) !== RECORD_MAGIC || end > size) return false
    // The block's checksum is seeded with the data id and the shard: a header that lies cannot make it pass.
    const cell = bytes.subarray(headerSize, end)
    if (verifyCells(cell, into.length, 1, into.length, dataId, shard, 0) >= 0) return false
    into.set(cell.subarray(CHECKSUM_SIZE))
    return true
  }

  /** Bytes of a record from `offset` of it, wherever it lies now. */
  async readOn(
    dataId: DataId, location: number, offset: number, into: Uint8Array, options: ReadOptions,
  ): Promise<{ location: number; found: number }> {
    for (let at = location, moves = 0; ; moves++) {
      const place = unpackLocation(at)
      try {
        return { location: at, found: await this.#files.read(place.number, place.offset + offset, into, options) }
      } catch (error) {
        const now = this.index.get(dataId)
        if (now === at || now === -1 || isDead(now) || moves >= MOVES_MOST) throw error
        at = now
      }
    }
  }

  /** Call now and then: does what compaction has asked all threads for. */
  async tend(): Promise<void> {
    await this.#writer.tend()
  }

  /** Call when a full drive has room again: makes the ballast that deletes may have used up. */
  async refill(): Promise<void> {
    if (this.table.phase === 'loaded') await putBallast(this.#drive, this.#ballastBytes)
  }

  /** Of all segments, in the order of their numbers. */
  segments(): SegmentInfo[] {
    return this.table.all().sort((a, b) => a.number - b.number)
  }

  /** Seals this thread's active segment and closes its files. */
  async close(): Promise<void> {
    await this.#writer.close()
    this.#files.close()
  }

  async #load(): Promise<LoadReport> {
    const loader = new SegmentLoader(this.#drive, this.index, this.driveId, this.#ballastBytes)
    if (!this.table.claimLoading()) throw new Error('the drive is being loaded, or was')
    this.#listing = loader.list().catch((error: unknown) => {
      this.table.phase = 'failed'
      throw error
    })
    return await loader.load(await this.#listing)
  }

  async #poll(phases: readonly string[]): Promise<void> {
    const until = performance.now() + this.#loadWaitMs
    while (!phases.includes(this.table.phase)) {
      if (this.table.phase === 'failed') throw new ShardError('io', this.#drive.number, 'its segments cannot be read')
      if (performance.now() >= until) {
        throw new ShardError('timeout', this.#drive.number, 'the segments of this drive are still being loaded')
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_MS))
    }
  }

  async #read(dataId: DataId, location: number, options: ReadOptions): Promise<FoundRecord> {
    const { number, offset, sizeClass } = unpackLocation(location)
    const into = new Uint8Array(SIZE_CLASSES[sizeClass] ?? HEADER_READ)
    const found = await this.#files.read(number, offset, into, options)
    const bytes = into.subarray(0, found)
    try {
      const record = decodeRecord(bytes, offset, segmentSeed(this.driveId, number))
      const { header } = record
      if (header === undefined) throw new ShardHeaderError('corrupt', 'a tombstone lies there')
      if (Buffer.compare(record.dataId, dataId) !== 0) throw new ShardHeaderError('corrupt', 'another shard lies there')
      return { location, record: { ...record, header }, bytes: bytes.subarray(0, record.size) }
    } catch (error) {
      throw this.#explain(error, number, offset)
    }
  }

  #explain(error: unknown, number: number, offset: number): unknown {
    if (!(error instanceof ShardHeaderError)) return error
    const code = error.code === 'newer' ? 'io' : 'corrupt'
    const where = `segment ${String(number)} at ${String(offset)}`
    return new ShardError(code, this.#drive.number, `${where}: ${error.message}`, -1, { cause: error })
  }
}

function ignore(): void {
  // Whoever waits for it is told.
}
