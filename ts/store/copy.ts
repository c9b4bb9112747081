/**
 * Copies: the source is opened under a pin, its bytes are read, digested and stored as a new part. Two
 * objects never share a part, so deleting one can never harm the other.
 */
import type { StoreContext } from './context.js'
import { DEFAULT_CHECKSUM, PartHasher, type HasherOptions } from './digests.js'
import { S3Error } from './errors.js'
import { putObject } from './objects.js'
import type {
  BodyDigests,
  BodySource,
  ByteRange,
  CopyObject,
  CopySource,
  ObjectHandle,
  PutResult,
} from './object_store.js'
import { openObject } from './reading.js'
import type { ChecksumAlgorithm, ObjectRecord } from '../meta/schema.js'

const TO_ITSELF =
  'This copy request is illegal because it is trying to copy an object to itself without changing the ' +
  "object's metadata, storage class, website redirect location or encryption attributes."

export async function copyObject(context: StoreContext, request: CopyObject): Promise<PutResult> {
  const source = openSource(context, request.source)
  try {
    const { object } = source
    const sameObject = request.source.bucket === request.bucket && request.source.key === request.key
    const keepsClass = object.attributes.storageClass === request.attributes.storageClass
    if (sameObject && request.metadata === 'COPY' && keepsClass) throw new S3Error('InvalidRequest', TO_ITSELF)
    if (object.size > context.limits.maxPutSize) {
      throw new S3Error(
        'InvalidRequest',
        'The specified copy source is larger than the maximum allowable size for a copy source: ' +
          String(context.limits.maxPutSize),
      )
    }
    const algorithm = request.checksumAlgorithm ?? object.checksum?.algorithm ?? DEFAULT_CHECKSUM
    const range = { offset: 0, length: object.size }
    const { source: _, metadata, checksumAlgorithm: __, ...target } = request
    return await putObject(context, {
      ...target,
      attributes:
        metadata === 'REPLACE'
          ? request.attributes
          : { ...object.attributes, storageClass: request.attributes.storageClass },
      body: new CopyBody(source, range, algorithm, request.signal),
    })
  } finally {
    source.release()
  }
}

/** Opens the source and checks the conditions on it: PreconditionFailed. */
export function openSource(context: StoreContext, source: CopySource): ObjectHandle {
  const handle = openObject(context, source.bucket, source.key)
  const failed = failedCondition(handle.object, source)
  if (failed === undefined) return handle
  handle.release()
  throw new S3Error('PreconditionFailed', '', { Condition: failed })
}

/**
 * S3's rules: If-Match that holds wins over If-Unmodified-Since; If-None-Match that holds (no ETag matched)
 * wins over If-Modified-Since. Times compare at whole seconds, as HTTP carries them.
 */
function failedCondition(object: ObjectRecord, source: CopySource): string | undefined {
  const matches = (etags: readonly string[]): boolean => etags.includes('*') || etags.includes(object.etag)
  const modified = Math.floor(object.modifiedMs / 1000)
  if (source.ifMatch !== undefined) {
    if (!matches(source.ifMatch)) return 'x-amz-copy-source-If-Match'
  } else if (source.ifUnmodifiedSinceMs !== undefined && modified > Math.floor(source.ifUnmodifiedSinceMs / 1000)) {
    return 'x-amz-copy-source-If-Unmodified-Since'
  }
  if (source.ifNoneMatch !== undefined) {
    if (matches(source.ifNoneMatch)) return 'x-amz-copy-source-If-None-Match'
  } else if (source.ifModifiedSinceMs !== undefined && modified <= Math.floor(source.ifModifiedSinceMs / 1000)) {
    return 'x-amz-copy-source-If-Modified-Since'
  }
  return undefined
}

/** A range of an open object as the body of another part. */
export class CopyBody implements BodySource {
  readonly size: number
  readonly #chunks: AsyncIterable<Uint8Array>
  readonly #hasher: PartHasher

  constructor(handle: ObjectHandle, range: ByteRange, checksum: ChecksumAlgorithm | undefined, signal?: AbortSignal) {
    this.size = range.length
    // Located at once: the pinned object is what the current snapshot shows.
    this.#chunks = handle.read(range, signal)
    const options: HasherOptions = checksum === undefined ? {} : { checksum }
    this.#hasher = new PartHasher(options)
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    for await (const chunk of this.#chunks) {
      this.#hasher.update(chunk)
      yield chunk
    }
  }

  digests(): BodyDigests {
    const { md5, checksum } = this.#hasher.digests()
    return checksum === undefined ? { md5 } : { md5, checksum }
  }
}

/** The source range of UploadPartCopy: all of the source, or what was asked, which must lie inside it. */
export function sourceRange(object: ObjectRecord, range: ByteRange | undefined): ByteRange {
  if (range === undefined) return { offset: 0, length: object.size }
  if (range.length < 1 || range.offset < 0 || range.offset + range.length > object.size) {
    throw new S3Error('InvalidRange', '', {
      ActualObjectSize: String(object.size),
      RangeRequested: `bytes=${String(range.offset)}-${String(range.offset + range.length - 1)}`,
    })
  }
  return range
}

