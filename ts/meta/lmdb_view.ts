/**
 * A view in LMDB: a directory with `data.mdb`, `lock.mdb` and `flushed`.
 *
 * LMDB runs without syncs, so that a commit costs no flush of its own, and is made safe against power cuts here:
 *
 * - LMDB never changes a page that a snapshot can see while that snapshot is held. `flush` takes a snapshot,
 *   keeps a copy of LMDB's two meta pages as they are at that moment, syncs the data file, and writes the copy to
 *   `flushed` (atomically, durably). Only then is the snapshot of the flush before let go.
 * - Opening writes the meta pages of `flushed` back. Every page that they lead to was synced and never written
 *   again, so the view is exactly that of the last flush, whatever else the medium kept or lost.
 *
 * A view without a valid `flushed` was never finished and is refused.
 *
 *   flushed: magic "OSTRKVIE" | version u32 | length u32 of the meta pages | position u64 | meta pages |
 *            XXH3-64 of everything before
 *
 * Threads: one writer per view in the process. Other threads read through `LmdbReader`, which shares LMDB's map.
 */
import {
  closeSync,
  existsSync,
  fstatSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  writeSync,
} from 'node:fs'
import { open } from 'lmdb'
import type { RootDatabase, Transaction } from 'lmdb'
import { checksum64, checksum64Matches } from '../native/hash.js'
import { MetadataError } from './engine.js'
import type { RawEntry, RawWrite, ViewSnapshot, ViewStore } from './view_store.js'

const MAGIC = Buffer.from('OSTRKVIE')
const VERSION = 1
const FLUSHED_HEADER = 24
const META_PAGES = 2
/** Address space, not memory: the largest a view can become. */
const MAP_SIZE = 256 * 2 ** 30
const MAX_READERS = 1024
/** transactionSync: wait for the commit; nothing is synced because the environment says so. */
const COMMIT = 2

/**
 * Records after which the system is asked to begin writing. LMDB takes new pages for whatever is changed while the
 * snapshot of a flush is held, tens of MB a second under load: left to the next flush, they kept every other sync on
 * the disk waiting for 40 ms, those of the logs too. This many records are about 6 MB; with a quarter as many
 * small PUTs were 3 % slower, with twice as many the slowest percent of replicated writes took 3 ms longer.
 */
const WRITE_BACK_AFTER = 2048

/** The published types leave out the options of getBinary. */
type Db = RootDatabase<Buffer, Buffer> & {
  getBinary(id: Buffer, options?: { transaction?: Transaction }): Uint8Array | undefined
}

/** How a view makes its files durable: through its drive's I/O, or plain calls for a backup. */
export interface ViewDurability {
  /** Path on the file system. */
  readonly path: string
  /** Makes the data of a file durable. */
  sync(name: string): Promise<void>
  /** Has the system begin to write the file. A hint: what fails is found by `sync`. */
  writeBack?(name: string): Promise<void>
  /** Puts a file in place atomically and durably. */
  replace(name: string, bytes: Buffer): Promise<void>
}

function openDb(path: string): Db {
  const db: unknown = open<Buffer, Buffer>(path, {
    keyEncoding: 'binary',
    encoding: 'binary',
    noSubdir: false,
    noSync: true,
    overlappingSync: false,
    mapSize: MAP_SIZE,
    maxReaders: MAX_READERS,
    maxDbs: 1,
    cache: false,
  })
  return db as Db
}

function corrupt(error: unknown): MetadataError {
  if (error instanceof MetadataError) return error
  return new MetadataError('corrupt', `LMDB: ${error instanceof Error ? error.message : String(error)}`, {
    cause: error,
  })
}

/** Reads from one transaction, or from the newest state when it is undefined. */
class LmdbSnapshot implements ViewSnapshot {
  readonly #db: Db
  readonly #transaction: Transaction | undefined

  constructor(db: Db, transaction: Transaction | undefined) {
    this.#db = db
    this.#transaction = transaction
  }

  get(key: Buffer): Buffer | undefined {
    try {
      const bytes = this.#db.getBinary(key, this.#options())
      return bytes && Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    } catch (error) {
      throw corrupt(error)
    }
  }

