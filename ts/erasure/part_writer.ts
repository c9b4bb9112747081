/**
 * Writes one part: bytes from the body are copied into the data blocks of a slab, a full stripe is sealed (parity
 * and checksums, one native call) and its cells are handed to one lane per drive.
 *
 *   body --copy--> slab --seal--> cells --> lane 0..k+m-1 --> drives --> slab free
 *
 * At most `stripesInFlight` slabs of a part are out at once and all parts of a thread share its slab pool, so a slow
 * drive, a full pool or a crowd of uploads makes the body wait: nothing is queued without bound.
 *
 * Invariants:
 * - Nothing gets its name on a drive before the last byte has been taken and the body has ended well. A body that
 *   throws, is short or is long, an abort, or a lost quorum leaves nothing but what a drive that is out may keep.
 * - A write resolves when every lane is durable or out, and at least `floor` are durable.
 */
import type { DriveNumber, Geometry, ShardHeader } from '../drive/drive.js'
import { blockSizeAt, ShardError } from '../drive/drive.js'
import { sealStripe } from '../native/erasure.js'
import type { PartLocation, PartWrite } from './erasure_set.js'
import { ErasureError } from './erasure_set.js'
import { type LaneContext, ShardLane } from './shard_lane.js'
import type { Slab, SlabPool } from './slab.js'
import { cellOf, fillSlab, padSlab, strideFor } from './slab.js'
import type { WritePlan } from './write_plan.js'

export interface WriteContext extends LaneContext {
  set: number
  slabs: SlabPool
  stripesInFlight: number
  /** How long a failed write waits for its cleaning before it goes on in the background. */
  cleanWaitMs: number
}

/** Throws ErasureError, or what the body threw. */
export function writePart(context: WriteContext, plan: WritePlan, part: PartWrite): Promise<PartLocation> {
  return new PartWriter(context, plan, part).run()
}

/** A stripe being filled. */
interface OpenStripe {
  slab: Slab
  stride: number
  blockSize: number
  length: number
  filled: number
  /** Parity and checksums are there, and so is the padding. */
  sealed: boolean
}

class PartWriter {
  readonly #context: WriteContext
  readonly #plan: WritePlan
  readonly #part: PartWrite
  readonly #geometry: Geometry
  readonly #lanes: ShardLane[]
  #alive: number
  #committing = false
  /** The first reason to give up; once set, every wait of `run` rejects with it. */
  #failure: Error | undefined
  #rejectWait: ((error: Error) => void) | undefined
  #stripe: OpenStripe | undefined
  #stripesDone = 0
  #slabsOut = 0
  #slabFreed: (() => void) | undefined

