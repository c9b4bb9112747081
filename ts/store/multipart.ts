/**
 * Multipart uploads. Parts are records under the upload id; completing changes references, it copies nothing.
 * What belongs to the order of things (which part counts, 5 MiB rule, ETags, retries of a completed upload)
 * is decided in `apply`.
 */
import type { UploadListPage, UploadListQuery } from '../meta/reader.js'
import type { ObjectAttributes, PartRecord, UploadPartRecord, UploadRecord } from '../meta/schema.js'
import { checkReadableKey, unavailable, type StoreContext } from './context.js'
import { CopyBody, openSource, sourceRange } from './copy.js'
import { DEFAULT_CHECKSUM } from './digests.js'
import { S3Error } from './errors.js'
import { checkKey, isKey } from './names.js'
import type {
  BodySource,
  CompleteUpload,
  CreateUpload,
  PutResult,
  UploadPart,
  UploadPartCopy,
} from './object_store.js'
import { makeUploadId, NULL_VERSION } from './objects.js'
import { storePart, type StoredPart } from './writing.js'

/** The node that a store begins on. */
const FIRST_NODE = 1
const UPLOAD_ID_SHAPE = /^[0-9a-f]{32}$/

export async function createUpload(context: StoreContext, request: CreateUpload): Promise<UploadRecord> {
  checkKey(request.key)
  const bucket = context.bucket(request.bucket)
  const nowMs = context.now()
  const { bucket: _, ...rest } = request
  const pinned = context.node === undefined ? {} : { node: context.node }
  const fields = { ...rest, bucketId: bucket.id, uploadId: makeUploadId(nowMs), ...pinned }
  await context.commit({ kind: 'createUpload', ...fields, nowMs }, { Key: request.key })
  return { ...fields, initiatedMs: nowMs }
}

/** NoSuchBucket, NoSuchUpload (also for a completed one, unless these are asked for too). */
export function upload(
  context: StoreContext,
  bucketName: string,
  key: string,
  uploadId: string,
  completedToo = false,
): UploadRecord {
  return context.look((reader) => {
    const bucket = context.bucketIn(reader, bucketName)
    // Shapes that no upload has are not looked up.
    const possible = UPLOAD_ID_SHAPE.test(uploadId) && isKey(key)
    const record = possible ? reader.upload(bucket.id, key, uploadId) : undefined
    if (record === undefined || (record.completed !== undefined && !completedToo)) throw noSuchUpload(uploadId)
    return record
  })
}

function noSuchUpload(uploadId: string): S3Error {
  return new S3Error('NoSuchUpload', '', { UploadId: uploadId.slice(0, 1024) })
}

function checkPartNumber(context: StoreContext, partNumber: number): void {
  const { maxPartNumber } = context.limits
  if (Number.isInteger(partNumber) && partNumber >= 1 && partNumber <= maxPartNumber) return
  throw new S3Error(
    'InvalidArgument',
    `Part number must be an integer between 1 and ${String(maxPartNumber)}, inclusive`,
    { ArgumentName: 'partNumber', ArgumentValue: String(partNumber) },
  )
}

export async function uploadPart(context: StoreContext, request: UploadPart): Promise<UploadPartRecord> {
  checkPartNumber(context, request.partNumber)
  const record = upload(context, request.bucket, request.key, request.uploadId)
  return storeUploadPart(context, record, request.partNumber, request.body, request.signal)
}

/** Parts of an upload lie on the drives of one node: of the first one, for uploads from before there were several. */
function checkPinned(context: StoreContext, { node }: UploadRecord): void {
  const owner = node ?? FIRST_NODE
  if (context.node === undefined || context.node === owner) return
  throw unavailable(`The upload was begun on ${context.nodeName(owner)}, which takes its parts. Send them there.`)
}

