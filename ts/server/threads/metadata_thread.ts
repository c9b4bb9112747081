/** The control thread's hold on the metadata thread: starts it, connects clients to it, and hears when it fails. */
import { MessageChannel, Worker } from 'node:worker_threads'
import { fileURLToPath } from 'node:url'

import type { ClientConnection } from '../../meta/engine_port.js'
import type { MetadataStatus } from '../../meta/engine.js'
import type { MetricsSnapshot } from '../metrics/worker_metrics.js'
import { Channel } from './channel.js'
import type { MemberAction } from '../rpc/node_calls.js'
import type { ClusterReport } from './replica.js'
import type {
  MetadataDrive,
  MetadataNotices,
  MetadataThreadCalls,
  MetadataWorkerData,
} from './metadata_worker.js'

export class MetadataOpenError extends Error {
  readonly code: string
  constructor(code: string, message: string) {
    super(message)
    this.name = 'MetadataOpenError'
    this.code = code
  }
}

/** What happens to the thread after it has opened. */
export interface MetadataHears {
  /** It ended, though not by `stop`. */
  ended: (error: Error) => void
  /** No copy is left: it answers, but takes no commands until it is started anew. */
  broken: (message: string) => void
}

/**
 * Twice what a thread has by default. Commands and entries live for some milliseconds; with less room many of them are
 * still in use at every collection and have to be moved, which took 8 ms at a time under load, and four times as much
 * time in all.
 */
const YOUNG_MB = 96
const ANSWER_MS = 10_000
/** A thread that says nothing for longer is of no use to anybody. */
const SILENCE_MS = 10_000
const CHANGE_MS = 60_000

/** What the thread last said of itself, and when. */
interface Health {
  troubles: string[]
  heardMs: number
}

export class MetadataThread {
  readonly #channel: Channel<MetadataThreadCalls, MetadataNotices>
  readonly #worker: Worker
  readonly #health: Health

  private constructor(channel: Channel<MetadataThreadCalls, MetadataNotices>, worker: Worker, health: Health) {
    this.#channel = channel
    this.#worker = worker
    this.#health = health
  }

  /** Rejects with MetadataOpenError. */
  static start(data: Omit<MetadataWorkerData, 'control'>, hears: MetadataHears): Promise<MetadataThread> {
    return new Promise((resolve, reject) => {
      const { port1, port2 } = new MessageChannel()
      let lastError: Error | undefined
      let thread: MetadataThread | undefined
      const health: Health = { troubles: [], heardMs: performance.now() }
      const channel = new Channel<MetadataThreadCalls, MetadataNotices>(port1, {
        opened: () => {
          resolve((thread = new MetadataThread(channel, worker, health)))
          return undefined
        },
        health: ({ troubles }) => {
          Object.assign(health, { troubles, heardMs: performance.now() })
          return undefined
        },
        broken: ({ message }) => {
          hears.broken(message)
          return undefined
        },
        failed: ({ code, message }) => {
          reject(new MetadataOpenError(code, message))
          return undefined
        },
      })
      const worker = new Worker(fileURLToPath(new URL('./metadata_worker.js', import.meta.url)), {
        workerData: { ...data, control: port2 } satisfies MetadataWorkerData,
        transferList: [port2],
        resourceLimits: { maxYoungGenerationSizeMb: YOUNG_MB },
      })
      worker.on('error', (error: Error) => {
        lastError = error
      })
      worker.on('exit', () => {
        const error = lastError ?? new Error('the metadata thread ended')
        if (thread === undefined) reject(error)
        else if (!thread.#stopping) hears.ended(error)
      })
    })
  }

  #stopping = false

  /** What another thread needs to become a client; its port must be transferred. */
  async connect(): Promise<ClientConnection> {
    const { port1, port2 } = new MessageChannel()
    const { published } = await this.#channel.call('connect', { port: port1 }, ANSWER_MS, [port1])
    return { port: port2, published }
  }

  /** Why metadata cannot be read and written here now, in words; empty when it can. */
  troubles(): string[] {
    const { troubles, heardMs } = this.#health
    const silentMs = performance.now() - heardMs
    if (silentMs <= SILENCE_MS) return troubles
    return [`the metadata thread has said nothing for ${(silentMs / 1000).toFixed(0)} s`]
  }

  status(): Promise<MetadataStatus> {
    return this.#channel.call('status', undefined, ANSWER_MS)
  }

  metrics(): Promise<MetricsSnapshot> {
    return this.#channel.call('metrics', undefined, 1000)
  }

  addDrive(drive: MetadataDrive): void {
    this.#channel.tell('addDrive', drive)
  }

  removeDrive(number: number, reason: string): void {
    this.#channel.tell('removeDrive', { number, reason })
  }

  /** Of a replicated store; rejects otherwise. */
  cluster(): Promise<ClusterReport> {
    return this.#channel.call('cluster', undefined, ANSWER_MS)
  }

  /** Rejects with a ChannelError that says why; 'timeout' says nothing of the outcome. */
  changeMembers(wish: MemberAction): Promise<number> {
    return this.#channel.call('changeMembers', wish, CHANGE_MS)
  }

  digest(): Promise<{ position: number; records: number; digest: string }> {
    return this.#channel.call('digest', undefined, 0)
  }

  compare(): Promise<{ records: number; bad: { drive: number; reason: string }[] }> {
    return this.#channel.call('compare', undefined, 0)
  }

  /** Closes the copies cleanly; false when that took longer than `withinMs` (the next start then recovers). */
  async stop(withinMs: number): Promise<boolean> {
    this.#stopping = true
    try {
      await this.#channel.call('stop', undefined, withinMs)
      return true
    } catch {
      return false
    }
  }

  /** Ends the thread, whatever it does. */
  async terminate(): Promise<void> {
    this.#stopping = true
    await this.#worker.terminate()
  }
}
