/**
 * PUT, GET and LIST over HTTP: the real server on fresh drives and, in the same run and with the same load generator, a
 * bare node:http server. The quotient says what the store costs on top of HTTP, whatever the machine.
 */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

import { ROOT_KEYS, ServerProcess, makeDrives } from './load/server_process.js'
import type { Job, JobResult } from './load/generator.js'

export interface HttpRow {
  operation: string
  size: number
  store: JobResult
  bare: JobResult
}

export interface HttpResult {
  drives: number
  workers: number
  connections: number
  rows: HttpRow[]
  /** Largest anonymous resident memory of the server, sampled, in bytes. */
  peakAnonymousBytes: number
}

export interface HttpPlan {
  sizes: readonly number[]
  listKeys: number
  connections: number
  warmUpMs: number
  measureMs: number
  workers: number
  folder: string | undefined
}

const KEYS = { ...ROOT_KEYS, region: 'us-east-1' }
const BUCKET = 'bench'

type JobPart = Partial<Job> & Pick<Job, 'operation'>

export async function benchHttp(plan: HttpPlan, say: (line: string) => void): Promise<HttpResult> {
  const place = makeDrives(4, plan.folder)
  const server = await ServerProcess.start({
    drives: place.drives,
    args: ['--workers', String(plan.workers), '--log-level', 'warn'],
  })
  const bare = await startBare()
  let peak = 0
  const sampler = setInterval(() => {
    peak = Math.max(peak, server.anonymousMemory())
  }, 100)
  try {
    const run = (job: JobPart): Promise<JobResult> => runJob(plan, server.endpoint, { keys: KEYS, ...job })
    const scale = (job: JobPart): Promise<JobResult> => runJob(plan, bare.endpoint, job)
    await run({ operation: 'MAKE_BUCKET', objects: 1, measureMs: 0, connections: 1 })
    const rows: HttpRow[] = []
    for (const size of plan.sizes) {
      const connections = size > 1 << 20 ? Math.min(plan.connections, 8) : plan.connections
      for (const operation of ['PUT', 'GET'] as const) {
        const job: JobPart = {
          operation,
          size,
          prefix: String(size),
          objects: size > 1 << 20 ? 16 : 500,
          connections,
        }
        if (operation === 'GET') await run({ ...job, operation: 'PUT', warmUpMs: 0, measureMs: 0 })
        rows.push({ operation, size, store: await run(job), bare: await scale(job) })
        say(`${operation} ${String(size)} bytes measured`)
      }
    }
    await run({
      operation: 'PUT',
      size: 1,
      prefix: 'list',
      objects: plan.listKeys,
      warmUpMs: 0,
      measureMs: 0,
    })
    const list: JobPart = { operation: 'LIST', prefix: 'list', connections: Math.min(plan.connections, 4) }
    rows.push({ operation: 'LIST', size: plan.listKeys, store: await run(list), bare: await scale(list) })
    return { drives: 4, workers: plan.workers, connections: plan.connections, rows, peakAnonymousBytes: peak }
  } finally {
    clearInterval(sampler)
    bare.child.stdin?.end()
    await server.stop()
    place.remove()
  }
}

async function startBare(): Promise<{ child: ChildProcess; endpoint: string }> {
  const child = spawn(process.execPath, [fileURLToPath(new URL('./load/bare_server.js', import.meta.url))], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const [line] = (await once(child.stdout, 'data')) as [Buffer]
  return { child, endpoint: `http://127.0.0.1:${line.toString().trim()}` }
}

export function runJob(plan: HttpPlan, endpoint: string, part: JobPart): Promise<JobResult> {
  const { hostname, port } = new URL(endpoint)
  return runGenerator({
    host: hostname,
    port: Number(port),
    bucket: BUCKET,
    prefix: 'p',
    objects: 1,
    size: 0,
    connections: plan.connections,
    warmUpMs: plan.warmUpMs,
    measureMs: plan.measureMs,
    ...part,
  })
}

/** Runs one job in a process of its own. */
export async function runGenerator(job: Job): Promise<JobResult> {
  const child = spawn(
    process.execPath,
    [fileURLToPath(new URL('./load/generator.js', import.meta.url)), '--job', JSON.stringify(job)],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  )
  let text = ''
  child.stdout.on('data', (data: Buffer) => {
    text += data.toString()
  })
  const [code] = (await once(child, 'close')) as [number | null]
  if (code !== 0) throw new Error(`the load generator failed (${job.operation})`)
  return JSON.parse(text) as JobResult
}
