/**
 * A shard on its way to a LocalDrive. LocalWriter: header and cells into tmp/, then synced, renamed and its directory
 * synced. PackedWriter: cells kept in memory, then one record of a segment.
 */
import { type ReadOptions, ShardError, type ShardHeader, type ShardWriter } from './drive.js'
import { IoError, type IoOp, LAST_OPENED } from './io.js'
import type { DriveAccess } from './local_drive.js'
import { shardDirectory, shardFileSize, shardPath } from './shard_file.js'

/** Calls are done one after the other. `ended` is called once, when the shard is committed or aborted. */
export class LocalWriter implements ShardWriter {
  readonly #drive: DriveAccess
  readonly #ended: () => void
  readonly #header: ShardHeader
  readonly #encoded: Uint8Array
  readonly #temporary: string
  readonly #options: ReadOptions
  #state: 'new' | 'open' | 'failed' | 'ended' = 'new'
  #file = 0
  #written = 0
  #turn: Promise<void> = Promise.resolve()

  /** `encoded` is the header as it goes into the file, `temporary` its path until then. */
  constructor(
    drive: DriveAccess, header: ShardHeader, encoded: Uint8Array, temporary: string, options: ReadOptions,
    ended: () => void,
  ) {
    this.#drive = drive
    this.#ended = ended
    this.#header = header
    this.#encoded = encoded
    this.#temporary = temporary
    this.#options = options
  }

  append(cells: readonly Uint8Array[]): Promise<void> {
    return this.#inTurn(async () => {
      await this.#run(this.#writes(cells))
    })
  }

  commit(): Promise<void> {
    return this.finish([])
  }

  /** The last cells, then the commit, in one submission. */
  finish(cells: readonly Uint8Array[]): Promise<void> {
    return this.#inTurn(async () => {
      const { dataId, geometry } = this.#header
      const opensHere = this.#state === 'new'
      const ops = this.#writes(cells)
      const expected = shardFileSize(geometry, this.#encoded.length)
      if (this.#written !== expected) {
        this.#state = 'failed'
        throw new RangeError(`shard of ${String(this.#written)} bytes, its geometry says ${String(expected)}`)
      }
      const file = opensHere ? LAST_OPENED : this.#file
      const rename: IoOp[] = [
        { op: 'rename', from: this.#temporary, to: shardPath(dataId) },
        { op: 'syncDir', path: shardDirectory(dataId) },
      ]
      await this.#run([...ops, { op: 'sync', file }, { op: 'close', file }], false, rename)
      this.#end()
    })
  }

  async abort(): Promise<void> {
    await this.#turn
    if (this.#state === 'ended') return
    const opened = this.#state !== 'new'
    const file = this.#file
    this.#end()
    if (!opened) return
    // What failed may have been the open, the close, or everything: nothing here is worth an error.
    const quietly = { background: true, deadlineMs: 30_000 }
    if (file !== 0) await this.#drive.io.run([{ op: 'close', file }], quietly).catch(ignore)
    await this.#drive.io.run([{ op: 'unlink', path: this.#temporary }], quietly).catch(ignore)
  }

  #end(): void {
    this.#state = 'ended'
    this.#ended()
  }

  async #inTurn(work: () => Promise<void>): Promise<void> {
    const done = this.#turn.then(work)
    this.#turn = done.catch(ignore)
    await done
  }

  #writes(cells: readonly Uint8Array[]): IoOp[] {
    if (this.#state === 'failed' || this.#state === 'ended') {
      throw new ShardError('io', this.#drive.number, 'the shard failed or ended before')
    }
    const opens = this.#state === 'new'
    const from = opens ? [this.#encoded, ...cells] : cells
    const offset = this.#written
    for (const bytes of from) this.#written += bytes.length
    if (!this.#drive.row.claimSpace(this.#written - offset)) {
      this.#state = opens ? 'ended' : 'failed'
      if (opens) this.#ended()
      throw new ShardError('driveFull', this.#drive.number, this.#drive.health.reason)
    }
    const write: IoOp = { op: 'write', file: opens ? LAST_OPENED : this.#file, offset, from }
    return opens ? [{ op: 'open', path: this.#temporary, mode: 'create' }, write] : [write]
  }

  async #run(ops: IoOp[], keepsOpen = true, rename: readonly IoOp[] = []): Promise<void> {
    const opens = this.#state === 'new'
    this.#state = 'open'
    try {
      const results = await this.#drive.run('write', [...ops, ...rename], this.#options)
      this.#file = !keepsOpen ? 0 : opens ? (results[0] as number) : this.#file
    } catch (error) {
      if (await this.#renamedAfterAll(error, ops.length, rename)) return
      this.#state = 'failed'
      throw error
    }
  }

  /** A directory under shards/ that somebody removed is made again, once; everything before the rename was done. */
  async #renamedAfterAll(error: unknown, renameAt: number, rename: readonly IoOp[]): Promise<boolean> {
    if (!(error instanceof ShardError) || error.code !== 'missing' || rename.length === 0) return false
    this.#file = 0 // closed just before the rename, or by the batch that failed
    if (!(error.cause instanceof IoError) || error.cause.opIndex !== renameAt) return false
    const path = shardDirectory(this.#header.dataId)
    const again: IoOp[] = [{ op: 'makeDir', path }, { op: 'syncDir', path: 'shards' }, ...rename]
    await this.#drive.run('write', again, this.#options)
    return true
  }
}

/** A small shard that comes in pieces. `put` makes it durable as a whole; `ended` is called once. */
export class PackedWriter implements ShardWriter {
  readonly #drive: DriveAccess
  readonly #put: (cells: readonly Uint8Array[]) => Promise<void>
  readonly #ended: () => void
  #cells: Uint8Array[] = []
  #state: 'open' | 'committing' | 'ended' = 'open'

  constructor(drive: DriveAccess, put: (cells: readonly Uint8Array[]) => Promise<void>, ended: () => void) {
    this.#drive = drive
    this.#put = put
    this.#ended = ended
  }

  append(cells: readonly Uint8Array[]): Promise<void> {
    if (this.#state !== 'open') return Promise.reject(this.#over())
    // The caller has its buffers back when this resolves.
    this.#cells.push(...cells.map((cell) => Uint8Array.from(cell)))
    return Promise.resolve()
  }

  async commit(): Promise<void> {
    if (this.#state !== 'open') throw this.#over()
    this.#state = 'committing'
    try {
      await this.#put(this.#cells)
    } finally {
      this.#end()
    }
  }

  /** What is being committed goes on; it cannot be taken back. */
  abort(): Promise<void> {
    if (this.#state === 'open') this.#end()
    return Promise.resolve()
  }

  #over(): ShardError {
    return new ShardError('io', this.#drive.number, 'the shard failed or ended before')
  }

  #end(): void {
    this.#state = 'ended'
    this.#cells = []
    this.#ended()
  }
}

function ignore(): void {
  // The outcome does not matter to anyone.
}
