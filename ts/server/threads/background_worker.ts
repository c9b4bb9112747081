/**
 * The endless task of the background thread: collector, compaction, fences, orphan search, heals, scrub and the end of
 * old uploads, in small slices at low priority and under one bandwidth limit.
 */
import { Gauge, Registry } from 'prom-client'

import { systemClock } from '../../erasure/clock.js'
import { MetadataClient } from '../../meta/client.js'
import type { ClientConnection } from '../../meta/engine_port.js'
import { setThreadNice } from '../../native/socket.js'
import { Background } from '../../store/background/background.js'
import { CursorFile } from '../../store/background/cursor_file.js'
import { Throttle } from '../../store/background/throttle.js'
import type { Config } from '../config/settings.js'
import { createLogger } from '../log.js'
import type { Logger } from '../log.js'
import { addThreadMetrics } from '../metrics/worker_metrics.js'
import type { BackgroundWorkerCalls, ControlCalls } from './calls.js'
import { Channel } from './channel.js'
import { ThreadParts } from './thread_parts.js'
import type { SharedState } from './thread_parts.js'
import type { Topology } from './topology.js'
import type { PoolTask } from './worker_pool.js'

export interface BackgroundWorkerTask {
  config: Config
  topology: Topology
  shared: SharedState
  pinSlot: number
  /** This node; undefined in a store of one node. */
  node: number | undefined
  metadata: ClientConnection
}

const NICE = 10
/** For sealing segments at a clean end; what is not sealed is read at the next start. */
const SEAL_MS = 1500
const MEMORY = 64 * 2 ** 20

export default async function run(task: BackgroundWorkerTask & PoolTask): Promise<void> {
  const log = createLogger(task.config.logLevel, 'background')
  try {
    setThreadNice(NICE)
  } catch (error) {
    log.warn({ err: error }, 'the background thread keeps its normal priority')
  }
  const compare = { metadata: (): Promise<number> => Promise.resolve(0) }
  const { background, parts } = compose(task, log, () => compare.metadata())
  const registry = new Registry()
  addThreadMetrics(registry, 'background')
  addBackgroundMetrics(registry, background)
  let stop: (withinMs: number) => void = () => undefined
  const stopped = new Promise<number>((resolve) => {
    stop = resolve
  })
  const channel = new Channel<ControlCalls, BackgroundWorkerCalls>(task.control, {
    metrics: () => registry.getMetricsAsJSON(),
    topology: (topology) => {
      parts.update(topology)
      return undefined
    },
    stop: ({ withinMs }) => {
      stop(withinMs)
      return undefined
    },
    progress: () => background.progress(),
    scrub: ({ action }) => {
      if (action === 'start') {
        background.resume('scrubber')
        background.startScrub()
      } else background.pause('scrubber')
      return undefined
    },
    driveReturned: ({ set }) => {
      background.driveReturned(set)
      return undefined
    },
    healQueued: () => {
      background.healQueued()
      return undefined
    },
    orphanSearch: () => {
      background.startOrphanSearch()
      return undefined
    },
  })
  compare.metadata = () => channel.call('compareMetadata', undefined, 0)
  background.start()
  channel.tell('ready', undefined)
  await background.stop(await stopped)
  await parts.seal(SEAL_MS)
  // LMDB's files must be closed by every thread before they may be opened anew.
  await parts.metadata.close()
  channel.close()
}

function compose(
  task: BackgroundWorkerTask,
  log: Logger,
  compareMetadata: () => Promise<number>,
): { background: Background; parts: ThreadParts } {
  const { config, topology, shared, pinSlot, node } = task
  const metadata = new MetadataClient(task.metadata)
  const throttle = new Throttle(systemClock, config.backgroundBandwidth)
  const parts = new ThreadParts({
    thread: 'background',
    pinSlot,
    node,
    topology,
    shared,
    metadata,
    memoryBytes: MEMORY,
    driveDeadlineMs: config.driveDeadline,
    segments: { threshold: config.drivePackBelow, sealBytes: config.driveSegmentSize },
    sets: { permit: (bytes) => throttle.take(bytes) },
  })
  const environment = {
    metadata,
    node,
    board: parts.board,
    pins: parts.pins,
    clock: systemClock,
    wallMs: Date.now,
    set: (number: number) => parts.set(number),
    drive: (number: number) => parts.drive(number),
    localDrives: () => parts.readableDrives(),
    report: (what: string, error: unknown) => {
      log.warn({ err: error }, what)
    },
  }
  const cursor = new CursorFile(() => parts.readableDrives().map((drive) => drive.io))
  const background = new Background(environment, throttle, {
    collector: { graceMs: config.collectGrace },
    compaction: { threshold: config.compactionThreshold / 100, sealBytes: config.driveSegmentSize },
    scrubber: {
      cursor,
      compareMetadata,
      ...(config.scrubInterval === 0 ? {} : { intervalMs: config.scrubInterval }),
    },
  })
  if (config.scrubInterval === 0) background.pause('scrubber')
  return { background, parts }
}

/** Counters of the jobs, by job and name. */
function addBackgroundMetrics(registry: Registry, background: Background): void {
  new Gauge({
    name: 'ostraka_background_total',
    help: 'What background jobs have done since the process started, by job and counter',
    labelNames: ['job', 'counter'],
    registers: [registry],
    collect() {
      for (const job of background.jobs) {
        const { counters } = job.progress()
        for (const [counter, n] of Object.entries(counters)) this.set({ job: job.name, counter }, n)
      }
    },
  })
}
