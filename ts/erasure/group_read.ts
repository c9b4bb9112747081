/**
 * Reads one group of consecutive stripes: enough verified shards to yield the data blocks that are wanted, from the
 * fewest and fastest drives, hedged.
 *
 * Model: each shard is idle, reading, slow (reading for longer than its hedge delay), good or bad.
 *   - All wanted data shards good: done, nothing to compute.
 *   - Any k shards good: done, the missing wanted blocks can be reconstructed.
 *   - As soon as one wanted shard is bad, slow or not usable, idle shards are started in order of preference until
 *     k are good or reading; a slow one no longer counts, so its substitute is started (the hedge).
 *   - Fewer than k good, reading or slow: the group cannot be read.
 */
import type { Clock } from './clock.js'
import { ErasureError } from './erasure_set.js'
import type { ShardSources } from './shard_sources.js'

export interface GroupRequest {
  sources: ShardSources
  clock: Clock
  /** Milliseconds after which a read of this shard counts as slow. */
  hedgeMs: (shard: number) => number
  /** Shards in order of preference, those of drives known to be slow last. */
  order: readonly number[]
  /** Data shards that are wanted, those to be avoided left out of `order`'s front by the caller. */
  wanted: readonly number[]
  /** Shards not worth asking unless there is no other way. */
  avoid: ReadonlySet<number>
  first: number
  count: number
}

/** Cells of the group by shard number; undefined where a shard was not read. */
export type GroupCells = (Uint8Array | undefined)[]

export interface GroupResult {
  cells: GroupCells
  /** Shards that were slow: better avoided by the next group. */
  slow: number[]
}

type State = 'idle' | 'reading' | 'slow' | 'good' | 'bad'

/** Rejects with ErasureError 'readQuorum'. */
export function readGroup(request: GroupRequest): Promise<GroupResult> {
  return new Promise((resolve, reject) => {
    new GroupRead(request, resolve, reject).step()
  })
}

class GroupRead {
  readonly #request: GroupRequest
  readonly #resolve: (result: GroupResult) => void
  readonly #reject: (error: Error) => void
  readonly #states: State[]
  readonly #cells: GroupCells
  readonly #hedgeAt: number[]
  readonly #k: number
  #cause: unknown
  #settled = false
  #cancelTimer: () => void = () => undefined

  constructor(request: GroupRequest, resolve: (result: GroupResult) => void, reject: (error: Error) => void) {
    const shards = request.sources.location.drives.length
    this.#request = request
    this.#resolve = resolve
    this.#reject = reject
    this.#k = request.sources.geometry.k
    this.#states = Array.from({ length: shards }, (_, shard) => (request.sources.usable(shard) ? 'idle' : 'bad'))
    this.#cells = Array.from({ length: shards }, () => undefined)
    this.#hedgeAt = Array.from({ length: shards }, () => Infinity)
  }

  /** Starts what is needed, or settles. Called at the start and after every change. */
  step(): void {
    if (this.#settled) return
    const { wanted, avoid, order } = this.#request
    if (wanted.every((shard) => this.#states[shard] === 'good') || this.#count('good') >= this.#k) {
      this.#done()
      return
    }
    const direct = wanted.every((shard) => {
      const state = this.#states[shard]
      return state === 'good' || state === 'reading' || (state === 'idle' && !avoid.has(shard))
    })
    if (direct) {
      for (const shard of wanted) if (this.#states[shard] === 'idle') this.#start(shard)
    } else {
      let active = this.#count('good') + this.#count('reading')
      for (const shard of order) {
        if (active >= this.#k) break
        if (this.#states[shard] !== 'idle') continue
        this.#start(shard)
        active++
      }
      if (active + this.#count('slow') < this.#k) {
        this.#giveUp()
        return
      }
    }
    this.#schedule()
  }

  #count(state: State): number {
    let count = 0
    for (const each of this.#states) if (each === state) count++
    return count
  }

  #start(shard: number): void {
    const { sources, clock, hedgeMs, first, count } = this.#request
    this.#states[shard] = 'reading'
    this.#hedgeAt[shard] = clock.now() + hedgeMs(shard)
    sources.read(shard, first, count).then(
      (cells) => {
        if (this.#settled) return
        this.#states[shard] = 'good'
        this.#cells[shard] = cells
        this.step()
      },
      (error: unknown) => {
        if (this.#settled) return
        this.#states[shard] = 'bad'
        this.#cause ??= error
        this.step()
      },
    )
  }

  /** One timer for the group: the next moment at which a read becomes slow while a substitute is left. */
  #schedule(): void {
    this.#cancelTimer()
    this.#cancelTimer = () => undefined
    if (!this.#states.includes('idle')) return
    let next = Infinity
    this.#states.forEach((state, shard) => {
      if (state === 'reading') next = Math.min(next, this.#hedgeAt[shard] ?? Infinity)
    })
    if (next === Infinity) return
    const { clock } = this.#request
    this.#cancelTimer = clock.after(Math.max(0, next - clock.now()), () => {
      this.#markSlow()
    })
  }

  #markSlow(): void {
    if (this.#settled) return
    const now = this.#request.clock.now()
    this.#states.forEach((state, shard) => {
      // Timers may fire a fraction of a millisecond early.
      if (state === 'reading' && now >= (this.#hedgeAt[shard] ?? Infinity) - 1) this.#states[shard] = 'slow'
    })
    this.step()
  }

  #done(): void {
    this.#settled = true
    this.#cancelTimer()
    const slow = this.#states.flatMap((state, shard) => (state === 'slow' ? [shard] : []))
    this.#resolve({ cells: this.#cells, slow })
  }

  #giveUp(): void {
    this.#settled = true
    this.#cancelTimer()
    const good = this.#count('good')
    const detail = `${String(good)} shards of stripe ${String(this.#request.first)} verified, ${String(this.#k)} are needed`
    this.#reject(new ErasureError('readQuorum', detail, { cause: this.#cause }))
  }
}
