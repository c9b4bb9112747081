/**
 * Rebuilds shards of one part and proves them.
 *
 *   1. Every shard asked for gets a drive: the one it lies on, or its replacement, or (when it was never written)
 *      a drive of the set that holds no shard of the part.
 *   2. A shard that the location names, and that already reads back whole from the medium of its drive, is only
 *      compared; the others are written.
 *   3. All stripes are swept once: k verified blocks give the missing ones, blocks beyond k are cross-checked.
 *   4. New shards are committed, then read back in full from the medium, and every checksum is compared with the
 *      one that was computed here. Only then is a shard reported as healed.
 *
 * Invariants:
 * - No shard that the location names is ever deleted; a new shard takes the place of a bad one in one step.
 * - Memory: one group of stripes and 16 bytes per stripe and shard.
 */
import type { Drive, DriveNumber, ReadOptions, ShardHeader, ShardWriter } from '../drive/drive.js'
import { CHECKSUM_SIZE, ShardError, blockCount, blockSizeAt } from '../drive/drive.js'
import { reconstruct, sealBlock } from '../native/erasure.js'
import type { Clock } from './clock.js'
import { within } from './clock.js'
import type { HealResult, PartLocation } from './erasure_set.js'
import type { ShardSources } from './shard_sources.js'
import { headerFits } from './shard_sources.js'
import type { SweptStripe } from './stripe_sweep.js'
import { oddShard, openAll, sweep } from './stripe_sweep.js'

export interface HealContext {
  clock: Clock
  writeDeadlineMs: number
  readDeadlineMs: number
  groupBytes: number
  /** Drives of the set that are known now. */
  drives: readonly Drive[]
  /** The drive that takes the place of one named in a location; itself while it is a member of the set. */
  driveFor: (old: DriveNumber) => Drive | undefined
  permit: (bytes: number) => Promise<void>
  /** Bytes of part data that have been swept, of all. */
  onProgress: (done: number, total: number) => void
  newSources: (location: PartLocation) => ShardSources
  background: (work: Promise<unknown>) => void
}

interface Target {
  shard: number
  drive: Drive
  mode: 'write' | 'compare'
  /** Checksums of all blocks, as rebuilt here. */
  sums: Buffer
  /** Checksums that the medium gave, in mode 'compare'. */
  found: Buffer | undefined
  writer: ShardWriter | undefined
  failure: unknown
}

/** Rejects with ErasureError 'inconsistent' when intact shards disagree beyond repair, or as `permit` does. */
export async function healPart(
  context: HealContext,
  location: PartLocation,
  shards: readonly number[],
): Promise<HealResult> {
  const healer = new PartHealer(context, location)
  return await healer.run([...new Set(shards)].filter((shard) => shard >= 0 && shard < location.drives.length))
}

class PartHealer {
  readonly #context: HealContext
  readonly #location: PartLocation
  readonly #stripes: number

  constructor(context: HealContext, location: PartLocation) {
    this.#context = context
    this.#location = location
    this.#stripes = blockCount(location.geometry)
  }

