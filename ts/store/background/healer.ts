/**
 * The healer: works off the heal queue of the metadata. `healOnePart` heals one part for any job:
 *
 *   claim -> pin -> fresh snapshot -> owner and location -> ErasureSet.heal (rewrites, proves) -> command `healed`
 *
 * Concurrent deletes: under the pin the collector leaves alone what became garbage after the snapshot, so a
 * part that is deleted while it heals is collected afterwards, on every member of its set, healed shards
 * included. `apply` ignores `healed` for a data id without owner.
 *
 * What cannot be healed now (a drive is out, fewer than k shards readable) is tried again after a pause that
 * doubles from 5 s to 30 min. Pauses are forgotten at a restart, the queue is not.
 *
 * Counters: parts, shards, bytes (healed); of what the queue holds at present: left (shards that could not be healed
 * when last tried) and lost (parts below k shards).
 */
import type { HealResult } from '../../erasure/erasure_set.js'
import type { HealEntry, PartRecord } from '../../meta/schema.js'
import type { Claims } from './claims.js'
import {
  eachLimited,
  JobLog,
  look,
  mustApply,
  type BackgroundEnvironment,
  type BackgroundJob,
  type SliceEnd,
} from './job.js'
import { findPart, hexId } from './part_lookup.js'
import { TaskMeter, type JobProgress } from './progress.js'

const PAGE = 64
const PARALLEL = 3
const FIRST_PAUSE_MS = 5_000
const LONGEST_PAUSE_MS = 1_800_000
const PAUSES_MAX = 100_000

export type PartHealing =
  /** Nothing references the data id any more, or nothing is wrong with these shards' places. */
  | { outcome: 'gone' }
  /** Another job has it, or the view lags: try again. */
  | { outcome: 'busy' }
  | { outcome: 'done'; part: PartRecord; result: HealResult }

/** Heals chosen shards of a part. Rejects only when metadata or the set fails as a whole. */
export async function healOnePart(
  env: BackgroundEnvironment,
  claims: Claims,
  set: number,
  dataId: Uint8Array,
  choose: (part: PartRecord) => readonly number[],
): Promise<PartHealing> {
  if (!claims.tryClaim(dataId)) return { outcome: 'busy' }
  const pin = env.pins.open(env.metadata.reader)
  try {
    if (pin === undefined) return { outcome: 'busy' }
    const part = look(env, (reader) => findPart(reader, set, dataId))
    const erasureSet = env.set(set)
    if (part === undefined) return { outcome: 'gone' }
    if (erasureSet === undefined) return { outcome: 'busy' }
    const shards = choose(part).filter((shard) => shard >= 0 && shard < part.location.drives.length)
    const result: HealResult =
      shards.length === 0
        ? { dataId, healed: [], left: [], lost: false }
        : await erasureSet.heal(part.location, shards)
    if (!result.lost) {
      const left = result.left
      await mustApply(env, { kind: 'healed', set, dataId, shards: result.healed, left })
    }
    return { outcome: 'done', part, result }
  } finally {
    pin?.release()
    claims.release(dataId)
  }
}

/** Of an entry of the queue that could not be healed when it was last tried. */
interface Pause {
  until: number
  lengthMs: number
  /** Shards. */
  left: number
  lost: boolean
}

export class Healer implements BackgroundJob {
  readonly name = 'healer'
  readonly #env: BackgroundEnvironment
  readonly #claims: Claims
  readonly #idleMs: number
  readonly #log: JobLog<'parts' | 'shards' | 'bytes'>
  readonly #pauses = new Map<string, Pause>()
  /** Pauses whose entries this walk over the queue has met. */
  #met = new Set<string>()
  #cursor: { set: number; dataId: Uint8Array } | undefined

  constructor(env: BackgroundEnvironment, claims: Claims, options: { idleMs?: number } = {}) {
    this.#env = env
    this.#claims = claims
    this.#idleMs = options.idleMs ?? 1_000
    this.#log = new JobLog(this.name, env, ['parts', 'shards', 'bytes'])
  }

