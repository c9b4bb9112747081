/**
 * The endless task of a data worker: accepts connections on its own socket and runs the whole data path, from HTTP to
 * the submission of drive I/O. See design of the threads in ARCHITECTURE.md.
 *
 * `stop` drains: no new connections, idle ones closed, requests in progress ended, but not waited for beyond the time
 * given.
 */
import type { Server } from 'node:http'

import { MetadataClient } from '../../meta/client.js'
import type { ClientConnection } from '../../meta/engine_port.js'
import { MetadataError } from '../../meta/engine.js'
import { unavailable } from '../../store/context.js'
import { DamageQueue } from '../../store/damage_queue.js'
import { S3Error } from '../../store/errors.js'
import { Store } from '../../store/store.js'
import { fixedCredentials } from '../auth/credentials.js'
import type { Config } from '../config/settings.js'
import type { WorkerListen } from '../listen.js'
import { createLogger } from '../log.js'
import type { Logger } from '../log.js'
import { WorkerMetrics } from '../metrics/worker_metrics.js'
import { DEFAULT_S3_LIMITS, createS3Handler, createS3Server } from '../s3/handler.js'
import type { S3Limits, S3Logger } from '../s3/handler.js'
import type { ControlCalls, DataWorkerCalls } from './calls.js'
import { Channel } from './channel.js'
import { parseConsistency } from '../s3/consistency.js'
import type { S3Options } from '../s3/options.js'
import { ThreadParts } from './thread_parts.js'
import type { SharedState } from './thread_parts.js'
import type { Topology } from './topology.js'
import type { PoolTask } from './worker_pool.js'

export interface DataWorkerTask {
  config: Config
  credentials: { accessKey: string; secretKey: string; ownerId: string }
  topology: Topology
  shared: SharedState
  pinSlot: number
  /** This node; undefined in a store of one node. */
  node: number | undefined
  metadata: ClientConnection
  listen: WorkerListen | undefined
}

/** For sealing segments at a clean end; what is not sealed is read at the next start. */
const SEAL_MS = 2000

export default async function run(task: DataWorkerTask & PoolTask): Promise<void> {
  const thread = `worker ${String(task.slot)}`
  const log = createLogger(task.config.logLevel, thread)
  const worker = new DataWorker(task, thread, log)
  let stop: (withinMs: number) => void = () => undefined
  const stopped = new Promise<number>((resolve) => {
    stop = resolve
  })
  const channel = new Channel<ControlCalls, DataWorkerCalls>(task.control, {
    metrics: () => worker.metrics.snapshot(),
    topology: (topology) => {
      worker.parts.update(topology)
      return undefined
    },
    stop: ({ withinMs }) => {
      stop(withinMs)
      return undefined
    },
  })
  worker.onDamage = () => {
    channel.tell('healQueued', undefined)
  }
  await worker.listen(task.listen)
  channel.tell('ready', undefined)
  await worker.drain(await stopped)
  await worker.parts.seal(SEAL_MS)
  // LMDB's files must be closed by every thread before they may be opened anew.
  await worker.parts.metadata.close()
  channel.close()
}

class DataWorker {
  readonly metrics: WorkerMetrics
  readonly parts: ThreadParts
  onDamage: () => void = () => undefined
  readonly #server: Server
  readonly #log: Logger
  readonly #damage: DamageQueue

