/**
 * The scrubber: reads every shard of every part from the medium, checks every block against its checksum and
 * the shards against each other (ErasureSet.verify), and queues what is bad for healing. A finding is checked
 * against fresh metadata before it is queued, because the part may have been deleted in between.
 *
 * A pass walks the sets in order, each by data id; where it is survives a restart (`CursorStore`), so that
 * often restarted servers finish their passes too. At the end of a pass metadata compares its copies, where
 * it can.
 *
 * Counters: parts, bytes (verified), damaged (parts queued), unverified (drives out or metadata gone),
 * passes, metadataDamage.
 */
import type { HealEntry, PartRecord } from '../../meta/schema.js'
import {
  eachLimited,
  JobLog,
  look,
  mustApply,
  type BackgroundEnvironment,
  type BackgroundJob,
  type SliceEnd,
} from './job.js'
import { findPart, partOf, storedBytes } from './part_lookup.js'
import { TaskMeter, type JobProgress } from './progress.js'

const PAGE = 32
const COUNT_PAGE = 1000
const PARALLEL = 2

export interface ScrubCursor {
  /** Set being walked and last data id done (hex, '' at its start). */
  set: number
  after: string
  /** Wall clock: when the pass began. */
  startedMs: number
}

/** Keeps the cursor over restarts. Failures are reported and cost only repeated work. */
export interface CursorStore {
  load(): Promise<ScrubCursor | undefined>
  save(cursor: ScrubCursor | undefined): Promise<void>
}

export interface ScrubberOptions {
  /** Time from the start of one pass to the start of the next. */
  intervalMs?: number
  /** Parts between two saves of the cursor. */
  saveEvery?: number
  cursor?: CursorStore
  /** Reads the medium unless false. */
  medium?: boolean
  /** Compares the metadata copies; the number of copies found damaged and set to be rebuilt. */
  compareMetadata?: () => Promise<number>
}

export class Scrubber implements BackgroundJob {
  readonly name = 'scrubber'
  readonly #env: BackgroundEnvironment
  readonly #options: ScrubberOptions
  readonly #intervalMs: number
  readonly #log: JobLog<'parts' | 'bytes' | 'damaged' | 'unverified' | 'passes' | 'metadataDamage'>
  #loaded = false
  #pass: ScrubCursor | undefined
  #countFrom: { set: number; after: Uint8Array | undefined; parts: number } | undefined
  #sinceSave = 0
  #nextPassAt: number

  constructor(env: BackgroundEnvironment, options: ScrubberOptions = {}) {
    this.#env = env
    this.#options = options
    this.#intervalMs = options.intervalMs ?? 7 * 86_400_000
    this.#nextPassAt = env.clock.now() + Math.min(this.#intervalMs, 600_000)
    const counters = ['parts', 'bytes', 'damaged', 'unverified', 'passes', 'metadataDamage'] as const
    this.#log = new JobLog(this.name, env, counters)
  }

  progress(): JobProgress {
    return this.#log.progress()
  }

  /** Begins a pass at the next slice, unless one is running. */
  startNow(): void {
    this.#nextPassAt = this.#env.clock.now()
  }

