/**
 * Durable flushes per PUT: fsync, fdatasync and sync_file_range counted by `strace -f -c` over a known number of PUTs,
 * once one after the other and once many at a time (where group commit pays). The server is slower under strace, so
 * these are counts only.
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { ROOT_KEYS, ServerProcess, makeDrives } from './load/server_process.js'
import { runJob } from './http.js'
import type { HttpPlan } from './http.js'

export interface FlushRow {
  connections: number
  size: number
  puts: number
  flushes: number
  perPut: number
}

const CALLS = 'fsync,fdatasync,sync_file_range,syncfs,msync'

/** Undefined with a reason when the machine has no strace that works. */
export async function benchFlushes(
  plan: HttpPlan,
  puts: number,
): Promise<{ rows: FlushRow[] } | { missing: string }> {
  const probe = spawnSync('strace', ['-f', '-c', 'true'], { encoding: 'utf8' })
  if (probe.error !== undefined) return { missing: 'strace is not installed' }
  if (probe.status !== 0)
    return { missing: `strace does not work here: ${probe.stderr.trim().split('\n')[0] ?? ''}` }
  const rows: FlushRow[] = []
  for (const size of [4096, 1 << 20]) {
    for (const connections of [1, 32]) {
      const idle = await countFlushes(plan, size, connections, 0)
      const flushes = (await countFlushes(plan, size, connections, puts)) - idle
      rows.push({ connections, size, puts, flushes, perPut: flushes / puts })
    }
  }
  return { rows }
}

/** Flushes of a whole life of the server on fresh drives: start, `puts` PUTs, stop. */
async function countFlushes(
  plan: HttpPlan,
  size: number,
  connections: number,
  puts: number,
): Promise<number> {
  const place = makeDrives(4, plan.folder)
  const folder = mkdtempSync(join(tmpdir(), 'ostraka-strace-'))
  const file = join(folder, 'counts')
  try {
    const server = await ServerProcess.start({
      drives: place.drives,
      args: ['--workers', String(plan.workers), '--log-level', 'warn'],
      wrapper: ['strace', '-f', '-c', '--seccomp-bpf', '-e', `trace=${CALLS}`, '-o', file],
    })
    const part = { keys: { ...ROOT_KEYS, region: 'us-east-1' }, warmUpMs: 0, measureMs: 0 }
    await runJob(plan, server.endpoint, { ...part, operation: 'MAKE_BUCKET', connections: 1 })
    if (puts > 0)
      await runJob(plan, server.endpoint, { ...part, operation: 'PUT', size, objects: puts, connections })
    await server.stop()
    return readCounts(readFileSync(file, 'utf8'))
  } finally {
    place.remove()
    rmSync(folder, { recursive: true, force: true })
  }
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
