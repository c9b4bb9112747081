/**
 * Slabs: the buffers in which stripes are laid out on their way to the drives, and the memory budget of a thread.
 *
 * A slab holds one stripe as k + m cells of `stride` bytes, each a checksum followed by a block:
 *
 *   | sum | data block 0 | pad | sum | data block 1 | pad | ... | sum | parity block m-1 | pad |
 *   0                          stride                     k*stride
 *
 * Body bytes are copied once, from the socket's chunk into the data blocks; `sealStripe` fills parity and sums in
 * place; the drives are handed views of the cells.
 *
 * Invariants:
 * - What is out never weighs more than `limitBytes` together; a slab too large for that goes out as the only one.
 * - Requests are granted in the order in which they were made, so a large one is never starved.
 * - A slab is used again only when every I/O that was given it has settled well. After a failed or late I/O the
 *   drive may still be reading it: it is left to the garbage collector and its weight is given back.
 */
import { CHECKSUM_SIZE } from '../drive/drive.js'
import { slabMemory } from '../native/erasure.js'

/** Cells lie at multiples of this apart, so that blocks of a slab share no cache line, and all begin at one. */
const CELL_ALIGNMENT = 64
const SMALLEST_SLAB = 4096
/** Read-ahead gets this part of the budget at most. */
const AHEAD_SHARE = 4

/** Bytes from one cell of a slab to the next, for blocks of `blockSize` bytes. */
export function strideFor(blockSize: number): number {
  return Math.ceil((CHECKSUM_SIZE + blockSize) / CELL_ALIGNMENT) * CELL_ALIGNMENT
}

/** Rounds up to a size class: eight classes per doubling, so at most an eighth of a slab is unused (and untouched). */
export function slabClass(bytes: number): number {
  if (bytes <= SMALLEST_SLAB) return SMALLEST_SLAB
  const step = 2 ** Math.max(0, Math.floor(Math.log2(bytes)) - 3)
  return Math.ceil(bytes / step) * step
}

export class Slab {
  readonly bytes: Uint8Array
  /** Users that have not called `done`: whoever fills it, then every drive that was given a cell. */
  #users = 1
  #clean = true
  readonly #free: (slab: Slab, reusable: boolean) => void

  constructor(bytes: Uint8Array, free: (slab: Slab, reusable: boolean) => void) {
    this.bytes = bytes
    this.#free = free
  }

  retain(): void {
    this.#users++
  }

