/** Figures of the control thread: the process, the drives and sets, and what the store holds. */
import { Gauge } from 'prom-client'
import type { Registry } from 'prom-client'
import { readFileSync } from 'node:fs'

import type { DriveState } from '../../drive/drive.js'
import type { ServerState } from '../control/state.js'
import { addThreadMetrics } from './worker_metrics.js'

const DRIVE_STATES: readonly DriveState[] = ['online', 'full', 'readOnly', 'slow', 'offline', 'refused']

export function addControlMetrics(registry: Registry, state: ServerState): void {
  addThreadMetrics(registry, 'control')
  addProcessMetrics(registry, state)
  addDriveMetrics(registry, state)
  const gauge = (name: string, help: string, read: () => number): void => {
    new Gauge({
      name,
      help,
      registers: [registry],
      collect() {
        this.set(read())
      },
    })
  }
  let counts = { buckets: 0, objects: 0, bytes: 0, garbage: 0, heals: 0 }
  gauge('ostraka_objects', 'Objects', () => {
    // One snapshot for all five, taken by the first that is collected.
    counts = state.counts()
    return counts.objects
  })
  gauge('ostraka_buckets', 'Buckets', () => counts.buckets)
  gauge('ostraka_object_bytes', 'Bytes of all objects', () => counts.bytes)
  gauge('ostraka_garbage_entries', 'Parts that wait to be collected', () => counts.garbage)
  gauge('ostraka_heal_entries', 'Parts that wait to be healed', () => counts.heals)
}

function addProcessMetrics(registry: Registry, state: ServerState): void {
  const gauge = (name: string, help: string, read: () => number): void => {
    new Gauge({
      name,
      help,
      registers: [registry],
      collect() {
        this.set(read())
      },
    })
  }
  gauge('ostraka_start_time_seconds', 'When the server was started', () => state.startedMs / 1000)
  gauge('ostraka_ready', '1 while S3 requests can be served', () => (state.notReady().length === 0 ? 1 : 0))
  gauge('ostraka_worker_restarts', 'Workers started again after a crash', () => state.pools.restarts)
  gauge('ostraka_process_resident_bytes', 'Resident memory', () => process.memoryUsage().rss)
  gauge('ostraka_process_anonymous_bytes', 'Resident memory that belongs to no file', anonymousBytes)
  gauge('ostraka_process_cpu_seconds', 'Processor time used', () => {
    const { user, system } = process.cpuUsage()
    return (user + system) / 1e6
  })
}

function anonymousBytes(): number {
  try {
    return Number(/^RssAnon:\s+(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? 0) * 1024
  } catch {
    return 0
  }
}

function addDriveMetrics(registry: Registry, state: ServerState): void {
  const perDrive = (
    name: string,
    help: string,
    read: (drive: ReturnType<ServerState['drives']>[number]) => number,
  ): void => {
    new Gauge({
      name,
      help,
      labelNames: ['drive', 'set', 'path'],
      registers: [registry],
      collect() {
        this.reset()
        for (const drive of state.drives()) {
          this.set({ drive: String(drive.number), set: String(drive.set), path: drive.path }, read(drive))
        }
      },
    })
  }
  perDrive(
    'ostraka_drive_state',
    `State of the drive: ${DRIVE_STATES.map((s, i) => `${String(i)} ${s}`).join(', ')}`,
    (d) => DRIVE_STATES.indexOf(d.health.state),
  )
  perDrive('ostraka_drive_total_bytes', 'Size of the drive', (d) => d.health.totalBytes)
  perDrive('ostraka_drive_free_bytes', 'Free bytes of the drive', (d) => d.health.freeBytes)
  perDrive('ostraka_drive_errors', 'Failed operations', (d) => d.health.errors)
  perDrive('ostraka_drive_timeouts', 'Operations that missed their deadline', (d) => d.health.timeouts)
  perDrive(
    'ostraka_drive_read_p95_seconds',
    'Recent reads, 95th percentile',
    (d) => d.health.readP95Ms / 1000,
  )
  perDrive(
    'ostraka_drive_write_p95_seconds',
    'Recent writes, 95th percentile',
    (d) => d.health.writeP95Ms / 1000,
  )
  perDrive('ostraka_drive_segments', 'Segments of packed shards', (d) => d.segments?.segments ?? 0)
  perDrive('ostraka_drive_segment_bytes', 'Bytes of all segments', (d) => d.segments?.bytes ?? 0)
  perDrive(
    'ostraka_drive_segment_dead_bytes',
    'Of these: shards that were deleted or replaced, estimated; compaction frees them',
    (d) => d.segments?.deadBytes ?? 0,
  )
  perDrive('ostraka_drive_packed_shards', 'Shards in segments', (d) => d.segments?.shards ?? 0)
  perDrive('ostraka_drive_tombstones', 'Tombstones in segments', (d) => d.segments?.tombstones ?? 0)
  perDrive('ostraka_drive_healing', '1 while a replacement is being healed', (d) => (d.healing ? 1 : 0))
  new Gauge({
    name: 'ostraka_set_tolerated_losses',
    help: 'Drives of the set that may still be lost',
    labelNames: ['set'],
    registers: [registry],
    collect() {
      for (const set of state.sets()) this.set({ set: String(set.number) }, set.toleratedLosses)
    },
  })
}
