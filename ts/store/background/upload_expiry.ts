/**
 * Forgets completed uploads after 24 hours: until then their record answers retries of
 * CompleteMultipartUpload. Open uploads are never aborted here.
 *
 * Counters: expired.
 */
import { JobLog, mustApply, type BackgroundEnvironment, type BackgroundJob, type SliceEnd } from './job.js'
import type { JobProgress } from './progress.js'

const LIMIT = 500

export class UploadExpiry implements BackgroundJob {
  readonly name = 'uploadExpiry'
  readonly #env: BackgroundEnvironment
  readonly #keepMs: number
  readonly #log: JobLog<'expired'>

  constructor(env: BackgroundEnvironment, options: { keepMs?: number } = {}) {
    this.#env = env
    this.#keepMs = options.keepMs ?? 86_400_000
    this.#log = new JobLog(this.name, env, ['expired'])
  }

  progress(): JobProgress {
    return this.#log.progress()
  }

  async runSlice(): Promise<SliceEnd> {
    const beforeMs = this.#env.wallMs() - this.#keepMs
    if (beforeMs <= 0) return { againMs: 600_000 }
    const result = await mustApply(this.#env, { kind: 'expireUploads', beforeMs, limit: LIMIT })
    const count = result.value.count ?? 0
    this.#log.add('expired', count)
    return { againMs: count === LIMIT ? 0 : 600_000 }
  }
}
