/**
 * Commands on their way into the log, packed into batches: one batch is one entry.
 *
 * - With an idle log a command goes at once. While the log writes, commands gather: until it has written, until there
 *   are 100 of them (or about 1 MiB), or for 10 ms. They do the same while a client has announced a group of commands
 *   (store/commit_gate.ts), so that the groups of several threads share an entry. One that is announced and has not
 *   come in time is waited for no more.
 * - A batch is proposed on this node and goes to the leader wherever that is. It may get lost on the way, so it is
 *   proposed again, as the same batch, after a while and when the leader changes. `apply` takes the first
 *   (apply/sessions.ts), and the results are those of this node's own `apply`.
 * - A batch that was proposed and not seen in time is given up: its outcome is unknown, until a later batch of this
 *   node says that it was given up (`floor`); after that it can take no effect any more.
 *
 * Invariants: what waits is bounded by count and bytes; batches under way by MAX_BATCHES, and their numbers lie within
 * half of what `apply` remembers.
 */
import { Announced } from '../../announced.js'
import { encodeBatch } from '../../apply/apply.js'
import { MAX_SEEN } from '../../apply/sessions.js'
import type { Origin } from '../../apply/sessions.js'
import type { CommandResult } from '../../command.js'
import { MetadataError } from '../../engine.js'
import type { StepResult } from '../core/types.js'
import type { Clock } from '../host/environment.js'

export const BATCH_COUNT = 100
const BATCH_BYTES = 1 << 20
const MAX_BATCHES = 256
const GATHER_MS = 10

export interface ProposerOptions {
  readonly node: number
  readonly boot: number
  readonly clock: Clock
  /** Wall clock: stamps batches. */
  readonly stamp: () => number
  readonly maxQueued: number
  readonly maxQueuedBytes: number
  /** A batch that was proposed is proposed again after this time ... */
  readonly retryMs: number
  /** ... and given up after this. */
  readonly giveUpMs: number
  readonly propose: (data: Uint8Array) => StepResult | 'stopped' | 'overloaded'
  readonly idle: () => boolean
}

interface Waiting {
  readonly request: Uint8Array
  readonly since: number
  readonly resolve: (result: CommandResult) => void
  readonly reject: (error: MetadataError) => void
}

interface Batch {
  readonly sequence: number
  readonly data: Uint8Array
  readonly waiting: readonly Waiting[]
  readonly deadline: number
  /** Whether it ever left. */
  sent: boolean
  dueAt: number
}

export class Proposer {
  readonly #options: ProposerOptions
  #queue: Waiting[] = []
  #queuedBytes = 0
  readonly #batches = new Map<number, Batch>()
  readonly #announced = new Announced()
  #next = 1
  #cancelGather: (() => void) | undefined
  #pumping = false
  #failure: MetadataError | undefined

  constructor(options: ProposerOptions) {
    this.#options = options
  }

  get queued(): number {
    return this.#queue.length
  }

  get underWay(): number {
    return this.#batches.size
  }

  /** When the oldest of the commands came that have no result yet. */
  get waitingSince(): number | undefined {
    const [first] = this.#batches.values()
    return (first?.waiting[0] ?? this.#queue[0])?.since
  }

  propose(request: Uint8Array): Promise<CommandResult> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    const { maxQueued, maxQueuedBytes, clock } = this.#options
    if (this.#queue.length >= maxQueued || this.#queuedBytes + request.length > maxQueuedBytes) {
      return Promise.reject(new MetadataError('overloaded', `${String(this.#queue.length)} commands are waiting`))
    }
    return new Promise((resolve, reject) => {
      this.#queue.push({ request, since: clock.now(), resolve, reject })
      this.#queuedBytes += request.length
      this.pumpSoon()
    })
  }

