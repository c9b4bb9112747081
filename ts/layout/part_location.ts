/** Where a part lies: what metadata keeps of it, and what the erasure set reads, heals and deletes by. */
import type { DataId, DriveNumber, Geometry } from '../drive/drive.js'

export interface PartLocation {
  dataId: DataId
  set: number
  geometry: Geometry
  /** Drive number of each shard, by shard number 0..k+m-1. 0: that shard was never written (a heal intent). */
  drives: DriveNumber[]
}
