/**
 * All background jobs of one node, joined: what the background thread starts, and what the admin API calls.
 */
import { Claims } from './claims.js'
import { CompactionJob, type CompactionJobOptions } from './compaction_job.js'
import { Collector, type CollectorOptions } from './collector.js'
import { DriveHealer } from './drive_healer.js'
import { EpochFence, type EpochFenceOptions } from './epoch_fence.js'
import { Healer } from './healer.js'
import type { BackgroundEnvironment, BackgroundJob } from './job.js'
import { OrphanSearch, type OrphanSearchOptions } from './orphan_search.js'
import { PresenceCheck } from './presence.js'
import type { BackgroundProgress, JobName } from './progress.js'
import { BackgroundRunner } from './runner.js'
import { Scrubber, type ScrubberOptions } from './scrubber.js'
import type { Throttle } from './throttle.js'
import { UploadExpiry } from './upload_expiry.js'

export interface BackgroundOptions {
  collector?: CollectorOptions
  compaction?: CompactionJobOptions
  epochFence?: EpochFenceOptions
  orphanSearch?: OrphanSearchOptions
  scrubber?: ScrubberOptions
  healer?: { idleMs?: number }
  driveHealer?: { idleMs?: number; pauseMs?: number }
  uploadExpiry?: { keepMs?: number }
}

export class Background {
  readonly collector: Collector
  readonly compaction: CompactionJob
  readonly epochFence: EpochFence
  readonly orphanSearch: OrphanSearch
  readonly healer: Healer
  readonly driveHealer: DriveHealer
  readonly presence: PresenceCheck
  readonly scrubber: Scrubber
  readonly uploadExpiry: UploadExpiry
  readonly #runner: BackgroundRunner

  /** The throttle is the one that the environment's sets take their permits from. */
  constructor(env: BackgroundEnvironment, throttle: Throttle, options: BackgroundOptions = {}) {
    const claims = new Claims()
    this.collector = new Collector(env, options.collector)
    this.compaction = new CompactionJob(env, (bytes) => throttle.take(bytes), options.compaction)
    this.epochFence = new EpochFence(env, options.epochFence)
    this.orphanSearch = new OrphanSearch(env, claims, options.orphanSearch)
    this.healer = new Healer(env, claims, options.healer)
    this.driveHealer = new DriveHealer(env, claims, options.driveHealer)
    this.presence = new PresenceCheck(env)
    this.scrubber = new Scrubber(env, options.scrubber)
    this.uploadExpiry = new UploadExpiry(env, options.uploadExpiry)
    this.#runner = new BackgroundRunner(env, throttle)
  }

  get jobs(): BackgroundJob[] {
    return [
      this.collector,
      this.epochFence,
      this.orphanSearch,
      this.healer,
      this.driveHealer,
      this.presence,
      this.scrubber,
      this.uploadExpiry,
      this.compaction,
    ]
  }

  start(): void {
    this.#runner.start(this.jobs)
  }

  stop(timeoutMs = 5_000): Promise<void> {
    return this.#runner.stop(timeoutMs)
  }

  progress(): Promise<BackgroundProgress> {
    return this.#runner.progress()
  }

  pause(job: JobName): void {
    this.#runner.pause(job)
  }

  resume(job: JobName): void {
    this.#runner.resume(job)
  }

  startScrub(): void {
    this.scrubber.startNow()
    this.#runner.wake('scrubber')
  }

  startOrphanSearch(): void {
    this.orphanSearch.startNow()
    this.#runner.wake('orphanSearch')
  }

  /** A drive came back after an outage, or a replacement was added: checks its set and heals what waits for it. */
  driveReturned(set: number): void {
    this.presence.request(set)
    this.healer.retryNow()
    this.driveHealer.retryNow()
    for (const job of ['presence', 'healer', 'driveHealer', 'collector'] as const) this.#runner.wake(job)
  }

  /** There are new entries in the heal queue. */
  healQueued(): void {
    this.#runner.wake('healer')
  }
}