  constructor(task: DataWorkerTask, thread: string, log: Logger) {
    const { config, topology, shared, pinSlot, node } = task
    const metadata = new MetadataClient(task.metadata)
    this.#log = log
    this.metrics = new WorkerMetrics(thread)
    this.#damage = new DamageQueue(metadata, {
      onError: (error) => {
        log.warn({ err: error }, 'damage could not be queued for healing')
      },
    })
    this.parts = new ThreadParts({
      thread,
      pinSlot,
      node,
      topology,
      shared,
      metadata,
      memoryBytes: config.limitsMemory,
      driveDeadlineMs: config.driveDeadline,
      segments: { threshold: config.drivePackBelow, sealBytes: config.driveSegmentSize },
      sets: {
        onDamage: (damage) => {
          this.#damage.report(damage)
          this.onDamage()
        },
      },
    })
    const { parts } = this
    const store = new Store({
      metadata,
      placement: parts.placement,
      pins: parts.pins,
      dataIds: parts.dataIds,
      node,
      set: (number) => parts.set(number),
      onError: (what, error) => {
        log.warn({ err: error }, what)
      },
    })
    const limits = s3Limits(config)
    const handler = createS3Handler({
      store,
      limits,
      region: config.region,
      domains: config.domains.map((domain) => domain.toLowerCase()),
      credentials: fixedCredentials([task.credentials]),
      log: requestLogger(log, config.logRequests),
      metrics: this.metrics,
      ...(config.metadataEngine === 'replicated' && { settled: settledBy(metadata, config) }),
      nowMs: Date.now,
      ownerId: task.credentials.ownerId,
      ownerDisplayName: 'root',
      hostId: topology.clusterId,
    })
    this.#server = createS3Server(limits, handler, {
      headersTimeout: config.limitsHeaderTimeout,
      keepAliveTimeout: config.limitsKeepAliveTimeout,
    })
  }

  async listen(where: WorkerListen | undefined): Promise<void> {
    if (where === undefined) return
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen({ ...where, backlog: 1024 }, () => {
        this.#server.off('error', reject)
        this.#server.on('error', (error) => {
          this.#log.error({ err: error }, 'the listening socket failed')
        })
        resolve()
      })
    })
  }

  async drain(withinMs: number): Promise<void> {
    const closed = new Promise<void>((resolve) => {
      this.#server.close(() => {
        resolve()
      })
    })
    this.#server.closeIdleConnections()
    // A connection that was busy when the drain began is idle after its answer, and would otherwise be kept.
    const idle = setInterval(() => {
      this.#server.closeIdleConnections()
    }, 50)
    const late = new Promise<void>((resolve) => {
      setTimeout(resolve, withinMs).unref()
    })
    await Promise.race([closed, late])
    clearInterval(idle)
    if (this.metrics.inFlight > 0)
      this.#log.warn({ requests: this.metrics.inFlight }, 'requests were cut off at the end of the drain')
    this.#server.closeAllConnections()
    await Promise.race([
      this.#damage.settled(),
      new Promise((resolve) => {
        setTimeout(resolve, 500)
      }),
    ])
  }
}

/** What a client asked for and this version does not have: no failure of the server. */
const NOT_IMPLEMENTED = 501

function s3Limits(config: Config): S3Limits {
  return {
    ...DEFAULT_S3_LIMITS,
    maxRequests: config.limitsConcurrentRequests,
    bodyFirstByteMs: config.limitsBodyFirstByteTimeout,
    idleMs: config.limitsBodyIdleTimeout,
  }
}

/** A read of the level that the request or the configuration asks for; nothing is waited for where none is needed. */
function settledBy(metadata: MetadataClient, config: Config): NonNullable<S3Options['settled']> {
  return (header) => {
    const level = parseConsistency(header, config)
    if (level === 'eventual') return undefined
    return metadata.settled(level).catch((error: unknown) => {
      if (!(error instanceof MetadataError)) throw error
      if (error.code === 'overloaded') throw new S3Error('SlowDown', '', {}, {}, { cause: error })
      throw unavailable('The metadata cannot be read as new as was asked for: no leader answers at present.', error)
    })
  }
}

/** Requests are told at info; most operators want only those that the server failed. */
function requestLogger(log: Logger, all: boolean): S3Logger {
  return {
    debug: (fields, message) => {
      log.debug(fields, message)
    },
    warn: (fields, message) => {
      log.warn(fields, message)
    },
    error: (fields, message) => {
      log.error(fields, message)
    },
    skips: (status) => !all && (status < 500 || status === NOT_IMPLEMENTED) && !log.isLevelEnabled('debug'),
    info: (fields, message) => {
      const status = 'status' in fields && typeof fields.status === 'number' ? fields.status : 0
      const failed = status >= 500 && status !== NOT_IMPLEMENTED
      if (failed) log.warn(fields, message)
      else if (all) log.info(fields, message)
      else log.debug(fields, message)
    },
  }
}
