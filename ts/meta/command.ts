/**
 * Commands: the deterministic changes of metadata, in the order of the log. Ids, timestamps and random choices
 * travel in the command; preconditions are checked in `apply`, which returns a typed result. Applying the same
 * commands to the same state gives the same bytes on every copy.
 *
 * Commands have a request id, but for those that bring a part, whose data id does as well. A request id that was
 * applied before (within the kept window) answers with the first result and changes nothing.
 *
 * Heal intents: a part whose `location.drives` names no drive (0) for some shards is queued for healing, with those
 * shards, in the transaction that gives it its owner (putObject, putPart). A part that stops being referenced takes its
 * heal entry with it.
 */
import type { DriveNumber } from '../drive/drive.js'
import type { Target } from '../layout/placement.js'
import type {
  Checksum,
  ChecksumAlgorithm,
  ClusterRecord,
  DriveRecord,
  HealEntry,
  LeaseRecord,
  ObjectAttributes,
  OrderKey,
  PartRecord,
  SetRecord,
} from './schema.js'

/**
 * What this version knows. A kind of command that came later is refused until the cluster's level (`ClusterRecord`)
 * was raised to the one it came with:
 *   2  changeLayout, endGrowth
 *   3  registerNode, removeNode, takeLease, renewLease, releaseLease
 */
export const FEATURE_LEVEL = 3
export const LAYOUT_LEVEL = 2
export const GROUP_LEVEL = 3

/** Conditions on the object that is there now. ETags without quotes; '*' as in HTTP. */
export interface WriteCondition {
  ifMatch?: string
  ifNoneMatch?: '*'
}

