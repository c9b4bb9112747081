/**
 * Reads of the metadata view: synchronous, from any thread, from one snapshot between two calls of `refresh`.
 * Every value's checksum is verified, and every step of a scan (and every miss) is verified against the chain
 * (`chain.ts`), so a damaged view gives MetadataError 'corrupt', never a wrong or short answer; the reader reports the
 * view as doubtful and the caller retries after `refresh`, which moves to another copy.
 */
import type { PlacementTable } from '../layout/table.js'
import type {
  BucketRecord,
  ClusterRecord,
  DataOwner,
  DriveRecord,
  GarbageEntry,
  HealEntry,
  LayoutRecord,
  LeaseRecord,
  NodeRecord,
  ObjectRecord,
  OrderKey,
  SetRecord,
  UploadPartRecord,
  UploadRecord,
  WriterEpochRecord,
} from './schema.js'

export interface ListQuery {
  bucketId: number
  prefix: string
  /** '' for none. */
  delimiter: string
  /** Keys strictly greater than this, '' for the start. A common prefix ending the last page is given here too. */
  after: string
  limit: number
}

export interface ListPage {
  /** Objects and common prefixes together, in UTF-8 binary order, at most `limit`. */
  entries: ({ object: ObjectRecord } | { prefix: string })[]
  truncated: boolean
  /** When truncated: pass as `after` to go on. */
  next: string
}

export interface UploadListQuery {
  bucketId: number
  prefix: string
  delimiter: string
  keyMarker: string
  /** Only with keyMarker: uploads of that key with a greater upload id come too. */
  uploadIdMarker: string
  limit: number
}

export interface UploadListPage {
  entries: ({ upload: UploadRecord } | { prefix: string })[]
  truncated: boolean
  nextKeyMarker: string
  nextUploadIdMarker: string
}

export interface MetadataReader {
  /** Starts a new snapshot, at least as new as every result this thread has received. */
  refresh(): void
  /** Applied log index of the current snapshot. */
  readonly position: number
  /** Newest applied log index known to this process, from shared memory; no snapshot is touched. */
  readonly publishedPosition: number

  cluster(): ClusterRecord | undefined
  sets(): SetRecord[]
  drives(): DriveRecord[]
  /** Undefined while there is no layout: the cluster has one set, or is older than layouts. */
  layout(): LayoutRecord | undefined
  /** The slots of the layout's table, in memory that threads can share. */
  placementTable(layout: LayoutRecord): PlacementTable
  bucket(name: string): BucketRecord | undefined
  buckets(): BucketRecord[]
  object(bucketId: number, key: string): ObjectRecord | undefined
  list(query: ListQuery): ListPage
  upload(bucketId: number, key: string, uploadId: string): UploadRecord | undefined
  listUploads(query: UploadListQuery): UploadListPage
  /** Parts of an open or completed upload with partNumber > after, ascending, at most limit. */
  parts(bucketId: number, key: string, uploadId: string, after: number, limit: number): UploadPartRecord[]
  /** Reverse record of a data id, undefined when nothing references it. */
  owner(set: number, dataId: Uint8Array): DataOwner | undefined
  /** 'garbage' while a data id waits to be collected; 'unknown' when nothing owns it and nothing will collect it. */
  dataState(set: number, dataId: Uint8Array): 'owned' | 'garbage' | 'unknown'
  /** Whether a command that carried this data id took effect; false too once it was replaced and collected. */
  wasOwned(set: number, dataId: Uint8Array): boolean
  /** Reverse records of a set after a data id, ordered by data id. */
  owners(set: number, after: Uint8Array | undefined, limit: number): DataOwner[]
  /** Oldest first. */
  garbage(limit: number, after?: { order: OrderKey; dataId: Uint8Array }): GarbageEntry[]
  heals(limit: number, after?: { set: number; dataId: Uint8Array }): HealEntry[]
  epochs(): WriterEpochRecord[]
  /** Nodes of the replicated engine's group, removed ones included, by id. */
  nodes(): NodeRecord[]
  lease(name: string): LeaseRecord | undefined
  counts(): { garbage: number; heals: number; objects: number; bytes: number; buckets: number }
}
