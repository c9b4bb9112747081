/**
 * What every thread must know of drives and sets to open its own Drive objects: plain data, sent whole whenever it
 * changes. The control thread is the only one that makes it.
 */
import type { Target } from '../../layout/placement.js'
import type { DriveRecord, SetRecord } from '../../meta/schema.js'

export interface TopologyDrive extends DriveRecord {
  /** Directory on this machine; '' when no directory holds this drive now. */
  path: string
  /** Row of the shared drive table. */
  row: number
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
