/**
 * Placement chooses the target (an erasure set) that takes a new part. It is never needed to find old data:
 * metadata names the set of every part.
 *
 * Strategies: `slots.ts` (the table is cluster state; movement is exactly the ideal), `maglev.ts` (stateless table),
 * `jump.ts` (a list of places), `weighted_placement.ts` (stateless table dealt by weight). The server keeps the table
 * of `slots` in metadata (a table of its history cannot be made again from the targets alone) and selects through
 * `table_placement.ts`.
 */
import type { DataId } from '../drive/drive.js'

export type TargetState = 'active' | 'readOnly' | 'draining' | 'gone'

export interface Target {
  /** Set number. */
  set: number
  /** Relative capacity; bytes of the set divided by a common unit. */
  weight: number
  state: TargetState
}

export interface Placement {
  readonly targets: readonly Target[]
  /** The set that takes the part; only active targets are chosen. O(1), allocates nothing. */
  select(dataId: DataId): number
}
