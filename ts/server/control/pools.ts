/**
 * The data workers and the background thread, as the control thread holds them: what each run is given, what is told
 * to all of them, and how they are stopped.
 *
 * Slots of the pin board: data workers first, then the background thread.
 */
import { fileURLToPath } from 'node:url'
import type { MessagePort } from 'node:worker_threads'

import { PinBoard } from '../../store/pins.js'
import type { BackgroundProgress } from '../../store/background/progress.js'
import type { Config } from '../config/settings.js'
import { workerCount } from '../config/settings.js'
import type { SharedAddress } from '../listen.js'
import type { Logger } from '../log.js'
import type { MetricsAggregate, SnapshotSource } from '../metrics/aggregate.js'
import type { BackgroundWorkerTask } from '../threads/background_worker.js'
import type { BackgroundWorkerCalls, ControlCalls, DataWorkerCalls } from '../threads/calls.js'
import type { DataWorkerTask } from '../threads/data_worker.js'
import type { MetadataThread } from '../threads/metadata_thread.js'
import type { Topology } from '../threads/topology.js'
import { WorkerPool } from '../threads/worker_pool.js'

export interface PoolsOptions {
  config: Config
  credentials: { accessKey: string; secretKey: string; ownerId: string }
  address: SharedAddress
  driveTable: SharedArrayBuffer
  metadata: MetadataThread
  /** This node; undefined in a store of one node. */
  node: number | undefined
  metrics: MetricsAggregate
  topology: () => Topology
  /** Workers crash again and again. */
  givenUp: (error: Error) => void
  log: Logger
}

const SNAPSHOT_MS = 1000

export class Pools {
  readonly board: PinBoard
  readonly #options: PoolsOptions
  readonly #data: WorkerPool<DataWorkerCalls, ControlCalls>
  readonly #background: WorkerPool<BackgroundWorkerCalls, ControlCalls>
  readonly #acceptors: number
  readonly #ready = new Set<string>()
  #whenReady: (() => void)[] = []
  restarts = 0

  constructor(options: PoolsOptions) {
    const workers = workerCount(options.config)
    this.#options = options
    this.#acceptors = options.address.acceptors(workers)
    this.board = PinBoard.create(workers + 1)
    this.#data = new WorkerPool<DataWorkerCalls, ControlCalls>({
      filename: fileURLToPath(new URL('../threads/data_worker.js', import.meta.url)),
      name: 'data',
      threads: workers,
      log: options.log,
      prepare: (slot) => this.#prepareData(slot),
      handlers: (slot) => this.#handlers(`worker ${String(slot)}`),
      crashed: (slot) => {
        this.#crashed(slot, `worker ${String(slot)}`)
      },
      givenUp: options.givenUp,
    })
    this.#background = new WorkerPool<BackgroundWorkerCalls, ControlCalls>({
      filename: fileURLToPath(new URL('../threads/background_worker.js', import.meta.url)),
      name: 'background',
      threads: 1,
      log: options.log,
      prepare: () => this.#prepareBackground(),
      handlers: () => this.#handlers('background'),
      crashed: () => {
        this.#crashed(workers, 'background')
      },
      givenUp: options.givenUp,
    })
  }

  get workers(): number {
    return this.#data.threads
  }

  get readyWorkers(): number {
    return [...this.#ready].filter((thread) => thread !== 'background').length
  }

  /** Resolves when every thread works. */
  async start(): Promise<void> {
    const all = new Promise<void>((resolve) => {
      this.#whenReady.push(resolve)
    })
    this.#data.start()
    this.#background.start()
    await all
  }

  tellTopology(topology: Topology): void {
    for (const channel of this.#data.channels()) channel?.tell('topology', topology)
    this.#background.channels()[0]?.tell('topology', topology)
  }

  tellBackground<K extends 'scrub' | 'driveReturned' | 'healQueued' | 'orphanSearch'>(
    call: K,
    argument: BackgroundWorkerCalls[K]['takes'],
  ): void {
    this.#background.channels()[0]?.tell(call, argument)
  }

  /** Undefined while the background thread is being started again. */
  async progress(): Promise<BackgroundProgress | undefined> {
    return this.#background.channels()[0]?.call('progress', undefined, 5000)
  }

  snapshotSources(): Map<string, SnapshotSource> {
    const sources = new Map<string, SnapshotSource>()
    this.#data.channels().forEach((channel, slot) => {
      if (channel !== undefined)
        sources.set(`worker ${String(slot)}`, () => channel.call('metrics', undefined, SNAPSHOT_MS))
    })
    const background = this.#background.channels()[0]
    if (background !== undefined)
      sources.set('background', () => background.call('metrics', undefined, SNAPSHOT_MS))
    return sources
  }

  /** Drains the data workers, then ends the background thread. */
  async stop(withinMs: number): Promise<void> {
    this.#data.stopRestarts()
    this.#background.stopRestarts()
    for (const channel of this.#background.channels()) channel?.tell('stop', { withinMs: 2000 })
    for (const channel of this.#data.channels()) channel?.tell('stop', { withinMs })
    const ended = Promise.all([this.#data.ended(), this.#background.ended()])
    const late = new Promise<void>((resolve) => {
      setTimeout(resolve, withinMs + 3000)
    })
    await Promise.race([ended, late])
  }

  /** Ends the threads themselves. */
  async destroy(): Promise<void> {
    await Promise.all([this.#data.destroy(), this.#background.destroy()])
  }

  async #prepareData(slot: number): Promise<{ task: object; transfer: readonly MessagePort[] }> {
    const { config, credentials, address, driveTable, metadata, topology, node } = this.#options
    const connection = await metadata.connect()
    const task: DataWorkerTask = {
      config,
      credentials,
      topology: topology(),
      shared: { pinBoard: this.board.memory, driveTable },
      pinSlot: slot,
      node,
      metadata: connection,
      listen: slot < this.#acceptors ? address.open() : undefined,
    }
    return { task, transfer: [connection.port] }
  }

  async #prepareBackground(): Promise<{ task: object; transfer: readonly MessagePort[] }> {
    const { config, driveTable, metadata, topology, node } = this.#options
    const connection = await metadata.connect()
    const task: BackgroundWorkerTask = {
      config,
      topology: topology(),
      shared: { pinBoard: this.board.memory, driveTable },
      pinSlot: this.#data.threads,
      node,
      metadata: connection,
    }
    return { task, transfer: [connection.port] }
  }

  #handlers(thread: string): {
    ready: () => undefined
    healQueued: () => undefined
    compareMetadata: () => Promise<number>
  } {
    return {
      ready: () => {
        this.#ready.add(thread)
        if (this.#ready.size === this.workers + 1) for (const done of this.#whenReady.splice(0)) done()
        return undefined
      },
      healQueued: () => {
        this.tellBackground('healQueued', undefined)
        return undefined
      },
      compareMetadata: async () => (await this.#options.metadata.compare()).bad.length,
    }
  }

  /** Pins and epoch of the run are given back: its epoch is left to the fence. */
  #crashed(pinSlot: number, thread: string): void {
    this.restarts += 1
    this.#ready.delete(thread)
    this.board.clear(pinSlot)
    void this.#options.metrics.retire(thread)
  }
}
