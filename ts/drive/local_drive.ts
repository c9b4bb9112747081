/**
 * A drive of this machine, over a DriveIo: small shards are records of segments, larger ones files of their own.
 *
 *   segments/             packed shards (segments/segment_store.ts)
 *   shards/xx/<data id>   xx = last byte of the data id; the bytes are those of shard_file.ts
 *   tmp/                  shard files being written; emptied at start-up
 *
 * A shard file is written under tmp/, synced, renamed to its name, and the directory synced: only then is it
 * acknowledged. The directories are made (and synced) once, by `prepareLayout` of layout.ts, before the first shard.
 *
 * A data id is looked for in the segments first, then among the files. What is packed goes by the cells' size and the
 * threshold of the drive; a shard whose id is buried in the segments becomes a file, so that a heal can put a shard
 * where a stray of the same id was deleted before.
 *
 * Every outcome is reported to the drive's row in the health table, by which any thread takes the drive out. What
 * failed is told to the caller as ShardError; a missing file counts as a missing shard only while `shards` is there.
 */
import { SHARD_DIRECTORIES } from './layout.js'
import {
  blockCount, type DataId, type Drive, type DriveHealth, type DriveNumber, type ReadOptions, ShardError,
  type ShardErrorCode, type ShardHeader, type ShardListing, type ShardReader, type ShardWriter,
} from './drive.js'
import { type Access, type DriveRow, DriveTable } from './drive_table.js'
import { type DriveIo, IoError, type IoOp, type IoResult, LAST_OPENED } from './io.js'
import {
  cellsSize, dataIdName, decodeShardHeader, encodeShardHeader, FIRST_READ_SIZE, shardDirectory, ShardHeaderError,
  shardPath,
} from './shard_file.js'
import { ShardLister } from './shard_lister.js'
import { FileBytes, LocalReader, OpenFiles, RecordBytes } from './shard_reader.js'
import { LocalWriter, PackedWriter } from './shard_writer.js'
import type { LoadReport } from './segments/segment_loader.js'
import { type SegmentOptions, SegmentStore } from './segments/segment_store.js'

export interface DriveDeadlines {
  readMs: number
  writeMs: number
  backgroundMs: number
}

export const DEFAULT_DEADLINES: DriveDeadlines = { readMs: 5_000, writeMs: 10_000, backgroundMs: 30_000 }

export interface LocalDriveOptions {
  io: DriveIo
  number: DriveNumber
  set: number
  position: number
  /** The drive's row in the health table; a row of its own, online, when absent. */
  row?: DriveRow
  deadlines?: Partial<DriveDeadlines>
  /** Files kept open for reading; beyond it the least recently read one is closed and opened again when needed. */
  maxOpenReaders?: number
  /** Shards being written at a time; one more fails with ShardError 'io'. */
  maxWriters?: number
  segments?: SegmentOptions
}

export { prepareLayout } from './layout.js'

let lastInstance = 0

/** What readers and writers of shards use of their drive. */
export interface DriveAccess extends Pick<Drive, 'number' | 'health' | 'readable'> {
  readonly io: DriveIo
  readonly row: DriveRow
  /** Runs a batch, reports how it went to the health table, and throws what failed as ShardError. */
  run(access: Access, ops: readonly IoOp[], options: ReadOptions): Promise<IoResult[]>
  /**
   * Bytes read from `offset` of a file of this drive: opened, read and closed in one batch. With `medium`, past the
   * page cache as well as this drive can.
   */
  readFile(path: string, offset: number, into: Uint8Array, options: ReadOptions): Promise<number>
}

export class LocalDrive implements Drive, DriveAccess {
  readonly number: DriveNumber
  readonly set: number
  readonly position: number
  readonly io: DriveIo
  readonly row: DriveRow
  readonly #deadlines: DriveDeadlines
  /** The packed shards. */
  readonly segments: SegmentStore
  readonly #files: OpenFiles
  readonly #maxWriters: number
  readonly #lister: ShardLister
  /** Makes names in tmp/ unique among the threads and lives of this process and of others. */
  readonly #writerName: string
  #writers = 0
  #lastWriter = 0

