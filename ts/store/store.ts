/**
 * The object engine of one thread: `ObjectStore` over metadata and erasure sets. The work is in the files by
 * family; this one joins them. See object_store.ts for the promises.
 *
 *   PUT    bucket, condition -> data id -> placement -> shards durable -> command -> answer     (writing.ts)
 *   GET    pin -> snapshot -> object record -> stripes of k shards -> release                   (reading.ts)
 */
import type { WriteCondition } from '../meta/command.js'
import type { ListPage, ListQuery, UploadListPage, UploadListQuery } from '../meta/reader.js'
import type { BucketRecord, UploadPartRecord, UploadRecord } from '../meta/schema.js'
import * as buckets from './buckets.js'
import { StoreContext, type StoreParts } from './context.js'
import { copyObject } from './copy.js'
import * as multipart from './multipart.js'
import type * as api from './object_store.js'
import * as objects from './objects.js'
import { openObject } from './reading.js'

export class Store implements api.ObjectStore {
  readonly #context: StoreContext

  constructor(parts: StoreParts) {
    this.#context = new StoreContext(parts)
  }

  createBucket(name: string, ownerId: string, region: string): Promise<void> {
    return buckets.createBucket(this.#context, name, ownerId, region)
  }

  deleteBucket(name: string): Promise<void> {
    return buckets.deleteBucket(this.#context, name)
  }

  bucket(name: string): BucketRecord {
    return this.#context.bucket(name)
  }

  buckets(): BucketRecord[] {
    return buckets.buckets(this.#context)
  }

  putObject(request: api.PutObject): Promise<api.PutResult> {
    return objects.putObject(this.#context, request)
  }

  openObject(bucket: string, key: string): api.ObjectHandle {
    return openObject(this.#context, bucket, key)
  }

  copyObject(request: api.CopyObject): Promise<api.PutResult> {
    return copyObject(this.#context, request)
  }

  deleteObject(bucket: string, key: string, condition?: WriteCondition): Promise<void> {
    return objects.deleteObject(this.#context, bucket, key, condition)
  }

  deleteObjects(bucket: string, keys: { key: string; ifMatch?: string }[]): Promise<api.DeleteResult[]> {
    return objects.deleteObjects(this.#context, bucket, keys)
  }

  listObjects(bucket: string, query: Omit<ListQuery, 'bucketId'>): ListPage {
    return objects.listObjects(this.#context, bucket, query)
  }

  createUpload(request: api.CreateUpload): Promise<UploadRecord> {
    return multipart.createUpload(this.#context, request)
  }

  uploadPart(request: api.UploadPart): Promise<UploadPartRecord> {
    return multipart.uploadPart(this.#context, request)
  }

  uploadPartCopy(request: api.UploadPartCopy): Promise<UploadPartRecord> {
    return multipart.uploadPartCopy(this.#context, request)
  }

  completeUpload(request: api.CompleteUpload): Promise<api.PutResult> {
    return multipart.completeUpload(this.#context, request)
  }

  abortUpload(bucket: string, key: string, uploadId: string): Promise<void> {
    return multipart.abortUpload(this.#context, bucket, key, uploadId)
  }

  upload(bucket: string, key: string, uploadId: string, completedToo = false): UploadRecord {
    return multipart.upload(this.#context, bucket, key, uploadId, completedToo)
  }

  listUploads(bucket: string, query: Omit<UploadListQuery, 'bucketId'>): UploadListPage {
    return multipart.listUploads(this.#context, bucket, query)
  }

  listParts(bucket: string, key: string, uploadId: string, after: number, limit: number): UploadPartRecord[] {
    return multipart.listParts(this.#context, bucket, key, uploadId, after, limit)
  }
}
