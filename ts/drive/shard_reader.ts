/**
 * Reading one shard of a LocalDrive, verified block by block, whether it is a file of its own or a record of a segment.
 * Files are kept open between reads, few of them however many readers there are.
 */
import {
  blockCount, blockSizeAt, type DataId, type ReadOptions, ShardError, type ShardHeader, type ShardReader,
} from './drive.js'
import { LAST_OPENED } from './io.js'
import type { DriveAccess } from './local_drive.js'
import type { SegmentStore } from './segments/segment_store.js'
import { cellOffset, cellsSize, dataIdName, shardPath } from './shard_file.js'
import { verifyCells } from '../native/erasure.js'

/** Where the bytes of a shard come from. Offsets count from its header. */
export interface ShardBytes {
  /** The number of bytes found, fewer than asked only at the end. */
  read(offset: number, into: Uint8Array, options: ReadOptions): Promise<number>
  close(): Promise<void>
}

/** The start of a shard, as read when it was opened. */
export interface ShardHead {
  header: ShardHeader
  headerSize: number
  bytes: Uint8Array
  /** They came from the medium. */
  medium: boolean
}

export class LocalReader implements ShardReader {
  readonly header: ShardHeader
  readonly #drive: DriveAccess
  readonly #source: ShardBytes
  readonly #head: ShardHead
  #closed = false

  constructor(drive: DriveAccess, source: ShardBytes, head: ShardHead) {
    this.#drive = drive
    this.#source = source
    this.header = head.header
    this.#head = head
  }

  async readCells(first: number, count: number, options: ReadOptions = {}): Promise<Uint8Array> {
    const { geometry, dataId, shard } = this.header
    const blocks = blockCount(geometry)
    if (!Number.isInteger(first) || !Number.isInteger(count) || first < 0 || count < 0 || first + count > blocks) {
      throw new RangeError(`blocks ${String(first)}+${String(count)} of ${String(blocks)}`)
    }
    if (count === 0) return new Uint8Array(0)
    const offset = cellOffset(geometry, this.#head.headerSize, first)
    const size = cellsSize(geometry, first, count)
    const cells = await this.#bytes(offset, size, options)
    const name = `${dataIdName(dataId)} shard ${String(shard)}`
    if (cells.length < size) {
      const short = `${name}: it ends at ${String(offset + cells.length)}`
      throw new ShardError('missing', this.#drive.number, short)
    }
    const lastSize = blockSizeAt(geometry, first + count - 1)
    const bad = verifyCells(cells, blockSizeAt(geometry, first), count, lastSize, dataId, shard, first)
    if (bad >= 0)
      throw new ShardError('corrupt', this.#drive.number, `${name} block ${String(first + bad)}`, first + bad)
    return cells
  }

  async close(): Promise<void> {
    this.#closed = true
    await this.#source.close()
  }

  async #bytes(offset: number, size: number, options: ReadOptions): Promise<Uint8Array> {
    if (this.#closed) throw new ShardError('io', this.#drive.number, 'the reader is closed')
    const { bytes, medium } = this.#head
    if (offset + size <= bytes.length && (options.medium !== true || medium)) {
      return bytes.subarray(offset, offset + size)
    }
    if (!this.#drive.readable) throw new ShardError('driveOffline', this.#drive.number, this.#drive.health.reason)
    const into = new Uint8Array(size)
    return into.subarray(0, await this.#source.read(offset, into, options))
  }
}

/** The bytes of a packed shard, wherever its record lies at the time. */
export class RecordBytes implements ShardBytes {
  readonly #store: SegmentStore
  readonly #dataId: DataId
  #location: number

  constructor(store: SegmentStore, dataId: DataId, location: number) {
    this.#store = store
    this.#dataId = dataId
    this.#location = location
  }

  async read(offset: number, into: Uint8Array, options: ReadOptions): Promise<number> {
    const { location, found } = await this.#store.readOn(this.#dataId, this.#location, offset, into, options)
    this.#location = location
    return found
  }

  close(): Promise<void> {
    return Promise.resolve()
  }
}

/** The bytes of a shard file. */
export class FileBytes implements ShardBytes {
  readonly #drive: DriveAccess
  readonly #open: OpenFiles
  readonly #path: string
  #closed = false
  /** Kept open between reads while OpenFiles allows it. 0: not open. */
  file = 0
  reading = 0

  constructor(drive: DriveAccess, open: OpenFiles, dataId: DataId) {
    this.#drive = drive
    this.#open = open
    this.#path = shardPath(dataId)
  }

  async read(offset: number, into: Uint8Array, options: ReadOptions): Promise<number> {
    if (options.medium === true) return await this.#drive.readFile(this.#path, offset, into, options)
    this.reading++
    try {
      return await this.#readOpen(offset, into, options)
    } finally {
      this.reading--
    }
  }

  async close(): Promise<void> {
    this.#closed = true
    await this.release()
  }

  /** Closes the file; a later read opens it again. */
  async release(): Promise<void> {
    this.#open.remove(this)
    const { file } = this
    this.file = 0
    if (file !== 0) await this.#drive.io.run([{ op: 'close', file }], { deadlineMs: 30_000 }).catch(ignore)
  }

  async #readOpen(offset: number, into: Uint8Array, options: ReadOptions): Promise<number> {
    if (this.file !== 0) {
      this.#open.touch(this)
      return (await this.#drive.run('read', [{ op: 'read', file: this.file, offset, into }], options))[0] as number
    }
    const [file, found] = await this.#drive.run('read', [
      { op: 'open', path: this.#path, mode: 'read' },
      { op: 'read', file: LAST_OPENED, offset, into },
    ], options) as [number, number]
    // Another read may have opened it meanwhile, or it was closed: one handle is enough.
    if (this.file !== 0 || this.#closed) {
      await this.#drive.io.run([{ op: 'close', file }], { deadlineMs: 30_000 }).catch(ignore)
    } else {
      this.file = file
      this.#open.touch(this)
    }
    return found
  }
}

/** The files held open, least recently used first; at most `limit` unless more are being read right now. */
export class OpenFiles {
  readonly #limit: number
  readonly #files = new Set<FileBytes>()

  constructor(limit: number) {
    this.#limit = limit
  }

  touch(file: FileBytes): void {
    this.#files.delete(file)
    this.#files.add(file)
    if (this.#files.size <= this.#limit) return
    for (const other of this.#files) {
      if (other.reading > 0) continue
      void other.release()
      return
    }
  }

  remove(file: FileBytes): void {
    this.#files.delete(file)
  }
}

function ignore(): void {
  // The outcome does not matter to anyone.
}
