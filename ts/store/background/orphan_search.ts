/**
 * The orphan search: lists the shards of every drive and deletes those that metadata proves unreferenced.
 * They come from writers that died or were refused between shards and command, and from drives that were out
 * or late.
 *
 * A shard is deleted from a drive only when all of this holds, in one snapshot taken after the shard was listed:
 * - collection is enabled, and the writer epoch of its data id is fenced: no command can reference it any more;
 * - its data id is neither owned nor waiting as garbage (that is the collector's); or it is owned by a part that
 *   does not name this drive and has all its shards on others (a stray, left by a write that the drive finished
 *   late). It is claimed before the snapshot, so no heal is rewriting it.
 * Shards of open epochs are in flight or wait for the fence. Shards of epochs that metadata never opened, or
 * that name a drive unknown to metadata, are doubts: kept, counted, reported.
 *
 * Counters: listed, deleted, bytes, doubts and waiting (of open epochs) of the last whole pass.
 */
import type { Drive, ShardListing } from '../../drive/drive.js'
import type { MetadataReader } from '../../meta/reader.js'
import { epochOf } from '../data_ids.js'
import type { Claims } from './claims.js'
import {
  eachLimited,
  JobLog,
  look,
  type BackgroundEnvironment,
  type BackgroundJob,
  type SliceEnd,
} from './job.js'
import { driveMap, findPart, homelessShards } from './part_lookup.js'
import type { JobProgress } from './progress.js'

const PAGE = 512
const PARALLEL = 4

export interface OrphanSearchOptions {
  /** Before the first pass: longer than it takes until the epochs of the last process are fenced. */
  firstMs?: number
  /** Time between two passes over all drives. */
  intervalMs?: number
}

type Verdict = 'keep' | 'wait' | 'doubt' | 'delete'

export class OrphanSearch implements BackgroundJob {
  readonly name = 'orphanSearch'
  readonly #env: BackgroundEnvironment
  readonly #claims: Claims
  readonly #intervalMs: number
  readonly #log: JobLog<'listed' | 'deleted' | 'bytes' | 'doubts' | 'waiting' | 'passes'>
  #nextPassAt: number
  /** Drives of this pass not yet done; the first is being listed, after `#after`. */
  #drives: number[] = []
  #after: Uint8Array | undefined
  #doubts = 0
  #waiting = 0

  constructor(env: BackgroundEnvironment, claims: Claims, options: OrphanSearchOptions = {}) {
    this.#env = env
    this.#claims = claims
    this.#intervalMs = options.intervalMs ?? 86_400_000
    this.#nextPassAt = env.clock.now() + (options.firstMs ?? 120_000)
    this.#log = new JobLog(this.name, env, ['listed', 'deleted', 'bytes', 'doubts', 'waiting', 'passes'])
  }

  progress(): JobProgress {
    return this.#log.progress()
  }

  /** Begins a pass at the next slice. */
  startNow(): void {
    this.#nextPassAt = this.#env.clock.now()
  }

  async runSlice(until: number): Promise<SliceEnd> {
    const { collectionEnabled } = await this.#env.metadata.status()
    if (!collectionEnabled) {
      this.#log.state = 'disabled'
      this.#log.detail = 'collection is off until it is confirmed'
      this.#drives = []
      return { againMs: 5_000 }
    }
    this.#log.detail = ''
    if (this.#drives.length === 0) {
      const wait = this.#nextPassAt - this.#env.clock.now()
      if (wait > 0) return { againMs: Math.min(wait, 5_000) }
      this.#begin()
    }
    while (this.#drives.length > 0) {
      await this.#page()
      if (this.#env.clock.now() >= until) break
    }
    if (this.#drives.length > 0) return { againMs: 0 }
    this.#end()
    return { againMs: this.#intervalMs }
  }

  #begin(): void {
    const members = look(this.#env, (reader) => reader.drives()).filter((drive) => drive.state === 'member')
    this.#drives = members.map((drive) => drive.number)
    this.#after = undefined
    this.#doubts = 0
    this.#waiting = 0
    this.#log.state = 'running'
  }

  #end(): void {
    this.#log.state = 'idle'
    this.#log.add('passes')
    this.#log.counters.doubts = this.#doubts
    this.#log.counters.waiting = this.#waiting
    this.#nextPassAt = this.#env.clock.now() + this.#intervalMs
  }

  /** One page of the first drive's shards. A drive that cannot be listed is left for the next pass. */
  async #page(): Promise<void> {
    const drive = this.#env.drive(this.#drives[0] ?? 0)
    let page: ShardListing[] = []
    if (drive?.readable === true) {
      try {
        page = await drive.listShards(this.#after, PAGE)
      } catch (error) {
        this.#log.failed(`listing drive ${String(drive.number)}`, error)
      }
    }
    const last = page.at(-1)
    if (drive === undefined || last === undefined) {
      this.#drives.shift()
      this.#after = undefined
      return
    }
    this.#log.add('listed', page.length)
    const orphans = look(this.#env, (reader) => {
      const fenced = epochMap(reader)
      return page.filter((shard) => this.#counted(judge(reader, fenced, drive, shard.dataId)))
    })
    await eachLimited(orphans, PARALLEL, (shard) => this.#delete(drive, shard))
    this.#after = last.dataId
  }

  #counted(verdict: Verdict): boolean {
    if (verdict === 'doubt') this.#doubts++
    if (verdict === 'wait') this.#waiting++
    return verdict === 'delete'
  }

  async #delete(drive: Drive, shard: ShardListing): Promise<void> {
    const { dataId, size } = shard
    if (!this.#claims.tryClaim(dataId)) return
    try {
      // Judged again under the claim: a heal may have given the shard its place in between.
      const verdict = look(this.#env, (reader) => judge(reader, epochMap(reader), drive, dataId))
      if (verdict !== 'delete' || !(await drive.deleteShard(dataId))) return
      this.#log.add('deleted')
      this.#log.add('bytes', size)
    } catch (error) {
      this.#log.failed(`deleting from drive ${String(drive.number)}`, error)
    } finally {
      this.#claims.release(dataId)
    }
  }
}

function epochMap(reader: MetadataReader): Map<number, boolean> {
  return new Map(reader.epochs().map((epoch) => [epoch.epoch, epoch.fenced]))
}

function judge(
  reader: MetadataReader,
  fenced: ReadonlyMap<number, boolean>,
  drive: Drive,
  dataId: Uint8Array,
): Verdict {
  const state = reader.dataState(drive.set, dataId)
  if (state === 'garbage') return 'keep'
  if (state === 'owned') {
    const part = findPart(reader, drive.set, dataId)
    if (part === undefined) return 'doubt'
    if (part.location.drives.includes(drive.number)) return 'keep'
    // A heal may yet want this drive, and a delete that the drive carries out late would undo it.
    if (homelessShards(part.location, driveMap(reader)).length > 0) return 'keep'
  }
  const epochFenced = fenced.get(epochOf(dataId))
  if (epochFenced === undefined) return 'doubt'
  return epochFenced ? 'delete' : 'wait'
}
