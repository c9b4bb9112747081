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
export function parseCopySource(header: string): { bucket: string; key: string } {
  const mark = header.lastIndexOf('?versionId=')
  const versionId = mark < 0 ? undefined : header.slice(mark + '?versionId='.length)
  let text: string
  try {
    text = percentDecode(mark < 0 ? header : header.slice(0, mark), true)
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

/** Throws InvalidArgument, InvalidBucketName, KeyTooLongError. */
export function copySource(exchange: Exchange): CopySource {
  const { bucket, key } = parseCopySource(exchange.header('x-amz-copy-source')?.trim() ?? '')
  checkBucketName(bucket)
  checkKey(key)
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