  /** One user is done with it; `clean` is false when an I/O over it failed or was given up. */
  done(clean: boolean): void {
    if (this.#users === 0) throw new Error('slab released more often than retained')
    if (!clean) this.#clean = false
    if (--this.#users === 0) this.#free(this, this.#clean)
  }
}

interface Waiting {
  weight: number
  onFree: () => void
  grant: (slab: Slab) => void
}

export interface SlabPoolStats {
  /** Weight of the slabs that are out. */
  usedBytes: number
  /** Highest `usedBytes` so far. */
  peakBytes: number
  /** Kept for reuse. */
  idleBytes: number
  waiting: number
  /** Slabs given up because an I/O over them failed or was late. */
  abandoned: number
}

/** One per thread. */
export class SlabPool {
  readonly limitBytes: number
  /**
   * Idle slabs by class. Invariant: their sum is #idleBytes, and #usedBytes + #idleBytes <= limitBytes (or one slab).
   */
  readonly #idle = new Map<number, Uint8Array[]>()
  readonly #queue: Waiting[] = []
  #usedBytes = 0
  /** The part of #usedBytes that is read-ahead, not slabs. */
  #aheadBytes = 0
  #peakBytes = 0
  #idleBytes = 0
  #abandoned = 0

  constructor(limitBytes: number) {
    if (!Number.isSafeInteger(limitBytes) || limitBytes <= 0) throw new RangeError('limitBytes must be positive')
    this.limitBytes = limitBytes
  }

  get stats(): SlabPoolStats {
    return {
      usedBytes: this.#usedBytes,
      peakBytes: this.#peakBytes,
      idleBytes: this.#idleBytes,
      waiting: this.#queue.length,
      abandoned: this.#abandoned,
    }
  }

  /** A slab of at least `bytes`, with arbitrary contents. `onFree` is called once, when its last user is done. */
  acquire(bytes: number, onFree: () => void = noop): Promise<Slab> {
    const weight = slabClass(bytes)
    if (this.#queue.length === 0 && this.#fits(weight)) return Promise.resolve(this.#take(weight, onFree))
    return new Promise((grant) => this.#queue.push({ weight, onFree, grant }))
  }

  /**
   * Takes `bytes` of the budget without a slab, for read-ahead; false when they are not free at once. Give them
   * back with `giveBytes`. Readers may be slow for as long as they like, so all of them together get a quarter of the
   * budget: they can never stop the writers.
   */
  tryTakeBytes(bytes: number): boolean {
    if (this.#queue.length > 0 || this.#aheadBytes + bytes > this.limitBytes / AHEAD_SHARE) return false
    if (this.#usedBytes + bytes > this.limitBytes) return false
    this.#aheadBytes += bytes
    this.#use(bytes)
    return true
  }

  giveBytes(bytes: number): void {
    this.#usedBytes -= bytes
    this.#aheadBytes -= bytes
    this.#serve()
  }

  /** As `acquire`, when it has nothing to wait for. */
  tryAcquire(bytes: number): Slab | undefined {
    const weight = slabClass(bytes)
    return this.#queue.length === 0 && this.#fits(weight) ? this.#take(weight, noop) : undefined
  }

  #fits(weight: number): boolean {
    return this.#usedBytes === this.#aheadBytes || this.#usedBytes + weight <= this.limitBytes
  }

  #use(weight: number): void {
    this.#usedBytes += weight
    if (this.#usedBytes > this.#peakBytes) this.#peakBytes = this.#usedBytes
  }

  #take(weight: number, onFree: () => void): Slab {
    this.#use(weight)
    const kept = this.#idle.get(weight)?.pop()
    if (kept !== undefined) this.#idleBytes -= weight
    this.#trim()
    const bytes = kept ?? slabMemory(weight)
    return new Slab(bytes, (slab, reusable) => {
      this.#usedBytes -= weight
      if (reusable) this.#keep(slab.bytes)
      else this.#abandoned++
      onFree()
      this.#serve()
    })
  }

  #keep(bytes: Uint8Array): void {
    const list = this.#idle.get(bytes.length)
    if (list === undefined) this.#idle.set(bytes.length, [bytes])
    else list.push(bytes)
    this.#idleBytes += bytes.length
    this.#trim()
  }

  /** Drops idle slabs, the class unused for longest first, until used and idle ones fit the limit together. */
  #trim(): void {
    for (const [size, list] of this.#idle) {
      while (this.#usedBytes + this.#idleBytes > this.limitBytes && list.pop() !== undefined) this.#idleBytes -= size
      if (list.length === 0) this.#idle.delete(size)
      if (this.#usedBytes + this.#idleBytes <= this.limitBytes) return
    }
  }

  #serve(): void {
    for (;;) {
      const next = this.#queue[0]
      if (next === undefined || !this.#fits(next.weight)) return
      this.#queue.shift()
      next.grant(this.#take(next.weight, next.onFree))
    }
  }
}

function noop(): void {}

/**
 * Copies body bytes into the data blocks of a slab. Data byte i of the stripe is byte i % blockSize of data block
 * floor(i / blockSize).
 */
export function fillSlab(slab: Uint8Array, stride: number, blockSize: number, at: number, chunk: Uint8Array): void {
  let taken = 0
  while (taken < chunk.length) {
    const position = at + taken
    const block = Math.floor(position / blockSize)
    const inBlock = position - block * blockSize
    const count = Math.min(chunk.length - taken, blockSize - inBlock)
    const piece = taken === 0 && count === chunk.length ? chunk : chunk.subarray(taken, taken + count)
    slab.set(piece, block * stride + CHECKSUM_SIZE + inBlock)
    taken += count
  }
}

/** Zeroes what the stripe's data does not reach: the end of its last data block and the data blocks after it. */
export function padSlab(slab: Uint8Array, stride: number, blockSize: number, k: number, filled: number): void {
  for (let block = Math.floor(filled / blockSize); block < k; block++) {
    const from = Math.max(0, filled - block * blockSize)
    const start = block * stride + CHECKSUM_SIZE
    slab.fill(0, start + from, start + blockSize)
  }
}

/** The cell of shard `shard`: checksum and block. */
export function cellOf(slab: Uint8Array, stride: number, blockSize: number, shard: number): Uint8Array {
  return slab.subarray(shard * stride, shard * stride + CHECKSUM_SIZE + blockSize)
}
