/**
 * Runs the jobs of one background thread. Each job has its own loop of slices, so a long heal does not hold
 * up collection; bandwidth is shared through the throttle. A slice that fails is reported and tried again
 * after a pause.
 */
import type { BackgroundEnvironment, BackgroundJob } from './job.js'
import type { BackgroundProgress, JobName, JobProgress } from './progress.js'
import type { Throttle } from './throttle.js'

const SLICE_MS = 50
const FIRST_PAUSE_MS = 500
const LONGEST_PAUSE_MS = 30_000

interface Lane {
  job: BackgroundJob
  /** Ends the current wait, or does without the next one. */
  wake: () => void
  /** Called for during a slice, which may have looked before there was anything to see. */
  called: boolean
  ended: Promise<void>
}

export class BackgroundRunner {
  readonly #env: BackgroundEnvironment
  readonly #throttle: Throttle
  readonly #lanes = new Map<JobName, Lane>()
  readonly #paused = new Set<JobName>()
  #stopping = false

  constructor(env: BackgroundEnvironment, throttle: Throttle) {
    this.#env = env
    this.#throttle = throttle
  }

  start(jobs: readonly BackgroundJob[]): void {
    for (const job of jobs) {
      const lane: Lane = { job, wake: () => undefined, called: false, ended: Promise.resolve() }
      this.#awaken(lane)
      this.#lanes.set(job.name, lane)
      lane.ended = this.#run(lane)
    }
  }

  /** The job ends its slice and then waits; before `start`, it begins paused. */
  pause(name: JobName): void {
    this.#paused.add(name)
  }

  resume(name: JobName): void {
    this.#paused.delete(name)
    this.#lanes.get(name)?.wake()
  }

  /** Ends a job's wait, as when there is new work for it. */
  wake(name: JobName): void {
    this.#lanes.get(name)?.wake()
  }

  /** Ends all jobs after their slices; no longer than `timeoutMs`. */
  async stop(timeoutMs: number): Promise<void> {
    this.#stopping = true
    this.#throttle.release()
    const lanes = [...this.#lanes.values()]
    for (const lane of lanes) lane.wake()
    let cancel = (): void => undefined
    const late = new Promise<void>((resolve) => {
      cancel = this.#env.clock.after(timeoutMs, resolve)
    })
    await Promise.race([Promise.all(lanes.map((lane) => lane.ended)), late])
    cancel()
  }

  async progress(): Promise<BackgroundProgress> {
    const { collectionEnabled } = await this.#env.metadata.status()
    const { reader } = this.#env.metadata
    reader.refresh()
    const { garbage, heals } = reader.counts()
    const jobs = [...this.#lanes.values()].map(({ job }): JobProgress => {
      const progress = job.progress()
      return this.#paused.has(job.name) ? { ...progress, state: 'paused' } : progress
    })
    const { limit, used } = this.#throttle
    return { bandwidthLimit: limit, bandwidthUsed: used, garbage, heals, collectionEnabled, jobs }
  }

  async #run(lane: Lane): Promise<void> {
    let pauseMs = FIRST_PAUSE_MS
    while (!this.#stopping) {
      if (this.#paused.has(lane.job.name)) {
        await this.#wait(lane, LONGEST_PAUSE_MS)
        continue
      }
      let waitMs: number
      lane.called = false
      try {
        waitMs = (await lane.job.runSlice(this.#env.clock.now() + SLICE_MS)).againMs
        pauseMs = FIRST_PAUSE_MS
      } catch (error) {
        this.#env.report(`job ${lane.job.name}`, error)
        waitMs = pauseMs
        pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)
      }
      // Even a job with more to do lets the thread's other work run.
      await this.#wait(lane, lane.called ? 0 : waitMs)
    }
  }

  #awaken(lane: Lane): void {
    lane.wake = () => {
      lane.called = true
    }
  }

  #wait(lane: Lane, ms: number): Promise<void> {
    if (this.#stopping) return Promise.resolve()
    return new Promise((resolve) => {
      const end = (): void => {
        this.#awaken(lane)
        resolve()
      }
      const cancel = this.#env.clock.after(ms, end)
      lane.wake = () => {
        cancel()
        end()
      }
    })
  }
}
