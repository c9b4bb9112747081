/** Several distinct targets for one data id. */
import type { DataId } from '../drive/drive.js'
import { PlacementError } from './errors.js'
import type { Target } from './placement.js'
import type { PlacementTable } from './table.js'
import { activeWeight } from './targets.js'

/** Most targets that can be asked for at once. */
export const MANY = 64
/** Slots looked at for each target that is wanted, before the rest is filled from the list of targets. */
const PROBES_EACH = 32

/**
 * Fills `out` with distinct sets: the one that `select` gives first, then those of slots further on (at a step that
 * visits all slots), so that heavier targets come up more often. Bounded: after 32 slots for each target wanted, what
 * is missing comes from the list of targets in order, from a place that the data id gives. Allocates nothing.
 *
 * PlacementError 'tooFewTargets' when fewer targets than that are active.
 */
export function selectMany(table: PlacementTable, targets: readonly Target[], dataId: DataId, out: Int32Array): void {
  const wanted = out.length
  if (wanted > MANY) throw new PlacementError('tooFewTargets', `at most ${String(MANY)} targets at once`)
  if (wanted === 0) return
  let active = 0
  for (const target of targets) if (activeWeight(target) > 0) active++
  if (active < wanted) throw new PlacementError('tooFewTargets', `${String(active)} active, ${String(wanted)} wanted`)
  const { slots, sets } = table
  let slot = table.slotOf(dataId)
  // Any step visits all slots, since their number is prime.
  const step = 1 + ((((dataId[10] as number) << 8) | (dataId[11] as number)) % (slots - 1))
  let found = 0
  for (let probe = 0; probe < PROBES_EACH * wanted && found < wanted; probe++) {
    const set = sets[slot] as number
    if (!has(out, found, set)) out[found++] = set
    slot += step
    if (slot >= slots) slot -= slots
  }
  for (let i = 0; found < wanted; i++) {
    const target = targets[(slot + i) % targets.length] as Target
    if (activeWeight(target) > 0 && !has(out, found, target.set)) out[found++] = target.set
  }
}

function has(out: Int32Array, count: number, set: number): boolean {
  for (let i = 0; i < count; i++) if (out[i] === set) return true
  return false
}