  constructor(options: LocalDriveOptions) {
    this.io = options.io
    this.number = options.number
    this.set = options.set
    this.position = options.position
    this.row = options.row ?? onlineRow()
    this.#deadlines = { ...DEFAULT_DEADLINES, ...options.deadlines }
    this.#files = new OpenFiles(options.maxOpenReaders ?? 256)
    this.segments = new SegmentStore(this, options.segments)
    this.#maxWriters = options.maxWriters ?? 1024
    this.#lister = new ShardLister((ops) => this.run('read', ops, { background: true }), this.segments)
    const instance = (++lastInstance).toString(16)
    this.#writerName = `${process.pid.toString(16)}-${instance}-${Math.floor(Math.random() * 2 ** 48).toString(16)}`
  }

  get health(): DriveHealth {
    return this.row.health
  }

  get writable(): boolean {
    return this.row.state === 'online'
  }

  get readable(): boolean {
    const { state } = this.row
    return state === 'online' || state === 'full' || state === 'readOnly'
  }

  async putShard(header: ShardHeader, cells: readonly Uint8Array[], options: ReadOptions = {}): Promise<void> {
    this.#requireWritable()
    if (this.#packs(header)) {
      const size = this.#checkedSize(header, cells)
      if (!this.row.claimSpace(size)) throw new ShardError('driveFull', this.number, this.health.reason)
      if (await this.segments.put(header, cells, options)) return
    }
    const writer = this.#newWriter(header, options)
    try {
      await writer.finish(cells)
    } catch (error) {
      await writer.abort()
      throw error
    }
  }

