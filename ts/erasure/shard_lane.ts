/**
 * One shard on its way to one drive. Cells queue up while an append is in flight and go out together with the next
 * one, so that there is at most one append per drive and part at a time, in block order.
 *
 * Model: a lane is open until it is committed or out. It goes out at the first failure, or when a call to the drive
 * takes longer than the write deadline; then it takes no more cells, what it had queued is released, and its temporary
 * file is removed in the background, after the late call has settled. A shard that already has its name is deleted
 * only when the write as a whole has failed (`discard`): once the part may have an owner, a heal may have put that very
 * shard there, and a delete that the drive carries out late would take it away again.
 *
 * Invariant: a cell's slab is released exactly once, as clean only when no drive can still be reading it.
 */
import type { Drive, ShardHeader, ShardWriter } from '../drive/drive.js'
import { ShardError } from '../drive/drive.js'
import type { Clock } from './clock.js'
import { within } from './clock.js'
import type { Slab } from './slab.js'

export interface LaneContext {
  clock: Clock
  writeDeadlineMs: number
  /** Keeps track of cleaning that goes on after the write has ended. */
  background: (work: Promise<unknown>) => void
}

interface QueuedCell {
  cell: Uint8Array
  slab: Slab
}

export class ShardLane {
  readonly drive: Drive
  readonly header: ShardHeader
  readonly #context: LaneContext
  readonly #onOut: () => void
  /** Why the lane is out. */
  #failure: Error | undefined
  #writer: ShardWriter | undefined
  #queue: QueuedCell[] = []
  #pumping = false
  #drained: (() => void) | undefined
  /** The drive's own view of the call in flight: settles when the drive is really done with its buffers. */
  #call: Promise<unknown> | undefined
  /** A put is a call without a promise: whether it is in flight, and what waits for its end. */
  #putting = false
  #afterPut: (() => void) | undefined
  /** The slab of a put and its caller, until the caller was told that it has ended. */
  #putSlab: Slab | undefined
  #ended: (() => void) | undefined
  #aborted: Promise<void> | undefined
  #discarded: Promise<void> | undefined
  /** The shard may have its name on the drive. */
  #named = false

  /** `onOut` is called when the lane goes out, at most once. */
  constructor(drive: Drive, header: ShardHeader, context: LaneContext, onOut: () => void) {
    this.drive = drive
    this.header = header
    this.#context = context
    this.#onOut = onOut
  }

  get failure(): Error | undefined {
    return this.#failure
  }

  /** Starts a streamed shard; failures put the lane out. */
  open(): void {
    void this.#attempt(
      () => this.drive.createShard(this.header),
      (writer) => {
        this.#writer = writer
        void this.#pump()
      },
    )
  }

  /**
   * A whole shard of one block (or none, when `cell` is undefined) in one submission. `ended` is called once, when it
   * is durable or the lane is out; perhaps before this returns. Whoever calls this watches the time, and says `late`.
   */
  put(cell: Uint8Array | undefined, slab: Slab | undefined, ended: () => void): void {
    if (this.#failure !== undefined) {
      ended()
      return
    }
    this.#named = true
    slab?.retain()
    this.#putSlab = slab
    this.#ended = ended
    this.#putting = true
    const settled = (error?: unknown): void => { this.#putSettled(error) }
    const cells = cell === undefined ? [] : [cell]
    try {
      if (this.drive.putPacked?.(this.header, cells, settled) === true) return
      this.drive.putShard(this.header, cells).then(() => { settled() }, settled)
    } catch (error) {
      settled(error)
    }
  }

  /** The write deadline has passed: a put that has not ended puts the lane out. */
  late(): void {
    if (this.#ended === undefined) return
    this.#fail(this.#timeout())
    this.#endPut(false)
  }

  #putSettled(error: unknown): void {
    this.#putting = false
    this.#afterPut?.()
    if (error !== undefined) this.#fail(asError(error))
    this.#endPut(error === undefined)
  }

  /** Ends the put for its caller; its buffers are clean when no drive can be reading them. */
  #endPut(clean: boolean): void {
    const ended = this.#ended
    if (ended === undefined) return
    this.#ended = undefined
    this.#putSlab?.done(clean)
    this.#putSlab = undefined
    ended()
  }

  /** Queues the next cell; the slab is retained until the drive is done with it. */
  push(cell: Uint8Array, slab: Slab): void {
    if (this.#failure !== undefined) return
    slab.retain()
    this.#queue.push({ cell, slab })
    void this.#pump()
  }

  /** Resolves when what was pushed is durable, or the lane is out. Never rejects. */
  async commit(): Promise<void> {
    while (this.#failure === undefined && (this.#writer === undefined || this.#pumping || this.#queue.length > 0)) {
      await new Promise<void>((resolve) => {
        this.#drained = resolve
      })
    }
    const writer = this.#writer
    if (this.#failure !== undefined || writer === undefined) return
    this.#named = true
    await this.#attempt(() => writer.commit())
  }

  /** Takes no more cells and removes what is on the drive, once its last call has settled. Never rejects. */
  discard(reason: Error): Promise<void> {
    this.#goOut(reason)
    this.#discarded ??= this.#clean()
    return this.#discarded
  }

  async #pump(): Promise<void> {
    if (this.#pumping || this.#writer === undefined) return
    this.#pumping = true
    while (this.#failure === undefined && this.#queue.length > 0) {
      const batch = this.#queue
      this.#queue = []
      const writer = this.#writer
      const done = await this.#attempt(() => writer.append(batch.map((queued) => queued.cell)))
      for (const queued of batch) queued.slab.done(done)
    }
    this.#pumping = false
    this.#wake()
  }

  /** Makes one call to the drive under the write deadline; true when it succeeded in time and the lane is not out. */
  async #attempt<T>(call: () => Promise<T>, use: (value: T) => void = () => undefined): Promise<boolean> {
    if (this.#failure !== undefined) return false
    const { clock, writeDeadlineMs } = this.#context
    try {
      const running = call()
      this.#call = running.then(use, () => undefined)
      await within(clock, writeDeadlineMs, running, () => this.#timeout())
      await this.#call
      return true
    } catch (error) {
      this.#fail(asError(error))
      return false
    }
  }

  #timeout(): ShardError {
    const { writeDeadlineMs } = this.#context
    return new ShardError('timeout', this.drive.number, `no answer within ${String(writeDeadlineMs)} ms`)
  }

  #fail(error: Error): void {
    if (!this.#goOut(error)) return
    this.#context.background(this.#abort())
    this.#onOut()
  }

  #goOut(error: Error): boolean {
    if (this.#failure !== undefined) return false
    this.#failure = error
    const queue = this.#queue
    this.#queue = []
    for (const queued of queue) queued.slab.done(true)
    this.#wake()
    return true
  }

  #wake(): void {
    const drained = this.#drained
    this.#drained = undefined
    drained?.()
  }

  #abort(): Promise<void> {
    this.#aborted ??= this.#quiet().then(() => this.#writer?.abort())
    return this.#aborted
  }

  /** Resolves when the drive is done with the call in flight. */
  async #quiet(): Promise<void> {
    if (this.#putting) await new Promise<void>((resolve) => { this.#afterPut = resolve })
    await this.#call
  }

  async #clean(): Promise<void> {
    await this.#abort()
    if (!this.#named) return
    try {
      await this.drive.deleteShard(this.header.dataId)
    } catch {
      // The drive is out. What it holds is unreferenced, and is found when the drive's shards are next compared
      // with the metadata.
    }
  }
}

function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown))
}
