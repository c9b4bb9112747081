/**
 * The S3 benchmark: every cell (an operation, a size, a number of clients) is measured on every target in turn, so that
 * what disturbs the machine disturbs all of them, and as often as the cell says. Of each target's rounds the best
 * counts; how far they lie apart is kept as the noise of the figure.
 *
 * PUT comes first and makes new objects; GET, HEAD and MIXED read the ones of its first round, DELETE takes away
 * those of each round. Where a cell needs objects that no PUT has made, they are put without being measured.
 */
import { freshBucket, makeBucket, removeBucket } from './target.js'
import type { S3Target } from './target.js'
import type { JobResult } from './generator.js'
import { runGenerator } from './run_generator.js'
import { sizeShown } from './sizes.js'
import { OPERATIONS } from './workload.js'
import type { Job, Operation } from './workload.js'

export interface Cell {
  operation: Operation
  /** Bytes of each object; for LIST the number of keys that there are. */
  size: number
  clients: number
  rounds: number
  warmUpMs: number
  windowMs: number
}

export interface Row {
  operation: Operation
  size: number
  clients: number
  server: string
  /** The round with the highest rate. */
  best: JobResult
  /** (highest - lowest) / highest rate of the rounds; 0 when there was one. */
  spread: number
}

export interface BenchOptions {
  signal?: AbortSignal
  /** One line for each thing done. */
  say: (line: string) => void
  /** Leave buckets and objects behind, as those of a server whose drives are thrown away. */
  keep?: (target: S3Target) => boolean
  /** Milliseconds for which each target takes PUTs before anything is measured; 0 unless given. */
  warmUpMs?: number
}

/**
 * The cross product, in an order in which each cell finds its objects. LIST does not depend on size: once per clients.
 */
export function allCells(
  plan: { operations: readonly Operation[]; sizes: readonly number[]; clients: readonly number[]; listKeys: number },
  timing: Pick<Cell, 'rounds' | 'warmUpMs' | 'windowMs'>,
): Cell[] {
  const cells: Cell[] = []
  for (const size of plan.sizes)
    for (const clients of plan.clients)
      for (const operation of ['PUT', 'GET', 'HEAD', 'MIXED', 'DELETE'] as const)
        if (plan.operations.includes(operation)) cells.push({ operation, size, clients, ...timing })
  if (plan.operations.includes('LIST'))
    for (const clients of plan.clients) cells.push({ operation: 'LIST', size: plan.listKeys, clients, ...timing })
  return cells
}

/** Objects to read in a cell at the most, and bytes of them. */
const MAX_OBJECTS = 20_000
const MAX_BYTES = 2 ** 30
/** Fills use this many connections, each with one object under way. */
const FILLERS = 16

/** What there is on one target: objects 0..count-1 under a prefix. */
type Pool = Map<string, number>

/** Rejects when a target cannot be reached, or answers what it should not. Buckets made are removed either way. */
export async function benchS3(
  targets: readonly S3Target[],
  cells: readonly Cell[],
  options: BenchOptions,
): Promise<Row[]> {
  const bucket = freshBucket()
  const pools = new Map<S3Target, Pool>(targets.map((target) => [target, new Map<string, number>()]))
  const made: S3Target[] = []
  try {
    for (const target of targets) {
      if (target.forgets === true) continue
      await makeBucket(target, bucket)
      made.push(target)
    }
    await warmUp(targets, bucket, options)
    const rows: Row[] = []
    for (const cell of cells) {
      const results = new Map<S3Target, JobResult[]>()
      for (let round = 0; round < cell.rounds; round++) {
        for (const target of targets) {
          const result = await measure(
            target,
            bucket,
            cell,
            round,
            pools.get(target) ?? new Map<string, number>(),
            options,
          )
          results.set(target, [...(results.get(target) ?? []), result])
        }
      }
      for (const [target, rounds] of results) rows.push(rowOf(cell, target, rounds))
      options.say(cellShown(cell, rows.slice(-targets.length)))
    }
    return rows
  } finally {
    for (const target of made) {
      if (options.keep?.(target) === true) continue
      options.say(`removing ${bucket} from ${target.name}`)
      await removeBucket(target, bucket)
    }
  }
}

/** A server that was started just now compiles its code for some seconds, as a server in service does not. */
async function warmUp(targets: readonly S3Target[], bucket: string, options: BenchOptions): Promise<void> {
  const windowMs = options.warmUpMs ?? 0
  if (windowMs === 0) return
  const cell: Cell = { operation: 'PUT', size: 4096, clients: 32, rounds: 1, warmUpMs: 0, windowMs }
  for (const target of targets) {
    options.say(`warming up ${target.name}`)
    await measure(target, bucket, cell, -1, new Map<string, number>(), options)
  }
}

