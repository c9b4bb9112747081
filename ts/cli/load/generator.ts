/**
 * The load generator: a process of its own that takes a Job as JSON on its input and prints a JobResult as JSON.
 *
 * `connections` loops each send one request after the other over their own connection. After the warm-up the window
 * begins; when it is over, requests under way are waited for. The rate counts every request by the part of its life
 * that lies in the window: slow requests are neither rounded up nor lost, and a window shorter than one request still
 * gives the right rate. Latencies are those of requests that ended after the warm-up.
 *
 * An answer 429 or 5xx, or a connection that breaks, counts as an error and not as a request; any other unexpected
 * answer ends the job, since then the job itself is wrong.
 */
import { readFileSync } from 'node:fs'
import { createHistogram } from 'node:perf_hooks'
import type { RecordableHistogram } from 'node:perf_hooks'
import { text } from 'node:stream/consumers'
import { pathToFileURL } from 'node:url'

import { Connection } from './connection.js'
import { Workload } from './workload.js'
import type { Job, LoadRequest } from './workload.js'

export interface JobResult {
  /** Requests that ended within the window. */
  requests: number
  /** Length of the window. */
  seconds: number
  /** Requests per second of the window, by the part of each that lies in it. */
  rate: number
  /** Bytes of object data per second. */
  bytesPerSecond: number
  /** Keys that PUT or DELETE has used, from 0 on. */
  used: number
  p50Ms: number
  p90Ms: number
  p99Ms: number
  maxMs: number
  errors: number
  firstError: string
  /** CPU cores that the generator kept busy during the window; beyond 0.9 it may be what was measured. */
  generatorCores: number
  /** The same of `pids` together, with all their threads; absent when there are none. */
  serverCores?: number
}

/** More errors than this in a row on one connection, and the server is taken for gone. */
const MAX_ERRORS_IN_A_ROW = 20

class Tally {
  readonly histogram: RecordableHistogram = createHistogram()
  readonly starts: number
  readonly ends: number
  requests = 0
  credit = 0
  bytes = 0
  errors = 0
  firstError = ''
  lastEnd = 0

  constructor(job: Job) {
    this.starts = performance.now() + job.warmUpMs
    this.ends = job.measureMs === 0 ? Infinity : this.starts + job.measureMs
  }

  count(before: number, after: number, moved: number): void {
    if (after < this.starts) return
    this.lastEnd = Math.max(this.lastEnd, after)
    const within = Math.min(after, this.ends) - Math.max(before, this.starts)
    const share = Math.max(0, within) / Math.max(after - before, 1e-6)
    this.credit += share
    this.bytes += share * moved
    if (after <= this.ends) this.requests += 1
    this.histogram.record(Math.max(1, Math.round((after - before) * 1000)))
  }

  error(message: string): void {
    this.errors += 1
    if (this.firstError === '') this.firstError = message
  }
}

/** Rejects when the server cannot be reached, or gives answers that the job does not allow for. */
export async function runJob(job: Job): Promise<JobResult> {
  const workload = new Workload(job)
  const connections = Array.from({ length: job.connections }, () => new Connection(job.address))
  await Promise.all(connections.map((connection) => connection.open()))
  const tally = new Tally(job)
  const cpu = measureCpu(tally, job)
  let finished = false
  try {
    await Promise.all(connections.map((connection) => loop(connection, workload, tally)))
    finished = true
  } finally {
    for (const connection of connections) connection.close()
    if (!finished) cpu()
  }
  const used = cpu()
  // A job that ran out of keys was over when its last request was.
  const end = Math.max(Math.min(tally.ends, tally.lastEnd), tally.starts)
  const seconds = Math.max(end - tally.starts, 1e-3) / 1000
  const at = (percent: number): number => tally.histogram.percentile(percent) / 1000
  return {
    requests: tally.requests,
    seconds,
    rate: tally.credit / seconds,
    bytesPerSecond: tally.bytes / seconds,
    used: workload.used,
    p50Ms: at(50),
    p90Ms: at(90),
    p99Ms: at(99),
    maxMs: tally.histogram.count === 0 ? 0 : tally.histogram.max / 1000,
    errors: tally.errors,
    firstError: tally.firstError,
    ...used,
  }
}

async function loop(connection: Connection, workload: Workload, tally: Tally): Promise<void> {
  let errorsInARow = 0
  while (performance.now() < tally.ends) {
    const request = workload.next()
    if (request === undefined) return
    const before = performance.now()
    const problem = await ask(connection, request)
    if (problem === undefined) {
      errorsInARow = 0
      tally.count(before, performance.now(), request.moved)
      request.done?.()
    } else {
      tally.error(problem)
      if (++errorsInARow > MAX_ERRORS_IN_A_ROW) throw new Error(`the server only fails: ${problem}`)
    }
  }
}

/** What went wrong in a way that servers may; undefined when it worked. */
async function ask(connection: Connection, request: LoadRequest): Promise<string | undefined> {
  const { method, head, body, expected, bodyBytes } = request
  let answer
  try {
    answer = await connection.send(head, body, { headOnly: method === 'HEAD' })
  } catch (error) {
    return `${method}: ${(error as Error).message}`
  }
  const { status } = answer
  if (status === expected && (bodyBytes === undefined || bodyBytes === answer.bodyBytes)) return undefined
  // Some servers say 200 to a DELETE.
  if (method === 'DELETE' && status === 200) return undefined
  const what = `${head.split('\r\n', 1)[0] ?? method} was answered ${String(status)}`
  if (status === 429 || status >= 500) return what
  throw new Error(status === expected ? `${what} with ${String(answer.bodyBytes)} bytes` : what)
}

type CpuUse = Pick<JobResult, 'generatorCores' | 'serverCores'>

/** Counts CPU time from the begin of the window to its end; the function returned gives the result, and stops. */
function measureCpu(tally: Tally, job: Job): () => CpuUse {
  const pids = job.pids ?? []
  const now = (): { at: number; own: number; server: number } => {
    const { user, system } = process.cpuUsage()
    const server = pids.reduce((sum, pid) => sum + cpuSeconds(pid), 0)
    return { at: performance.now(), own: (user + system) / 1e6, server }
  }
  let first = now()
  let last: ReturnType<typeof now> | undefined
  const timers = [setTimeout(() => { first = now() }, Math.max(0, tally.starts - first.at))]
  if (tally.ends !== Infinity) timers.push(setTimeout(() => { last = now() }, tally.ends - first.at))
  return () => {
    for (const timer of timers) clearTimeout(timer)
    const end = last ?? now()
    const seconds = Math.max(end.at - first.at, 1) / 1000
    const generatorCores = (end.own - first.own) / seconds
    return pids.length === 0
      ? { generatorCores }
      : { generatorCores, serverCores: (end.server - first.server) / seconds }
  }
}

/**
 * CPU time of a process with all its threads, from /proc/<pid>/stat, whose clock ticks 100 times a second; 0 without
 * it.
 */
function cpuSeconds(pid: number): number {
  try {
    const stat = readFileSync(`/proc/${String(pid)}/stat`, 'latin1')
    // The second field may hold anything, in parentheses; user and system time are the 14th and 15th.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return (Number(fields[11]) + Number(fields[12])) / 100
  } catch {
    return 0
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  try {
    const result = await runJob(JSON.parse(await text(process.stdin)) as Job)
    process.stdout.write(`${JSON.stringify(result)}\n`)
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n`)
    process.exitCode = 1
  }
}
