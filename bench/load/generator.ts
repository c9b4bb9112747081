/**
 * The load generator, run as a child process: takes a Job as JSON in its argument, prints a JobResult as JSON.
 *
 * `connections` loops each send one request after the other over their own connection until the time is over; only
 * requests that end within the measured time count (a long one may have begun before). Each request must be
 * answered 200, else the job fails.
 */
import { createHistogram } from 'node:perf_hooks'

import { Connection } from './connection.js'
import { Signer, sha256Hex } from './signer.js'

export interface Job {
  host: string
  port: number
  /** Absent: unsigned requests, for the bare server. */
  keys?: { accessKey: string; secretKey: string; region: string }
  operation: 'PUT' | 'GET' | 'LIST' | 'MAKE_BUCKET'
  bucket: string
  /** Keys are <prefix>/0 .. <prefix>/(objects-1); PUT goes round them, GET chooses among them. */
  prefix: string
  objects: number
  size: number
  connections: number
  warmUpMs: number
  /** 0: send each key once (PUT, to fill). */
  measureMs: number
}

export interface JobResult {
  requests: number
  seconds: number
  bytes: number
  p50Ms: number
  p99Ms: number
  maxMs: number
}

export async function runJob(job: Job): Promise<JobResult> {
  const body = Buffer.alloc(job.operation === 'PUT' ? job.size : 0, 0x5a)
  for (let i = 0; i < body.length; i += 61) body[i] = i & 255
  const payloadHash = sha256Hex(body)
  const signer = job.keys === undefined ? undefined : new Signer(job.keys)
  const latency = createHistogram()
  const state = { next: 0, requests: 0, bytes: 0 }
  const started = performance.now() + job.warmUpMs
  const ends = job.measureMs === 0 ? Infinity : started + job.measureMs

  const loop = async (): Promise<void> => {
    const connection = await Connection.open(job.host, job.port)
    for (;;) {
      const n = state.next++
      if (job.measureMs === 0 && n >= job.objects) break
      const before = performance.now()
      if (before >= ends) break
      const answer = await connection.send(
        requestHead(job, signer, n, body.length, payloadHash),
        job.operation === 'PUT' ? body : undefined,
      )
      const after = performance.now()
      if (answer.status !== 200)
        throw new Error(`${job.operation} ${keyOf(job, n)} was answered ${String(answer.status)}`)
      if (after >= started && after <= ends) {
        state.requests += 1
        state.bytes += job.operation === 'PUT' ? body.length : answer.bodyBytes
        latency.record(Math.max(1, Math.round((after - before) * 1000)))
      }
    }
    connection.close()
  }
  await Promise.all(Array.from({ length: job.connections }, loop))
  const seconds = ((job.measureMs === 0 ? performance.now() : ends) - started) / 1000
  return {
    requests: state.requests,
    seconds,
    bytes: state.bytes,
    p50Ms: latency.percentile(50) / 1000,
    p99Ms: latency.percentile(99) / 1000,
    maxMs: latency.max / 1000,
  }
}

function keyOf(job: Job, n: number): string {
  return `${job.prefix}/${String(n % job.objects).padStart(8, '0')}`
}

function requestHead(
  job: Job,
  signer: Signer | undefined,
  n: number,
  length: number,
  payloadHash: string,
): string {
  const method = job.operation === 'PUT' || job.operation === 'MAKE_BUCKET' ? 'PUT' : 'GET'
  // A step that is coprime to most counts, so that GETs jump about without the cost of good randomness.
  const path =
    job.operation === 'LIST' || job.operation === 'MAKE_BUCKET'
      ? `/${job.bucket}`
      : `/${job.bucket}/${keyOf(job, job.operation === 'GET' ? n * 7919 : n)}`
  const query =
    job.operation === 'LIST' ? `list-type=2&max-keys=1000&prefix=${encodeURIComponent(`${job.prefix}/`)}` : ''
  const host = `${job.host}:${String(job.port)}`
  const signed = signer?.headers(method, host, path, query, payloadHash, new Date()) ?? `host: ${host}\r\n`
  return `${method} ${path}${query === '' ? '' : `?${query}`} HTTP/1.1\r\n${signed}content-length: ${String(method === 'PUT' ? length : 0)}\r\n\r\n`
}

if (process.argv[2] === '--job') {
  const result = await runJob(JSON.parse(process.argv[3] ?? '') as Job)
  process.stdout.write(`${JSON.stringify(result)}\n`)
}
