/**
 * Compaction of the segments of this node's drives, all drives in turn, one step of one segment at a time
 * (drive/segments/segment_compactor.ts). What it finds damaged is queued for healing, once the metadata was asked
 * whether anything still references it.
 *
 * Counters: segments (dropped), freedBytes, copiedBytes, copiedShards, tombstonesCarried, tombstonesDropped, damaged.
 */
import type { DataId } from '../../drive/drive.js'
import type { LocalDrive } from '../../drive/local_drive.js'
import {
  type CompactorOptions, DEFAULT_COMPACTOR_OPTIONS, SegmentCompactor,
} from '../../drive/segments/segment_compactor.js'
import { JobLog, look, mustApply, type BackgroundEnvironment, type BackgroundJob, type SliceEnd } from './job.js'
import { findPart, hexId } from './part_lookup.js'
import type { JobProgress } from './progress.js'

export interface CompactionJobOptions extends Partial<Omit<CompactorOptions, 'now' | 'permit' | 'damaged'>> {
  idleMs?: number
}

/** A finding is told again after this. */
const QUIET_MS = 60_000
const TOLD_MOST = 10_000
const COUNTERS = [
  'segments', 'freedBytes', 'copiedBytes', 'copiedShards', 'tombstonesCarried', 'tombstonesDropped', 'damaged',
] as const

export class CompactionJob implements BackgroundJob {
  readonly name = 'compaction'
  readonly #env: BackgroundEnvironment
  readonly #options: CompactorOptions
  readonly #idleMs: number
  readonly #log: JobLog<(typeof COUNTERS)[number]>
  readonly #compactors = new Map<number, SegmentCompactor>()
  /** Drives that this thread has seen before. */
  readonly #known = new Set<number>()
  readonly #told = new Map<string, number>()
  readonly #found: { drive: LocalDrive; dataId: DataId; detail: string }[] = []

  /** `permit` resolves when so many bytes may be moved. */
  constructor(
    env: BackgroundEnvironment, permit: (bytes: number) => Promise<void>, options: CompactionJobOptions = {},
  ) {
    this.#env = env
    this.#idleMs = options.idleMs ?? 2_000
    const now = (): number => env.clock.now()
    this.#options = { ...DEFAULT_COMPACTOR_OPTIONS, ...options, now, permit, damaged: () => undefined }
    this.#log = new JobLog(this.name, env, COUNTERS)
  }

  progress(): JobProgress {
    return this.#log.progress()
  }

  async runSlice(until: number): Promise<SliceEnd> {
    this.#follow()
    let worked = false
    do {
      worked = false
      for (const compactor of this.#compactors.values()) {
        if (await this.#step(compactor)) worked = true
      }
    } while (worked && this.#env.clock.now() < until)
    await this.#queueFound()
    this.#log.state = worked ? 'running' : 'idle'
    return { againMs: worked ? 0 : this.#idleMs }
  }

  /** A compactor for each drive that this thread has now. */
  #follow(): void {
    const drives = this.#env.localDrives?.() ?? []
    for (const [number, compactor] of this.#compactors) {
      if (drives.includes(compactor.drive)) continue
      this.#compactors.delete(number)
      void compactor.close().catch(() => undefined)
    }
    for (const drive of drives) {
      if (this.#compactors.has(drive.number)) continue
      const compactor = new SegmentCompactor(drive, {
        ...this.#options, damaged: (dataId, detail) => { this.#damaged(drive, dataId, detail) },
      })
      // A thread before this one may have died over its work.
      if (!this.#known.has(drive.number)) compactor.takeOver()
      this.#known.add(drive.number)
      this.#compactors.set(drive.number, compactor)
    }
  }

  async #step(compactor: SegmentCompactor): Promise<boolean> {
    const { totals } = compactor
    const before = { ...totals }
    try {
      return (await compactor.step()) === 'worked'
    } catch (error) {
      this.#log.failed(`drive ${String(compactor.drive.number)}`, error)
      return false
    } finally {
      this.#log.add('segments', totals.segments - before.segments)
      this.#log.add('freedBytes', totals.freedBytes - before.freedBytes)
      this.#log.add('copiedBytes', totals.copiedBytes - before.copiedBytes)
      this.#log.add('copiedShards', totals.copiedRecords - before.copiedRecords)
      this.#log.add('tombstonesCarried', totals.carriedTombstones - before.carriedTombstones)
      this.#log.add('tombstonesDropped', totals.droppedTombstones - before.droppedTombstones)
    }
  }

  #damaged(drive: LocalDrive, dataId: DataId, detail: string): void {
    const id = `${String(drive.number)}/${hexId(dataId)}`
    const now = this.#env.clock.now()
    if (now - (this.#told.get(id) ?? -Infinity) < QUIET_MS) return
    if (this.#told.size >= TOLD_MOST) this.#told.clear()
    this.#told.set(id, now)
    this.#found.push({ drive, dataId: Uint8Array.from(dataId), detail })
  }

  async #queueFound(): Promise<void> {
    const found = this.#found.splice(0)
    if (found.length === 0) return
    const entries = look(this.#env, (reader) => found.flatMap(({ drive, dataId }) => {
      const shard = findPart(reader, drive.set, dataId)?.location.drives.indexOf(drive.number) ?? -1
      if (shard < 0) return []
      return [{ set: drive.set, dataId, shards: [shard], cause: 'corrupt' as const, queuedMs: this.#env.wallMs() }]
    }))
    for (const { drive, detail } of found) this.#log.failed(`drive ${String(drive.number)}`, new Error(detail))
    if (entries.length > 0) await mustApply(this.#env, { kind: 'queueHeal', entries })
    this.#log.add('damaged', found.length)
  }
}