  progress(): JobProgress {
    const progress = this.#log.progress()
    let left = 0
    let lost = 0
    for (const pause of this.#pauses.values()) {
      left += pause.left
      if (pause.lost) lost++
    }
    return { ...progress, counters: { ...progress.counters, left, lost } }
  }

  /** Ends all pauses, as after a drive came back. */
  retryNow(): void {
    for (const pause of this.#pauses.values()) {
      pause.until = 0
      pause.lengthMs = FIRST_PAUSE_MS / 2
    }
  }

  async runSlice(until: number): Promise<SliceEnd> {
    do {
      const { entries, count } = look(this.#env, (reader) => ({
        entries: reader.heals(PAGE, this.#cursor),
        count: reader.counts().heals,
      }))
      this.#show(count)
      const now = this.#env.clock.now()
      const paused = (entry: HealEntry): boolean => (this.#pauses.get(hexId(entry.dataId))?.until ?? 0) > now
      const due = entries.filter((entry) => this.#env.set(entry.set) !== undefined && !paused(entry))
      await eachLimited(due, PARALLEL, (entry) => this.#heal(entry))
      this.#forgetGone(entries)
      const last = entries.at(-1)
      this.#cursor = entries.length < PAGE || last === undefined ? undefined : { set: last.set, dataId: last.dataId }
      if (this.#cursor === undefined) return { againMs: this.#idleMs }
    } while (this.#env.clock.now() < until)
    return { againMs: 0 }
  }

  /** At the end of a walk: an entry may also go without a heal, with its part. */
  #forgetGone(entries: readonly HealEntry[]): void {
    for (const entry of entries) {
      const id = hexId(entry.dataId)
      if (this.#pauses.has(id)) this.#met.add(id)
    }
    if (entries.length === PAGE) return
    for (const id of this.#pauses.keys()) if (!this.#met.has(id)) this.#pauses.delete(id)
    this.#met.clear()
  }

  #show(count: number): void {
    if (count === 0) {
      this.#log.meter = undefined
      this.#log.state = 'idle'
      return
    }
    const { clock } = this.#env
    this.#log.meter ??= new TaskMeter('heal queue', () => clock.now(), this.#env.wallMs())
    this.#log.meter.total = this.#log.meter.progress().partsDone + count
    this.#log.state = 'running'
  }

  async #heal(entry: HealEntry): Promise<void> {
    const id = hexId(entry.dataId)
    try {
      const healing = await healOnePart(this.#env, this.#claims, entry.set, entry.dataId, () => entry.shards)
      if (healing.outcome === 'busy') return
      if (healing.outcome === 'gone') {
        // A data id without owner has no entry either, but this costs nothing and ends any that there is.
        await mustApply(this.#env, { kind: 'healed', set: entry.set, dataId: entry.dataId, shards: [], left: [] })
        this.#pauses.delete(id)
        return
      }
      this.#count(id, healing.part, healing.result)
    } catch (error) {
      this.#pause(id, entry.shards.length, false)
      this.#log.failed('a part', error)
    }
  }

  #count(id: string, part: PartRecord, result: HealResult): void {
    const { k, partSize } = part.location.geometry
    const bytes = result.healed.length * Math.ceil(partSize / k)
    this.#log.add('shards', result.healed.length)
    this.#log.add('bytes', bytes)
    if (result.left.length > 0 || result.lost) {
      this.#pause(id, result.left.length, result.lost)
      return
    }
    this.#pauses.delete(id)
    this.#log.add('parts')
    this.#log.meter?.add(1, partSize)
  }

  #pause(id: string, left: number, lost: boolean): void {
    const before = this.#pauses.get(id)?.lengthMs
    const lengthMs = before === undefined ? FIRST_PAUSE_MS : Math.min(before * 2, LONGEST_PAUSE_MS)
    if (this.#pauses.size >= PAUSES_MAX) this.#pauses.clear()
    this.#pauses.set(id, { until: this.#env.clock.now() + lengthMs, lengthMs, left, lost })
  }
}
