/**
 * What the handlers of one command share. A handler checks first and changes afterwards; it refuses by throwing
 * `Refused`, which takes back everything the command changed.
 */
import type { CommandValue, Refusal, WriteCondition } from '../command.js'
import { bucketKey, bucketNameKey, KIND, MAX_OBJECT_KEY, objectPrefix } from '../keys.js'
import { unpack } from '../record.js'
import type { BucketRecord, ObjectRecord, OrderKey } from '../schema.js'
import type { Transaction } from './transaction.js'

export interface Context {
  tx: Transaction
  order: OrderKey
  /** The proposer's clock when the batch was made. */
  batchMs: number
}

export type Handled = CommandValue

export class Refused extends Error {
  readonly refusal: Refusal
  constructor(refusal: Refusal, detail: string) {
    super(detail)
    this.refusal = refusal
  }
}

export function refuse(refusal: Refusal, detail: string): never {
  throw new Refused(refusal, detail)
}

/** A key that could not be told from the records around it must never get in. */
export function checkKey(key: string): void {
  if (key === '' || key.includes('\0') || Buffer.byteLength(key) > MAX_OBJECT_KEY) {
    refuse('InvalidRequest', `an object key has 1 to ${String(MAX_OBJECT_KEY)} bytes, none of them zero`)
  }
}

export function needBucket(context: Context, bucketId: number): BucketRecord {
  return context.tx.readFlat<BucketRecord>(bucketKey(bucketId)) ?? refuse('NoSuchBucket', `bucket ${String(bucketId)}`)
}

export function bucketByName(context: Context, name: string): BucketRecord | undefined {
  const found = context.tx.read<{ id: number }>(bucketNameKey(name))
  return found === undefined ? undefined : context.tx.read<BucketRecord>(bucketKey(found.id))
}

export function putBucket(context: Context, bucket: BucketRecord): void {
  context.tx.putFlat(bucketKey(bucket.id), bucket)
}

/** The newest object record of a key and the key it lies under. */
export function currentObject(
  context: Context,
  bucketId: number,
  key: string,
): { recordKey: Buffer; object: ObjectRecord } | undefined {
  const prefix = objectPrefix(bucketId, key, KIND.object)
  const entry = context.tx.first(prefix)
  return entry && { recordKey: entry.key, object: unpack(entry.payload) as ObjectRecord }
}

/** Conditions of S3 on a write: If-Match on nothing is NoSuchKey. */
export function checkCondition(condition: WriteCondition | undefined, current: ObjectRecord | undefined): void {
  if (condition?.ifNoneMatch !== undefined && current !== undefined) {
    refuse('PreconditionFailed', 'If-None-Match: the key exists')
  }
  if (condition?.ifMatch === undefined) return
  if (current === undefined) refuse('NoSuchKey', 'If-Match: the key does not exist')
  if (condition.ifMatch !== '*' && condition.ifMatch !== current.etag) {
    refuse('PreconditionFailed', 'If-Match: the ETag differs')
  }
}
