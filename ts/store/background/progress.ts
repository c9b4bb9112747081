/** What the background jobs say of themselves: plain JSON for the admin API, metrics and progress bars. */

export type JobName =
  | 'collector'
  | 'compaction'
  | 'epochFence'
  | 'orphanSearch'
  | 'healer'
  | 'driveHealer'
  | 'presence'
  | 'scrubber'
  | 'uploadExpiry'

export interface JobProgress {
  job: JobName
  /** 'disabled': the job may not run now, and `detail` says why. */
  state: 'idle' | 'running' | 'paused' | 'disabled'
  /** Plain words for the operator, '' when there is nothing to say. */
  detail: string
  /** The walk that goes on, when there is one. */
  task: TaskProgress | null
  /** What the job has done since the process started, or found at present, by name (see the job's file). */
  counters: Record<string, number>
  /** The last thing that went wrong, '' when nothing has. */
  lastError: string
}

export interface TaskProgress {
  /** What is walked, such as 'drive 7' or 'set 0'. */
  subject: string
  startedMs: number
  partsDone: number
  /** null while it is being counted. */
  partsTotal: number | null
  bytesDone: number
  /** Of part data, recent. */
  bytesPerSecond: number
  partsPerSecond: number
  /** null when it cannot be told. */
  etaSeconds: number | null
}

export interface BackgroundProgress {
  /** Bytes per second that background work may read and write, 0 for no limit. */
  bandwidthLimit: number
  /** What it moved in the last seconds. */
  bandwidthUsed: number
  garbage: number
  heals: number
  collectionEnabled: boolean
  jobs: JobProgress[]
}

/** Counts a walk and estimates its end. Rates are exponential means over about ten seconds. */
export class TaskMeter {
  readonly #subject: string
  readonly #startedMs: number
  readonly #now: () => number
  #total: number | null = null
  #parts = 0
  #bytes = 0
  #markAt: number
  #markParts = 0
  #markBytes = 0
  #partRate = 0
  #byteRate = 0

  /** `now` is monotonic, `wallMs` labels the start. */
  constructor(subject: string, now: () => number, wallMs: number) {
    this.#subject = subject
    this.#now = now
    this.#startedMs = wallMs
    this.#markAt = now()
  }

  set total(parts: number) {
    this.#total = parts
  }

  add(parts: number, bytes: number): void {
    this.#parts += parts
    this.#bytes += bytes
    const elapsed = this.#now() - this.#markAt
    if (elapsed < 1000) return
    const weight = 1 - Math.exp(-elapsed / 10_000)
    const parts1 = ((this.#parts - this.#markParts) * 1000) / elapsed
    const bytes1 = ((this.#bytes - this.#markBytes) * 1000) / elapsed
    const first = this.#markParts === 0 && this.#markBytes === 0
    this.#partRate = first ? parts1 : this.#partRate + (parts1 - this.#partRate) * weight
    this.#byteRate = first ? bytes1 : this.#byteRate + (bytes1 - this.#byteRate) * weight
    this.#markAt = this.#now()
    this.#markParts = this.#parts
    this.#markBytes = this.#bytes
  }

  progress(): TaskProgress {
    const left = this.#total === null ? null : Math.max(0, this.#total - this.#parts)
    return {
      subject: this.#subject,
      startedMs: this.#startedMs,
      partsDone: this.#parts,
      partsTotal: this.#total,
      bytesDone: this.#bytes,
      bytesPerSecond: Math.round(this.#byteRate),
      partsPerSecond: Math.round(this.#partRate * 100) / 100,
      etaSeconds: left === null || this.#partRate === 0 ? null : Math.ceil(left / this.#partRate),
    }
  }
}
