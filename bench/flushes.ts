/**
 * Durable flushes per PUT: every call that flushes, counted by `strace -f -c` over a known number of PUTs, once one
 * after the other and once 32 at a time (where group commit pays), less those of an idle life of the server. The server
 * is slower under strace, so these are counts only.
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { runGenerator } from '../ts/cli/load/run_generator.js'
import { sizeShown } from '../ts/cli/load/sizes.js'
import { freshBucket, makeBucket, parseEndpoint } from '../ts/cli/load/target.js'
import { interrupted, withDrives } from './lifetime.js'
import { ROOT_KEYS } from './load/server_process.js'
import type { Metrics } from './metrics.js'
import { DRIVES, OWN, startServer } from './s3.js'

export interface FlushPlan {
  sizes: readonly number[]
  /** By one client; 32 do eight times as many, so that what comes once for each segment does not weigh. */
  puts: number
  workers: number
  drivesIn: string | undefined
  say: (line: string) => void
}

const CALLS = 'fsync,fdatasync,sync_file_range,syncfs,sync,msync'
const CLIENTS = [1, 32]

/** Why there is nothing to count with; undefined when there is. */
function missing(): string | undefined {
  const probe = spawnSync('strace', ['-f', '-c', '-o', '/dev/null', 'true'], { encoding: 'utf8' })
  if (probe.error !== undefined) return 'strace is not installed'
  return probe.status === 0 ? undefined : `strace does not work here: ${probe.stderr.trim().split('\n')[0] ?? ''}`
}

/** Metrics `flushes.put.<size>.<clients>clients.per_put_flushes`; none, and a line that says why, without strace. */
export async function runFlushes(plan: FlushPlan): Promise<Metrics> {
  const why = missing()
  if (why !== undefined) {
    plan.say(`flushes are not counted: ${why}`)
    return {}
  }
  const idle = await countFlushes(plan, 0, 1, 0)
  const metrics: Metrics = {}
  for (const size of plan.sizes) {
    for (const clients of CLIENTS) {
      const puts = plan.puts * (clients === 1 ? 1 : 8)
      const perPut = ((await countFlushes(plan, size, clients, puts)) - idle) / puts
      metrics[`flushes.put.${sizeShown(size)}.${String(clients)}clients.per_put_flushes`] = perPut
      plan.say(`put ${sizeShown(size)} ${String(clients)}clients: ${perPut.toFixed(2)} flushes for each`)
    }
  }
  return metrics
}

/** Flushes of a whole life of the server on fresh drives: start, `puts` PUTs, stop. */
function countFlushes(plan: FlushPlan, size: number, clients: number, puts: number): Promise<number> {
  return withDrives(DRIVES, plan.drivesIn, async (drives) => {
    const folder = mkdtempSync(join(tmpdir(), 'ostraka-strace-'))
    const remove = (): void => { rmSync(folder, { recursive: true, force: true }) }
    process.once('exit', remove)
    const file = join(folder, 'counts')
    try {
      const strace = ['strace', '-f', '-c', '--seccomp-bpf', '-e', `trace=${CALLS}`, '-o', file]
      const server = await startServer(drives, plan.workers, strace)
      try {
        const address = parseEndpoint(server.endpoint)
        const keys = { ...ROOT_KEYS, region: 'us-east-1' }
        const bucket = freshBucket()
        await makeBucket({ name: OWN, address, keys }, bucket)
        if (puts > 0) {
          await runGenerator({
            address, keys, operation: 'PUT', bucket, prefix: 'p', objects: puts, size, connections: clients,
            warmUpMs: 0, measureMs: 0,
          }, interrupted)
        }
      } finally {
        await server.stop()
      }
      return readCounts(readFileSync(file, 'utf8'))
    } finally {
      remove()
      process.off('exit', remove)
    }
  })
}

/** strace's table: `% time  seconds  usecs/call  calls  [errors]  syscall`. */
function readCounts(text: string): number {
  let sum = 0
  for (const line of text.split('\n')) {
    const match = /^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)\s*$/.exec(line)
    if (match !== null && CALLS.split(',').includes(match[2] ?? '')) sum += Number(match[1])
  }
  return sum
}