async function storeUploadPart(
  context: StoreContext,
  record: UploadRecord,
  partNumber: number,
  body: BodySource,
  signal: AbortSignal | undefined,
): Promise<UploadPartRecord> {
  const { bucketId, key, uploadId } = record
  checkPinned(context, record)
  const storageClass: ObjectAttributes['storageClass'] = record.attributes.storageClass
  if (body.size > context.limits.maxPartSize) {
    throw new S3Error('EntityTooLarge', '', {
      ProposedSize: String(body.size),
      MaxSizeAllowed: String(context.limits.maxPartSize),
    })
  }
  const modifiedMs = context.now()
  const { stored } = await storePart(
    context,
    { salvage: { bucketId, key, uploadId, partNumber }, storageClass, body, signal },
    (stored) => ({
      kind: 'putPart',
      bucketId,
      key,
      uploadId,
      partNumber,
      nowMs: modifiedMs,
      part: partOf(stored),
    }),
    { UploadId: uploadId },
  )
  return { ...partOf(stored), partNumber, modifiedMs }
}

export async function uploadPartCopy(context: StoreContext, request: UploadPartCopy): Promise<UploadPartRecord> {
  checkPartNumber(context, request.partNumber)
  const record = upload(context, request.bucket, request.key, request.uploadId)
  const source = openSource(context, request.source)
  try {
    const range = sourceRange(source.object, request.range)
    const body = new CopyBody(source, range, record.checksumAlgorithm ?? DEFAULT_CHECKSUM, request.signal)
    return await storeUploadPart(context, record, request.partNumber, body, request.signal)
  } finally {
    source.release()
  }
}

export async function completeUpload(context: StoreContext, request: CompleteUpload): Promise<PutResult> {
  const bucket = context.bucket(request.bucket)
  if (!UPLOAD_ID_SHAPE.test(request.uploadId)) throw noSuchUpload(request.uploadId)
  checkReadableKey(request.key)
  if (request.parts.length === 0) throw new S3Error('MalformedXML')
  if (request.parts.length > context.limits.maxPartNumber) throw new S3Error('InvalidArgument', 'Too many parts.')
  const nowMs = context.now()
  const { bucket: _, ...rest } = request
  const value = await context.commit(
    {
      kind: 'completeUpload',
      ...rest,
      bucketId: bucket.id,
      versionId: NULL_VERSION,
      nowMs,
      minPartSize: context.limits.minPartSize,
    },
    { UploadId: request.uploadId },
  )
  if (value.etag === undefined || value.size === undefined) throw new S3Error('InternalError')
  const result: PutResult = {
    etag: value.etag,
    size: value.size,
    versionId: value.versionId ?? NULL_VERSION,
    modifiedMs: value.modifiedMs ?? nowMs,
  }
  if (value.checksum !== undefined) result.checksum = value.checksum
  return result
}

function partOf(stored: StoredPart): PartRecord {
  if (stored.part === undefined) throw new S3Error('InternalError', 'A part of an upload has no record.')
  return stored.part
}

/** NoSuchUpload when absent or completed. */
export async function abortUpload(
  context: StoreContext,
  bucketName: string,
  key: string,
  uploadId: string,
): Promise<void> {
  const bucket = context.bucket(bucketName)
  if (!UPLOAD_ID_SHAPE.test(uploadId) || !isKey(key)) throw noSuchUpload(uploadId)
  await context.commit({ kind: 'abortUpload', bucketId: bucket.id, key, uploadId }, { UploadId: uploadId })
}

export function listUploads(
  context: StoreContext,
  bucketName: string,
  query: Omit<UploadListQuery, 'bucketId'>,
): UploadListPage {
  return context.look((reader) => {
    const bucket = context.bucketIn(reader, bucketName)
    return reader.listUploads({ ...query, bucketId: bucket.id })
  })
}

/** Parts of an open upload with a number above `after`, ascending, at most `limit`. */
export function listParts(
  context: StoreContext,
  bucketName: string,
  key: string,
  uploadId: string,
  after: number,
  limit: number,
): UploadPartRecord[] {
  const record = upload(context, bucketName, key, uploadId)
  return context.guard(() => context.metadata.reader.parts(record.bucketId, key, uploadId, after, limit))
}
