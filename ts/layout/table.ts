/**
 * A placement table in shared memory: slot -> set number. Immutable once it is shared; a change is a new table.
 *
 *   0   4  magic "OSPT"
 *   4   4  number of slots M
 *   8   4  version of the table, counted up by whoever makes it
 *   12  4  zero
 *   16  2M set number of each slot, 0xffff: none
 *
 * A data id falls on the point given by its last 32 bits (they are random); the slots divide the points into M equal
 * stretches in order. So a stretch of points keeps its place when M grows, and a run of slots is a range of points.
 *
 * M is a constant of the cluster, one of three primes; it never follows from the weights.
 */
import type { DataId } from '../drive/drive.js'
import { PlacementError } from './errors.js'

export const TABLE_SIZES: readonly number[] = [65_537, 655_373, 6_553_577]
export const NO_SET = 0xffff
/** Points are 0..POINTS-1. */
export const POINTS: number = 2 ** 32

const MAGIC = 0x5450534f
const HEADER_SIZE = 16

export class PlacementTable {
  /** Give this to other threads, and there to `PlacementTable.over`. */
  readonly memory: SharedArrayBuffer
  readonly slots: number
  readonly version: number
  /** Set number of each slot. Never written after the table was shared. */
  readonly sets: Uint16Array
  readonly #scale: number

  private constructor(memory: SharedArrayBuffer) {
    const header = new Int32Array(memory, 0, 4)
    this.memory = memory
    this.slots = header[1] as number
    this.version = header[2] as number
    this.sets = new Uint16Array(memory, HEADER_SIZE, this.slots)
    this.#scale = this.slots / POINTS
  }

  /** PlacementError 'badTable' for a number of slots that is not in TABLE_SIZES. */
  static create(slots: number, version: number): PlacementTable {
    if (!TABLE_SIZES.includes(slots)) throw new PlacementError('badTable', `${String(slots)} slots`)
    const memory = new SharedArrayBuffer(HEADER_SIZE + 2 * slots)
    new Int32Array(memory, 0, 4).set([MAGIC, slots, version, 0])
    new Uint16Array(memory, HEADER_SIZE, slots).fill(NO_SET)
    return new PlacementTable(memory)
  }

  /** PlacementError 'badTable' for memory that does not hold a table. */
  static over(memory: SharedArrayBuffer): PlacementTable {
    const header = memory.byteLength >= HEADER_SIZE ? new Int32Array(memory, 0, 4) : undefined
    const slots = header?.[1] ?? 0
    const fits = TABLE_SIZES.includes(slots) && memory.byteLength === HEADER_SIZE + 2 * slots
    if (header?.[0] !== MAGIC || !fits) throw new PlacementError('badTable', 'not a placement table')
    return new PlacementTable(memory)
  }

  /** The slot on which a data id falls. */
  slotOf(dataId: DataId): number {
    const point =
      ((dataId[12] as number) << 24) |
      ((dataId[13] as number) << 16) |
      ((dataId[14] as number) << 8) |
      (dataId[15] as number)
    return ((point >>> 0) * this.#scale) | 0
  }

  /** The set of the slot: one read of the table. NO_SET when the table is empty. */
  select(dataId: DataId): number {
    return this.sets[this.slotOf(dataId)] as number
  }

  /** First point of a slot; `slots` gives POINTS. */
  firstPoint(slot: number): number {
    let point = Math.ceil((slot / this.slots) * POINTS)
    // The division and the multiplication of slotOf may round differently by one.
    while (point > 0 && Math.floor((point - 1) * this.#scale) >= slot) point--
    while (point < POINTS && Math.floor(point * this.#scale) < slot) point++
    return point
  }

  /** Slots of each set. */
  counts(): Map<number, number> {
    const counts = new Int32Array(NO_SET + 1)
    for (const set of this.sets) counts[set] = (counts[set] as number) + 1
    const found = new Map<number, number>()
    counts.forEach((count, set) => {
      if (count > 0) found.set(set, count)
    })
    return found
  }
}

/** The point on which a data id falls. */
export function pointOf(dataId: DataId): number {
  return (
    (((dataId[12] as number) << 24) |
      ((dataId[13] as number) << 16) |
      ((dataId[14] as number) << 8) |
      (dataId[15] as number)) >>>
    0
  )
}
