/**
 * Memory for each million stored objects: what the server and the metadata views have grown by while objects of 4 KiB
 * were put, after as many others had warmed it up. The index is in shared memory and counts as anonymous or shared
 * memory of the process, whichever the kernel calls it; a view is a file that the page cache holds. Growth of the heap
 * between two collections is in it, so few objects give a rough figure. Drives in a tmpfs count as shared memory too.
 */
import { readFileSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'

import { runGenerator } from '../ts/cli/load/run_generator.js'
import { freshBucket, makeBucket, parseEndpoint } from '../ts/cli/load/target.js'
import { interrupted, withDrives } from './lifetime.js'
import { ROOT_KEYS } from './load/server_process.js'
import type { Metrics } from './metrics.js'
import { DRIVES, OWN, startServer } from './s3.js'

export interface MemoryPlan {
  /** Objects put before the first look, and again before the second. */
  objects: number
  workers: number
  drivesIn: string | undefined
  say: (line: string) => void
}

interface Sizes {
  process: number
  /** The largest metadata view. */
  view: number
}

/** Metrics `memory.per_million_objects.<what>_MiB`. */
export function runMemory(plan: MemoryPlan): Promise<Metrics> {
  return withDrives(DRIVES, plan.drivesIn, async (drives) => {
    const server = await startServer(drives, plan.workers)
    try {
      const address = parseEndpoint(server.endpoint)
      const keys = { ...ROOT_KEYS, region: 'us-east-1' }
      const bucket = freshBucket()
      await makeBucket({ name: OWN, address, keys }, bucket)
      const fill = async (prefix: string): Promise<Sizes> => {
        await runGenerator({
          address, keys, operation: 'PUT', bucket, prefix, objects: plan.objects, size: 4096, connections: 32,
          warmUpMs: 0, measureMs: 0,
        }, interrupted)
        return { process: residentOf(server.pid), view: Math.max(...drives.map(viewBytes)) }
      }
      const before = await fill('warm')
      const after = await fill('counted')
      const perMillion = (bytes: number): number => (bytes / plan.objects) * 1e6 / 2 ** 20
      plan.say(`${String(plan.objects)} objects counted after as many others`)
      return {
        'memory.per_million_objects.process_MiB': perMillion(after.process - before.process),
        'memory.per_million_objects.metadata_view_MiB': perMillion(after.view - before.view),
        'memory.server_MiB': after.process / 2 ** 20,
      }
    } finally {
      await server.stop()
    }
  })
}

/** Anonymous and shared memory of a process, in bytes. */
function residentOf(pid: number): number {
  const status = readFileSync(`/proc/${String(pid)}/status`, 'utf8')
  const kiB = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0)
  return (kiB('RssAnon') + kiB('RssShmem')) * 1024
}

/** Bytes of the metadata view on a drive; 0 where there is none. */
function viewBytes(drive: string): number {
  const meta = join(drive, 'meta')
  try {
    const views = readdirSync(meta).filter((name) => name.startsWith('view-'))
    return Math.max(0, ...views.map((name) => statSync(join(meta, name, 'data.mdb')).size))
  } catch {
    return 0
  }
}
