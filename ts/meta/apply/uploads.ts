/** Multipart uploads: create, parts, abort, expiry. Completion is in `complete.ts`. */
import type { Command } from '../command.js'
import {
  afterPrefix,
  completedKey,
  MAX_UPLOAD_ID,
  openUploadKey,
  openUploadsPrefix,
  partKey,
  SYSTEM,
  systemKey,
  u64,
  uploadKey,
} from '../keys.js'
import { unpack } from '../record.js'
import type { BucketRecord, UploadPartRecord, UploadRecord } from '../schema.js'
import { checkKey, needBucket, putBucket, refuse } from './context.js'
import type { Context, Handled } from './context.js'
import { checkDataId, disown, own } from './data_ids.js'
import { dropParts } from './objects.js'

export const MAX_PART_NUMBER = 10_000
/** Open uploads and parts that go with a deleted bucket at most: one command must not hold up all others. */
const MAX_DROPPED = 25_000

export function createUpload(context: Context, command: Extract<Command, { kind: 'createUpload' }>): Handled {
  const { bucketId, key, uploadId } = command
  const bucket = needBucket(context, bucketId)
  checkKey(key)
  const length = Buffer.byteLength(uploadId)
  if (length === 0 || length > MAX_UPLOAD_ID || uploadId.includes('\0')) refuse('InvalidRequest', 'upload id')
  const recordKey = uploadKey(bucketId, key, uploadId)
  if (context.tx.get(recordKey) !== undefined) refuse('Conflict', 'the upload id exists')
  const upload: UploadRecord = {
    bucketId,
    key,
    uploadId,
    ownerId: command.ownerId,
    initiatedMs: command.nowMs,
    attributes: command.attributes,
    ...(command.checksumAlgorithm && { checksumAlgorithm: command.checksumAlgorithm }),
    ...(command.checksumType && { checksumType: command.checksumType }),
    ...(command.node !== undefined && { node: command.node }),
  }
  context.tx.put(recordKey, upload)
  context.tx.put(openUploadKey(bucketId, key, uploadId), {})
  bucket.uploadCount += 1
  putBucket(context, bucket)
  return {}
}

export function needUpload(context: Context, bucketId: number, key: string, uploadId: string): UploadRecord {
  const upload = context.tx.read<UploadRecord>(uploadKey(bucketId, key, uploadId))
  return upload ?? refuse('NoSuchUpload', uploadId)
}

export function putPart(context: Context, command: Extract<Command, { kind: 'putPart' }>): Handled {
  const { bucketId, key, uploadId, partNumber, part } = command
  needBucket(context, bucketId)
  const upload = needUpload(context, bucketId, key, uploadId)
  if (upload.completed !== undefined) refuse('NoSuchUpload', uploadId)
  if (!Number.isInteger(partNumber) || partNumber < 1 || partNumber > MAX_PART_NUMBER) {
    refuse('InvalidRequest', `part number ${String(partNumber)}`)
  }
  if (part.size > 0 && part.location.geometry.partSize !== part.size) refuse('InvalidRequest', 'part size')
  checkDataId(context, part.location)
  const recordKey = partKey(bucketId, key, uploadId, partNumber)
  const old = context.tx.read<UploadPartRecord>(recordKey)
  own(context, part.location, { bucketId, key, uploadId, partNumber }, command.nowMs)
  const record: UploadPartRecord = { ...part, partNumber, modifiedMs: command.nowMs }
  context.tx.put(recordKey, record)
  if (old !== undefined) disown(context, old.location)
  return { etag: Buffer.from(part.md5).toString('hex'), size: part.size, modifiedMs: command.nowMs }
}

export function abortUpload(context: Context, command: Extract<Command, { kind: 'abortUpload' }>): Handled {
  const bucket = needBucket(context, command.bucketId)
  const upload = needUpload(context, command.bucketId, command.key, command.uploadId)
  if (upload.completed !== undefined) refuse('NoSuchUpload', command.uploadId)
  dropUpload(context, upload)
  bucket.uploadCount -= 1
  putBucket(context, bucket)
  return {}
}

function dropUpload(context: Context, upload: { bucketId: number; key: string; uploadId: string }): number {
  const parts = dropParts(context, upload.bucketId, upload.key, upload.uploadId)
  context.tx.remove(uploadKey(upload.bucketId, upload.key, upload.uploadId))
  context.tx.remove(openUploadKey(upload.bucketId, upload.key, upload.uploadId))
  return parts
}

/** Aborts every open upload of a bucket that is being deleted. */
export function dropOpenUploads(context: Context, bucketId: number): void {
  const prefix = openUploadsPrefix(bucketId)
  let dropped = 0
  for (const entry of context.tx.scan(prefix, afterPrefix(prefix))) {
    const end = entry.key.indexOf(0, prefix.length)
    const key = entry.key.toString('utf8', prefix.length, end)
    dropped += 1 + dropUpload(context, { bucketId, key, uploadId: entry.key.toString('utf8', end + 1) })
    if (dropped > MAX_DROPPED) refuse('BucketNotEmpty', 'too many open uploads and parts: abort them first')
  }
}

/** Remembers for `expireUploads` when an upload was completed. */
export function noteCompleted(context: Context, upload: UploadRecord, atMs: number): void {
  context.tx.put(completedKey(atMs, upload.bucketId, upload.key, upload.uploadId), {})
}

export function expireUploads(context: Context, command: Extract<Command, { kind: 'expireUploads' }>): Handled {
  const from = systemKey(SYSTEM.completed)
  let count = 0
  const old: Buffer[] = []
  for (const entry of context.tx.scan(from, systemKey(SYSTEM.completed, u64(command.beforeMs)))) {
    if (count++ === command.limit) break
    old.push(entry.key)
  }
  for (const key of old) {
    context.tx.remove(key)
    context.tx.remove(key.subarray(from.length + 8))
  }
  return { count: old.length }
}


export function closeUpload(context: Context, bucket: BucketRecord, upload: UploadRecord): void {
  context.tx.remove(openUploadKey(upload.bucketId, upload.key, upload.uploadId))
  bucket.uploadCount -= 1
}

export function partsOf(context: Context, upload: UploadRecord): Map<number, UploadPartRecord> {
  const prefix = partKey(upload.bucketId, upload.key, upload.uploadId, 0).subarray(0, -2)
  const parts = new Map<number, UploadPartRecord>()
  for (const entry of context.tx.scan(prefix, afterPrefix(prefix))) {
    const record = unpack(entry.payload) as UploadPartRecord
    parts.set(record.partNumber, record)
  }
  return parts
}
