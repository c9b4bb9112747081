/**
 * Compacts the segments of one drive, one after the other, in small steps.
 *
 * Which ones: sealed ones of which at least `threshold` is dead, the deadest first. When the drive is short of room,
 * any that gives more than a twentieth of itself back, and active ones that have dead shards are asked to be sealed;
 * what is copied then lives from the drive's reserve, and a segment for which there is no room waits. A segment that
 * is mostly tombstones is tried when they have settled, and again only when another segment was dropped since.
 *
 * One compactor per drive: a claim in the shared table, held from the first segment until nothing is left to do.
 */
import { type DataId, ShardError } from '../drive.js'
import type { LocalDrive } from '../local_drive.js'
import { Compaction, type CompactionResult } from './compaction.js'
import { deadBytes, type SegmentInfo } from './segment_table.js'
import { DEFAULT_WRITER_OPTIONS, SegmentWriter } from './segment_writer.js'
import { TombstoneProof } from './tombstone_proof.js'

export interface CompactorOptions {
  /** 0..1: dead share from which a segment is compacted. */
  threshold: number
  sealBytes: number
  /** See tombstone_proof.ts. */
  settleMs: number
  now: () => number
  permit: (bytes: number) => Promise<void>
  damaged: (dataId: DataId, detail: string) => void
}

export const DEFAULT_COMPACTOR_OPTIONS: Omit<CompactorOptions, 'now' | 'permit' | 'damaged'> = {
  threshold: 0.35, sealBytes: DEFAULT_WRITER_OPTIONS.sealBytes, settleMs: 600_000,
}

/** What a step did: 'taken' when somebody else compacts the drive. */
export type Step = 'worked' | 'idle' | 'taken'

/** Under pressure: what is not worth its copying, and what must stay free beside what is copied. */
const LEAST_SHARE = 0.05
const SPARE = 2 ** 20
/** Less than this much dead is not worth asking for a segment to be sealed. */
const LEAST_DEAD = 64 * 1024
const TOMBSTONE_BYTES = 48
/** A drive that failed is left alone for so long: it would fail at once again, and keep the thread busy with that. */
const REST_MS = 10_000

export class SegmentCompactor {
  readonly drive: LocalDrive
  readonly #options: CompactorOptions
  readonly #writer: SegmentWriter
  readonly #proof: TombstoneProof
  readonly #who = 1 + Math.floor(Math.random() * (2 ** 31 - 1))
  #running: { victim: number; work: AsyncGenerator<undefined, CompactionResult> } | undefined
  /** Segments that were looked at in vain, with what must have changed before they are looked at again. */
  readonly #vain = new Map<number, { dropsThen: number; deadThen: number; blocked: CompactionResult['blocked'] }>()
  #restUntil = -Infinity
  /** Since this object was made. */
  readonly totals = {
    segments: 0, freedBytes: 0, copiedRecords: 0, copiedBytes: 0, carriedTombstones: 0, droppedTombstones: 0,
  }

  constructor(drive: LocalDrive, options: CompactorOptions) {
    this.drive = drive
    this.#options = options
    const { sealBytes, now, permit, settleMs } = options
    const { driveId, index } = drive.segments
    const writing = { ...DEFAULT_WRITER_OPTIONS, sealBytes, driveId, background: true }
    this.#writer = new SegmentWriter(drive, index, writing)
    this.#proof = new TombstoneProof(drive, { settleMs, now, permit })
  }

  /** True when the drive has little room left. */
  get pressed(): boolean {
    const { state, totalBytes, freeBytes } = this.drive.health
    return state === 'full' || (totalBytes > 0 && freeBytes < totalBytes / 10)
  }

