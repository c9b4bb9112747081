/**
 * The erasure set over the drives that this process can reach. Holds no state of its own but the drives, the
 * thread's slab pool, and the cleaning that goes on after a write or read has ended.
 *
 * Runs in any thread; each thread has its own LocalSet and its own Drive objects.
 */
import type { Drive, DriveNumber } from '../drive/drive.js'
import { ShardError } from '../drive/drive.js'
import type { Clock } from './clock.js'
import { systemClock } from './clock.js'
import { DriveSpeeds } from './drive_speeds.js'
import type { Damage, ErasureSet, HealResult, PartLocation, PartRead, PartWrite } from './erasure_set.js'
import { ErasureError } from './erasure_set.js'
import { healPart } from './part_healer.js'
import { readPart } from './part_reader.js'
import { readNow } from './read_now.js'
import { type WriteContext, writePart } from './part_writer.js'
import { ShardSources, checkLocation } from './shard_sources.js'
import type { SlabPool } from './slab.js'
import { oddShard, openAll, sweep } from './stripe_sweep.js'
import { planWrite, writeQuorum } from './write_plan.js'

/** What metadata says of a set. */
export interface SetMembers {
  number: number
  k: number
  m: number
  /** Drive number at each position: k + m of them. */
  drives: readonly DriveNumber[]
}

export interface LocalSetOptions {
  /** Bytes of part data per stripe of new parts. */
  stripeSize: number
  slabs: SlabPool
  /** Slabs that one write may hold. */
  stripesInFlight?: number
  /**
   * After this a drive that has not answered is left out of the write, or another shard is read instead. Drives have
   * shorter deadlines of their own: these are for a drive that does not keep them.
   */
  writeDeadlineMs?: number
  readDeadlineMs?: number
  /** A read is never called slow before this. */
  hedgeFloorMs?: number
  /** Bytes of part data read in one submission per drive. */
  groupBytes?: number
  cleanWaitMs?: number
  clock?: Clock
  /** Shards found missing or bad, to be queued for healing. Must not throw. */
  onDamage?: (damage: Damage) => void
  /**
   * The drive that stands at the place of one that is no longer a member (a replaced drive's successor), undefined
   * when there is none. Asked only for numbers that are not members.
   */
  successor?: (old: DriveNumber) => DriveNumber | undefined
  /** Heal and verify wait for this before they read or write so many bytes; rejects to stop them. */
  permit?: (bytes: number) => Promise<void>
  onHealProgress?: (location: PartLocation, done: number, total: number) => void
}

const defaults = {
  stripesInFlight: 3,
  writeDeadlineMs: 15_000,
  readDeadlineMs: 15_000,
  hedgeFloorMs: 20,
  groupBytes: 2 * 1024 * 1024,
  cleanWaitMs: 2_000,
  clock: systemClock,
  onDamage: (): void => undefined,
  successor: (): undefined => undefined,
  permit: (): Promise<void> => Promise.resolve(),
  onHealProgress: (): void => undefined,
}

export class LocalSet implements ErasureSet {
  readonly number: number
  #members: SetMembers
  #drives: Drive[]
  #byNumber: Map<DriveNumber, Drive>
  readonly #options: Required<LocalSetOptions>
  readonly #writing: WriteContext
  readonly #speeds: DriveSpeeds
  readonly #background = new Set<Promise<unknown>>()

