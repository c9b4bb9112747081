/**
 * The S3 part: our own server, started on fresh drives, a bare node:http server for scale, and any other endpoints, all
 * under the same load in the same run.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

import { benchS3, nameOf, s3Metrics } from '../ts/cli/load/s3_bench.js'
import type { Cell, Row } from '../ts/cli/load/s3_bench.js'
import { parseEndpoint } from '../ts/cli/load/target.js'
import type { S3Target } from '../ts/cli/load/target.js'
import { interrupted, withDrives } from './lifetime.js'
import { ROOT_KEYS, ServerProcess } from './load/server_process.js'
import type { Metrics } from './metrics.js'

export const OWN = 'ostraka'
export const BARE = 'bare'
export const DRIVES = 4
/** After this long more warming up changes the rate of our server by less than it wavers. */
const WARM_UP_MS = 6000

export interface S3Plan {
  cells: readonly Cell[]
  /** Threads of our server and of the bare one. */
  workers: number
  drivesIn: string | undefined
  others: readonly S3Target[]
  say: (line: string) => void
}

export interface S3Result {
  metrics: Metrics
  /** By metric: how far the rounds lay apart, as a share. */
  spread: Metrics
}

export async function runS3(plan: S3Plan): Promise<S3Result> {
  return withDrives(DRIVES, plan.drivesIn, async (drives) => {
    const server = await startServer(drives, plan.workers)
    let peak = 0
    const sampler = setInterval(() => { peak = Math.max(peak, server.anonymousMemory()) }, 100)
    try {
      const own: S3Target = {
        name: OWN,
        address: parseEndpoint(server.endpoint),
        keys: { ...ROOT_KEYS, region: 'us-east-1' },
        pids: [server.pid],
      }
      return await withBare(plan.workers, async (bare) => {
        const targets = [own, bare, ...plan.others]
        const rows = await benchS3(targets, plan.cells, {
          signal: interrupted, say: plan.say, keep: (target) => target === own, warmUpMs: WARM_UP_MS,
        })
        return { metrics: { ...metricsOf(rows), 's3.peak_anonymous_MiB': peak / 2 ** 20 }, spread: spreadOf(rows) }
      })
    } catch (error) {
      if (server.child.exitCode !== null) throw new Error(`our server ended:\n${server.output}`, { cause: error })
      throw error
    } finally {
      clearInterval(sampler)
      await server.stop()
    }
  })
}

export function startServer(
  drives: readonly string[],
  workers: number,
  wrapper?: readonly string[],
): Promise<ServerProcess> {
  return ServerProcess.start({
    drives,
    args: ['--workers', String(workers), '--log-level', 'warn'],
    group: true,
    signal: interrupted,
    ...(wrapper === undefined ? {} : { wrapper }),
  })
}

async function withBare<T>(threads: number, work: (bare: S3Target) => Promise<T>): Promise<T> {
  const program = fileURLToPath(new URL('./load/bare_server.js', import.meta.url))
  const child = spawn(process.execPath, [program, String(threads)], {
    stdio: ['pipe', 'pipe', 'inherit'], detached: true,
  })
  const kill = (): void => { child.kill('SIGKILL') }
  process.once('exit', kill)
  try {
    const closed = once(child, 'close').then(() => { throw new Error('the bare server ended') })
    closed.catch(() => undefined)
    const [line] = (await Promise.race([once(child.stdout, 'data'), closed])) as [Buffer]
    const address = parseEndpoint(`http://127.0.0.1:${line.toString().trim()}`)
    // It gets the very requests that our server gets, signed and all.
    const keys = { ...ROOT_KEYS, region: 'us-east-1' }
    return await work({ name: BARE, address, keys, forgets: true, pids: [child.pid ?? 0] })
  } finally {
    kill()
    process.off('exit', kill)
  }
}

function metricsOf(rows: readonly Row[]): Metrics {
  const metrics = s3Metrics(rows, OWN)
  for (const row of rows.filter(({ server }) => server === OWN)) {
    const name = `s3.${nameOf(row)}`
    const bare = metrics[`${name}.${BARE}.ops_per_s`]
    if (bare !== undefined && bare > 0) metrics[`${name}.percent_of_bare`] = (100 * row.best.rate) / bare
  }
  return metrics
}

function spreadOf(rows: readonly Row[]): Metrics {
  return Object.fromEntries(rows.filter((row) => row.spread > 0).flatMap((row) => {
    const name = `s3.${nameOf(row)}${row.server === OWN ? '' : `.${row.server}`}`
    const endings = ['ops_per_s', 'MB_per_s', 'p50_ms', 'p99_ms', ...(row.server === OWN ? ['percent_of_bare'] : [])]
    return endings.map((ending) => [`${name}.${ending}`, row.spread] as const)
  }))
}