  putPacked(header: ShardHeader, cells: readonly Uint8Array[], ended: (error?: unknown) => void): boolean {
    this.#requireWritable()
    if (!this.#packs(header) || !this.segments.isNew(header.dataId)) return false
    const size = this.#checkedSize(header, cells)
    if (!this.row.claimSpace(size)) throw new ShardError('driveFull', this.number, this.health.reason)
    this.segments.putNew(header, cells, ended)
    return true
  }

  createShard(header: ShardHeader): Promise<ShardWriter> {
    return Promise.resolve().then(() => {
      this.#requireWritable()
      if (!this.#packs(header)) return this.#newWriter(header, {})
      const ended = this.#countWriter()
      return new PackedWriter(this, (cells) => this.putShard(header, cells), ended)
    })
  }

  async openShard(dataId: DataId, options: ReadOptions = {}): Promise<ShardReader> {
    this.#requireReadable()
    const packed = await this.segments.open(dataId, options)
    const medium = options.medium === true
    if (packed !== undefined) {
      const { location, record, bytes } = packed
      const source = new RecordBytes(this.segments, dataId, location)
      return new LocalReader(this, source, { header: record.header, headerSize: record.headerSize, bytes, medium })
    }
    const head = new Uint8Array(FIRST_READ_SIZE)
    const size = await this.readFile(shardPath(dataId), 0, head, options)
    const bytes = head.subarray(0, size)
    try {
      const { header, size: headerSize } = decodeShardHeader(bytes)
      if (Buffer.compare(header.dataId, dataId) !== 0) {
        throw new ShardHeaderError('corrupt', `holds shard ${dataIdName(header.dataId)}`)
      }
      return new LocalReader(this, new FileBytes(this, this.#files, dataId), { header, headerSize, bytes, medium })
    } catch (error) {
      if (!(error instanceof ShardHeaderError)) throw error
      const code = error.code === 'newer' ? 'io' : 'corrupt'
      throw new ShardError(code, this.number, `${dataIdName(dataId)}: ${error.message}`)
    }
  }

  /** First blocks of packed shards only: what needs a second look is not small. */
  readBlockNow(dataId: DataId, shard: number, block: number, into: Uint8Array): boolean {
    return block === 0 && this.readable && this.segments.readBlockNow(dataId, shard, into)
  }

  async deleteShard(dataId: DataId): Promise<boolean> {
    const { state } = this.row
    if (state === 'readOnly') throw new ShardError('driveReadOnly', this.number, this.health.reason)
    this.#requireReadable()
    const buried = await this.segments.delete(dataId)
    // There may be a file as well, of a time when the threshold was another one. As long as the id is not buried, no
    // unlink of it has been tried, so a file that is not there needs no sync.
    return (await this.#deleteFile(dataId, !buried)) || buried
  }

  async #deleteFile(dataId: DataId, syncAnyway: boolean): Promise<boolean> {
    const path = shardPath(dataId)
    const syncDir: IoOp = { op: 'syncDir', path: shardDirectory(dataId) }
    try {
      await this.run('write', [{ op: 'stat', path }, { op: 'unlink', path }, syncDir], {})
      return true
    } catch (error) {
      if (!(error instanceof ShardError) || error.code !== 'missing') throw error
      if (!syncAnyway) return false
      // An earlier unlink may not be durable yet: it is only "not there" once the directory was synced.
      await this.run('write', [syncDir], {}).catch((again: unknown) => {
        if (!(again instanceof ShardError) || again.code !== 'missing') throw again
      })
      return false
    }
  }

  listShards(after: DataId | undefined, limit: number): Promise<ShardListing[]> {
    return this.#lister.list(after, limit)
  }

  async recover(): Promise<number> {
    const [names] = await this.run('read', [{ op: 'list', path: 'tmp' }], { background: true }) as [string[]]
    for (let i = 0; i < names.length; i += 256) {
      const unlinks = names.slice(i, i + 256).map((name): IoOp => ({ op: 'unlink', path: `tmp/${name}` }))
      await this.run('write', unlinks, { background: true })
    }
    // A process that was killed may have left a name in the page cache alone. It looks like any other from now on (to
    // a heal, that finds its shard in place), so it must not go with the next power cut.
    await this.run('write', SHARD_DIRECTORIES.map((path): IoOp => ({ op: 'syncDir', path })), { background: true })
    return names.length
  }

  /** Reads the segments into the index. In the background of everything else; lookups that need it wait for it. */
  load(): Promise<LoadReport> {
    return this.segments.load()
  }

  /** Ends what this object has begun, and leaves its segments so that a start need not read them. */
  async close(): Promise<void> {
    if (this.readable) await this.segments.close()
    await this.io.close()
  }

  async run(access: Access, ops: readonly IoOp[], options: ReadOptions): Promise<IoResult[]> {
    const background = options.background === true
    const started = performance.now()
    try {
      const deadlineMs = options.deadlineMs ?? this.#deadlineOf(access, background)
      const results = await this.io.run(ops, { deadlineMs, background })
      if (!background) this.row.succeeded(access, performance.now() - started)
      return results
    } catch (error) {
      throw error instanceof IoError ? await this.#explain(access, error) : error
    }
  }

  async readFile(path: string, offset: number, into: Uint8Array, options: ReadOptions): Promise<number> {
    const open: IoOp = { op: 'open', path, mode: 'read' }
    const read: IoOp = { op: 'read', file: LAST_OPENED, offset, into }
    const close: IoOp = { op: 'close', file: LAST_OPENED }
    if (options.medium !== true) return (await this.run('read', [open, read, close], options))[1] as number
    if (this.row.mediumReads === 'unknown' || this.row.mediumReads === 'direct') {
      try {
        const results = await this.run('read', [{ ...open, direct: true }, read, close], options)
        this.row.mediumReads = 'direct'
        return results[1] as number
      } catch (error) {
        if (!(error instanceof ShardError && refusedDirect(error.cause))) throw error
      }
    }
    const sync: IoOp = { op: 'sync', file: LAST_OPENED }
    const drop: IoOp = { op: 'dropCache', file: LAST_OPENED }
    const results = await this.run('read', [open, sync, drop, read, close], options)
    this.row.mediumReads = results[2] === 1 ? 'dropCache' : 'none'
    return results[3] as number
  }

  #packs(header: ShardHeader): boolean {
    const { geometry } = header
    return this.segments.takes(cellsSize(geometry, 0, blockCount(geometry)))
  }

  #checkedSize({ geometry }: ShardHeader, cells: readonly Uint8Array[]): number {
    const size = cells.reduce((sum, cell) => sum + cell.length, 0)
    const expected = cellsSize(geometry, 0, blockCount(geometry))
    if (size === expected) return size
    throw new RangeError(`cells of ${String(size)} bytes, their geometry says ${String(expected)}`)
  }

  #requireWritable(): void {
    const { state } = this.row
    if (state === 'online') return
    const code = state === 'full' ? 'driveFull' : state === 'readOnly' ? 'driveReadOnly' : 'driveOffline'
    throw new ShardError(code, this.number, this.health.reason)
  }

  /** One more shard is being written, until the function returned is called. */
  #countWriter(): () => void {
    if (this.#writers >= this.#maxWriters) throw new ShardError('io', this.number, 'too many shards being written')
    this.#writers++
    return () => { this.#writers-- }
  }

  #newWriter(header: ShardHeader, options: ReadOptions): LocalWriter {
    this.#requireWritable()
    const encoded = encodeShardHeader(header)
    const ended = this.#countWriter()
    const temporary = `tmp/${dataIdName(header.dataId)}.${this.#writerName}.${(++this.#lastWriter).toString(16)}`
    return new LocalWriter(this, header, encoded, temporary, options, ended)
  }

  #requireReadable(): void {
    if (!this.readable) throw new ShardError('driveOffline', this.number, this.health.reason)
  }