  /** A client has announced commands, or has none announced any more. */
  expect(client: object, announced: boolean): void {
    const { awaited } = this.#announced
    this.#announced.say(client, announced, this.#queue.length > 0)
    if (awaited && !this.#announced.awaited) this.pumpSoon()
  }

  /** In a microtask, so that the commands of this turn go together. */
  pumpSoon(): void {
    if (this.#pumping) return
    this.#pumping = true
    queueMicrotask(() => {
      this.#pumping = false
      this.#pump()
    })
  }

  /** A batch was applied here; undefined results say that it was a repetition. */
  applied({ node, boot, sequence }: Origin, results: CommandResult[] | undefined): void {
    if (node !== this.#options.node || boot !== this.#options.boot) return
    const batch = this.#batches.get(sequence)
    if (batch === undefined) return
    this.#batches.delete(sequence)
    for (const [at, { resolve, reject }] of batch.waiting.entries()) {
      const result = results?.[at]
      if (result !== undefined) resolve(result)
      else reject(new MetadataError('unknown', 'the command took effect, and its result came with a snapshot'))
    }
    this.pumpSoon()
  }

  /** The leader has changed: what is under way may be lost. */
  leaderChanged(): void {
    const now = this.#options.clock.now()
    for (const batch of this.#batches.values()) batch.dueAt = now
    this.tick()
  }

  /** To be called every few dozen milliseconds. */
  tick(): void {
    const now = this.#options.clock.now()
    for (const [sequence, batch] of this.#batches) {
      if (now >= batch.deadline) {
        this.#batches.delete(sequence)
        this.#giveUp(batch)
      } else if (now >= batch.dueAt) {
        this.#send(batch)
      }
    }
    const late = now - this.#options.giveUpMs
    while (this.#queue[0] !== undefined && this.#queue[0].since < late) {
      const waiting = this.#queue.shift() as Waiting
      this.#queuedBytes -= waiting.request.length
      waiting.reject(new MetadataError('unavailable', 'there is no leader, or the log takes nothing'))
    }
    this.pumpSoon()
  }

  /** Nothing is proposed any more. */
  fail(error: MetadataError): void {
    if (this.#failure !== undefined) return
    this.#failure = error
    this.#cancelGather?.()
    for (const { reject } of this.#queue.splice(0)) reject(error)
    for (const batch of this.#batches.values()) this.#giveUp(batch)
    this.#batches.clear()
  }

  #giveUp({ sent, waiting }: Batch): void {
    const error = sent
      ? new MetadataError('unknown', 'the command was proposed, and what became of it is not known')
      : (this.#failure ?? new MetadataError('unavailable', 'there is no leader'))
    for (const { reject } of waiting) reject(error)
  }

  #floor(): number {
    let floor = this.#next
    for (const sequence of this.#batches.keys()) floor = Math.min(floor, sequence)
    return floor
  }

  #pump(): void {
    while (this.#failure === undefined && this.#mayGo()) {
      const batch = this.#take()
      this.#batches.set(batch.sequence, batch)
      this.#send(batch)
    }
  }

  /** Whether the next batch is to be made now. */
  #mayGo(): boolean {
    const oldest = this.#queue[0]
    if (oldest === undefined || this.#batches.size >= MAX_BATCHES) return false
    if (this.#next - this.#floor() >= MAX_SEEN / 2) return false
    if (this.#queue.length >= BATCH_COUNT || this.#queuedBytes >= BATCH_BYTES) return true
    if (!this.#announced.awaited && this.#options.idle()) return true
    const left = oldest.since + GATHER_MS - this.#options.clock.now()
    if (left <= 0) {
      this.#announced.giveUp()
      return true
    }
    this.#cancelGather ??= this.#options.clock.after(left, () => {
      this.#cancelGather = undefined
      this.#pump()
    })
    return false
  }

  #take(): Batch {
    let count = 0
    let bytes = 0
    while (count < this.#queue.length && count < BATCH_COUNT && (count === 0 || bytes < BATCH_BYTES)) {
      bytes += (this.#queue[count++] as Waiting).request.length
    }
    const waiting = this.#queue.splice(0, count)
    this.#queuedBytes -= bytes
    this.#announced.taken()
    const { node, boot, stamp, clock, giveUpMs } = this.#options
    const origin: Origin = { node, boot, sequence: this.#next, floor: this.#floor() }
    const data = encodeBatch(stamp(), waiting.map(({ request }) => request), origin)
    const since = (waiting[0] as Waiting).since
    const now = clock.now()
    return { sequence: this.#next++, data, waiting, deadline: since + giveUpMs, sent: false, dueAt: now }
  }

  #send(batch: Batch): void {
    const { clock, retryMs, propose } = this.#options
    const outcome = propose(batch.data)
    if (outcome === 'ok') {
      batch.sent = true
      batch.dueAt = clock.now() + retryMs
    } else {
      // Nothing left: the next tick tries again.
      batch.dueAt = clock.now()
    }
  }
}