  *ascend(from: Buffer): Generator<RawEntry> {
    try {
      for (const { key, value } of this.#db.getRange({ start: from, ...this.#options() })) yield { key, value }
    } catch (error) {
      throw corrupt(error)
    }
  }

  keyFrom(from: Buffer): Buffer | undefined {
    try {
      for (const key of this.#db.getKeys({ start: from, ...this.#options() })) return key
      return undefined
    } catch (error) {
      throw corrupt(error)
    }
  }

  before(key: Buffer): RawEntry | undefined {
    try {
      // The first entry going down from `key` is `key` itself when it exists.
      for (const entry of this.#db.getRange({ start: key, reverse: true, limit: 2, ...this.#options() })) {
        if (entry.key.compare(key) < 0) return { key: entry.key, value: entry.value }
      }
      return undefined
    } catch (error) {
      throw corrupt(error)
    }
  }

  lastTwo(key: Buffer): RawEntry[] {
    try {
      const found: RawEntry[] = []
      for (const entry of this.#db.getRange({ start: key, reverse: true, limit: 2, ...this.#options() })) {
        found.push({ key: entry.key, value: entry.value })
      }
      return found
    } catch (error) {
      throw corrupt(error)
    }
  }

  #options(): { transaction?: Transaction } {
    return this.#transaction === undefined ? {} : { transaction: this.#transaction }
  }
}

export class LmdbView extends LmdbSnapshot implements ViewStore {
  readonly #db: Db
  readonly #files: ViewDurability
  /** The snapshot of the last flush: keeps its pages. */
  #held: Transaction | undefined
  #flushed = 0
  #flushing = false
  /** Records since the system was last asked to begin writing. */
  #unwritten = 0
  #writingBack = false
  #closed = false

  private constructor(db: Db, files: ViewDurability, flushed: number | undefined) {
    super(db, undefined)
    this.#db = db
    this.#files = files
    this.#flushed = flushed ?? 0
    if (flushed !== undefined) this.#held = takeSnapshot(db)
  }

  /** A new view in a directory that exists and is empty. It is nothing until its first flush. */
  static create(files: ViewDurability): LmdbView {
    return new LmdbView(openDb(files.path), files, undefined)
  }

  /** Throws MetadataError 'corrupt' when there is no valid flushed state. Nobody else may have it open. */
  static open(files: ViewDurability): LmdbView {
    const position = LmdbView.recover(files.path)
    try {
      return new LmdbView(openDb(files.path), files, position)
    } catch (error) {
      throw corrupt(error)
    }
  }

  /** Puts the meta pages of the last flush back; gives its position. */
  static recover(path: string): number {
    const { position, metas } = readFlushed(path)
    rmSync(`${path}/lock.mdb`, { force: true })
    if (!existsSync(`${path}/data.mdb`)) throw new MetadataError('corrupt', 'a view has no data')
    const file = openSync(`${path}/data.mdb`, 'r+')
    try {
      if (fstatSync(file).size < metas.length) throw new MetadataError('corrupt', 'a view is too short')
      writeSync(file, metas, 0, metas.length, 0)
    } finally {
      closeSync(file)
    }
    return position
  }

  get flushedPosition(): number {
    return this.#flushed
  }

  commit(writes: readonly RawWrite[]): void {
    this.#db.transactionSync(() => {
      for (const { key, value } of writes) {
        if (value === undefined) void this.#db.remove(key)
        else void this.#db.put(key, value)
      }
    }, COMMIT)
    this.#unwritten += writes.length
    if (this.#unwritten >= WRITE_BACK_AFTER && !this.#writingBack) this.#writeBack()
  }

