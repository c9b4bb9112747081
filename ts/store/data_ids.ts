/**
 * Data ids of one thread: writer epoch u48 big-endian, a coarse count u16, then 64 random bits. A data id is used for
 * one part and never again, so its owner is unique for ever; the epoch lets the collector prove that no late writer
 * exists. The count goes up every COARSE ids: so the metadata records of a thread's new parts lie together, at the end
 * of those of its epoch, and a batch of them changes few pages. Nothing else may rely on it.
 *
 * A thread opens an epoch before its first part and rotates it after `epochLifeMs` or `epochIds`, so that the
 * collector can fence old ones and find orphans while the server runs. At most two epochs are in use: the
 * current one and one that drains (its parts were begun before the rotation); both are shown on the pin
 * board. When `apply` says that an epoch was fenced, the next part waits for a new one.
 */
import { randomFillSync } from 'node:crypto'
import type { DataId } from '../drive/drive.js'
import type { MetadataEngine } from '../meta/engine.js'
import type { PinBoard } from './pins.js'

export const DATA_ID_SIZE = 16
const COARSE = 16
const POOL_IDS = 256

export interface DataIdOptions {
  /** Name of the thread, for the operator. */
  worker: string
  /** This node; absent in a store of one node. */
  node?: number | undefined
  epochLifeMs?: number
  epochIds?: number
  now?: () => number
  /** Fills with random bytes; a seeded one in tests. */
  random?: (into: Uint8Array) => void
}

/** A data id in use. Call `done` once its part is committed or given up. */
export interface DataIdLease {
  readonly dataId: DataId
  readonly epoch: number
  done(): void
}

interface Epoch {
  number: number
  openedMs: number
  given: number
  inUse: number
}

class Lease implements DataIdLease {
  readonly dataId: DataId
  readonly #epoch: Epoch
  readonly #drained: (epoch: Epoch) => void
  #used = true

  /** `drained` is called when the last lease of the epoch is done. */
  constructor(dataId: DataId, epoch: Epoch, drained: (epoch: Epoch) => void) {
    this.dataId = dataId
    this.#epoch = epoch
    this.#drained = drained
  }

  get epoch(): number {
    return this.#epoch.number
  }

  done(): void {
    if (!this.#used) return
    this.#used = false
    if (--this.#epoch.inUse === 0) this.#drained(this.#epoch)
  }
}

/** The writer epoch of a data id. */
export function epochOf(dataId: DataId): number {
  const view = new DataView(dataId.buffer, dataId.byteOffset, dataId.byteLength)
  return view.getUint16(0) * 0x1_0000_0000 + view.getUint32(2)
}

export class DataIds {
  readonly #metadata: MetadataEngine
  readonly #board: PinBoard
  readonly #slot: number
  readonly #worker: string
  readonly #node: { node?: number }
  readonly #epochLifeMs: number
  readonly #epochIds: number
  readonly #now: () => number
  readonly #random: (into: Uint8Array) => void
  /**
   * The next ids, random throughout until their first half is set. They are views of it: memory of their own costs
   * more.
   */
  #pool = new DataView(new ArrayBuffer(0))
  #poolAt = 0
  #current: Epoch | undefined
  #draining: Epoch | undefined
  #opening: Promise<void> | undefined
  readonly #onDrained = (epoch: Epoch): void => { this.#drained(epoch) }

  constructor(metadata: MetadataEngine, board: PinBoard, slot: number, options: DataIdOptions) {
    this.#metadata = metadata
    this.#board = board
    this.#slot = slot
    this.#worker = options.worker
    this.#node = options.node === undefined ? {} : { node: options.node }
    this.#epochLifeMs = options.epochLifeMs ?? 3_600_000
    this.#epochIds = options.epochIds ?? 1_000_000
    this.#now = options.now ?? Date.now
    this.#random = options.random ?? ((into) => { randomFillSync(into) })
  }

  /** Epoch of new parts, 0 before the first. */
  get epoch(): number {
    return this.#current?.number ?? 0
  }

  /** A fresh data id. Rejects with MetadataError when an epoch is needed and cannot be opened. */
  async lease(): Promise<DataIdLease> {
    if (this.#current === undefined) await this.#open()
    const lease = this.leaseNow()
    if (lease === undefined) throw new Error('no writer epoch is open')
    return lease
  }

  /** As `lease`, when it has nothing to wait for. */
  leaseNow(): DataIdLease | undefined {
    if (this.#current === undefined) return undefined
    if (this.#due(this.#current) && this.#draining === undefined) {
      // The old epoch serves until the new one is there; a failure is met again by the next part.
      this.#open().catch(() => undefined)
    }
    const epoch = this.#current
    epoch.given++
    epoch.inUse++
    return new Lease(this.#next(epoch), epoch, this.#onDrained)
  }

  /** `apply` refused this epoch: never use it again. */
  fenced(epoch: number): void {
    if (this.#current?.number === epoch) this.#current = undefined
    if (this.#draining?.number === epoch) this.#draining = undefined
    this.#show()
  }

  #due(epoch: Epoch): boolean {
    return epoch.given >= this.#epochIds || this.#now() - epoch.openedMs >= this.#epochLifeMs
  }

  #open(): Promise<void> {
    this.#opening ??= this.#propose().finally(() => {
      this.#opening = undefined
    })
    return this.#opening
  }

  async #propose(): Promise<void> {
    const nowMs = this.#now()
    const result = await this.#metadata.propose({ kind: 'openEpoch', nowMs, worker: this.#worker, ...this.#node })
    if (!result.ok) throw new Error(`openEpoch was refused: ${result.refusal} ${result.detail}`)
    const number = result.value.epoch
    if (number === undefined || number < 1) throw new Error('openEpoch gave no epoch')
    const old = this.#current
    this.#current = { number, openedMs: nowMs, given: 0, inUse: 0 }
    if (old !== undefined && old.inUse > 0) this.#draining = old
    this.#show()
  }

  #drained(epoch: Epoch): void {
    if (epoch !== this.#draining) return
    this.#draining = undefined
    this.#show()
  }

  #show(): void {
    this.#board.setEpochs(this.#slot, this.#current?.number ?? 0, this.#draining?.number ?? 0)
  }

  #next({ number, given }: Epoch): DataId {
    if (this.#poolAt === this.#pool.byteLength) {
      this.#pool = new DataView(new ArrayBuffer(POOL_IDS * DATA_ID_SIZE))
      this.#poolAt = 0
      this.#random(new Uint8Array(this.#pool.buffer))
    }
    const at = this.#poolAt
    this.#poolAt += DATA_ID_SIZE
    this.#pool.setUint16(at, Math.floor(number / 0x1_0000_0000))
    this.#pool.setUint32(at + 2, number >>> 0)
    this.#pool.setUint16(at + 6, Math.min(Math.floor(given / COARSE), 0xffff))
    return new Uint8Array(this.#pool.buffer, at, DATA_ID_SIZE)
  }
}