  #deadlineOf(access: Access, background: boolean): number {
    if (background) return this.#deadlines.backgroundMs
    return access === 'read' ? this.#deadlines.readMs : this.#deadlines.writeMs
  }

  async #explain(access: Access, error: IoError): Promise<ShardError> {
    if (access === 'read' && error.op === 'open' && NOT_A_FILE.includes(error.code)) {
      return new ShardError('corrupt', this.number, error.message, -1, { cause: error })
    }
    let code = shardErrorCode(error.code)
    if (code === 'missing') {
      const present = await this.#present()
      if (present) return new ShardError('missing', this.number, error.message, -1, { cause: error })
      code = 'driveOffline'
    } else if (refusedDirect(error)) {
      return new ShardError('io', this.number, error.message, -1, { cause: error })
    }
    // A sync made for a read of the medium says as much as one made for a write.
    this.row.failed(error.op === 'sync' ? 'write' : access, error.code)
    return new ShardError(code, this.number, error.message, -1, { cause: error })
  }

  /** Whether the drive itself is there, asked when something on it is not. */
  async #present(): Promise<boolean> {
    try {
      await this.io.run([{ op: 'stat', path: 'shards' }], { deadlineMs: this.#deadlines.readMs })
      return true
    } catch (error) {
      return error instanceof IoError && error.code !== 'ENOENT' && error.code !== 'EIO'
    }
  }
}

function onlineRow(): DriveRow {
  const row = DriveTable.create(1).row(0)
  row.set('online', 'none')
  return row
}

/** Something else than a regular file lies in place of a shard: a directory, a link, a FIFO. */
const NOT_A_FILE: readonly string[] = ['EISDIR', 'ELOOP', 'EISNAM', 'ENXIO']

function refusedDirect(error: unknown): boolean {
  if (!(error instanceof IoError)) return false
  return (error.code === 'EINVAL' || error.code === 'EOPNOTSUPP') && (error.op === 'open' || error.op === 'read')
}

function shardErrorCode(code: string): ShardErrorCode {
  switch (code) {
    case 'ENOENT': return 'missing'
    case 'ENOSPC':
    case 'EDQUOT': return 'driveFull'
    case 'EROFS': return 'driveReadOnly'
    case 'ETIMEDOUT':
    case 'EAGAIN': return 'timeout'
    case 'ESHUTDOWN':
    case 'ENODEV':
    case 'ENXIO':
    case 'ENOTCONN':
    case 'ESTALE': return 'driveOffline'
    default: return 'io'
  }
}