  /** A little work. Rejects with ShardError when the drive fails; the segment stays, and may be tried again. */
  async step(): Promise<Step> {
    const { table } = this.drive.segments
    const { state } = this.drive.row
    if (table.phase !== 'loaded' || (state !== 'online' && state !== 'full')) return 'idle'
    if (this.#options.now() < this.#restUntil) return 'idle'
    if (!table.claimCompaction(this.#who)) return 'taken'
    this.#running ??= this.#begin()
    if (this.#running === undefined) {
      await this.#writer.roll()
      table.releaseCompaction(this.#who)
      return 'idle'
    }
    const { victim, work } = this.#running
    try {
      const { done, value } = await work.next()
      if (done === true) this.#end(victim, value)
      return 'worked'
    } catch (error) {
      this.#running = undefined
      table.changeState(victim, 'compacting', 'sealed')
      if (error instanceof ShardError && error.code === 'driveFull') this.#remember(victim, [])
      else this.#restUntil = this.#options.now() + REST_MS
      throw error
    }
  }

  /** Ends what another compactor of the drive has begun: for a thread that knows that its predecessor is dead. */
  takeOver(): void {
    const { table } = this.drive.segments
    table.releaseCompaction()
    for (const { number } of this.drive.segments.segments()) table.changeState(number, 'compacting', 'sealed')
  }

  /** Leaves off between two steps: what was being compacted stays as it is. */
  async close(): Promise<void> {
    const { table } = this.drive.segments
    if (this.#running !== undefined) table.changeState(this.#running.victim, 'compacting', 'sealed')
    this.#running = undefined
    await this.#writer.close()
    table.releaseCompaction(this.#who)
  }

  #begin(): { victim: number; work: AsyncGenerator<undefined, CompactionResult> } | undefined {
    const victim = this.#choose()
    if (victim === undefined) return undefined
    if (!this.drive.segments.table.changeState(victim, 'sealed', 'compacting')) return undefined
    const { permit, damaged } = this.#options
    const prove: TombstoneProof['prove'] = (number, tombstones) => this.#proof.prove(number, tombstones)
    const worth = (tombstones: number): boolean => this.#worth(victim, tombstones)
    const parts = { drive: this.drive, writer: this.#writer, permit, damaged, prove, worth }
    const compaction = new Compaction(parts, victim)
    return { victim, work: compaction.run() }
  }

  #end(victim: number, result: CompactionResult): void {
    this.#running = undefined
    const { totals } = this
    totals.copiedRecords += result.copiedRecords
    totals.copiedBytes += result.copiedBytes
    totals.carriedTombstones += result.carriedTombstones
    totals.droppedTombstones += result.droppedTombstones
    if (result.dropped) {
      totals.segments++
      totals.freedBytes += result.freedBytes
      this.#vain.delete(victim)
      return
    }
    this.drive.segments.table.changeState(victim, 'compacting', 'sealed')
    this.#remember(victim, result.blocked)
  }

  #remember(victim: number, blocked: CompactionResult['blocked']): void {
    const { table } = this.drive.segments
    const info = table.info(victim)
    if (info === undefined) return
    this.#vain.set(victim, { dropsThen: table.drops, deadThen: deadBytes(info), blocked })
  }

  #choose(): number | undefined {
    const { pressed } = this
    const { table } = this.drive.segments
    const least = this.#leastShare
    const room = this.drive.health.totalBytes === 0 ? Infinity : this.drive.health.freeBytes - SPARE
    const all = this.drive.segments.segments()
    this.#proof.notice(all)
    const worth = all.filter((info) => {
      return info.state === 'sealed' && this.#gain(info) >= Math.max(1, least * info.bytes) &&
        keptBytes(info) <= Math.max(0, room) && !this.#inVain(info)
    })
    const [best] = worth.sort((a, b) => this.#gain(b) / b.bytes - this.#gain(a) / a.bytes || a.number - b.number)
    if (best !== undefined) return best.number
    const asks = (info: SegmentInfo): boolean => info.state === 'active' && info.number >= table.sealBelow &&
      info.number !== this.#writer.activeNumber && deadBytes(info) >= Math.max(LEAST_DEAD, least * info.bytes)
    const held = all.some((info) => tombstonesWeigh(info) && this.#proof.wantsSealing(info.number))
    if (held || (pressed && all.some(asks))) table.askToSeal()
    return undefined
  }

  get #leastShare(): number {
    const { threshold } = this.#options
    return this.pressed ? Math.min(LEAST_SHARE, threshold) : threshold
  }

  #worth(victim: number, tombstones: number): boolean {
    const info = this.drive.segments.table.info(victim)
    return info !== undefined &&
      deadBytes(info) + tombstones * TOMBSTONE_BYTES >= Math.max(1, this.#leastShare * info.bytes)
  }

  /** Bytes that compaction of the segment would free, tombstones that may go included. */
  #gain(info: SegmentInfo): number {
    const settled = tombstonesWeigh(info) && this.#proof.settled(info.number)
    return deadBytes(info) + (settled ? info.tombstones * TOMBSTONE_BYTES : 0)
  }

  #inVain(info: SegmentInfo): boolean {
    const vain = this.#vain.get(info.number)
    if (vain === undefined) return false
    const { index, table } = this.drive.segments
    if (vain.blocked.length > 0) return vain.blocked.some(({ dataId, location }) => index.get(dataId) === location)
    return table.drops === vain.dropsThen && deadBytes(info) === vain.deadThen
  }
}

/** Tombstones are a good part of the segment. */
function tombstonesWeigh({ bytes, tombstones }: SegmentInfo): boolean {
  return tombstones > 0 && tombstones * TOMBSTONE_BYTES >= bytes / 8
}

/** What compaction would have to write. */
function keptBytes(info: SegmentInfo): number {
  return info.bytes - deadBytes(info)
}
