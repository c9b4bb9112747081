/**
 * The presence check: compares which shards the drives of a set hold with which ones metadata places there,
 * without reading any block. It finds in minutes, after an outage or a rollback of a drive, what a scrub
 * would find in days.
 *
 * Order: snapshot first, then the drives' lists. A part owned in the snapshot had its shards durable before,
 * so a shard that is not listed is missing, or the part has been deleted since; that is asked again before a
 * heal is queued.
 *
 * Runs for a set when asked (`request`), as when one of its drives came back.
 *
 * Counters: parts (compared), missing (shards queued for healing), passes.
 */
import type { Drive } from '../../drive/drive.js'
import type { HealEntry, PartRecord } from '../../meta/schema.js'
import {
  JobLog,
  look,
  mustApply,
  type BackgroundEnvironment,
  type BackgroundJob,
  type SliceEnd,
} from './job.js'
import { findPart, hexId, partOf } from './part_lookup.js'
import { TaskMeter, type JobProgress } from './progress.js'

const PAGE = 256
const LIST_PAGE = 512

export class PresenceCheck implements BackgroundJob {
  readonly name = 'presence'
  readonly #env: BackgroundEnvironment
  readonly #log: JobLog<'parts' | 'missing' | 'passes'>
  readonly #requested = new Set<number>()
  #walk: { set: number; after: Uint8Array | undefined } | undefined

  constructor(env: BackgroundEnvironment) {
    this.#env = env
    this.#log = new JobLog(this.name, env, ['parts', 'missing', 'passes'])
  }

  progress(): JobProgress {
    return this.#log.progress()
  }

  /** Checks the set from its beginning; a walk of it that is under way is followed by another. */
  request(set: number): void {
    this.#requested.add(set)
  }

  async runSlice(until: number): Promise<SliceEnd> {
    if (this.#walk === undefined) {
      const [set] = this.#requested
      if (set === undefined) return { againMs: 1_000 }
      this.#requested.delete(set)
      const { clock } = this.#env
      this.#walk = { set, after: undefined }
      this.#log.state = 'running'
      this.#log.meter = new TaskMeter(`set ${String(set)}`, () => clock.now(), this.#env.wallMs())
    }
    do {
      if (await this.#page(this.#walk)) {
        this.#walk = undefined
        this.#log.state = 'idle'
        this.#log.meter = undefined
        this.#log.add('passes')
        break
      }
    } while (this.#env.clock.now() < until)
    return { againMs: 0 }
  }

  /** One page of owners against all drives; true at the end of the set. */
  async #page(walk: { set: number; after: Uint8Array | undefined }): Promise<boolean> {
    const { owners, parts } = look(this.#env, (reader) => {
      const page = reader.owners(walk.set, walk.after, PAGE)
      return { owners: page, parts: page.flatMap((owner) => partOf(reader, owner) ?? []) }
    })
    const last = owners.at(-1)
    if (last === undefined) return true
    const numbers = new Set(parts.flatMap((part) => part.location.drives))
    const missing = new Map<PartRecord, number[]>()
    for (const number of numbers) {
      const drive = this.#env.drive(number)
      if (drive?.readable !== true) continue
      const held = await this.#held(drive, walk.after, last.dataId)
      if (held === undefined) continue
      for (const part of parts) {
        const shard = part.location.drives.indexOf(number)
        if (shard < 0 || held.has(hexId(part.location.dataId))) continue
        missing.set(part, [...(missing.get(part) ?? []), shard])
      }
    }
    this.#log.add('parts', parts.length)
    this.#log.meter?.add(parts.length, 0)
    await this.#queue(missing)
    walk.after = last.dataId
    return owners.length < PAGE
  }

  /** Data ids that a drive lists in (after, last]; undefined when it cannot say. */
  async #held(drive: Drive, after: Uint8Array | undefined, last: Uint8Array): Promise<Set<string> | undefined> {
    const held = new Set<string>()
    let from = after
    try {
      for (;;) {
        const page = await drive.listShards(from, LIST_PAGE)
        for (const shard of page) held.add(hexId(shard.dataId))
        from = page.at(-1)?.dataId
        if (page.length < LIST_PAGE || from === undefined || Buffer.compare(from, last) >= 0) return held
      }
    } catch (error) {
      this.#log.failed(`listing drive ${String(drive.number)}`, error)
      return undefined
    }
  }

  async #queue(missing: ReadonlyMap<PartRecord, number[]>): Promise<void> {
    const entries: HealEntry[] = look(this.#env, (reader) =>
      [...missing].flatMap(([{ location }, shards]) => {
        const part = findPart(reader, location.set, location.dataId)
        const still = shards.filter((shard) => part?.location.drives[shard] === location.drives[shard])
        if (still.length === 0) return []
        const { set, dataId } = location
        return [{ set, dataId, shards: still, cause: 'missing' as const, queuedMs: this.#env.wallMs() }]
      }),
    )
    if (entries.length === 0) return
    await mustApply(this.#env, { kind: 'queueHeal', entries })
    this.#log.add('missing', entries.reduce((sum, entry) => sum + entry.shards.length, 0))
  }
}
