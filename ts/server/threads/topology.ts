/**
 * What every thread must know of drives and sets to open its own Drive objects: plain data and shared memory, sent
 * whole whenever it changes. The control thread is the only one that makes it.
 */
import type { SegmentsMemory } from '../../drive/segments/segment_table.js'
import type { Target } from '../../layout/placement.js'
import type { DriveRecord, SetRecord } from '../../meta/schema.js'

export interface TopologyDrive extends DriveRecord {
  /** Directory on this machine; '' when no directory holds this drive now. */
  path: string
  /** Row of the shared drive table. */
  row: number
  /** What threads share of its segments; undefined as long as the drive was never here. */
  segments: SegmentsMemory | undefined
}

export interface Topology {
  /** Grows with every change. */
  version: number
  clusterId: string
  stripeSize: number
  sets: SetRecord[]
  /** Members, and drives that were replaced. */
  drives: TopologyDrive[]
  targets: Target[]
  /** The cluster's slot table, in memory that all threads share; none while there is one set. */
  layout?: { version: number; table: SharedArrayBuffer }
}
