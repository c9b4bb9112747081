/**
 * A background job: work in slices, so that many jobs share one thread and any of them can be paused between
 * two slices. Slices of one job never overlap; those of different jobs do, wherever they wait (claims.ts).
 */
import type { Drive, DriveNumber } from '../../drive/drive.js'
import type { LocalDrive } from '../../drive/local_drive.js'
import type { Clock } from '../../erasure/clock.js'
import type { ErasureSet } from '../../erasure/erasure_set.js'
import type { Command, CommandResult } from '../../meta/command.js'
import { MetadataError, type MetadataEngine } from '../../meta/engine.js'
import type { MetadataReader } from '../../meta/reader.js'
import type { PinBoard, Pins } from '../pins.js'
import type { JobName, JobProgress, TaskMeter } from './progress.js'

export interface SliceEnd {
  /** Milliseconds until the job wants another slice; 0: there is more to do now. */
  againMs: number
}

export interface BackgroundJob {
  readonly name: JobName
  /**
   * Works until the clock shows about `until`. Rejects with whatever went wrong outside single parts, as
   * MetadataError; the runner then waits and tries again.
   */
  runSlice(until: number): Promise<SliceEnd>
  progress(): JobProgress
}

/** What the jobs of one thread work with. */
export interface BackgroundEnvironment {
  metadata: MetadataEngine
  /** This node; absent in a store of one node. Each node cares for its own sets and writer epochs. */
  node?: number | undefined
  board: PinBoard
  /** The pins of this thread. */
  pins: Pins
  /** Sets whose `permit` is the shared throttle. */
  set(number: number): ErasureSet | undefined
  drive(number: DriveNumber): Drive | undefined
  /** Drives of this machine whose segments this thread compacts. */
  localDrives?(): readonly LocalDrive[]
  clock: Clock
  /** Wall clock, for labels only. */
  wallMs(): number
  /** Never throws. */
  report(what: string, error: unknown): void
}

/** One fresh snapshot; a doubtful view is tried once more on another copy. */
export function look<T>(env: BackgroundEnvironment, read: (reader: MetadataReader) => T): T {
  const { reader } = env.metadata
  try {
    reader.refresh()
    return read(reader)
  } catch (error) {
    if (!(error instanceof MetadataError) || error.code !== 'corrupt') throw error
    env.report('metadata read', error)
    reader.refresh()
    return read(reader)
  }
}

/** A command whose refusal is a mistake of this process. */
export async function mustApply(env: BackgroundEnvironment, command: Command): Promise<CommandResult & { ok: true }> {
  const result = await env.metadata.propose(command)
  if (!result.ok) throw new Error(`${command.kind} was refused: ${result.refusal} ${result.detail}`)
  return result
}

/** Runs `work` for all items, at most `limit` at a time. Rejects with the first failure, after all have ended. */
export async function eachLimited<T>(
  items: readonly T[],
  limit: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  let next = 0
  const lane = async (): Promise<void> => {
    while (next < items.length) {
      const item = items[next++]
      if (item !== undefined) await work(item)
    }
  }
  const lanes = await Promise.allSettled(Array.from({ length: Math.min(limit, items.length) }, lane))
  const failed = lanes.find((result) => result.status === 'rejected')
  if (failed !== undefined) throw failed.reason
}

/** Counters, last error and state of a job, and how they are shown. */
export class JobLog<Counter extends string> {
  readonly counters: Record<Counter, number>
  readonly #job: JobName
  readonly #env: BackgroundEnvironment
  detail = ''
  state: JobProgress['state'] = 'idle'
  lastError = ''
  meter: TaskMeter | undefined

  constructor(job: JobName, env: BackgroundEnvironment, counters: readonly Counter[]) {
    this.#job = job
    this.#env = env
    this.counters = Object.fromEntries(counters.map((name) => [name, 0])) as Record<Counter, number>
  }

  add(counter: Counter, count = 1): void {
    this.counters[counter] += count
  }

  failed(what: string, error: unknown): void {
    this.lastError = `${what}: ${error instanceof Error ? error.message : String(error)}`
    this.#env.report(`${this.#job}: ${what}`, error)
  }

  progress(): JobProgress {
    return {
      job: this.#job,
      state: this.state,
      detail: this.detail,
      task: this.meter?.progress() ?? null,
      counters: { ...this.counters },
      lastError: this.lastError,
    }
  }
}
