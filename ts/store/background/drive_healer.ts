/**
 * Heals a drive that replaced another: walks the owners of its set and heals every part that has a shard on a
 * drive which is no member any more, or nowhere. The command `driveHealed` follows only when
 * - a whole walk healed all it found, each shard proved by reading the medium, and
 * - a second walk over fresh metadata found no part of the set that still names a replaced drive.
 * A walk that leaves something is followed by another one after a pause. Nothing is kept over a restart but
 * what the metadata says: parts already healed name the new drive and are passed over quickly.
 *
 * Counters: drives (finished), parts, shards, bytes (healed), left, lost (of the last walk).
 */
import type { PartLocation } from '../../erasure/erasure_set.js'
import type { DataOwner, DriveRecord } from '../../meta/schema.js'
import type { Claims } from './claims.js'
import { healOnePart } from './healer.js'
import {
  eachLimited,
  JobLog,
  look,
  mustApply,
  type BackgroundEnvironment,
  type BackgroundJob,
  type SliceEnd,
} from './job.js'
import { driveMap, homelessShards, partOf } from './part_lookup.js'
import { TaskMeter, type JobProgress } from './progress.js'

const PAGE = 128
const COUNT_PAGE = 1000
const PARALLEL = 3
const PAUSE_MS = 30_000

/** One drive's walks: count, heal, check. */
interface Walk {
  drive: DriveRecord
  phase: 'count' | 'heal' | 'check'
  after: Uint8Array | undefined
  parts: number
  left: number
  lost: number
}

export class DriveHealer implements BackgroundJob {
  readonly name = 'driveHealer'
  readonly #env: BackgroundEnvironment
  readonly #claims: Claims
  readonly #idleMs: number
  readonly #pauseMs: number
  readonly #log: JobLog<'drives' | 'parts' | 'shards' | 'bytes' | 'left' | 'lost'>
  #walk: Walk | undefined
  /** Drives whose last walk left something, and when to walk again. */
  readonly #notBefore = new Map<number, number>()

  constructor(env: BackgroundEnvironment, claims: Claims, options: { idleMs?: number; pauseMs?: number } = {}) {
    this.#env = env
    this.#claims = claims
    this.#idleMs = options.idleMs ?? 5_000
    this.#pauseMs = options.pauseMs ?? PAUSE_MS
    this.#log = new JobLog(this.name, env, ['drives', 'parts', 'shards', 'bytes', 'left', 'lost'])
  }

  progress(): JobProgress {
    return this.#log.progress()
  }

  /** Forgets all pauses, as after a drive came back. */
  retryNow(): void {
    this.#notBefore.clear()
  }

  async runSlice(until: number): Promise<SliceEnd> {
    this.#walk ??= this.#next()
    const walk = this.#walk
    if (walk === undefined) {
      this.#log.state = 'idle'
      this.#log.meter = undefined
      return { againMs: this.#idleMs }
    }
    this.#log.state = 'running'
    do {
      const done = await this.#page(walk)
      if (done) {
        this.#walk = undefined
        return { againMs: 0 }
      }
    } while (this.#env.clock.now() < until)
    return { againMs: 0 }
  }

  /** The next drive to heal that is there. */
  #next(): Walk | undefined {
    const now = this.#env.clock.now()
    const drives = look(this.#env, (reader) => reader.drives())
    const drive = drives.find(
      ({ number, healing, state }) =>
        healing &&
        state === 'member' &&
        this.#env.drive(number)?.writable === true &&
        (this.#notBefore.get(number) ?? 0) <= now,
    )
    if (drive === undefined) return undefined
    const { clock } = this.#env
    this.#log.meter = new TaskMeter(`drive ${String(drive.number)}`, () => clock.now(), this.#env.wallMs())
    return { drive, phase: 'count', after: undefined, parts: 0, left: 0, lost: 0 }
  }

  /** One page of the current phase; true when this walk has ended. */
  async #page(walk: Walk): Promise<boolean> {
    const { drive } = walk
    const size = walk.phase === 'count' ? COUNT_PAGE : PAGE
    const page = look(this.#env, (reader) => {
      const drives = driveMap(reader)
      const owners = reader.owners(drive.set, walk.after, size)
      const parts = walk.phase === 'count' ? [] : owners.map((owner) => ({ owner, part: partOf(reader, owner) }))
      const broken = parts.flatMap(({ owner, part }) =>
        part !== undefined && homelessShards(part.location, drives).length > 0 ? [{ owner, part }] : [],
      )
      return { owners, broken, drives }
    })
    walk.after = page.owners.at(-1)?.dataId
    if (walk.phase === 'count') walk.parts += page.owners.length
    if (walk.phase === 'heal') {
      await eachLimited(page.broken, PARALLEL, ({ owner }) => this.#heal(walk, owner, page.drives))
      this.#log.meter?.add(page.owners.length - page.broken.length, 0)
    }
    if (walk.phase === 'check') {
      // Only shards of replaced drives hold the drive back; a new write's intent is the heal queue's
      // business.
      walk.left += page.broken.filter(({ part }) => onReplaced(part.location, page.drives)).length
    }
    return page.owners.length < size ? await this.#endPhase(walk) : false
  }

  async #heal(walk: Walk, owner: DataOwner, drives: ReadonlyMap<number, DriveRecord>): Promise<void> {
    try {
      const healing = await healOnePart(this.#env, this.#claims, owner.set, owner.dataId, (part) =>
        homelessShards(part.location, drives),
      )
      if (healing.outcome === 'gone') return
      if (healing.outcome === 'busy') {
        walk.left++
        return
      }
      const { part, result } = healing
      const { k, partSize } = part.location.geometry
      if (result.lost) walk.lost++
      if (result.left.length > 0) walk.left++
      else this.#log.add('parts')
      this.#log.add('shards', result.healed.length)
      this.#log.add('bytes', result.healed.length * Math.ceil(partSize / k))
      this.#log.meter?.add(1, partSize)
    } catch (error) {
      walk.left++
      this.#log.failed('a part', error)
    }
  }

  async #endPhase(walk: Walk): Promise<boolean> {
    const { number } = walk.drive
    walk.after = undefined
    this.#log.counters.left = walk.left
    this.#log.counters.lost = walk.lost
    if (walk.phase === 'count') {
      if (this.#log.meter !== undefined) this.#log.meter.total = walk.parts
      walk.phase = 'heal'
      return false
    }
    if (walk.left > 0 || walk.lost > 0) {
      this.#log.detail =
        `drive ${String(number)}: ${String(walk.left)} parts are left, ${String(walk.lost)} have too few shards`
      this.#notBefore.set(number, this.#env.clock.now() + this.#pauseMs)
      return true
    }
    if (walk.phase === 'heal') {
      walk.phase = 'check'
      return false
    }
    await mustApply(this.#env, { kind: 'driveHealed', number })
    this.#log.add('drives')
    this.#log.detail = `drive ${String(number)} is healed`
    this.#notBefore.delete(number)
    return true
  }
}

function onReplaced(location: PartLocation, drives: ReadonlyMap<number, DriveRecord>): boolean {
  return location.drives.some((number) => number !== 0 && drives.get(number)?.state !== 'member')
}
