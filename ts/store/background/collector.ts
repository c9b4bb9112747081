/**
 * The collector: deletes the shards of garbage, oldest first.
 *
 * An entry is collected only when its position is not above any of
 * - the snapshot it was seen in,
 * - the oldest pin of any reader, read after that snapshot (pins.ts has the proof),
 * - the horizon: the position that was current `graceMs` ago, for readers that pin nowhere here.
 * It ends with the command `collected`, once no drive it was on can hold a shard. A drive that is out keeps
 * its entries waiting until it returns or is replaced; entries behind them go on.
 *
 * Counters: parts, waiting (entries of the last pass whose drives are out), doubts (entries that name no
 * known set).
 */
import type { DriveNumber } from '../../drive/drive.js'
import type { MetadataReader } from '../../meta/reader.js'
import type { DriveRecord, GarbageEntry } from '../../meta/schema.js'
import {
  eachLimited,
  JobLog,
  look,
  mustApply,
  type BackgroundEnvironment,
  type BackgroundJob,
  type SliceEnd,
} from './job.js'
import { driveMap, hexId } from './part_lookup.js'
import type { JobProgress } from './progress.js'

const PAGE = 256
const PARALLEL = 8
/** Entries remembered as waiting, so that reachable drives are not asked again and again. */
const WAITING_MAX = 100_000

export interface CollectorOptions {
  graceMs?: number
  /** Pause after a pass that left nothing to do. */
  idleMs?: number
}

/** Sets that went with their node: in a store of several nodes, those that metadata does not know. */
function removedSets(reader: MetadataReader): (set: number) => boolean {
  const sets = reader.sets()
  if (!sets.some((set) => set.node !== undefined)) return () => false
  const known = new Set(sets.map((set) => set.number))
  return (set) => !known.has(set)
}

type Cursor = Pick<GarbageEntry, 'order' | 'dataId'>

export class Collector implements BackgroundJob {
  readonly name = 'collector'
  readonly #env: BackgroundEnvironment
  readonly #graceMs: number
  readonly #idleMs: number
  readonly #log: JobLog<'parts' | 'waiting' | 'doubts'>
  /** Positions by time of the clock, oldest first: the newest one older than the grace time is the horizon. */
  #samples: { at: number; position: number }[] = []
  #cursor: Cursor | undefined
  #waitingInPass = 0
  #doubtsInPass = 0
  /** Drives still to be reached, by data id. */
  readonly #left = new Map<string, DriveNumber[]>()

  constructor(env: BackgroundEnvironment, options: CollectorOptions = {}) {
    this.#env = env
    this.#graceMs = options.graceMs ?? 10_000
    this.#idleMs = options.idleMs ?? 2_000
    this.#log = new JobLog(this.name, env, ['parts', 'waiting', 'doubts'])
  }

  progress(): JobProgress {
    return this.#log.progress()
  }

  async runSlice(until: number): Promise<SliceEnd> {
    const { collectionEnabled } = await this.#env.metadata.status()
    if (!collectionEnabled) {
      this.#log.state = 'disabled'
      this.#log.detail = 'collection is off until it is confirmed'
      return { againMs: this.#idleMs }
    }
    this.#log.detail = ''
    do {
      this.#log.state = 'running'
      if (!(await this.#page())) {
        this.#log.state = 'idle'
        return { againMs: this.#idleMs }
      }
    } while (this.#env.clock.now() < until)
    return { againMs: 0 }
  }

  /** One page of the queue; false at its end. */
  async #page(): Promise<boolean> {
    const page = look(this.#env, (reader) => ({
      entries: reader.garbage(PAGE, this.#cursor),
      // A snapshot may show a commit that is not published yet; the proof needs c <= published.
      position: Math.min(reader.position, reader.publishedPosition),
      drives: driveMap(reader),
      elsewhere: new Set(
        reader.sets().flatMap(({ number, node }) => (node === undefined || node === this.#env.node ? [] : [number])),
      ),
      removed: removedSets(reader),
    }))
    // The pins after the snapshot: this order is what the proof rests on.
    const limit = Math.min(page.position, this.#env.board.oldest(), this.#horizon(page.position))
    const ready = page.entries.filter((entry) => entry.order.index <= limit)
    const gone: GarbageEntry[] = []
    // Each node deletes from its own drives; of a node that was removed nothing is left to delete.
    const own = ready.filter((entry) => !page.elsewhere.has(entry.set))
    await eachLimited(own, PARALLEL, async (entry) => {
      if (page.removed(entry.set) || (await this.#delete(entry, page.drives))) gone.push(entry)
    })
    if (gone.length > 0) {
      const entries = gone.map(({ order, dataId }) => ({ order, dataId }))
      await mustApply(this.#env, { kind: 'collected', entries })
      this.#log.add('parts', gone.length)
    }
    const last = ready.at(-1)
    if (ready.length === PAGE && last !== undefined) {
      this.#cursor = { order: last.order, dataId: last.dataId }
      return true
    }
    this.#cursor = undefined
    this.#log.counters.waiting = this.#waitingInPass
    this.#log.counters.doubts = this.#doubtsInPass
    this.#waitingInPass = 0
    this.#doubtsInPass = 0
    return false
  }

  #horizon(position: number): number {
    const now = this.#env.clock.now()
    const newest = this.#samples.at(-1)
    if (newest === undefined || now - newest.at >= this.#graceMs / 8) this.#samples.push({ at: now, position })
    let horizon = -1
    let passed = 0
    for (const [i, sample] of this.#samples.entries()) {
      if (now - sample.at < this.#graceMs) break
      horizon = sample.position
      passed = i
    }
    this.#samples.splice(0, passed)
    return this.#graceMs === 0 ? position : horizon
  }

  /** True when no drive can hold a shard of the entry any more. */
  async #delete(entry: GarbageEntry, drives: ReadonlyMap<DriveNumber, DriveRecord>): Promise<boolean> {
    const id = hexId(entry.dataId)
    const set = this.#env.set(entry.set)
    if (set === undefined) {
      this.#doubtsInPass++
      return false
    }
    const known = this.#left.get(id)?.filter((number) => drives.get(number)?.state !== 'replaced')
    if (known !== undefined && known.length > 0 && known.every((number) => !this.#reachable(number))) {
      this.#waitingInPass++
      return false
    }
    // The 0 asks all members: a drive that was left out of the write may have finished late.
    const unreached = await set.delete({ ...entry, drives: [...entry.drives, 0] })
    const left = unreached.filter((number) => drives.get(number)?.state !== 'replaced')
    if (left.length === 0) {
      this.#left.delete(id)
      return true
    }
    this.#waitingInPass++
    if (this.#left.size >= WAITING_MAX) this.#left.clear()
    this.#left.set(id, left)
    return false
  }

  #reachable(number: DriveNumber): boolean {
    return this.#env.drive(number)?.readable ?? false
  }
}
