/**
 * Threads that each run one endless task, over piscina: a task that ends with an error is run again on a new thread
 * after a pause that grows with each crash (100 ms to 5 s), and a pool whose tasks keep crashing gives up.
 *
 * A slot (0..threads-1) is the place of a task; its generation counts the runs. Each run has a channel of its own.
 * `atomics: 'disabled'` is essential: otherwise piscina blocks the thread's event loop between messages.
 */
import { MessageChannel } from 'node:worker_threads'
import type { MessagePort, TransferListItem } from 'node:worker_threads'

import { Piscina } from 'piscina'

import type { Logger } from '../log.js'
import { Channel } from './channel.js'
import type { Calls, Handlers } from './channel.js'

/** What a slot's run is started with; `control` is added by the pool. */
export interface StartedTask {
  task: object
  transfer: readonly TransferListItem[]
}

export interface WorkerPoolOptions<Offers extends Calls> {
  /** Compiled module with the task as its default export. */
  filename: string
  name: string
  threads: number
  /** Prepares a run: opens what it needs of the control thread. */
  prepare(slot: number, generation: number): StartedTask | Promise<StartedTask>
  /** Calls the threads may make of the control thread. */
  handlers(slot: number): Handlers<Offers>
  /** A run has ended without being asked to: give back what it held. */
  crashed(slot: number, generation: number): void
  /** Crashes came too often; the pool has stopped trying. */
  givenUp: (error: Error) => void
  log: Logger
}

const PAUSE_MIN_MS = 100
const PAUSE_MAX_MS = 5_000
/** Crashes of one slot within WINDOW_MS that are taken for a lasting fault. */
const MAX_CRASHES = 10
const WINDOW_MS = 300_000

interface Slot<Makes extends Calls, Offers extends Calls> {
  generation: number
  channel: Channel<Makes, Offers> | undefined
  crashes: number[]
  ended: Promise<void>
}

export class WorkerPool<Makes extends Calls, Offers extends Calls> {
  readonly #options: WorkerPoolOptions<Offers>
  readonly #pool: Piscina
  readonly #slots: Slot<Makes, Offers>[]
  #stopping = false

  constructor(options: WorkerPoolOptions<Offers>) {
    this.#options = options
    this.#pool = new Piscina({
      filename: options.filename,
      minThreads: options.threads,
      maxThreads: options.threads,
      maxQueue: options.threads,
      concurrentTasksPerWorker: 1,
      idleTimeout: Infinity,
      atomics: 'disabled',
      recordTiming: false,
    })
    this.#pool.on('error', (error: Error) => {
      options.log.error({ err: error, pool: options.name }, 'a thread failed outside its task')
    })
    this.#slots = Array.from({ length: options.threads }, () => ({
      generation: -1,
      channel: undefined,
      crashes: [],
      ended: Promise.resolve(),
    }))
  }

  start(): void {
    this.#slots.forEach((slot, index) => {
      slot.ended = this.#runSlot(slot, index)
    })
  }

  get threads(): number {
    return this.#slots.length
  }

  /** Channels of the runs that live, by slot. */
  channels(): (Channel<Makes, Offers> | undefined)[] {
    return this.#slots.map((slot) => slot.channel)
  }

  /** No run is started again from now on. The caller then asks the tasks to end. */
  stopRestarts(): void {
    this.#stopping = true
  }

  /** Resolves when every task has ended. */
  async ended(): Promise<void> {
    await Promise.all(this.#slots.map((slot) => slot.ended))
  }

  /** Ends the threads, whatever they do. */
  async destroy(): Promise<void> {
    this.#stopping = true
    await this.#pool.destroy()
  }

  async #runSlot(slot: Slot<Makes, Offers>, index: number): Promise<void> {
    while (!this.#stopping) {
      slot.generation += 1
      const error = await this.#runOnce(slot, index)
      slot.channel?.close()
      slot.channel = undefined
      if (this.#stopping) return
      this.#options.crashed(index, slot.generation)
      const pause = this.#noteCrash(slot)
      const fault = error ?? new Error('the task ended without being asked to')
      this.#options.log.error(
        { err: fault, pool: this.#options.name, slot: index, pauseMs: pause },
        'a worker crashed',
      )
      if (pause === undefined) {
        this.#options.givenUp(fault)
        return
      }
      await new Promise((resolve) => {
        setTimeout(resolve, pause)
      })
    }
  }

  async #runOnce(slot: Slot<Makes, Offers>, index: number): Promise<Error | undefined> {
    try {
      const prepared = await this.#options.prepare(index, slot.generation)
      const { port1, port2 } = new MessageChannel()
      slot.channel = new Channel<Makes, Offers>(port1, this.#options.handlers(index))
      const task = {
        ...prepared.task,
        slot: index,
        generation: slot.generation,
        control: port2,
      } satisfies PoolTask
      await this.#pool.run(task, { transferList: [...prepared.transfer, port2] as never })
      return undefined
    } catch (error) {
      return error instanceof Error ? error : new Error(String(error))
    }
  }

  /** The pause before the next run; undefined when there should be none. */
  #noteCrash(slot: Slot<Makes, Offers>): number | undefined {
    const now = performance.now()
    slot.crashes = [...slot.crashes.filter((at) => now - at < WINDOW_MS), now]
    if (slot.crashes.length > MAX_CRASHES) return undefined
    return Math.min(PAUSE_MAX_MS, PAUSE_MIN_MS * 2 ** (slot.crashes.length - 1))
  }
}

/** What the pool adds to every task. */
export interface PoolTask {
  slot: number
  generation: number
  control: MessagePort
}