  /** `drives`: those of the members that can be reached at all, in any order. RangeError when the set is impossible. */
  constructor(members: SetMembers, drives: readonly Drive[], options: LocalSetOptions) {
    const { k, m } = members
    const sane = Number.isSafeInteger(k) && Number.isSafeInteger(m) && k >= 1 && m >= 0 && m <= k && k + m <= 16
    if (!sane || members.drives.length !== k + m) throw new RangeError(`no set of ${String(k)}+${String(m)} drives`)
    const { stripeSize } = options
    if (!Number.isSafeInteger(stripeSize) || stripeSize < 1) throw new RangeError('stripeSize must be positive')
    this.number = members.number
    this.#members = members
    this.#drives = []
    this.#byNumber = new Map()
    this.#options = { ...defaults, ...options }
    const { clock, slabs, stripesInFlight, writeDeadlineMs, cleanWaitMs } = this.#options
    const background = (work: Promise<unknown>): void => { this.#track(work) }
    this.#writing = { set: this.number, clock, slabs, stripesInFlight, writeDeadlineMs, cleanWaitMs, background }
    this.#speeds = new DriveSpeeds(this.#options.clock, this.#options.hedgeFloorMs)
    this.update(members, drives)
  }

  /** New members or drives, as after a replacement; writes and reads that have begun go on with the old ones. */
  update(members: SetMembers, drives: readonly Drive[]): void {
    const known = new Map(drives.map((drive) => [drive.number, drive]))
    this.#members = members
    this.#drives = members.drives.flatMap((number) => known.get(number) ?? [])
    this.#byNumber = new Map(this.#drives.map((drive) => [drive.number, drive]))
    this.#speeds.refresh(this.#drives, true)
  }

  get driveNumbers(): readonly DriveNumber[] {
    return this.#members.drives
  }

  get writable(): boolean {
    let count = 0
    for (const drive of this.#drives) if (drive.writable) count++
    return count >= writeQuorum(this.#members)
  }

  async write(part: PartWrite): Promise<PartLocation> {
    if (!Number.isSafeInteger(part.size) || part.size < 0) throw new RangeError('size must be a whole number')
    if (part.dataId.length !== 16) throw new RangeError('a data id has 16 bytes')
    const plan = planWrite(this.#members, this.#drives, part, this.#options.stripeSize)
    return await writePart(this.#writing, plan, part)
  }

  read(part: PartRead): AsyncGenerator<Uint8Array> {
    const { clock, slabs, groupBytes } = this.#options
    const sources = this.#sources(part.location, { background: part.background ?? false, medium: false })
    this.#speeds.refresh(this.#drives)
    return readPart({ clock, slabs, groupBytes, speeds: this.#speeds }, sources, part)
  }

  readNow({ location, offset, length }: PartRead): Uint8Array | undefined {
    checkLocation(location)
    if (location.set !== this.number) return undefined
    return readNow(location, offset, length, (number) => this.#byNumber.get(number))
  }

  async delete(location: {
    dataId: Uint8Array
    set: number
    drives: readonly DriveNumber[]
  }): Promise<DriveNumber[]> {
    // A drive that was left out of a write may have finished late: ask all members then.
    const named = location.drives.filter((number) => number !== 0)
    const asked = named.length < location.drives.length ? [...named, ...this.#members.drives] : named
    const unreached: DriveNumber[] = []
    await Promise.all(
      [...new Set(asked)].map(async (number) => {
        const reached = await this.#deleteShard(number, location.dataId)
        if (!reached && named.includes(number)) unreached.push(number)
      }),
    )
    return unreached.sort((a, b) => a - b)
  }

  async verify(location: PartLocation, options: { medium: boolean }): Promise<Damage | undefined> {
    checkLocation(location)
    const found = new Map<number, Damage['cause']>()
    const note = (damage: Damage): void => {
      for (const shard of damage.shards) found.set(shard, damage.cause)
    }
    const sources = this.#sources(location, { background: true, medium: options.medium }, note)
    try {
      await openAll(sources)
      location.drives.forEach((_, shard) => {
        if (sources.state(shard) === 'missing') found.set(shard, 'missing')
      })
      for await (const stripe of sweep(sources, this.#sweepOptions())) {
        stripe.blocks.forEach((_, shard) => {
          if (sources.state(shard) === 'corrupt') stripe.blocks[shard] = null
        })
        const odd = oddShard(location.geometry, stripe)
        if (odd !== undefined) sources.markWrong(odd)
      }
    } finally {
      sources.close()
    }
    if (found.size === 0) return undefined
    const cause = [...found.values()].includes('corrupt') ? 'corrupt' : 'missing'
    const shards = [...found.keys()].sort((a, b) => a - b)
    return { dataId: location.dataId, set: this.number, shards, cause }
  }

  async heal(location: PartLocation, shards: readonly number[]): Promise<HealResult> {
    checkLocation(location)
    const { clock, writeDeadlineMs, readDeadlineMs, permit, onHealProgress, groupBytes } = this.#options
    return await healPart(
      {
        clock,
        writeDeadlineMs,
        readDeadlineMs: readDeadlineMs * 4,
        groupBytes,
        drives: this.#drives,
        driveFor: (old) => this.#driveFor(old),
        permit,
        onProgress: (done, total) => {
          onHealProgress(location, done, total)
        },
        newSources: (part) => this.#sources(part, { background: true, medium: false }),
        background: (work) => {
          this.#track(work)
        },
      },
      location,
      shards,
    )
  }

  /** Cleaning and closing that goes on in the background. */
  get backgroundCount(): number {
    return this.#background.size
  }

  /** Waits for background cleaning, but not beyond `timeoutMs`; true when nothing is left. */
  async settled(timeoutMs: number): Promise<boolean> {
    await new Promise<void>((resolve) => {
      const cancel = this.#options.clock.after(timeoutMs, resolve)
      const wait = async (): Promise<void> => {
        while (this.#background.size > 0) await Promise.allSettled(this.#background)
        cancel()
        resolve()
      }
      void wait()
    })
    return this.#background.size === 0
  }

  #track(work: Promise<unknown>): void {
    const tracked = work
      .catch(() => undefined)
      .finally(() => {
        this.#background.delete(tracked)
      })
    this.#background.add(tracked)
  }

  #driveFor(old: DriveNumber): Drive | undefined {
    if (this.#members.drives.includes(old)) return this.#byNumber.get(old)
    const next = this.#options.successor(old)
    return next === undefined ? undefined : this.#byNumber.get(next)
  }

  /** True when the drive holds no shard of the data id any more. */
  async #deleteShard(number: DriveNumber, dataId: Uint8Array): Promise<boolean> {
    const drive = this.#byNumber.get(number)
    if (drive === undefined) return false
    try {
      await drive.deleteShard(dataId)
      return true
    } catch (error) {
      return error instanceof ShardError && error.code === 'missing'
    }
  }

  #sweepOptions(): { groupBytes: number; permit: (bytes: number) => Promise<void> } {
    return { groupBytes: this.#options.groupBytes, permit: this.#options.permit }
  }

  #sources(
    location: PartLocation,
    how: { background: boolean; medium: boolean },
    onDamage: (damage: Damage) => void = this.#options.onDamage,
  ): ShardSources {
    if (location.set !== this.number) throw new ErasureError('readQuorum', `a part of set ${String(location.set)}`)
    const { clock } = this.#options
    // Background reads wait behind all others; the drive's own deadlines are shorter than these.
    const readDeadlineMs = this.#options.readDeadlineMs * (how.background ? 4 : 1)
    return new ShardSources(location, {
      clock,
      driveOf: (number) => this.#byNumber.get(number),
      isMember: (number) => this.#members.drives.includes(number),
      read: how,
      readDeadlineMs,
      onDamage,
      background: (work) => {
        this.#track(work)
      },
    })
  }
}
