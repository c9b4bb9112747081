/**
 * A Drive in memory whose every step can be made to fail, hang or wait: for tests of what happens between the steps.
 * Whole-system tests use LocalDrive.
 *
 * `cached` is what readers see, `medium` what a medium read sees; both are the same bytes unless a test says not.
 */
import type {
  DataId,
  Drive,
  DriveHealth,
  ReadOptions,
  ShardHeader,
  ShardListing,
  ShardReader,
  ShardWriter,
} from '../../ts/drive/drive.js'
import { CHECKSUM_SIZE, ShardError, blockCount, blockSizeAt } from '../../ts/drive/drive.js'
import { verifyCells } from '../../ts/native/erasure.js'

export type Step = 'put' | 'create' | 'append' | 'commit' | 'abort' | 'open' | 'read' | 'close' | 'delete'

interface Stored {
  header: ShardHeader
  cells: Buffer
  medium: Buffer
}

export class MemoryDrive implements Drive {
  readonly number: number
  readonly set = 1
  readonly position: number
  readonly shards = new Map<string, Stored>()
  /** Uncommitted shards. */
  temporary = 0
  /** Takes whole shards with a callback, as drives do that pack them. */
  packs = false
  openReaders = 0
  state: DriveHealth['state'] = 'online'
  readP95Ms = 1
  freeBytes = 1e12
  calls: Step[] = []
  /** Called before each step; may throw or return a promise to wait for. */
  before: (step: Step) => Promise<void> | void = () => undefined
  /** True: what is committed reads well from the cache and wrong from the medium. */
  lies = false
  /** True: commits are acknowledged and change nothing. */
  forgets = false

  constructor(number: number) {
    this.number = number
    this.position = number - 1
  }

  get health(): DriveHealth {
    return {
      state: this.state,
      reason: '',
      sinceMs: 0,
      totalBytes: 1e13,
      freeBytes: this.freeBytes,
      readP95Ms: this.readP95Ms,
      writeP95Ms: 1,
      errors: 0,
      timeouts: 0,
    }
  }

  get writable(): boolean {
    return this.state === 'online'
  }

  get readable(): boolean {
    return this.state === 'online' || this.state === 'full' || this.state === 'readOnly' || this.state === 'slow'
  }

  shard(dataId: DataId): Stored | undefined {
    return this.shards.get(hex(dataId))
  }

  async putShard(header: ShardHeader, cells: readonly Uint8Array[]): Promise<void> {
    await this.#step('put')
    this.#store(header, Buffer.concat(cells))
  }

  putPacked(header: ShardHeader, cells: readonly Uint8Array[], ended: (error?: unknown) => void): boolean {
    if (this.packs) this.putShard(header, cells).then(() => { ended() }, ended)
    return this.packs
  }

  async createShard(header: ShardHeader): Promise<ShardWriter> {
    await this.#step('create')
    this.temporary++
    const parts: Buffer[] = []
    let open = true
    return {
      append: async (cells) => {
        await this.#step('append')
        for (const cell of cells) parts.push(Buffer.from(cell))
      },
      commit: async () => {
        await this.#step('commit')
        this.#store(header, Buffer.concat(parts))
        this.temporary--
        open = false
      },
      abort: async () => {
        try {
          await this.#step('abort')
        } catch {
          // never throws
        }
        if (open) this.temporary--
        open = false
      },
    }
  }

  async openShard(dataId: DataId): Promise<ShardReader> {
    await this.#step('open')
    const stored = this.shard(dataId)
    if (stored === undefined) throw new ShardError('missing', this.number, 'no such shard')
    this.openReaders++
    return {
      header: stored.header,
      readCells: async (first, count, options) => {
        await this.#step('read')
        return this.#read(stored, first, count, options)
      },
      close: async () => {
        this.openReaders--
        await this.#step('close')
      },
    }
  }

  async deleteShard(dataId: DataId): Promise<boolean> {
    await this.#step('delete')
    return this.shards.delete(hex(dataId))
  }

  listShards(after: DataId | undefined, limit: number): Promise<ShardListing[]> {
    const all = [...this.shards.values()].map((stored) => ({
      dataId: stored.header.dataId,
      size: stored.cells.length,
    }))
    all.sort((a, b) => Buffer.compare(a.dataId, b.dataId))
    const rest = all.filter((each) => after === undefined || Buffer.compare(each.dataId, after) > 0)
    return Promise.resolve(rest.slice(0, limit))
  }

  recover(): Promise<number> {
    return Promise.resolve(0)
  }

  close(): Promise<void> {
    return Promise.resolve()
  }

  #store(header: ShardHeader, cells: Buffer): void {
    if (this.forgets) return
    const medium = Buffer.from(cells)
    if (this.lies && medium.length > 0) medium[medium.length - 1] = (medium.at(-1) ?? 0) ^ 1
    this.shards.set(hex(header.dataId), { header: structuredClone(header), cells, medium })
  }

  #read(stored: Stored, first: number, count: number, options?: ReadOptions): Uint8Array {
    const { geometry, dataId, shard } = stored.header
    if (first + count > blockCount(geometry)) throw new ShardError('missing', this.number, 'past the end')
    const full = CHECKSUM_SIZE + blockSizeAt(geometry, 0)
    const last = blockSizeAt(geometry, first + count - 1)
    const start = first * full
    const end = start + (count - 1) * full + CHECKSUM_SIZE + last
    const source = options?.medium === true ? stored.medium : stored.cells
    const cells = new Uint8Array(source.subarray(start, end))
    const bad = verifyCells(cells, blockSizeAt(geometry, first), count, last, dataId, shard, first)
    if (bad >= 0) throw new ShardError('corrupt', this.number, 'a block does not verify', first + bad)
    return cells
  }

  async #step(step: Step): Promise<void> {
    this.calls.push(step)
    if (this.state === 'offline') throw new ShardError('driveOffline', this.number, 'out')
    await this.before(step)
  }
}

function hex(dataId: DataId): string {
  return Buffer.from(dataId).toString('hex')
}
