/**
 * Placement by the cluster's slot table, as the server's threads use it: one read of shared memory tells the set.
 *
 * The table says where new parts belong; a set that can take none now (too few of its drives are online) is passed
 * over without changing the table, since it will be back. Such a part goes to the set of another slot, found by steps
 * that the data id gives: M is prime, so the steps reach every slot, and parts spread over the others by their shares.
 * Metadata names the set that was chosen, so it need not be found again.
 */
import type { DataId } from '../drive/drive.js'
import type { Placement, Target } from './placement.js'
import { PlacementTable, POINTS } from './table.js'
import { MAX_SET } from './targets.js'
import { WeightedPlacement } from './weighted_placement.js'

export class TablePlacement implements Placement {
  /** As they are now: active are those that can take new parts. */
  readonly targets: readonly Target[]
  // Not #fields: those cost a tenth of a select.
  private readonly sets: Uint16Array
  /** Slots for each point. */
  private readonly scale: number
  /** 1 for each set that takes new parts. */
  private readonly takes: Uint8Array

  constructor(table: PlacementTable, targets: readonly Target[]) {
    this.targets = targets
    this.sets = table.sets
    this.scale = table.slots / POINTS
    this.takes = new Uint8Array(MAX_SET + 2)
    const counts = table.counts()
    const able = targets.filter(({ set, state }) => state === 'active' && counts.has(set))
    // None: the write finds out what its set can do, rather than a set that the layout gives nothing.
    for (const set of able.length > 0 ? able.map((target) => target.set) : counts.keys()) this.takes[set] = 1
  }

  select(dataId: DataId): number {
    // As PlacementTable.slotOf, with its fields at hand.
    const point =
      ((dataId[12] as number) << 24) |
      ((dataId[13] as number) << 16) |
      ((dataId[14] as number) << 8) |
      (dataId[15] as number)
    const slot = ((point >>> 0) * this.scale) | 0
    const set = this.sets[slot] as number
    return this.takes[set] === 1 ? set : this.#elsewhere(dataId, slot)
  }

  #elsewhere(dataId: DataId, from: number): number {
    const sets = this.sets
    const slots = sets.length
    const bits =
      (((dataId[8] as number) << 24) |
        ((dataId[9] as number) << 16) |
        ((dataId[10] as number) << 8) |
        (dataId[11] as number)) >>>
      0
    const step = 1 + (bits % (slots - 1))
    let slot = from
    do {
      slot += step
      if (slot >= slots) slot -= slots
    } while (this.takes[sets[slot] as number] !== 1 && slot !== from)
    return sets[slot] as number
  }
}

/** The same while every set takes new parts: nothing but the read. */
class WholeTable implements Placement {
  readonly targets: readonly Target[]
  private readonly sets: Uint16Array
  private readonly scale: number

  constructor(table: PlacementTable, targets: readonly Target[]) {
    this.targets = targets
    this.sets = table.sets
    this.scale = table.slots / POINTS
  }

  select(dataId: DataId): number {
    const point =
      ((dataId[12] as number) << 24) |
      ((dataId[13] as number) << 16) |
      ((dataId[14] as number) << 8) |
      (dataId[15] as number)
    return this.sets[((point >>> 0) * this.scale) | 0] as number
  }
}

/** All parts go to the one set there is. */
class OneTarget implements Placement {
  readonly targets: readonly Target[]
  readonly #set: number

  constructor(target: Target) {
    this.targets = [target]
    this.#set = target.set
  }

  select(): number {
    return this.#set
  }
}

/** The placement for these targets; several without a table are dealt by weight until metadata has one. */
export function placementFor(targets: readonly Target[], table?: SharedArrayBuffer): Placement {
  const [only] = targets
  if (targets.length === 1 && only !== undefined) return new OneTarget(only)
  if (table === undefined) return new WeightedPlacement(targets)
  const whole = PlacementTable.over(table)
  const active = new Set(targets.filter(({ state }) => state === 'active').map(({ set }) => set))
  const all = [...whole.counts().keys()].every((set) => active.has(set))
  return all ? new WholeTable(whole, targets) : new TablePlacement(whole, targets)
}
