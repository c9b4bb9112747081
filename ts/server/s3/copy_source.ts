/** x-amz-copy-source and the conditions on it. */
import { S3Error } from '../../store/errors.js'
import type { CopySource } from '../../store/object_store.js'
import { checkBucketName, checkKey } from '../../store/names.js'
import { percentDecode } from '../auth/target.js'
import { dateMs, etagList } from './conditions.js'
import type { Exchange } from './exchange.js'

function invalid(message: string, value: string): S3Error {
  return new S3Error('InvalidArgument', message, { ArgumentName: 'x-amz-copy-source', ArgumentValue: value })
}

/**
 * [/]bucket/key[?versionId=id], percent-encoded. As at S3, a bare `+` stands for a space, and a `?` belongs to
 * the key unless `versionId=` follows it.
 */
export function parseCopySource(header: string, plusIsSpace = true): { bucket: string; key: string } {
  const mark = header.lastIndexOf('?versionId=')
  const versionId = mark < 0 ? undefined : header.slice(mark + '?versionId='.length)
  let text: string
  try {
    text = percentDecode(mark < 0 ? header : header.slice(0, mark), plusIsSpace)
  } catch {
    throw invalid('Copy Source must mention the source bucket and key: sourcebucket/sourcekey', header)
  }
  if (text.startsWith('/')) text = text.slice(1)
  const slash = text.indexOf('/')
  if (slash < 1 || slash === text.length - 1 || text.startsWith('arn:')) {
    throw invalid('Copy Source must mention the source bucket and key: sourcebucket/sourcekey', header)
  }
  if (versionId !== undefined && versionId !== 'null') throw invalid('Invalid version id specified', header)
  return { bucket: text.slice(0, slash), key: text.slice(slash + 1) }
}

/**
 * Some clients leave `+` bare and mean it. Where no key with a space is there, the key with a plus sign is meant.
 */
function findSource(exchange: Exchange, header: string): { bucket: string; key: string } {
  const source = parseCopySource(header)
  checkBucketName(source.bucket)
  checkKey(source.key)
  if (!header.includes('+')) return source
  try {
    exchange.options.store.openObject(source.bucket, source.key).release()
    return source
  } catch (error) {
    if (error instanceof S3Error && error.code === 'NoSuchKey') return parseCopySource(header, false)
    throw error
  }
}

/** Throws InvalidArgument, InvalidBucketName, KeyTooLongError. */
export function copySource(exchange: Exchange): CopySource {
  const { bucket, key } = findSource(exchange, exchange.header('x-amz-copy-source')?.trim() ?? '')
  const source: CopySource = { bucket, key }
  const ifMatch = exchange.header('x-amz-copy-source-if-match')
  const ifNoneMatch = exchange.header('x-amz-copy-source-if-none-match')
  const modified = dateMs(exchange.header('x-amz-copy-source-if-modified-since'))
  const unmodified = dateMs(exchange.header('x-amz-copy-source-if-unmodified-since'))
  if (ifMatch !== undefined) source.ifMatch = etagList(ifMatch)
  if (ifNoneMatch !== undefined) source.ifNoneMatch = etagList(ifNoneMatch)
  if (modified !== undefined) source.ifModifiedSinceMs = modified
  if (unmodified !== undefined) source.ifUnmodifiedSinceMs = unmodified
  return source
}