  async runSlice(until: number): Promise<SliceEnd> {
    if (!this.#loaded) await this.#load()
    if (this.#pass === undefined) {
      const wait = this.#nextPassAt - this.#env.clock.now()
      if (wait > 0) return { againMs: Math.min(wait, 5_000) }
      this.#begin({ set: this.#sets()[0] ?? 0, after: '', startedMs: this.#env.wallMs() })
    }
    while (this.#pass !== undefined) {
      if (this.#countFrom !== undefined) this.#count(this.#countFrom)
      else await this.#page(this.#pass)
      if (this.#env.clock.now() >= until) break
    }
    return { againMs: 0 }
  }

  async #load(): Promise<void> {
    this.#loaded = true
    try {
      const cursor = await this.#options.cursor?.load()
      if (cursor !== undefined) this.#begin(cursor)
    } catch (error) {
      this.#log.failed('loading the cursor', error)
    }
  }

  #begin(cursor: ScrubCursor): void {
    this.#pass = cursor
    this.#nextPassAt = this.#env.clock.now() + this.#intervalMs
    this.#log.state = 'running'
    const { clock } = this.#env
    this.#log.meter = new TaskMeter('all sets', () => clock.now(), cursor.startedMs)
    this.#countFrom = { set: cursor.set, after: fromHex(cursor.after), parts: 0 }
  }

  #sets(): number[] {
    const { node } = this.#env
    return look(this.#env, (reader) => reader.sets())
      .filter((set) => node === undefined || set.node === node)
      .map((set) => set.number)
      .sort((a, b) => a - b)
  }

  /** Counts what the pass has before it, for the progress; reads metadata only. */
  #count(from: { set: number; after: Uint8Array | undefined; parts: number }): void {
    const owners = look(this.#env, (reader) => reader.owners(from.set, from.after, COUNT_PAGE))
    from.parts += owners.length
    from.after = owners.at(-1)?.dataId
    if (owners.length === COUNT_PAGE) return
    const next = this.#sets().find((set) => set > from.set)
    if (next !== undefined) {
      this.#countFrom = { set: next, after: undefined, parts: from.parts }
      return
    }
    this.#countFrom = undefined
    if (this.#log.meter !== undefined) this.#log.meter.total = from.parts
  }

  async #page(pass: ScrubCursor): Promise<void> {
    const { owners, parts } = look(this.#env, (reader) => {
      const page = reader.owners(pass.set, fromHex(pass.after), PAGE)
      return { owners: page, parts: page.flatMap((owner) => partOf(reader, owner) ?? []) }
    })
    await eachLimited(parts, PARALLEL, (part) => this.#verify(part))
    const last = owners.at(-1)
    if (last !== undefined) pass.after = Buffer.from(last.dataId).toString('hex')
    this.#sinceSave += owners.length
    if (owners.length < PAGE) {
      const next = this.#sets().find((set) => set > pass.set)
      if (next === undefined) {
        await this.#end()
        return
      }
      pass.set = next
      pass.after = ''
    }
    if (this.#sinceSave >= (this.#options.saveEvery ?? 1000)) await this.#save(pass)
  }

  async #end(): Promise<void> {
    this.#pass = undefined
    await this.#compareMetadata()
    await this.#save(undefined)
    this.#log.add('passes')
    this.#log.state = 'idle'
    this.#log.meter = undefined
  }

  async #compareMetadata(): Promise<void> {
    try {
      const damaged = await this.#options.compareMetadata?.()
      if (damaged !== undefined) this.#log.add('metadataDamage', damaged)
    } catch (error) {
      this.#log.failed('comparing metadata copies', error)
    }
  }

  async #save(cursor: ScrubCursor | undefined): Promise<void> {
    this.#sinceSave = 0
    try {
      await this.#options.cursor?.save(cursor)
    } catch (error) {
      this.#log.failed('saving the cursor', error)
    }
  }

  async #verify(part: PartRecord): Promise<void> {
    const { location } = part
    const set = this.#env.set(location.set)
    if (location.drives.length === 0) return
    if (set === undefined) {
      this.#log.add('unverified')
      return
    }
    try {
      const damage = await set.verify(location, { medium: this.#options.medium ?? true })
      this.#log.add('parts')
      this.#log.add('bytes', storedBytes(location))
      this.#log.meter?.add(1, part.size)
      if (damage !== undefined) await this.#queue({ ...damage, queuedMs: this.#env.wallMs() })
    } catch (error) {
      this.#log.add('unverified')
      this.#log.failed('a part', error)
    }
  }

  async #queue(entry: HealEntry): Promise<void> {
    const owned = look(this.#env, (reader) => findPart(reader, entry.set, entry.dataId)) !== undefined
    if (!owned) return
    await mustApply(this.#env, { kind: 'queueHeal', entries: [entry] })
    this.#log.add('damaged')
  }
}

function fromHex(text: string): Uint8Array | undefined {
  return text === '' ? undefined : new Uint8Array(Buffer.from(text, 'hex'))
}