  async run(shards: readonly number[]): Promise<HealResult> {
    const result: HealResult = { dataId: this.#location.dataId, healed: [], left: [], lost: false }
    const targets = this.#targets(shards)
    for (const target of targets) await this.#compareOrWrite(target)
    if (targets.length > 0) result.lost = (await this.#rebuild(targets)) === 'lost'
    // Intact on the medium, but not what the others imply: write it after all.
    const wrong = targets.filter((target) => target.mode === 'compare' && target.failure !== undefined)
    for (const target of wrong) Object.assign(target, { mode: 'write', failure: undefined, found: undefined })
    if (wrong.length > 0 && !result.lost) result.lost = (await this.#rebuild(wrong)) === 'lost'
    for (const target of targets) {
      if (target.failure !== undefined || result.lost) continue
      result.healed.push({ shard: target.shard, drive: target.drive.number })
    }
    result.left = shards.filter((shard) => !result.healed.some((healed) => healed.shard === shard))
    return result
  }

  /** Finds a drive for every shard; those for which there is none now are left out. */
  #targets(shards: readonly number[]): Target[] {
    const { drives } = this.#location
    const holding = new Map<DriveNumber, number>()
    drives.forEach((number, shard) => {
      const drive = number === 0 ? undefined : this.#context.driveFor(number)
      if (drive !== undefined && !holding.has(drive.number)) holding.set(drive.number, shard)
    })
    const targets: Target[] = []
    for (const shard of shards) {
      const old = drives[shard] ?? 0
      let drive = old === 0 ? undefined : this.#context.driveFor(old)
      if (old !== 0 && drive === undefined) continue
      if (drive === undefined || holding.get(drive.number) !== shard) drive = this.#freeDrive(holding)
      if (drive?.writable !== true) continue
      holding.set(drive.number, shard)
      const sums = Buffer.alloc(this.#stripes * CHECKSUM_SIZE)
      targets.push({ shard, drive, mode: 'write', sums, found: undefined, writer: undefined, failure: undefined })
    }
    return targets
  }

  /** The drive of the set with most free space among those that hold no shard of the part. */
  #freeDrive(holding: ReadonlyMap<DriveNumber, number>): Drive | undefined {
    const free = this.#context.drives.filter((drive) => drive.writable && !holding.has(drive.number))
    free.sort((a, b) => b.health.freeBytes - a.health.freeBytes || a.number - b.number)
    return free[0]
  }

  async #compareOrWrite(target: Target): Promise<void> {
    // What a write was never told about may have a name that is not durable: only writing it anew makes it so.
    if ((this.#location.drives[target.shard] ?? 0) === 0) {
      target.mode = 'write'
      return
    }
    try {
      target.found = await this.#readMedium(target)
      target.mode = 'compare'
    } catch {
      target.mode = 'write'
    }
  }

  /** One sweep over the part: writes or compares every target. */
  async #rebuild(targets: readonly Target[]): Promise<'done' | 'lost'> {
    const sources = this.#context.newSources(this.#location)
    try {
      await openAll(sources)
      const fewest = await this.#sweep(sources, targets)
      const { k } = this.#location.geometry
      if (fewest < k) {
        for (const target of targets) target.failure = new Error('fewer than k shards can be read')
        const out = this.#location.drives.filter((_, shard) => sources.state(shard) === 'unreachable').length
        return fewest + out < k ? 'lost' : 'done'
      }
      await Promise.all(targets.map((target) => this.#finish(target)))
      return 'done'
    } finally {
      sources.close()
      for (const target of targets) if (target.writer !== undefined) this.#context.background(target.writer.abort())
    }
  }

  /** The number of good blocks of the stripe that has fewest; stops at the first that has fewer than k. */
  async #sweep(sources: ShardSources, targets: readonly Target[]): Promise<number> {
    const { k, stripeSize, partSize } = this.#location.geometry
    const { permit, groupBytes } = this.#context
    let fewest = sources.usableShards().length
    if (fewest < k) return fewest
    for (const target of targets) await this.#open(target, sources)
    for await (const stripe of sweep(sources, { permit, groupBytes })) {
      this.#dropOdd(sources, stripe)
      fewest = Math.min(fewest, stripe.blocks.filter((block) => block !== null).length)
      const open = targets.filter((target) => target.failure === undefined)
      if (fewest < k || open.length === 0) break
      await this.#takeStripe(stripe, open)
      this.#context.onProgress(Math.min(partSize, (stripe.stripe + 1) * stripeSize), partSize)
    }
    return fewest
  }

  /** Leaves the one block out that disagrees with the rest, and distrusts its whole shard. */
  #dropOdd(sources: ShardSources, stripe: SweptStripe): void {
    stripe.blocks.forEach((_, shard) => {
      if (sources.state(shard) === 'corrupt') stripe.blocks[shard] = null
    })
    const odd = oddShard(this.#location.geometry, stripe)
    if (odd === undefined) return
    sources.markWrong(odd)
    stripe.blocks[odd] = null
  }

  async #takeStripe(stripe: SweptStripe, targets: readonly Target[]): Promise<void> {
    const { k, m } = this.#location.geometry
    const cells = targets.map(() => Buffer.allocUnsafeSlow(CHECKSUM_SIZE + stripe.blockSize))
    const given = stripe.blocks.map((block, shard) => (targets.some((target) => target.shard === shard) ? null : block))
    const independent = given.filter((block) => block !== null).length >= k
    // A shard that is being replaced may still have the only good block of this stripe.
    const blocks = independent ? given : stripe.blocks
    const missing = targets.flatMap((target, at) => ((blocks[target.shard] ?? null) === null ? [at] : []))
    const wanted = missing.map((at) => targets[at]?.shard as number)
    const out = missing.map((at) => (cells[at] as Buffer).subarray(CHECKSUM_SIZE))
    if (wanted.length > 0) reconstruct(k, m, stripe.blockSize, blocks, wanted, out)
    await Promise.all(
      targets.map(async (target, at) => {
        const cell = cells[at] as Buffer
        const own = blocks[target.shard] ?? null
        if (own !== null) cell.set(own, CHECKSUM_SIZE)
        await this.#takeCell(target, cell, stripe.stripe)
      }),
    )
  }

  async #takeCell(target: Target, cell: Buffer, stripe: number): Promise<void> {
    sealBlock(cell, this.#location.dataId, target.shard, stripe)
    target.sums.set(cell.subarray(0, CHECKSUM_SIZE), stripe * CHECKSUM_SIZE)
    const { writer } = target
    if (target.mode === 'compare' || writer === undefined || target.failure !== undefined) return
    await this.#context.permit(cell.length)
    await this.#attempt(target, () => writer.append([cell]))
  }

  async #open(target: Target, sources: ShardSources): Promise<void> {
    if (target.mode === 'compare') return
    const { dataId, geometry } = this.#location
    const header: ShardHeader = { dataId, shard: target.shard, geometry, salvage: sources.salvage }
    const creating = target.drive.createShard(header)
    await this.#attempt(target, async () => {
      target.writer = await creating
    })
    if (target.failure === undefined) return
    const late = creating.then((writer) => writer.abort())
    this.#context.background(late.catch(() => undefined))
  }

  /** Commits and proves a written shard; compares one that was there. */
  async #finish(target: Target): Promise<void> {
    if (target.mode === 'compare') {
      const same = target.found !== undefined && target.found.equals(target.sums)
      target.failure = same ? undefined : new ShardError('corrupt', target.drive.number, 'intact, but not this part')
      return
    }
    const { writer } = target
    if (writer === undefined || target.failure !== undefined) return
    await this.#attempt(target, () => writer.commit())
    if (target.failure !== undefined) return
    target.writer = undefined
    try {
      const found = await this.#readMedium(target)
      if (!found.equals(target.sums)) throw new ShardError('corrupt', target.drive.number, 'not what was written')
    } catch (error) {
      // The shard stays, whatever it is worth: a delete that the drive carries out late could take the next heal's
      // shard away. The next heal writes over it.
      target.failure = error ?? new Error('no proof')
    }
  }

  /** Reads a target's shard in full from the medium: the checksums of its blocks, all of which held. */
  async #readMedium(target: Target): Promise<Buffer> {
    const { clock, readDeadlineMs, groupBytes, permit } = this.#context
    const { geometry, dataId } = this.#location
    const options: ReadOptions = { medium: true, background: true }
    const late = (): Error => new ShardError('timeout', target.drive.number, 'no answer from the medium')
    const reader = await within(clock, readDeadlineMs, target.drive.openShard(dataId, options), late)
    try {
      if (!headerFits(reader.header, this.#location, target.shard)) {
        throw new ShardError('corrupt', target.drive.number, 'the header is not that of the shard')
      }
      const sums = Buffer.alloc(this.#stripes * CHECKSUM_SIZE)
      const most = Math.max(1, Math.floor(groupBytes / geometry.stripeSize))
      for (let first = 0; first < this.#stripes; first += most) {
        const count = Math.min(most, this.#stripes - first)
        const size = CHECKSUM_SIZE + blockSizeAt(geometry, first)
        await permit(count * size)
        const cells = await within(clock, readDeadlineMs, reader.readCells(first, count, options), late)
        for (let index = 0; index < count; index++) {
          sums.set(cells.subarray(index * size, index * size + CHECKSUM_SIZE), (first + index) * CHECKSUM_SIZE)
        }
      }
      return sums
    } finally {
      void reader.close().catch(() => undefined)
    }
  }

  async #attempt(target: Target, call: () => Promise<void>): Promise<void> {
    if (target.failure !== undefined) return
    const { clock, writeDeadlineMs } = this.#context
    const late = (): Error => new ShardError('timeout', target.drive.number, 'no answer to a heal')
    try {
      await within(clock, writeDeadlineMs, call(), late)
    } catch (error) {
      target.failure = error ?? new Error('failed')
    }
  }
}
