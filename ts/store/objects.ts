/** Objects: put, delete, list. Reading is in reading.ts, copying in copy.ts. */
import { randomBytes } from 'node:crypto'
import type { Command, WriteCondition } from '../meta/command.js'
import type { ListPage, ListQuery, MetadataReader } from '../meta/reader.js'
import type { BucketRecord } from '../meta/schema.js'
import { refusalError, type StoreContext } from './context.js'
import { S3Error } from './errors.js'
import { checkKey, isKey } from './names.js'
import type { DeleteResult, PutObject, PutResult } from './object_store.js'
import type { PartCommand } from './part_command.js'
import { storePart, type StoredPart } from './writing.js'

/** In buckets without versioning every object has this version id. */
export const NULL_VERSION = 'null'

/** Keys of one DeleteObjects request. */
export const MAX_DELETE_KEYS = 1000

/**
 * Stores an object of one part. A condition that already fails is refused before the body is read; the
 * decision that counts is made again in `apply`.
 */
export async function putObject(context: StoreContext, request: PutObject): Promise<PutResult> {
  checkKey(request.key)
  const { bucketId } = context.look((reader) => {
    const bucket = context.bucketIn(reader, request.bucket)
    checkCondition(reader, bucket, request.key, request.condition)
    return { bucketId: bucket.id }
  })
  const { body } = request
  if (body.size > context.limits.maxPutSize) {
    throw new S3Error('EntityTooLarge', '', {
      ProposedSize: String(body.size),
      MaxSizeAllowed: String(context.limits.maxPutSize),
    })
  }
  const modifiedMs = context.now()
  const { stored, value } = await storePart(
    context,
    {
      salvage: { bucketId, key: request.key, uploadId: '', partNumber: 0 },
      storageClass: request.attributes.storageClass,
      body,
      signal: request.signal,
    },
    (part) => putCommand(request, bucketId, modifiedMs, part),
    { Key: request.key },
  )
  const result: PutResult = {
    etag: stored.etag,
    versionId: value.versionId ?? NULL_VERSION,
    modifiedMs: value.modifiedMs ?? modifiedMs,
    size: body.size,
  }
  if (stored.digests.checksum !== undefined) result.checksum = stored.digests.checksum
  return result
}

function putCommand(request: PutObject, bucketId: number, modifiedMs: number, stored: StoredPart): PartCommand {
  const command: PartCommand = {
    kind: 'putObject',
    bucketId,
    key: request.key,
    versionId: NULL_VERSION,
    ownerId: request.ownerId,
    etag: stored.etag,
    size: request.body.size,
    modifiedMs,
    attributes: request.attributes,
  }
  if (stored.digests.checksum !== undefined) command.checksum = stored.digests.checksum
  if (stored.part !== undefined) command.part = stored.part
  if (request.condition !== undefined) command.condition = request.condition
  return command
}

/** Refuses early what `apply` would refuse: it saves reading the body, no more. */
export function checkCondition(
  reader: MetadataReader,
  bucket: BucketRecord,
  key: string,
  condition: WriteCondition | undefined,
): void {
  if (condition === undefined) return
  const current = reader.object(bucket.id, key)
  if (condition.ifNoneMatch !== undefined && current !== undefined) {
    throw new S3Error('PreconditionFailed', '', { Condition: 'If-None-Match' })
  }
  if (condition.ifMatch === undefined) return
  if (current === undefined) throw new S3Error('NoSuchKey', '', { Key: key })
  if (condition.ifMatch !== '*' && condition.ifMatch !== current.etag) {
    throw new S3Error('PreconditionFailed', '', { Condition: 'If-Match' })
  }
}

/** Deleting what is not there succeeds, unless a condition says what must be there. */
export async function deleteObject(
  context: StoreContext,
  bucketName: string,
  key: string,
  condition?: WriteCondition,
): Promise<void> {
  const bucket = context.bucket(bucketName)
  if (!isKey(key)) return
  const command: Command = { kind: 'deleteObject', bucketId: bucket.id, key }
  const result = await context.propose(condition === undefined ? command : { ...command, condition })
  if (result.ok) return
  if (result.refusal === 'NoSuchKey' && condition?.ifMatch === undefined) return
  throw refusalError(result.refusal, result.detail, { Key: key })
}

/** One answer per key, in the order asked. */
export async function deleteObjects(
  context: StoreContext,
  bucketName: string,
  keys: { key: string; ifMatch?: string }[],
): Promise<DeleteResult[]> {
  if (keys.length > MAX_DELETE_KEYS) throw new S3Error('MalformedXML')
  const bucket = context.bucket(bucketName)
  // A key that cannot exist is gone already.
  const possible = keys.filter((entry) => isKey(entry.key))
  const value =
    possible.length === 0
      ? { deleted: [] }
      : await context.commit({ kind: 'deleteObjects', bucketId: bucket.id, keys: possible })
  const deleted = value.deleted ?? []
  if (deleted.length !== possible.length) throw new S3Error('InternalError')
  let at = 0
  return keys.map(({ key, ifMatch }) => {
    if (!isKey(key)) return { key }
    const refusal = deleted[at++]?.refusal
    if (refusal === undefined || (refusal === 'NoSuchKey' && ifMatch === undefined)) return { key }
    const error = refusalError(refusal, '')
    return { key, error: { code: error.code, message: error.message } }
  })
}

export function listObjects(
  context: StoreContext,
  bucketName: string,
  query: Omit<ListQuery, 'bucketId'>,
): ListPage {
  return context.look((reader) => {
    const bucket = context.bucketIn(reader, bucketName)
    return reader.list({ ...query, bucketId: bucket.id })
  })
}

/** Opaque, sorts by initiation time: milliseconds as 12 hex digits, then 80 random bits. */
export function makeUploadId(nowMs: number): string {
  return nowMs.toString(16).padStart(12, '0') + randomBytes(10).toString('hex')
}
