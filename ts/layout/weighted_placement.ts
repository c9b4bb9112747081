/**
 * The simplest placement: a table whose slots are dealt to the active targets by weight, indexed by random
 * bits of the data id. Same targets, same table, whatever order they come in.
 *
 * Dealing: the slot goes to the target that is furthest below its share so far, ties to the lower set number,
 * so every prefix of the table is balanced and shares end within one slot of the ideal. The state holds no
 * history: the table says where new parts go, metadata says where old ones are.
 */
import type { DataId } from '../drive/drive.js'
import type { Placement, Target } from './placement.js'

const SLOTS = 65_537

export class WeightedPlacement implements Placement {
  readonly targets: readonly Target[]
  readonly #table: Uint32Array

  /** At least one active target of weight > 0; set numbers are unique. */
  constructor(targets: readonly Target[], slots: number = SLOTS) {
    this.targets = [...targets].sort((a, b) => a.set - b.set)
    const active = this.targets.filter((target) => target.state === 'active' && target.weight > 0)
    if (active.length === 0) throw new RangeError('placement needs an active target')
    if (new Set(this.targets.map((target) => target.set)).size !== targets.length) {
      throw new RangeError('a set is a target once')
    }
    this.#table = deal(active, slots)
  }

  select(dataId: DataId): number {
    // The last four bytes are random (drive.ts); 32 bits over 65,537 slots are even to one part in 65,000.
    let bits = 0
    for (let i = dataId.length - 4; i < dataId.length; i++) bits = ((bits << 8) | (dataId[i] ?? 0)) >>> 0
    return this.#table[bits % this.#table.length] ?? 0
  }
}

function deal(active: readonly Target[], slots: number): Uint32Array {
  const table = new Uint32Array(slots)
  const total = active.reduce((sum, target) => sum + target.weight, 0)
  const given = active.map(() => 0)
  for (let slot = 0; slot < slots; slot++) {
    let best = 0
    let bestLag = -Infinity
    for (const [i, target] of active.entries()) {
      const lag = (target.weight / total) * (slot + 1) - (given[i] ?? 0)
      if (lag > bestLag) {
        best = i
        bestLag = lag
      }
    }
    given[best] = (given[best] ?? 0) + 1
    table[slot] = active[best]?.set ?? 0
  }
  return table
}