export type Command =
  | { kind: 'initCluster'; cluster: ClusterRecord; sets: SetRecord[]; drives: DriveRecord[] }
  | { kind: 'addSets'; sets: SetRecord[]; drives: DriveRecord[] }
  /** A blank drive takes the place of another: new number, epoch + 1. */
  | { kind: 'replaceDrive'; old: DriveNumber; drive: DriveRecord; nowMs: number }
  | { kind: 'driveHealed'; number: DriveNumber }
  /** The sets of a store that was of one node until now belong to this node. */
  | { kind: 'claimSets'; node: number }
  /** A node brings its drives, set after set. The same drives again change nothing. */
  | { kind: 'addNodeSets'; node: number; driveIds: string[]; setSize: number; parity: number }
  /** The sets of a node are no more. Refused while objects are stored on them. */
  | { kind: 'dropNodeSets'; node: number }
  /** Every node knows the commands of this level. */
  | { kind: 'raiseFeatureLevel'; level: number }
  /**
   * The next layout. `version` is that of the layout it was made from (0: there is none). `moves` makes the new table
   * of the old one (layout/table_moves.ts), or of an empty one when there is none or `slots` differs; the old one is
   * then kept as `previous`. `hash` is what the result must have.
   */
  | { kind: 'changeLayout'; version: number; slots: number; targets: Target[]; moves: Uint8Array; hash: Uint8Array }
  /** The moves between the two tables are done: forgets the previous one. */
  | { kind: 'endGrowth'; version: number }
  /** Gives the next writer epoch. */
  | { kind: 'openEpoch'; nowMs: number; worker: string; node?: number }
  | { kind: 'fenceEpochs'; epochs: number[] }
  | { kind: 'createBucket'; name: string; ownerId: string; region: string; nowMs: number }
  | { kind: 'deleteBucket'; name: string }
  | {
      kind: 'putObject'
      bucketId: number
      key: string
      versionId: string
      ownerId: string
      etag: string
      size: number
      modifiedMs: number
      attributes: ObjectAttributes
      checksum?: Checksum
      /** Absent: an empty object. */
      part?: PartRecord
      condition?: WriteCondition
    }
  | { kind: 'deleteObject'; bucketId: number; key: string; condition?: WriteCondition }
  | { kind: 'deleteObjects'; bucketId: number; keys: { key: string; ifMatch?: string }[] }
  | {
      kind: 'createUpload'
      bucketId: number
      key: string
      uploadId: string
      ownerId: string
      nowMs: number
      attributes: ObjectAttributes
      checksumAlgorithm?: ChecksumAlgorithm
      checksumType?: 'FULL_OBJECT' | 'COMPOSITE'
      node?: number
    }
  | {
      kind: 'putPart'
      bucketId: number
      key: string
      uploadId: string
      partNumber: number
      nowMs: number
      part: PartRecord
    }
  | {
      kind: 'completeUpload'
      bucketId: number
      key: string
      uploadId: string
      versionId: string
      nowMs: number
      /** In the client's order, checked in apply: ascending, existing, equal ETags (and checksums when given). */
      parts: { partNumber: number; etag: string; checksum?: Uint8Array }[]
      /** Expected full-object checksum or composite checksum given by the client. */
      checksum?: Checksum
      expectedSize?: number
      minPartSize: number
      condition?: WriteCondition
    }
  | { kind: 'abortUpload'; bucketId: number; key: string; uploadId: string }
  /** Forgets completed uploads older than beforeMs. */
  | { kind: 'expireUploads'; beforeMs: number; limit: number }
  | { kind: 'queueHeal'; entries: HealEntry[] }
  /**
   * Shards proved on their drives; a shard number maps to the drive that now holds it. Ends the heal entry when none
   * is left.
   */
  | {
      kind: 'healed'
      set: number
      dataId: Uint8Array
      shards: { shard: number; drive: DriveNumber }[]
      left: number[]
    }
  /** Garbage entries whose shards are gone from every drive they were on. */
  | { kind: 'collected'; entries: { order: OrderKey; dataId: Uint8Array }[] }
  /** A store restored from a backup does not collect until confirmed. */
  | { kind: 'setCollection'; enabled: boolean }
  /** Gives a node its id, or takes note of its address; `id` for the first node, which has one. */
  | { kind: 'registerNode'; name: string; address: string; id?: number }
  | { kind: 'removeNode'; id: number }
  /** Takes a lease that is at `ifVersion`, 0 when there was never one. */
  | { kind: 'takeLease'; name: string; holder: string; ifVersion: number }
  | { kind: 'renewLease'; name: string; token: number }
  | { kind: 'releaseLease'; name: string; token: number }

export type CommandKind = Command['kind']

/** Why apply refused. Nothing was changed, except that data ids the command carried went to the garbage queue. */
export type Refusal =
  | 'BucketAlreadyExists'
  | 'BucketAlreadyOwnedByYou'
  | 'NoSuchBucket'
  | 'BucketNotEmpty'
  | 'NoSuchKey'
  | 'NoSuchUpload'
  | 'PreconditionFailed'
  | 'InvalidPart'
  | 'InvalidPartOrder'
  | 'EntityTooSmall'
  | 'EntityTooLarge'
  | 'BadDigest'
  | 'InvalidRequest'
  | 'EpochFenced'
  | 'FeatureLevel'
  | 'Conflict'
  /** The lease that the command depends on belongs to somebody else. */
  | 'LeaseLost'

export type CommandResult =
  | { ok: true; order: OrderKey; value: CommandValue }
  | { ok: false; order: OrderKey; refusal: Refusal; detail: string }

/** What a successful command says, by kind; {} where there is nothing to say. */
export interface CommandValue {
  bucketId?: number
  epoch?: number
  /** putObject, completeUpload */
  etag?: string
  size?: number
  checksum?: Checksum
  versionId?: string
  modifiedMs?: number
  /** deleteObjects: one per key, in order. */
  deleted?: { key: string; refusal?: Refusal }[]
  count?: number
  /** registerNode */
  nodeId?: number
  /** takeLease, renewLease */
  lease?: LeaseRecord
}

/** A command is refused unless this is the token of the lease's holder. */
export interface Fence {
  lease: string
  token: number
}
