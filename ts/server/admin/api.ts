/** The shapes of the JSON admin API: what the server answers and `ostraka admin` shows. Plain data. */
import type { DriveHealth, DriveNumber } from '../../drive/drive.js'
import type { TargetState } from '../../layout/placement.js'
import type { MetadataStatus } from '../../meta/engine.js'
import type { ClusterReport } from '../threads/replica.js'
import type { SegmentTotals } from '../../drive/segments/segment_table.js'
import type { BackgroundProgress } from '../../store/background/progress.js'

export interface DriveReport {
  number: DriveNumber
  driveId: string
  path: string
  set: number
  position: number
  epoch: number
  /** A replacement that is not yet proved to hold everything. */
  healing: boolean
  health: DriveHealth
  metadataCopy: boolean
  /** What its segments hold; null for a drive that was not here since the server was started. */
  segments: SegmentTotals | null
}

export interface SetReport {
  number: number
  k: number
  m: number
  readableDrives: number
  writableDrives: number
  /** Drives that may still be lost without losing data, given those that are out now. */
  toleratedLosses: number
  /** As the layout has it. */
  state: TargetState
  /** Share of the new parts that the layout gives it, 0 to 1. */
  share: number
}

export interface StatusReport {
  version: string
  startedMs: number
  clusterId: string
  endpoint: string
  notReady: string[]
  workers: { configured: number; restarts: number }
  counts: { buckets: number; objects: number; bytes: number; garbage: number; heals: number }
  sets: SetReport[]
  drives: DriveReport[]
  metadata: MetadataStatus
  background: BackgroundProgress | null
}

export interface BackupReport {
  state: 'idle' | 'running' | 'done' | 'failed'
  path: string
  done: number
  total: number
  /** Log position that the backup holds, once done. */
  position: number
  error: string
}

/** A store of several nodes, as this one knows it; the progress of members is known while a leader answers. */
export interface ClusterView extends ClusterReport {
  /** Whose drives the erasure sets are. */
  nodes: { id: number; sets: number[] }[]
}

export interface DigestReport {
  position: number
  records: number
  digest: string
}

export interface MetadataReport {
  status: MetadataStatus
  /** null with the local engine. */
  cluster: ClusterView | null
  backup: BackupReport
}
