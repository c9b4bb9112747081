/** Buckets. Names are checked here; everything else is decided in `apply`. */
import type { BucketRecord } from '../meta/schema.js'
import type { StoreContext } from './context.js'
import { checkBucketName } from './names.js'

/** InvalidBucketName, BucketAlreadyExists, BucketAlreadyOwnedByYou. */
export async function createBucket(
  context: StoreContext,
  name: string,
  ownerId: string,
  region: string,
): Promise<void> {
  checkBucketName(name)
  const fields = { BucketName: name }
  await context.commit({ kind: 'createBucket', name, ownerId, region, nowMs: context.now() }, fields)
}

/** NoSuchBucket, BucketNotEmpty. */
export async function deleteBucket(context: StoreContext, name: string): Promise<void> {
  context.bucket(name)
  await context.commit({ kind: 'deleteBucket', name }, { BucketName: name })
}

/** All buckets, by name. */
export function buckets(context: StoreContext): BucketRecord[] {
  return context.look((reader) => reader.buckets())
}
