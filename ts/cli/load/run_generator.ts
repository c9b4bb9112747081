/** Runs load jobs in processes of their own, so that generator and whoever reports do not share a thread. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'

import type { JobResult } from './generator.js'
import type { Job } from './workload.js'

const program = fileURLToPath(new URL('./generator.js', import.meta.url))

/** Rejects with the generator's own words; with an AbortError, its process gone, when `signal` is aborted. */
export async function runGenerator(job: Job, signal?: AbortSignal): Promise<JobResult> {
  signal?.throwIfAborted()
  // A group of its own: an interrupt from the terminal is for us to pass on.
  const child = spawn(process.execPath, [program], { stdio: ['pipe', 'pipe', 'pipe'], detached: true })
  const kill = (): void => { child.kill('SIGKILL') }
  signal?.addEventListener('abort', kill)
  process.once('exit', kill)
  try {
    const closed = once(child, 'close') as Promise<[number | null]>
    child.stdin.on('error', () => undefined)
    child.stdin.end(JSON.stringify(job))
    const [output, problem, [code]] = await Promise.all([text(child.stdout), text(child.stderr), closed])
    signal?.throwIfAborted()
    if (code !== 0) throw new Error(`${job.operation}: ${problem.trim() || 'the load generator ended without a word'}`)
    return JSON.parse(output) as JobResult
  } finally {
    signal?.removeEventListener('abort', kill)
    process.off('exit', kill)
  }
}
