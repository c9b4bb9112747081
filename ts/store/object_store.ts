/**
 * The object engine: buckets, objects and multipart uploads over metadata and erasure sets. It knows S3's
 * semantics but nothing of HTTP. Implemented by `store.ts`; runs in any thread.
 *
 * Errors: S3Error with S3's codes. ServiceUnavailable / SlowDown when quorum, space or a queue forbids and
 * nothing changed; InternalError when the outcome is unknown (a retry is safe).
 *
 * Writes: shards durable, then one command. An error or abort before the command leaves nothing behind but
 * shards that the writer deletes or the collector proves unreferenced.
 */
import type { WriteCondition } from '../meta/command.js'
import type { ListPage, ListQuery, UploadListPage, UploadListQuery } from '../meta/reader.js'
import type {
  BucketRecord,
  Checksum,
  ChecksumAlgorithm,
  ObjectAttributes,
  ObjectRecord,
  UploadPartRecord,
  UploadRecord,
} from '../meta/schema.js'

/**
 * Data on its way in. Iterating yields exactly `size` bytes or throws an S3Error (IncompleteBody, BadDigest,
 * ...); checks that need the whole body happen before the iteration ends, so data that fails them is never
 * committed.
 */
export interface BodySource extends AsyncIterable<Uint8Array> {
  readonly size: number
  /** Instead of iterating: all of it in one buffer, after the same checks. For bodies of at most WHOLE_BODY bytes. */
  whole?(): Promise<Uint8Array>
  /** Valid once the iteration has ended well. */
  digests(): BodyDigests
}

/** A body of at most so many bytes is taken in one piece where its source can give it so. */
export const WHOLE_BODY: number = 64 * 1024

export interface BodyDigests {
  md5: Uint8Array
  /** The checksum the client chose (header or trailer), or the default CRC64NVME when it chose none. */
  checksum?: Checksum
}

export interface PutObject {
  bucket: string
  key: string
  ownerId: string
  body: BodySource
  attributes: ObjectAttributes
  condition?: WriteCondition
  signal?: AbortSignal
}

export interface PutResult {
  etag: string
  versionId: string
  modifiedMs: number
  size: number
  checksum?: Checksum
}

/** Bytes of an object to read. Resolved by the caller against `ObjectRecord.size`. */
export interface ByteRange {
  offset: number
  length: number
}

/**
 * An object pinned at one metadata position: its data cannot be collected until `release`. The caller looks
 * at `object` (conditions, range) and then reads.
 */
export interface ObjectHandle {
  readonly object: ObjectRecord
  /** Parts of a multipart object: number of parts, and the range and record of one of them (GET ?partNumber=N). */
  readonly partCount: number
  // `ordinal` counts from 0. `part` and `read` ask the view of the moment: call them in the turn in which the handle
  // was opened, or a multipart object that was replaced since is ServiceUnavailable. What has begun is not affected.
  part(ordinal: number): { range: ByteRange; record: { size: number; checksum?: Checksum } } | undefined
  read(range: ByteRange, signal?: AbortSignal): AsyncIterable<Uint8Array>
  /** All bytes of the range in one buffer, when they are few and at hand; undefined otherwise: then `read` them. */
  readNow(range: ByteRange): Uint8Array | undefined
  /** Idempotent. */
  release(): void
}

export interface CopySource {
  bucket: string
  key: string
  /** Read conditions on the source; failing ones are PreconditionFailed. ETags without quotes or '*'. */
  ifMatch?: string[]
  ifNoneMatch?: string[]
  ifModifiedSinceMs?: number
  ifUnmodifiedSinceMs?: number
}

export interface CopyObject {
  source: CopySource
  bucket: string
  key: string
  ownerId: string
  /** 'COPY' keeps the source's attributes (the storage class is always taken from `attributes`). */
  metadata: 'COPY' | 'REPLACE'
  attributes: ObjectAttributes
  checksumAlgorithm?: ChecksumAlgorithm
  condition?: WriteCondition
  signal?: AbortSignal
}

export interface CreateUpload {
  bucket: string
  key: string
  ownerId: string
  attributes: ObjectAttributes
  checksumAlgorithm?: ChecksumAlgorithm
  checksumType?: 'FULL_OBJECT' | 'COMPOSITE'
}

export interface UploadPart {
  bucket: string
  key: string
  uploadId: string
  partNumber: number
  body: BodySource
  signal?: AbortSignal
}

export interface UploadPartCopy {
  bucket: string
  key: string
  uploadId: string
  partNumber: number
  source: CopySource
  range?: ByteRange
  signal?: AbortSignal
}

export interface CompleteUpload {
  bucket: string
  key: string
  uploadId: string
  parts: { partNumber: number; etag: string; checksum?: Uint8Array }[]
  checksum?: Checksum
  expectedSize?: number
  condition?: WriteCondition
}

export interface DeleteResult {
  key: string
  error?: { code: string; message: string }
}

export interface ObjectStore {
  createBucket(name: string, ownerId: string, region: string): Promise<void>
  deleteBucket(name: string): Promise<void>
  /** NoSuchBucket when absent. */
  bucket(name: string): BucketRecord
  buckets(): BucketRecord[]

  putObject(request: PutObject): Promise<PutResult>
  /** NoSuchBucket, NoSuchKey. Always release the handle. */
  openObject(bucket: string, key: string): ObjectHandle
  copyObject(request: CopyObject): Promise<PutResult>
  deleteObject(bucket: string, key: string, condition?: WriteCondition): Promise<void>
  deleteObjects(bucket: string, keys: { key: string; ifMatch?: string }[]): Promise<DeleteResult[]>
  listObjects(bucket: string, query: Omit<ListQuery, 'bucketId'>): ListPage

  createUpload(request: CreateUpload): Promise<UploadRecord>
  uploadPart(request: UploadPart): Promise<UploadPartRecord>
  uploadPartCopy(request: UploadPartCopy): Promise<UploadPartRecord>
  completeUpload(request: CompleteUpload): Promise<PutResult>
  abortUpload(bucket: string, key: string, uploadId: string): Promise<void>
  /** NoSuchUpload when absent or completed. */
  upload(bucket: string, key: string, uploadId: string, completedToo?: boolean): UploadRecord
  listUploads(bucket: string, query: Omit<UploadListQuery, 'bucketId'>): UploadListPage
  listParts(bucket: string, key: string, uploadId: string, after: number, limit: number): UploadPartRecord[]
}
