/**
 * Slots as cluster state: the table is filled by Maglev once; every later change moves as few slots as its shares
 * demand. Deterministic: the same first targets and the same changes in the same order give the same table, everywhere.
 *
 * A change gives every target a new quota. A target whose quota falls may only lose slots, one whose quota grows may
 * only gain, so nothing ever moves between two targets that the change is not about in opposite directions: adding a
 * target moves slots to it alone, removing one moves its slots alone. Within that, the targets that are furthest from
 * their quotas come first. The moved slots are each donor's lowest; receivers take them in canonical order, so that
 * moves form few long runs.
 *
 * Movement is exactly the sum of what the receivers gain. Counts are within one slot of their quotas.
 */
import type { DataId } from '../drive/drive.js'
import { PlacementError } from './errors.js'
import { fillMaglev } from './maglev.js'
import type { Placement, Target } from './placement.js'
import { selectMany } from './select_many.js'
import { NO_SET, PlacementTable } from './table.js'
import { canonical, MAX_SET, quotas } from './targets.js'

export class SlotsPlacement implements Placement {
  readonly targets: readonly Target[]
  readonly table: PlacementTable

  private constructor(targets: readonly Target[], table: PlacementTable) {
    this.targets = targets
    this.table = table
  }

  /** The first table of a cluster. PlacementError 'badTarget', 'noTarget', 'badTable'. */
  static first(targets: readonly Target[], slots = 65_537): SlotsPlacement {
    const all = canonical(targets)
    const table = PlacementTable.create(slots, 1)
    fillMaglev(table.sets, all)
    return new SlotsPlacement(all, table)
  }

  /** A table that was made elsewhere, with the targets it was made for. PlacementError 'badTable', 'badTarget'. */
  static over(targets: readonly Target[], memory: SharedArrayBuffer): SlotsPlacement {
    const all = canonical(targets)
    const table = PlacementTable.over(memory)
    const known = new Set(all.map((target) => target.set))
    for (const set of table.counts().keys()) {
      if (!known.has(set)) throw new PlacementError('badTable', `slots of set ${String(set)}, which is no target`)
    }
    return new SlotsPlacement(all, table)
  }

  /** The table after a change of targets. This one stays as it is. PlacementError 'badTarget', 'noTarget'. */
  change(targets: readonly Target[]): SlotsPlacement {
    const next = canonical(targets)
    const table = PlacementTable.create(this.table.slots, this.table.version + 1)
    table.sets.set(this.table.sets)
    rebalance(table.sets, this.targets, next)
    return new SlotsPlacement(next, table)
  }

  /**
   * The table with more slots (one of TABLE_SIZES). Each new slot takes the set of the point in its middle; then
   * the counts are corrected as by a change. Both tables live until the moves between them are done.
   */
  grow(slots: number): SlotsPlacement {
    const old = this.table
    if (slots <= old.slots) throw new PlacementError('badTable', `${String(slots)} slots are not more`)
    const table = PlacementTable.create(slots, old.version + 1)
    for (let slot = 0; slot < slots; slot++) {
      table.sets[slot] = old.sets[Math.floor(((slot + 0.5) / slots) * old.slots)] as number
    }
    level(table.sets, this.targets)
    return new SlotsPlacement(this.targets, table)
  }

  select(dataId: DataId): number {
    return this.table.select(dataId)
  }

  selectMany(dataId: DataId, out: Int32Array): void {
    selectMany(this.table, this.targets, dataId, out)
  }
}

/** How one target may change: its slots now, its quota, and the least and most slots it may end with. */
interface Share {
  set: number
  now: number
  quota: number
  least: number
  most: number
  count: number
}

function rebalance(sets: Uint16Array, before: readonly Target[], after: readonly Target[]): void {
  const slots = sets.length
  const oldQuotas = quotaBySet(before, slots)
  const newQuotas = quotaBySet(after, slots)
  const counts = countSlots(sets)
  const all = [...new Set([...oldQuotas.keys(), ...newQuotas.keys()])].sort((a, b) => a - b)
  const shares = all.map((set): Share => {
    const now = counts[set] as number
    const quota = newQuotas.get(set) ?? 0
    const old = oldQuotas.get(set) ?? 0
    // What rounding alone makes of a quota is no change of it.
    const grows = quota > old * (1 + 1e-12)
    const falls = quota < old * (1 - 1e-12)
    const least = quota === 0 ? 0 : grows ? now : falls ? 0 : now
    const most = quota === 0 ? 0 : grows ? slots : now
    return { set, now, quota, least, most, count: now }
  })
  move(sets, shares)
}

/** Brings counts to their quotas, whatever they are. */
function level(sets: Uint16Array, targets: readonly Target[]): void {
  const counts = countSlots(sets)
  const shares = [...quotaBySet(targets, sets.length)].map(([set, quota]): Share => {
    const now = counts[set] as number
    return { set, now, quota, least: 0, most: quota === 0 ? 0 : sets.length, count: now }
  })
  move(sets, shares)
}

function move(sets: Uint16Array, shares: Share[]): void {
  decide(shares, sets.length)
  const givesLeft = new Int32Array(MAX_SET + 2)
  const receivers = shares.filter((share) => share.count > share.now)
  for (const share of shares) givesLeft[share.set] = Math.max(0, share.now - share.count)
  let at = 0
  let takesLeft = 0
  for (let slot = 0; slot < sets.length; slot++) {
    const set = sets[slot] as number
    if ((givesLeft[set] as number) === 0) continue
    givesLeft[set] = (givesLeft[set] as number) - 1
    while (takesLeft === 0) {
      const receiver = receivers[at++] as Share
      takesLeft = receiver.count - receiver.now
    }
    takesLeft--
    sets[slot] = (receivers[at - 1] as Share).set
  }
}

/**
 * Sets `count` of each share within [least, most] so that all slots are used: first to its quota, rounded towards
 * what it has; then by single slots, where the distance from the quota gets least.
 */
function decide(shares: Share[], slots: number): void {
  let sum = 0
  for (const share of shares) {
    const towards = share.now > share.quota ? Math.ceil(share.quota) : Math.floor(share.quota)
    share.count = Math.min(share.most, Math.max(share.least, towards))
    sum += share.count
  }
  const surplus = (share: Share): number => share.count - share.quota
  while (sum !== slots) {
    const takes = sum > slots
    const able = shares.filter((share) => (takes ? share.count > share.least : share.count < share.most))
    able.sort((a, b) => (takes ? surplus(b) - surplus(a) : surplus(a) - surplus(b)) || a.set - b.set)
    const round = able.slice(0, Math.min(able.length, Math.abs(sum - slots)))
    if (round.length === 0) throw new PlacementError('noTarget', 'no target can take the slots')
    for (const share of round) share.count += takes ? -1 : 1
    sum += takes ? -round.length : round.length
  }
}

function quotaBySet(targets: readonly Target[], slots: number): Map<number, number> {
  const quota = quotas(targets, slots)
  return new Map(targets.map((target, i) => [target.set, quota[i] as number]))
}

function countSlots(sets: Uint16Array): Int32Array {
  const counts = new Int32Array(NO_SET + 1)
  for (const set of sets) counts[set] = (counts[set] as number) + 1
  return counts
}
