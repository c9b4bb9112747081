/**
 * Targets in canonical order (by set number) with their shares. Everything below works on canonical lists, so that the
 * order in which an operator or a message names targets never matters.
 */
import { PlacementError } from './errors.js'
import type { Target } from './placement.js'

/** Set numbers are kept in 16 bits; the last one means "no set". */
export const MAX_SET = 0xfffe

const STATES: readonly string[] = ['active', 'readOnly', 'draining', 'gone']

/** PlacementError 'badTarget'. The result shares nothing with the argument. */
export function canonical(targets: readonly Target[]): Target[] {
  const sorted = targets.map((target) => ({ ...target })).sort((a, b) => a.set - b.set)
  let last = -1
  for (const { set, weight, state } of sorted) {
    if (!Number.isInteger(set) || set < 0 || set > MAX_SET) throw new PlacementError('badTarget', `set ${String(set)}`)
    if (set === last) throw new PlacementError('badTarget', `set ${String(set)} is named twice`)
    if (!Number.isFinite(weight) || weight < 0) throw new PlacementError('badTarget', `weight of set ${String(set)}`)
    if (!STATES.includes(state)) throw new PlacementError('badTarget', `state of set ${String(set)}`)
    last = set
  }
  return sorted
}

/** What counts for new parts: the weight of an active target, 0 for all others. */
export function activeWeight(target: Target): number {
  return target.state === 'active' ? target.weight : 0
}

/** The ideal number of slots of each target, not rounded. PlacementError 'noTarget'. */
export function quotas(targets: readonly Target[], slots: number): Float64Array {
  const weights = Float64Array.from(targets, activeWeight)
  // Divided by the largest first, so that sums of very large or small weights keep their precision.
  const largest = weights.reduce((most, weight) => Math.max(most, weight), 0)
  if (largest === 0) throw new PlacementError('noTarget', 'no target is active and has a weight')
  const total = weights.reduce((sum, weight) => sum + weight / largest, 0)
  return weights.map((weight) => (weight / largest / total) * slots)
}

/** Whole numbers of slots by largest remainder, ties to the lower set: each is its quota rounded down or up. */
export function apportion(quota: Float64Array, slots: number): Int32Array {
  const counts = Int32Array.from(quota, Math.floor)
  const left = slots - counts.reduce((sum, count) => sum + count, 0)
  const order = Array.from(quota.keys()).filter((i) => (quota[i] as number) > 0)
  const remainder = (i: number): number => (quota[i] as number) - (counts[i] as number)
  order.sort((a, b) => remainder(b) - remainder(a) || a - b)
  for (let i = 0; i < left; i++) {
    const at = order[i % order.length] as number
    counts[at] = (counts[at] as number) + 1
  }
  return counts
}
