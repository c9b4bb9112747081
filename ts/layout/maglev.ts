/**
 * Weighted Maglev over a table of fixed size. Stateless: the same targets give the same table, in whatever order they
 * are named and whatever came before.
 *
 * Each target has an order of preference of all slots (an offset and a step, from XXH3 of its set number). Targets
 * take turns, heavier ones more often, and take the first slot of their preference that is free, until each has its
 * number of slots: its quota rounded down or up.
 *
 * Bounds: every target is within one slot of its quota. A change moves what it must, and some more: about 1 % of
 * the slots for one target of many, never more than MAGLEV_EXTRA of all slots in the tests' histories.
 */
import { xxh3_64 } from '../native/hash.js'
import type { DataId } from '../drive/drive.js'
import type { Placement, Target } from './placement.js'
import { selectMany } from './select_many.js'
import { NO_SET, PlacementTable } from './table.js'
import { apportion, canonical, quotas } from './targets.js'

/** Most slots that moved beyond the ideal, as a share of all, that the tests allow for a change of one target. */
export const MAGLEV_EXTRA = 0.06

const OFFSET_SEED = 0x6f66667365740001n
const STEP_SEED = 0x7374657000000001n

export class MaglevPlacement implements Placement {
  readonly targets: readonly Target[]
  readonly table: PlacementTable

  /** PlacementError 'badTarget', 'noTarget', 'badTable'. */
  constructor(targets: readonly Target[], slots = 65_537, version = 0) {
    this.targets = canonical(targets)
    this.table = PlacementTable.create(slots, version)
    fillMaglev(this.table.sets, this.targets)
  }

  select(dataId: DataId): number {
    return this.table.select(dataId)
  }

  selectMany(dataId: DataId, out: Int32Array): void {
    selectMany(this.table, this.targets, dataId, out)
  }
}

/** Fills a table for targets in canonical order. */
export function fillMaglev(sets: Uint16Array, targets: readonly Target[]): void {
  const slots = sets.length
  const counts = apportion(quotas(targets, slots), slots)
  const position = new Int32Array(targets.length)
  const step = new Int32Array(targets.length)
  const name = new Uint8Array(4)
  for (const [i, target] of targets.entries()) {
    new DataView(name.buffer).setUint32(0, target.set, true)
    position[i] = Number(xxh3_64(name, OFFSET_SEED) % BigInt(slots))
    step[i] = 1 + Number(xxh3_64(name, STEP_SEED) % BigInt(slots - 1))
  }
  const numbers = Uint16Array.from(targets, (target) => target.set)
  const order = turns(counts, slots)
  sets.fill(NO_SET)
  for (let turn = 0; turn < slots; turn++) {
    const i = order[turn] as number
    const by = step[i] as number
    let slot = position[i] as number
    while (sets[slot] !== NO_SET) {
      slot += by
      if (slot >= slots) slot -= slots
    }
    sets[slot] = numbers[i] as number
    position[i] = slot
  }
}

/**
 * Whose turn it is, `slots` times: turn j of a target with n slots comes at (j + 1/2) / n of the whole; those that fall
 * into the same 1/slots of it come in canonical order. A counting sort.
 */
function turns(counts: Int32Array, slots: number): Uint16Array {
  const starts = new Int32Array(slots + 1)
  const each = (visit: (at: number, target: number) => void): void => {
    for (let i = 0; i < counts.length; i++) {
      const count = counts[i] as number
      for (let j = 0; j < count; j++) visit(Math.floor(((j + 0.5) / count) * slots), i)
    }
  }
  each((at) => {
    starts[at + 1] = (starts[at + 1] as number) + 1
  })
  for (let at = 0; at < slots; at++) starts[at + 1] = (starts[at + 1] as number) + (starts[at] as number)
  const order = new Uint16Array(slots)
  each((at, target) => {
    const place = starts[at] as number
    starts[at] = place + 1
    order[place] = target
  })
  return order
}
