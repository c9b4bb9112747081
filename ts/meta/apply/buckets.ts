/** Buckets: create and delete. */
import type { Command } from '../command.js'
import { bucketKey, bucketNameKey, COUNTERS_KEY } from '../keys.js'
import type { BucketRecord } from '../schema.js'
import { bucketByName, refuse } from './context.js'
import type { Context, Handled } from './context.js'
import { dropOpenUploads } from './uploads.js'

export function createBucket(context: Context, command: Extract<Command, { kind: 'createBucket' }>): Handled {
  const existing = bucketByName(context, command.name)
  if (existing !== undefined) {
    const own = existing.ownerId === command.ownerId
    refuse(own ? 'BucketAlreadyOwnedByYou' : 'BucketAlreadyExists', command.name)
  }
  const counters = context.tx.counters()
  const bucket: BucketRecord = {
    id: counters.nextBucketId,
    name: command.name,
    ownerId: command.ownerId,
    createdMs: command.nowMs,
    region: command.region,
    objectCount: 0,
    byteCount: 0,
    uploadCount: 0,
  }
  context.tx.put(COUNTERS_KEY, { ...counters, nextBucketId: bucket.id + 1 })
  context.tx.put(bucketKey(bucket.id), bucket)
  context.tx.put(bucketNameKey(bucket.name), { id: bucket.id })
  context.tx.addTotals({ buckets: 1 })
  return { bucketId: bucket.id }
}

/** As S3 does: open uploads do not keep a bucket alive, they are aborted with it. */
export function deleteBucket(context: Context, command: Extract<Command, { kind: 'deleteBucket' }>): Handled {
  const bucket = bucketByName(context, command.name) ?? refuse('NoSuchBucket', command.name)
  if (bucket.objectCount > 0) refuse('BucketNotEmpty', command.name)
  dropOpenUploads(context, bucket.id)
  context.tx.remove(bucketKey(bucket.id))
  context.tx.remove(bucketNameKey(bucket.name))
  context.tx.addTotals({ buckets: -1 })
  return {}
}