  #writeBack(): void {
    if (this.#files.writeBack === undefined) return
    this.#unwritten = 0
    this.#writingBack = true
    const done = (): void => { this.#writingBack = false }
    this.#files.writeBack('data.mdb').then(done, done)
  }

  async flush(position: number): Promise<void> {
    if (this.#flushing) throw new Error('one flush at a time')
    this.#flushing = true
    const taken = takeSnapshot(this.#db)
    try {
      const flushed = encodeFlushed(position, this.#readMetas())
      await this.#files.sync('data.mdb')
      await this.#files.replace('flushed', flushed)
    } catch (error) {
      if (!this.#closed) taken.done()
      throw error
    } finally {
      this.#flushing = false
    }
    if (this.#closed) return
    this.#held?.done()
    this.#held = taken
    this.#flushed = position
  }

  snapshot(): ViewSnapshot & { release(): void } {
    const transaction = takeSnapshot(this.#db)
    return releasable(new LmdbSnapshot(this.#db, transaction), transaction)
  }

  sizeBytes(): number {
    const { lastPageNumber, pageSize } = this.#db.getStats() as { lastPageNumber: number; pageSize: number }
    return (lastPageNumber + 1) * pageSize
  }

  count(): number {
    return (this.#db.getStats() as { entryCount: number }).entryCount
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#held?.done()
    await this.#db.close()
  }

  #readMetas(): Buffer {
    const { pageSize } = this.#db.getStats() as { pageSize: number }
    const metas = Buffer.alloc(META_PAGES * pageSize)
    const file = openSync(`${this.#files.path}/data.mdb`, 'r')
    try {
      if (readSync(file, metas, 0, metas.length, 0) !== metas.length) throw new Error('the meta pages cannot be read')
    } finally {
      closeSync(file)
    }
    return metas
  }
}

/** The snapshot of now, held until `done`. */
function takeSnapshot(db: Db): Transaction {
  db.resetReadTxn()
  return db.useReadTransaction()
}

function releasable(snapshot: ViewSnapshot, transaction: Transaction): ViewSnapshot & { release(): void } {
  let released = false
  return {
    get: (key) => snapshot.get(key),
    ascend: (from) => snapshot.ascend(from),
    keyFrom: (from) => snapshot.keyFrom(from),
    before: (key) => snapshot.before(key),
    lastTwo: (key) => snapshot.lastTwo(key),
    release: () => {
      if (!released) transaction.done()
      released = true
    },
  }
}

/** A view of another thread or process, for reading only. */
export class LmdbReader {
  readonly #db: Db

  constructor(path: string) {
    // LMDB would make the directory, and so a false drive where one was taken away.
    if (!existsSync(`${path}/data.mdb`)) throw new MetadataError('corrupt', 'the view is gone')
    this.#db = openDb(path)
  }

  snapshot(): ViewSnapshot & { release(): void } {
    const transaction = takeSnapshot(this.#db)
    return releasable(new LmdbSnapshot(this.#db, transaction), transaction)
  }

  async close(): Promise<void> {
    await this.#db.close()
  }
}

function encodeFlushed(position: number, metas: Buffer): Buffer {
  const out = Buffer.alloc(FLUSHED_HEADER + metas.length + 8)
  MAGIC.copy(out)
  out.writeUInt32BE(VERSION, 8)
  out.writeUInt32BE(metas.length, 12)
  out.writeBigUInt64BE(BigInt(position), 16)
  metas.copy(out, FLUSHED_HEADER)
  checksum64(out, out.length - 8, [out.subarray(0, out.length - 8)])
  return out
}

function readFlushed(path: string): { position: number; metas: Buffer } {
  let bytes: Buffer
  try {
    bytes = readFileSync(`${path}/flushed`)
  } catch (error) {
    throw new MetadataError('corrupt', 'a view was never flushed', { cause: error })
  }
  const valid =
    bytes.length > FLUSHED_HEADER + 8 &&
    bytes.subarray(0, 8).equals(MAGIC) &&
    checksum64Matches(bytes, bytes.length - 8, [bytes.subarray(0, bytes.length - 8)])
  if (!valid) throw new MetadataError('corrupt', 'the flushed state of a view is damaged')
  if (bytes.readUInt32BE(8) !== VERSION) throw new MetadataError('corrupt', 'a view has a newer format')
  const metas = bytes.subarray(FLUSHED_HEADER, FLUSHED_HEADER + bytes.readUInt32BE(12))
  return { position: Number(bytes.readBigUInt64BE(16)), metas }
}
