/** Objects: put, delete, and taking one record's place. */
import type { Command, CommandValue } from '../command.js'
import { afterPrefix, objectRecordKey, partPrefix } from '../keys.js'
import { unpack } from '../record.js'
import type { BucketRecord, ObjectRecord, UploadPartRecord } from '../schema.js'
import { checkCondition, checkKey, currentObject, needBucket, putBucket, refuse, Refused } from './context.js'
import type { Context, Handled } from './context.js'
import { checkDataId, disown, own } from './data_ids.js'

export function putObject(context: Context, command: Extract<Command, { kind: 'putObject' }>): Handled {
  const { part, bucketId, key } = command
  const bucket = needBucket(context, bucketId)
  checkKey(key)
  const size = part?.size ?? 0
  if (command.size !== size || (part !== undefined && part.location.geometry.partSize !== size)) {
    refuse('InvalidRequest', 'the sizes of object and part differ')
  }
  if (part !== undefined) checkDataId(context, part.location)
  const current = currentObject(context, bucketId, key)
  checkCondition(command.condition, current?.object)
  const object: ObjectRecord = {
    bucketId,
    key,
    order: context.order,
    versionId: command.versionId,
    ownerId: command.ownerId,
    size,
    etag: command.etag,
    modifiedMs: command.modifiedMs,
    attributes: command.attributes,
    ...(command.checksum && { checksum: command.checksum }),
    body: part === undefined ? { kind: 'empty' } : { kind: 'part', part },
  }
  if (part !== undefined)
    own(context, part.location, { bucketId, key, uploadId: '', partNumber: 0 }, command.modifiedMs)
  placeObject(context, bucket, object, current)
  return objectValue(object)
}

export function objectValue(object: ObjectRecord): CommandValue {
  const { etag, size, versionId, modifiedMs, checksum } = object
  return { etag, size, versionId, modifiedMs, ...(checksum && { checksum }) }
}

/** Writes an object record in place of the current one, and counts. */
export function placeObject(
  context: Context,
  bucket: BucketRecord,
  object: ObjectRecord,
  current: { recordKey: Buffer; object: ObjectRecord } | undefined,
): void {
  if (current !== undefined) dropObject(context, current)
  context.tx.put(objectRecordKey(object.bucketId, object.key, object.order), object)
  const objects = current === undefined ? 1 : 0
  const bytes = object.size - (current?.object.size ?? 0)
  bucket.objectCount += objects
  bucket.byteCount += bytes
  putBucket(context, bucket)
  context.tx.addTotals({ objects, bytes })
}

/** Removes an object record and hands its parts to the collector. Counts nothing. */
function dropObject(context: Context, current: { recordKey: Buffer; object: ObjectRecord }): void {
  const { object, recordKey } = current
  context.tx.remove(recordKey)
  if (object.body.kind === 'part') disown(context, object.body.part.location)
  if (object.body.kind === 'parts') dropParts(context, object.bucketId, object.key, object.body.uploadId)
}

/** Removes all part records of an upload and hands the parts to the collector; how many there were. */
export function dropParts(context: Context, bucketId: number, key: string, uploadId: string): number {
  const prefix = partPrefix(bucketId, key, uploadId)
  const entries = [...context.tx.scan(prefix, afterPrefix(prefix))]
  for (const entry of entries) {
    context.tx.remove(entry.key)
    disown(context, (unpack(entry.payload) as UploadPartRecord).location)
  }
  return entries.length
}

/** True when something was deleted; deleting what is not there succeeds. */
function deleteOne(context: Context, bucket: BucketRecord, key: string, ifMatch: string | undefined): boolean {
  const current = currentObject(context, bucket.id, key)
  checkCondition(ifMatch === undefined ? undefined : { ifMatch }, current?.object)
  if (current === undefined) return false
  dropObject(context, current)
  bucket.objectCount -= 1
  bucket.byteCount -= current.object.size
  context.tx.addTotals({ objects: -1, bytes: -current.object.size })
  return true
}

export function deleteObject(context: Context, command: Extract<Command, { kind: 'deleteObject' }>): Handled {
  const bucket = needBucket(context, command.bucketId)
  if (command.condition?.ifNoneMatch !== undefined) refuse('InvalidRequest', 'If-None-Match on a delete')
  const deleted = deleteOne(context, bucket, command.key, command.condition?.ifMatch)
  if (deleted) putBucket(context, bucket)
  return { count: deleted ? 1 : 0 }
}

/** Each key by itself: a refused key does not stop the others. */
export function deleteObjects(context: Context, command: Extract<Command, { kind: 'deleteObjects' }>): Handled {
  const bucket = needBucket(context, command.bucketId)
  let count = 0
  const deleted = command.keys.map(({ key, ifMatch }) => {
    try {
      if (deleteOne(context, bucket, key, ifMatch)) count++
      return { key }
    } catch (error) {
      if (error instanceof Refused) return { key, refusal: error.refusal }
      throw error
    }
  })
  if (count > 0) putBucket(context, bucket)
  return { deleted, count }
}