  constructor(context: WriteContext, plan: WritePlan, part: PartWrite) {
    this.#context = context
    this.#plan = plan
    this.#part = part
    this.#geometry = plan.geometry
    this.#alive = plan.drives.length
    const { dataId, salvage } = part
    const { geometry } = plan
    const onOut = (): void => { this.#laneOut() }
    this.#lanes = plan.drives.map((drive, shard) => {
      const header: ShardHeader = { dataId, shard, geometry, salvage }
      return new ShardLane(drive, header, context, onOut)
    })
  }

  async run(): Promise<PartLocation> {
    const { data, signal } = this.#part
    const stopWatching = signal === undefined ? undefined : this.#watch(signal)
    try {
      this.#check()
      const streamed = this.#part.size > this.#geometry.stripeSize
      if (streamed) for (const lane of this.#lanes) lane.open()
      const taken = data instanceof Uint8Array ? this.#takeWhole(data, streamed) : this.#takeBody(data, streamed)
      if (taken !== undefined) await taken
      this.#committing = true
      await (streamed ? this.#wait(Promise.all(this.#lanes.map((lane) => lane.commit()))) : this.#putWhole())
      this.#check()
    } catch (error) {
      const reason = error instanceof Error ? error : new Error(String(error))
      this.#fail(reason)
      await this.#clean(reason)
      throw reason
    } finally {
      stopWatching?.()
    }
    return this.#location()
  }

  #watch(signal: AbortSignal): () => void {
    const onAbort = (): void => {
      this.#fail(new ErasureError('aborted', 'the writer gave up', { cause: signal.reason }))
    }
    if (signal.aborted) onAbort()
    signal.addEventListener('abort', onAbort, { once: true })
    return () => { signal.removeEventListener('abort', onAbort) }
  }

  /** Copies the body into slabs; when `streamed`, hands every stripe on as soon as it is full. */
  async #takeBody(data: AsyncIterable<Uint8Array>, streamed: boolean): Promise<void> {
    const { size } = this.#part
    const body = data[Symbol.asyncIterator]()
    let received = 0
    let ended = false
    try {
      for (;;) {
        const next = await this.#wait(body.next())
        if (next.done === true) {
          ended = true
          break
        }
        const chunk = next.value
        if (received + chunk.length > size) throw new ErasureError('sizeMismatch', `more than ${String(size)} bytes`)
        await this.#takeChunk(chunk, received, streamed)
        received += chunk.length
      }
    } catch (error) {
      // A body that threw has ended; one that we leave is told so, without waiting for it.
      if (!ended) void Promise.resolve(body.return?.()).catch(() => undefined)
      throw error
    }
    if (received !== size) {
      throw new ErasureError('sizeMismatch', `the data ended after ${String(received)} of ${String(size)} bytes`)
    }
  }

  /** Undefined: taken at once, as one stripe is when memory is free. */
  #takeWhole(data: Uint8Array, streamed: boolean): Promise<void> | undefined {
    const { size } = this.#part
    if (data.length !== size) {
      throw new ErasureError('sizeMismatch', `${String(data.length)} bytes, not ${String(size)}`)
    }
    if (streamed || size === 0) return this.#takeChunk(data, 0, streamed)
    const { bytes, ...shape } = this.#shapeAt(0)
    const slab = this.#context.slabs.tryAcquire(bytes)
    if (slab === undefined) return this.#takeChunk(data, 0, streamed)
    const stripe = { slab, ...shape, filled: 0, sealed: false }
    this.#stripe = stripe
    this.#seal(stripe, data)
    stripe.filled = size
    return undefined
  }

  async #takeChunk(chunk: Uint8Array, received: number, streamed: boolean): Promise<void> {
    let taken = 0
    while (taken < chunk.length) {
      const stripe = this.#stripe ?? (await this.#openStripe(received + taken))
      const count = Math.min(chunk.length - taken, stripe.length - stripe.filled)
      const piece = count === chunk.length ? chunk : chunk.subarray(taken, taken + count)
      // A stripe that comes in one piece, as those of small objects do, is split and sealed in one call.
      if (count === stripe.length) this.#seal(stripe, piece)
      else fillSlab(stripe.slab.bytes, stripe.stride, stripe.blockSize, stripe.filled, piece)
      stripe.filled += count
      taken += count
      if (stripe.filled === stripe.length && streamed) this.#dispatch(stripe)
    }
  }

  async #openStripe(at: number): Promise<OpenStripe> {
    while (this.#slabsOut >= this.#context.stripesInFlight) {
      await this.#wait(
        new Promise<void>((resolve) => {
          this.#slabFreed = resolve
        }),
      )
    }
    const { bytes, ...shape } = this.#shapeAt(at)
    this.#slabsOut++
    const request = this.#context.slabs.acquire(bytes, () => {
      this.#slabsOut--
      const freed = this.#slabFreed
      this.#slabFreed = undefined
      freed?.()
    })
    let slab: Slab
    try {
      slab = await this.#wait(request)
    } catch (error) {
      void request.then((late) => {
        late.done(true)
      })
      throw error
    }
    this.#stripe = { slab, ...shape, filled: 0, sealed: false }
    return this.#stripe
  }

  /** Of the stripe at a place of the data, and the bytes of slab it needs. */
  #shapeAt(at: number): Pick<OpenStripe, 'stride' | 'blockSize' | 'length'> & { bytes: number } {
    const { k, m, stripeSize, partSize } = this.#geometry
    const blockSize = blockSizeAt(this.#geometry, Math.floor(at / stripeSize))
    const stride = strideFor(blockSize)
    return { stride, blockSize, length: Math.min(stripeSize, partSize - at), bytes: (k + m) * stride }
  }

  /** Computes parity and checksums of the stripe that was filled, or of `whole` laid out in it. */
  #seal(stripe: OpenStripe, whole?: Uint8Array): void {
    if (stripe.sealed) return
    const { k, m } = this.#geometry
    const { slab, stride, blockSize, filled } = stripe
    if (whole === undefined) padSlab(slab.bytes, stride, blockSize, k, filled)
    const pieces = whole === undefined ? undefined : [whole]
    sealStripe(slab.bytes, { k, m, blockSize, stride }, this.#part.dataId, this.#stripesDone, pieces)
    stripe.sealed = true
    this.#stripesDone++
  }

  #dispatch(stripe: OpenStripe): void {
    this.#seal(stripe)
    this.#stripe = undefined
    const { slab, stride, blockSize } = stripe
    for (const lane of this.#lanes) lane.push(cellOf(slab.bytes, stride, blockSize, lane.header.shard), slab)
    slab.done(true)
  }

  /** A part of one stripe or none: one submission per drive. */
  #putWhole(): Promise<void> {
    const stripe = this.#stripe
    if (stripe !== undefined) this.#seal(stripe)
    this.#stripe = undefined
    const { clock, writeDeadlineMs } = this.#context
    return new Promise((resolve, reject) => {
      this.#rejectWait = reject
      const cancel = clock.after(writeDeadlineMs, () => {
        for (const lane of this.#lanes) lane.late()
      })
      let left = this.#lanes.length
      const ended = (): void => {
        if (--left > 0) return
        cancel()
        resolve()
      }
      for (const lane of this.#lanes) {
        if (stripe === undefined) lane.put(undefined, undefined, ended)
        else lane.put(cellOf(stripe.slab.bytes, stripe.stride, stripe.blockSize, lane.header.shard), stripe.slab, ended)
      }
      stripe?.slab.done(true)
    })
  }

  #laneOut(): void {
    this.#alive--
    if (this.#alive >= this.#plan.floor) return
    const failures = this.#lanes.flatMap((lane) => (lane.failure === undefined ? [] : [lane.failure]))
    const full = failures.filter((error) => error instanceof ShardError && error.code === 'driveFull').length
    const phase = this.#committing ? 'while committing' : 'while writing'
    const detail = `${String(this.#alive)} drives left ${phase}, ${String(this.#plan.floor)} are needed`
    const code = this.#alive + full >= this.#plan.floor ? 'drivesFull' : 'writeQuorum'
    this.#fail(new ErasureError(code, detail, { cause: failures[0] }))
  }

  #check(): void {
    if (this.#failure !== undefined) throw this.#failure
  }

  #fail(error: Error): void {
    if (this.#failure !== undefined) return
    this.#failure = error
    this.#rejectWait?.(error)
  }

  /** Waits for `promise`, but not once the write has failed. Only one wait runs at a time. */
  #wait<T>(promise: Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.#rejectWait = reject
      promise.then(resolve, reject)
      if (this.#failure !== undefined) reject(this.#failure)
    })
  }

  async #clean(reason: Error): Promise<void> {
    this.#stripe?.slab.done(true)
    this.#stripe = undefined
    const cleaned = Promise.all(this.#lanes.map((lane) => lane.discard(reason)))
    this.#context.background(cleaned)
    await new Promise<void>((resolve) => {
      const cancel = this.#context.clock.after(this.#context.cleanWaitMs, resolve)
      void cleaned.then(() => {
        cancel()
        resolve()
      })
    })
  }

  #location(): PartLocation {
    const drives: DriveNumber[] = this.#lanes.map((lane) => (lane.failure === undefined ? lane.drive.number : 0))
    return { dataId: this.#part.dataId, set: this.#context.set, geometry: this.#geometry, drives }
  }
}
