/** Reading one shard of a LocalDrive, verified block by block, with few files open however many readers there are. */
import { blockCount, blockSizeAt, type ReadOptions, ShardError, type ShardHeader, type ShardReader } from './drive.js'
import { LAST_OPENED } from './io.js'
import type { DriveAccess } from './local_drive.js'
import { cellOffset, cellsSize, dataIdName, shardPath } from './shard_file.js'
import { verifyCells } from '../native/erasure.js'

export class LocalReader implements ShardReader {
  readonly header: ShardHeader
  readonly #drive: DriveAccess
  readonly #readers: OpenReaders
  readonly #headerSize: number
  /** The start of the file, as read when it was opened. */
  readonly #head: Uint8Array
  readonly #headOfMedium: boolean
  #closed = false
  /** Kept open between reads while OpenReaders allows it. 0: not open. */
  file = 0
  reading = 0

  constructor(
    drive: DriveAccess, readers: OpenReaders, header: ShardHeader, headerSize: number, head: Uint8Array,
    options: ReadOptions,
  ) {
    this.#drive = drive
    this.#readers = readers
    this.header = header
    this.#headerSize = headerSize
    this.#head = head
    this.#headOfMedium = options.medium === true
  }

  async readCells(first: number, count: number, options: ReadOptions = {}): Promise<Uint8Array> {
    const { geometry, dataId, shard } = this.header
    const blocks = blockCount(geometry)
    if (!Number.isInteger(first) || !Number.isInteger(count) || first < 0 || count < 0 || first + count > blocks) {
      throw new RangeError(`blocks ${String(first)}+${String(count)} of ${String(blocks)}`)
    }
    if (count === 0) return new Uint8Array(0)
    const offset = cellOffset(geometry, this.#headerSize, first)
    const size = cellsSize(geometry, first, count)
    const cells = await this.#bytes(offset, size, options)
    const name = `${dataIdName(dataId)} shard ${String(shard)}`
    if (cells.length < size) {
      const short = `${name}: the file ends at ${String(offset + cells.length)}`
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
    await this.release()
  }

  /** Closes the file; a later read opens it again. */
  async release(): Promise<void> {
    this.#readers.remove(this)
    const { file } = this
    this.file = 0
    if (file !== 0) await this.#drive.io.run([{ op: 'close', file }], { deadlineMs: 30_000 }).catch(ignore)
  }

  async #bytes(offset: number, size: number, options: ReadOptions): Promise<Uint8Array> {
    if (this.#closed) throw new ShardError('io', this.#drive.number, 'the reader is closed')
    const medium = options.medium === true
    if (offset + size <= this.#head.length && (!medium || this.#headOfMedium)) {
      return this.#head.slice(offset, offset + size)
    }
    if (!this.#drive.readable) throw new ShardError('driveOffline', this.#drive.number, this.#drive.health.reason)
    const into = new Uint8Array(size)
    if (medium) {
      const found = await this.#drive.readFile(shardPath(this.header.dataId), offset, into, options)
      return into.subarray(0, found)
    }
    this.reading++
    try {
      return into.subarray(0, await this.#readOpen(offset, into, options))
    } finally {
      this.reading--
    }
  }

  async #readOpen(offset: number, into: Uint8Array, options: ReadOptions): Promise<number> {
    if (this.file !== 0) {
      this.#readers.touch(this)
      return (await this.#drive.run('read', [{ op: 'read', file: this.file, offset, into }], options))[0] as number
    }
    const [file, found] = await this.#drive.run('read', [
      { op: 'open', path: shardPath(this.header.dataId), mode: 'read' },
      { op: 'read', file: LAST_OPENED, offset, into },
    ], options) as [number, number]
    // Another read of this reader may have opened it meanwhile, or it was closed: one handle is enough.
    if (this.file !== 0 || this.#closed) {
      await this.#drive.io.run([{ op: 'close', file }], { deadlineMs: 30_000 }).catch(ignore)
    } else {
      this.file = file
      this.#readers.touch(this)
    }
    return found
  }
}

/** The readers that hold an open file, least recently used first; at most `limit` unless more are reading right now. */
export class OpenReaders {
  readonly #limit: number
  readonly #readers = new Set<LocalReader>()

  constructor(limit: number) {
    this.#limit = limit
  }

  touch(reader: LocalReader): void {
    this.#readers.delete(reader)
    this.#readers.add(reader)
    if (this.#readers.size <= this.#limit) return
    for (const other of this.#readers) {
      if (other.reading > 0) continue
      void other.release()
      return
    }
  }

  remove(reader: LocalReader): void {
    this.#readers.delete(reader)
  }
}

function ignore(): void {
  // The outcome does not matter to anyone.
}
