/**
 * Reads a range of one part. The range is cut into groups of whole stripes (one at first, then more, for a short
 * time to the first byte and few submissions later); while one group is being yielded the next is read, when the
 * thread's memory budget has room. Groups are read by `readGroup`: k shards at most on the healthy path, only the
 * data shards that are touched when the range lies in one stripe.
 *
 * Invariants:
 * - Only verified bytes are yielded, in order: subarrays of what the drives gave, or reconstructed blocks.
 * - At most two groups are in memory per read; the second one only within the budget.
 * - Readers are closed however the iteration ends.
 */
import type { Geometry } from '../drive/drive.js'
import { blockSizeAt } from '../drive/drive.js'
import { reconstruct } from '../native/erasure.js'
import type { Clock } from './clock.js'
import type { DriveSpeeds } from './drive_speeds.js'
import { ErasureError } from './erasure_set.js'
import type { PartRead } from './erasure_set.js'
import type { GroupResult } from './group_read.js'
import { readGroup } from './group_read.js'
import type { ShardSources } from './shard_sources.js'
import { blockIn, checkLocation } from './shard_sources.js'
import type { SlabPool } from './slab.js'

export interface ReadContext {
  clock: Clock
  slabs: SlabPool
  /** Bytes of part data that one group may hold; a group is one stripe at least. */
  groupBytes: number
  speeds: DriveSpeeds
}

interface Group {
  first: number
  count: number
  result: Promise<GroupResult>
  /** Bytes of the budget that this group took. */
  taken: number
}

/** The bytes of the range. Closes `sources` at the end. */
export async function* readPart(
  context: ReadContext,
  sources: ShardSources,
  part: PartRead,
): AsyncGenerator<Uint8Array> {
  // An empty part may have no shards at all.
  if (part.length === 0 && part.offset === 0) return
  const reader = new PartReader(context, sources, part)
  try {
    for (;;) {
      const group = reader.nextGroup()
      if (group === undefined) return
      yield* reader.blocks(group, await reader.wait(group))
      reader.release(group)
    }
  } finally {
    reader.close()
  }
}

class PartReader {
  readonly #context: ReadContext
  readonly #sources: ShardSources
  readonly #part: PartRead
  readonly #geometry: Geometry
  readonly #lastStripe: number
  readonly #wanted: number[]
  readonly #avoid: Set<number>
  #next: number
  #count = 1
  #ahead: Group | undefined
  #taken = 0

  constructor(context: ReadContext, sources: ShardSources, part: PartRead) {
    checkLocation(part.location)
    const { offset, length, location } = part
    const { stripeSize, partSize, k } = location.geometry
    if (offset < 0 || length < 0 || offset + length > partSize) throw new RangeError('range outside of the part')
    this.#context = context
    this.#sources = sources
    this.#part = part
    this.#geometry = location.geometry
    this.#next = Math.floor(offset / stripeSize)
    this.#lastStripe = length === 0 ? this.#next - 1 : Math.floor((offset + length - 1) / stripeSize)
    this.#wanted = this.#wantedShards(k)
    this.#avoid = new Set(sources.usableShards().filter((shard) => this.#sluggish(shard)))
  }

  /** The group to be yielded now, and the start of the one after it. */
  nextGroup(): Group | undefined {
    const group = this.#ahead ?? this.#start(false)
    this.#ahead = undefined
    if (group !== undefined) this.#ahead = this.#start(true)
    return group
  }