async function measure(
  target: S3Target, bucket: string, cell: Cell, round: number, pool: Pool, options: BenchOptions,
): Promise<JobResult> {
  const { operation, size, clients } = cell
  const place = `${String(size)}/c${String(clients)}`
  const own = `${place}-r${String(round)}`
  const job = (part: Partial<Job>): Promise<JobResult> => {
    return runGenerator({
      address: target.address,
      ...(target.keys === undefined ? {} : { keys: target.keys }),
      ...(target.pids === undefined ? {} : { pids: target.pids }),
      bucket, operation, prefix: own, objects: 1, size, connections: clients,
      warmUpMs: cell.warmUpMs, measureMs: cell.windowMs, ...part,
    }, options.signal)
  }
  /** Sees to it that there are objects under the prefix, and says how many. */
  const filled = async (prefix: string, wanted: number, bytes: number): Promise<number> => {
    const there = pool.get(prefix) ?? 0
    if (there > 0 || target.forgets === true) return Math.max(there, 1)
    const fill: Partial<Job> = { operation: 'PUT', prefix, objects: wanted, size: bytes, warmUpMs: 0, measureMs: 0 }
    const { errors, firstError } = await job({ ...fill, connections: Math.min(FILLERS, wanted) })
    if (errors > 0) throw new Error(`${target.name}: filling: ${firstError}`)
    pool.set(prefix, wanted)
    return wanted
  }
  if (operation === 'PUT') {
    const result = await job({})
    // With an error among them nobody knows which keys are there.
    pool.set(own, result.errors > 0 ? 0 : result.used)
    return result
  }
  if (operation === 'LIST') {
    const objects = await filled(`list-${String(size)}`, size, 1)
    return job({ prefix: `list-${String(size)}`, objects })
  }
  const enough = Math.min(clients * 16, Math.max(clients, Math.floor(MAX_BYTES / 4 / Math.max(size, 1))))
  if (operation === 'DELETE') {
    const objects = await filled(own, enough * 4, size)
    pool.delete(own)
    return job({ objects: target.forgets === true ? 2 ** 31 : objects, warmUpMs: 0 })
  }
  const objects = await filled(`${place}-r0`, enough, size)
  const most = Math.min(MAX_OBJECTS, Math.max(1, Math.floor(MAX_BYTES / Math.max(size, 1))))
  return job({ prefix: `${place}-r0`, objects: Math.min(objects, most) })
}

function rowOf(cell: Cell, target: S3Target, rounds: readonly JobResult[]): Row {
  const { operation, size, clients } = cell
  const best = rounds.reduce((a, b) => (b.rate > a.rate ? b : a))
  const lowest = Math.min(...rounds.map((result) => result.rate))
  const spread = best.rate === 0 ? 0 : (best.rate - lowest) / best.rate
  return { operation, size, clients, server: target.name, best, spread }
}

function cellShown(cell: Cell, rows: readonly Row[]): string {
  const rates = rows.map((row) => `${row.server} ${row.best.rate.toFixed(1)}/s`)
  return `${nameOf(cell).replaceAll('.', ' ')}: ${rates.join(', ')}`
}

/** `put.4KiB.32clients`, `list.2000keys.8clients`. */
export function nameOf(cell: Pick<Cell, 'operation' | 'size' | 'clients'>): string {
  const what = cell.operation === 'LIST' ? `${String(cell.size)}keys` : sizeShown(cell.size)
  return `${cell.operation.toLowerCase()}.${what}.${String(cell.clients)}clients`
}

/** Metrics of rows: those of `main` without its name, of others with it (s3.put.4KiB.32clients.<name>.ops_per_s). */
export function s3Metrics(rows: readonly Row[], main: string): Record<string, number> {
  const metrics: Record<string, number> = {}
  for (const row of rows) {
    const name = `s3.${nameOf(row)}${row.server === main ? '' : `.${row.server}`}`
    const { best } = row
    metrics[`${name}.ops_per_s`] = best.rate
    if (best.bytesPerSecond > 0) metrics[`${name}.MB_per_s`] = best.bytesPerSecond / 1e6
    metrics[`${name}.p50_ms`] = best.p50Ms
    metrics[`${name}.p99_ms`] = best.p99Ms
    metrics[`${name}.generator_cores`] = best.generatorCores
    if (best.serverCores !== undefined) metrics[`${name}.server_cores`] = best.serverCores
    if (best.errors > 0) metrics[`${name}.errors`] = best.errors
  }
  return metrics
}

/** Undefined when there is no such operation. */
export function parseOperation(text: string): Operation | undefined {
  return OPERATIONS.find((operation) => operation === text.toUpperCase())
}

/** Why a name of a server cannot be a component of a metric's name; undefined when it can. */
export function nameProblem(name: string): string | undefined {
  return /^[A-Za-z][A-Za-z0-9-]{0,31}$/.test(name) && name !== 'bare'
    ? undefined
    : `the name "${name}" must begin with a letter, then letters, digits and dashes, and not be "bare"`
}
