/**
 * Fences writer epochs that no live writer can be using: after the fence, `apply` refuses their data ids for
 * ever, so what is not owned by then never will be, and the orphan search may delete it.
 *
 * An epoch is live while a thread shows it on the pin board. An epoch that is shown as draining for longer
 * than `drainMs` is fenced all the same: a writer paused for that long is refused when it wakes, and writes
 * again. An epoch that nobody shows is fenced once it was seen so for `unseenMs`, which covers the time
 * between opening and showing. All times are counted by this process's own clock. A fence that comes too
 * early costs a retry, never data.
 *
 * Counters: fenced.
 */
import {
  JobLog,
  look,
  mustApply,
  type BackgroundEnvironment,
  type BackgroundJob,
  type SliceEnd,
} from './job.js'
import type { JobProgress } from './progress.js'

export interface EpochFenceOptions {
  drainMs?: number
  unseenMs?: number
  idleMs?: number
}

export class EpochFence implements BackgroundJob {
  readonly name = 'epochFence'
  readonly #env: BackgroundEnvironment
  readonly #drainMs: number
  readonly #unseenMs: number
  readonly #idleMs: number
  readonly #log: JobLog<'fenced'>
  /** When an epoch was first seen not to be current, and in which state. */
  readonly #since = new Map<number, { at: number; draining: boolean }>()

  constructor(env: BackgroundEnvironment, options: EpochFenceOptions = {}) {
    this.#env = env
    this.#drainMs = options.drainMs ?? 6 * 3_600_000
    this.#unseenMs = options.unseenMs ?? 60_000
    this.#idleMs = options.idleMs ?? 15_000
    this.#log = new JobLog(this.name, env, ['fenced'])
  }

  progress(): JobProgress {
    return this.#log.progress()
  }

  async runSlice(): Promise<SliceEnd> {
    // Epochs of other nodes are on no board here. Those of no node are from before there were several.
    const own = (node: number | undefined): boolean => node === undefined || node === this.#env.node
    const open = look(this.#env, (reader) => reader.epochs()).filter((epoch) => !epoch.fenced && own(epoch.node))
    const board = this.#env.board.epochs()
    const now = this.#env.clock.now()
    const due: number[] = []
    for (const { epoch } of open) {
      if (board.current.has(epoch)) {
        this.#since.delete(epoch)
        continue
      }
      const draining = board.draining.has(epoch)
      const known = this.#since.get(epoch)
      const since = known?.draining === draining ? known : { at: now, draining }
      this.#since.set(epoch, since)
      if (now - since.at >= (draining ? this.#drainMs : this.#unseenMs)) due.push(epoch)
    }
    if (due.length > 0) {
      await mustApply(this.#env, { kind: 'fenceEpochs', epochs: due })
      for (const epoch of due) this.#since.delete(epoch)
      this.#log.add('fenced', due.length)
    }
    return { againMs: this.#idleMs }
  }
}
