/**
 * The records of the metadata view, as the layers above see them. Encoding (version, checksum, chain) is in
 * `record.ts`; keys are in `keys.ts`.
 *
 * Vocabulary: a log position is (index, offset in the batch); it orders everything. Clocks only label.
 */
import type { DriveNumber } from '../drive/drive.js'
import type { PartLocation } from '../layout/part_location.js'
import type { Target } from '../layout/placement.js'

/** Order of a change: log index and position of the command in its batch. */
export interface OrderKey {
  index: number
  offset: number
}

export type ChecksumAlgorithm = 'CRC32' | 'CRC32C' | 'CRC64NVME' | 'SHA1' | 'SHA256'

export interface Checksum {
  algorithm: ChecksumAlgorithm
  /** COMPOSITE: checksum of the part checksums, written with `-<parts>`. */
  type: 'FULL_OBJECT' | 'COMPOSITE'
  /** Raw bytes, not base64. */
  value: Uint8Array
}

export interface BucketRecord {
  id: number
  name: string
  ownerId: string
  createdMs: number
  region: string
  objectCount: number
  /** Sum of object sizes (plain bytes, parts of open uploads not included). */
  byteCount: number
  /** Open multipart uploads. */
  uploadCount: number
}

/** Headers S3 stores with an object and gives back verbatim, by lower-case name. */
export interface ObjectAttributes {
  /** content-type, cache-control, content-disposition, content-encoding, content-language, expires */
  headers: Record<string, string>
  /** x-amz-meta-*, without that prefix, lower case. */
  userMetadata: Record<string, string>
  storageClass: 'STANDARD' | 'REDUCED_REDUNDANCY'
}

/**
 * One stored piece with its digests. A part of size 0 (of an upload; an empty object has no part) has a data id like
 * any other and no shards: its `location.drives` is empty.
 */
export interface PartRecord {
  location: PartLocation
  size: number
  md5: Uint8Array
  checksum?: Checksum
}

/** Where an object's bytes are. */
export type ObjectBody =
  | { kind: 'empty' }
  | { kind: 'part'; part: PartRecord }
  /** A completed multipart upload: its part records stay under the upload id. */
  | { kind: 'parts'; uploadId: string; count: number; marks: PartMark[] }

/** Every 64th part of a completed upload: how a range read finds its first part without reading all of them. */
export interface PartMark {
  /** Ordinal of the part among the parts of the object (0, 64, 128, ...). */
  ordinal: number
  partNumber: number
  /** Offset of its first byte in the object. */
  offset: number
}

export interface ObjectRecord {
  bucketId: number
  key: string
  order: OrderKey
  /** Opaque; 'null' in buckets without versioning. */
  versionId: string
  ownerId: string
  size: number
  /** Without quotes: md5 hex, or md5-of-md5s hex + '-' + parts. */
  etag: string
  modifiedMs: number
  attributes: ObjectAttributes
  checksum?: Checksum
  body: ObjectBody
}

export interface UploadRecord {
  bucketId: number
  key: string
  /** Opaque, made by the proposer, sorts by initiation time within a key. */
  uploadId: string
  ownerId: string
  initiatedMs: number
  attributes: ObjectAttributes
  checksumAlgorithm?: ChecksumAlgorithm
  checksumType?: 'FULL_OBJECT' | 'COMPOSITE'
  /** The node that began it and takes its parts; absent in a store of one node. */
  node?: number
  /** Set when completed; the record then stays 24 h to answer retries identically. */
  completed?: { atMs: number; etag: string; size: number; checksum?: Checksum; requestDigest: Uint8Array }
}

export interface UploadPartRecord extends PartRecord {
  partNumber: number
  modifiedMs: number
}

/** Reverse record: who owns a data id. */
export interface DataOwner {
  set: number
  dataId: Uint8Array
  bucketId: number
  key: string
  /** Empty for a part that is a whole object. */
  uploadId: string
  partNumber: number
}

/** A replaced or refused part, to be deleted from its drives by the collector. */
export interface GarbageEntry {
  order: OrderKey
  set: number
  dataId: Uint8Array
  drives: DriveNumber[]
}

/** Shards of a part that must be rewritten. */
export interface HealEntry {
  set: number
  dataId: Uint8Array
  shards: number[]
  cause: 'missing' | 'corrupt' | 'replacedDrive'
  queuedMs: number
}

export interface DriveRecord {
  number: DriveNumber
  /** UUID in its format.json. */
  driveId: string
  pool: number
  set: number
  position: number
  epoch: number
  /** 'replaced': its place belongs to another drive now; it is refused when it returns. */
  state: 'member' | 'replaced'
  /** A replacement is healing until every part of its set is proved on it. */
  healing: boolean
}

export interface SetRecord {
  number: number
  pool: number
  k: number
  m: number
  /** Drive number at each position. */
  drives: DriveNumber[]
  /** The node whose drives these are; absent in a store of one node. */
  node?: number
}

export interface ClusterRecord {
  clusterId: string
  createdMs: number
  featureLevel: number
  stripeSize: number
}

/** A node as a member of the replicated engine's group. Ids are never given twice. */
export interface NodeRecord {
  id: number
  /** The operator's name for it, unique among nodes that are not removed. */
  name: string
  /** Where its peers reach it, `host:port`. */
  address: string
  state: 'member' | 'removed'
}

/**
 * A lease of a cluster-wide singleton. No clock is in it: who wants to take it over has seen `version` stand still
 * for longer than the holder may do without renewing it.
 */
export interface LeaseRecord {
  name: string
  /** Empty: nobody holds it. */
  holder: string
  /** Grows with every holder: the fencing token. */
  token: number
  /** Grows with every change, renewals included. */
  version: number
}

/** A writer epoch: data ids begin with it. Fenced: `apply` refuses its data ids for ever. */
export interface WriterEpochRecord {
  epoch: number
  openedMs: number
  fenced: boolean
  /** The node whose writer it is; absent in a store of one node. */
  node?: number
}

/**
 * The layout: which set takes new parts, as a table of slots (ts/layout/slots.ts). There is none while the cluster has
 * one set. The slots lie in records of their own, SLOTS_PER_RECORD each, little-endian u16, under the table's number.
 */
export interface LayoutRecord {
  /** Counts up with every change. */
  version: number
  /** Number of the table: a new one when the number of slots grows. */
  table: number
  slots: number
  /** XXH3-64 of all slots. */
  hash: Uint8Array
  /** Every set that the layout has known, in order of set numbers. */
  targets: Target[]
  /** The table before the number of slots grew, until the moves between the two are done. */
  previous?: { table: number; slots: number; hash: Uint8Array }
}
