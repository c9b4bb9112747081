/**
 * What must move between two layouts, exactly: runs of slots, or ranges of points when the tables differ in size.
 * Placement decides for new parts only, so a plan is carried out in the background, and both tables live meanwhile.
 */
import type { DataId } from '../drive/drive.js'
import type { Target } from './placement.js'
import type { PlacementTable } from './table.js'
import { pointOf, POINTS } from './table.js'

/** Points first..end-1 go from one set to another. With tables of one size these are whole slots. */
export interface Move {
  first: number
  /** Exclusive; POINTS at most. */
  end: number
  from: number
  to: number
}

export interface MovementPlan {
  moves: Move[]
  /** Share of all points that move. */
  share: number
}

/**
 * All moves from `before` to `after`, in order of points. `stays` names sets whose data stays although they take no new
 * parts (read-only ones).
 */
export function planMovement(
  before: PlacementTable,
  after: PlacementTable,
  stays: ReadonlySet<number> = new Set(),
): MovementPlan {
  const moves: Move[] = []
  let moved = 0
  let a = 0
  let b = 0
  let point = 0
  let last: Move | undefined
  while (point < POINTS) {
    const endA = before.firstPoint(a + 1)
    const endB = after.firstPoint(b + 1)
    const end = Math.min(endA, endB)
    const from = before.sets[a] as number
    const to = after.sets[b] as number
    if (from !== to && end > point && !stays.has(from)) {
      moved += end - point
      if (last?.end === point && last.from === from && last.to === to) last.end = end
      else moves.push((last = { first: point, end, from, to }))
    }
    point = end
    if (end === endA) a++
    if (end === endB) b++
  }
  return { moves, share: moved / POINTS }
}

/** Sets whose data stays where it is: they take no new parts, and nothing is moved out of them. */
export function staying(targets: readonly Target[]): Set<number> {
  return new Set(targets.filter((target) => target.state === 'readOnly').map((target) => target.set))
}

/**
 * Two tables while the moves between them are carried out. New parts follow the new table at once. `done` counts the
 * points up to which the moves have been made.
 */
export class DualTables {
  readonly before: PlacementTable
  readonly after: PlacementTable
  readonly plan: MovementPlan
  #done = 0
  /** Moves that are made. */
  #made = 0

  constructor(before: PlacementTable, after: PlacementTable, stays: ReadonlySet<number> = new Set()) {
    this.before = before
    this.after = after
    this.plan = planMovement(before, after, stays)
    this.finish(0)
  }

  /** Where a new part goes. */
  select(dataId: DataId): number {
    return this.after.select(dataId)
  }

  /** Where placement expects a part that was written before: the old set until its point has been passed. */
  expected(dataId: DataId): number {
    return pointOf(dataId) < this.#done ? this.after.select(dataId) : this.before.select(dataId)
  }

  get finished(): boolean {
    return this.#done === POINTS
  }

  /** The next moves to make, at most `limit`; none when all are made. */
  next(limit: number): Move[] {
    return this.plan.moves.slice(this.#made, this.#made + limit)
  }

  /** The first `count` moves of what `next` gives are made. */
  finish(count: number): void {
    this.#made = Math.min(this.plan.moves.length, this.#made + count)
    const last = this.plan.moves[this.#made - 1]
    this.#done = this.#made === this.plan.moves.length ? POINTS : (last?.end ?? 0)
  }
}