  wait(group: Group): Promise<GroupResult> {
    const { signal } = this.#part
    if (signal === undefined) return group.result
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        reject(new ErasureError('aborted', 'the reader gave up', { cause: signal.reason }))
      }
      if (signal.aborted) onAbort()
      signal.addEventListener('abort', onAbort, { once: true })
      void group.result.then(resolve, reject).finally(() => {
        signal.removeEventListener('abort', onAbort)
      })
    })
  }

  /** The part's bytes in this group, cut to the range. */
  *blocks(group: Group, result: GroupResult): Generator<Uint8Array> {
    const { stripeSize } = this.#geometry
    const { offset, length } = this.#part
    for (let index = 0; index < group.count; index++) {
      const stripe = group.first + index
      const start = stripe * stripeSize
      const from = Math.max(offset, start) - start
      const to = Math.min(offset + length, start + stripeSize) - start
      yield* this.#stripeBytes(result, group.first, index, from, to)
    }
  }

  release(group: Group): void {
    if (group.taken === 0) return
    this.#context.slabs.giveBytes(group.taken)
    this.#taken -= group.taken
    group.taken = 0
  }

  close(): void {
    if (this.#taken > 0) this.#context.slabs.giveBytes(this.#taken)
    this.#taken = 0
    this.#next = this.#lastStripe + 1
    this.#sources.close()
  }

  /** Bytes from..to (exclusive) of a stripe, block by block. */
  *#stripeBytes(result: GroupResult, first: number, index: number, from: number, to: number): Generator<Uint8Array> {
    const blockSize = blockSizeAt(this.#geometry, first + index)
    const firstBlock = Math.floor(from / blockSize)
    const lastBlock = Math.floor((to - 1) / blockSize)
    const rebuilt = this.#rebuild(result, first, index, firstBlock, lastBlock)
    for (let block = firstBlock; block <= lastBlock; block++) {
      const cells = result.cells[block]
      const bytes = cells === undefined ? rebuilt.get(block) : blockIn(this.#geometry, cells, first, index)
      if (bytes === undefined) throw new Error('a block is neither read nor rebuilt')
      const start = block * blockSize
      yield bytes.subarray(Math.max(from, start) - start, Math.min(to, start + blockSize) - start)
    }
  }

  #rebuild(result: GroupResult, first: number, index: number, from: number, to: number): Map<number, Uint8Array> {
    const wanted: number[] = []
    for (let block = from; block <= to; block++) if (result.cells[block] === undefined) wanted.push(block)
    if (wanted.length === 0) return new Map()
    const { k, m } = this.#geometry
    const blockSize = blockSizeAt(this.#geometry, first + index)
    const blocks = result.cells.map((cells) =>
      cells === undefined ? null : blockIn(this.#geometry, cells, first, index),
    )
    const out = wanted.map(() => Buffer.allocUnsafeSlow(blockSize))
    reconstruct(k, m, blockSize, blocks, wanted, out)
    return new Map(wanted.map((block, at) => [block, out[at] as Uint8Array]))
  }

  #start(ahead: boolean): Group | undefined {
    const first = this.#next
    if (first > this.#lastStripe) return undefined
    const { stripeSize } = this.#geometry
    const count = Math.min(this.#count, this.#lastStripe - first + 1)
    let taken = 0
    if (ahead) {
      taken = count * stripeSize
      if (!this.#context.slabs.tryTakeBytes(taken)) return undefined
      this.#taken += taken
    }
    this.#next += count
    this.#count = Math.max(1, Math.min(this.#count * 2, Math.floor(this.#context.groupBytes / stripeSize)))
    const result = this.#read(first, count)
    result.catch(() => undefined)
    return { first, count, result, taken }
  }

  async #read(first: number, count: number): Promise<GroupResult> {
    try {
      return await this.#readGroup(first, count)
    } catch (error) {
      if (count === 1) throw error
      // Bad blocks in different stripes of different shards: each stripe may still have k good ones.
      return await this.#readSingly(first, count)
    }
  }

  /** Reads the group stripe by stripe and joins the shards that every stripe had, rebuilding where they differ. */
  async #readSingly(first: number, count: number): Promise<GroupResult> {
    const stripes: GroupResult[] = []
    for (let index = 0; index < count; index++) stripes.push(await this.#readGroup(first + index, 1))
    const { k } = this.#geometry
    const cells = this.#part.location.drives.map((_, shard) => {
      if (shard >= k) return undefined
      return Buffer.concat(stripes.map((stripe, index) => this.#cellOf(stripe, first + index, shard)))
    })
    return { cells, slow: stripes.flatMap((stripe) => stripe.slow) }
  }

  /** The cell of a data shard of one stripe; when it was not read, rebuilt, with an empty checksum. */
  #cellOf(stripe: GroupResult, number: number, shard: number): Uint8Array {
    const cell = stripe.cells[shard]
    if (cell !== undefined) return cell
    const block = this.#rebuild(stripe, number, 0, shard, shard).get(shard)
    if (block === undefined) throw new Error('a block is neither read nor rebuilt')
    return Buffer.concat([new Uint8Array(16), block])
  }

  async #readGroup(first: number, count: number): Promise<GroupResult> {
    const result = await readGroup({
      sources: this.#sources,
      clock: this.#context.clock,
      hedgeMs: (shard) => this.#context.speeds.hedgeMs(this.#sources.drive(shard)),
      order: this.#preferred(),
      wanted: this.#wanted,
      avoid: this.#avoid,
      first,
      count,
    })
    for (const shard of result.slow) this.#avoid.add(shard)
    return result
  }

  /** The data shards that the range touches: all of them unless it lies within one stripe. */
  #wantedShards(k: number): number[] {
    const { offset, length } = this.#part
    const all = Array.from({ length: k }, (_, shard) => shard)
    if (length === 0 || this.#lastStripe !== this.#next) return all
    const blockSize = blockSizeAt(this.#geometry, this.#next)
    const start = this.#next * this.#geometry.stripeSize
    const first = Math.floor((offset - start) / blockSize)
    const last = Math.floor((offset + length - 1 - start) / blockSize)
    return all.slice(first, last + 1)
  }

  #sluggish(shard: number): boolean {
    const drive = this.#sources.drive(shard)
    return drive !== undefined && this.#context.speeds.sluggish(drive)
  }

  /** Data shards, then parity, those to be avoided after all others. */
  #preferred(): number[] {
    const shards = this.#sources.usableShards()
    return [...shards.filter((shard) => !this.#avoid.has(shard)), ...shards.filter((shard) => this.#avoid.has(shard))]
  }
}
