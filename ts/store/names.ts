/**
 * Names as S3 allows them. Bucket names: 3 to 63 of a-z 0-9 . - with S3's further rules. Keys: 1 to 1,024
 * bytes of UTF-8, any character that XML 1.0 can carry (so that every listing can be written), no lone
 * surrogates.
 */
import { S3Error } from './errors.js'

export const MAX_KEY_BYTES = 1024

const BUCKET_SHAPE = /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/
const IPV4_SHAPE = /^\d{1,3}(?:\.\d{1,3}){3}$/
const RESERVED_PREFIXES = ['xn--', 'sthree-', 'amzn-s3-demo-']
const RESERVED_SUFFIXES = ['-s3alias', '--ol-s3', '.mrap', '--x-s3', '--table-s3']
// Everything outside XML 1.0's Char, and unpaired surrogates (the u flag makes a pair one character).
const NOT_XML = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]|\p{Surrogate}/u

/** Why the name is no bucket name, undefined when it is one. */
export function bucketNameProblem(name: string): string | undefined {
  if (name.length < 3 || name.length > 63) return 'a bucket name has 3 to 63 characters'
  if (!BUCKET_SHAPE.test(name)) {
    return 'a bucket name consists of a-z, 0-9, dots and hyphens, and begins and ends with a letter or number'
  }
  if (name.includes('..')) return 'a bucket name has no two adjacent dots'
  if (IPV4_SHAPE.test(name)) return 'a bucket name is not formatted as an IP address'
  if (RESERVED_PREFIXES.some((p) => name.startsWith(p))) return 'the beginning of this bucket name is reserved'
  if (RESERVED_SUFFIXES.some((s) => name.endsWith(s))) return 'the end of this bucket name is reserved'
  return undefined
}

export function checkBucketName(name: string): void {
  const problem = bucketNameProblem(name)
  if (problem !== undefined) throw new S3Error('InvalidBucketName', problem, { BucketName: name.slice(0, 255) })
}

/** Throws KeyTooLongError or InvalidArgument. */
export function checkKey(key: string): void {
  if (key === '') throw new S3Error('InvalidArgument', 'The object key is empty.')
  // A UTF-16 unit is at least one byte of UTF-8.
  const size = key.length > MAX_KEY_BYTES ? key.length : Buffer.byteLength(key)
  if (size > MAX_KEY_BYTES) {
    throw new S3Error('KeyTooLongError', '', { Size: String(size), MaxSizeAllowed: String(MAX_KEY_BYTES) })
  }
  if (NOT_XML.test(key)) {
    throw new S3Error('InvalidArgument', 'The object key holds a character that XML 1.0 cannot carry.')
  }
}

/** True for keys that can exist; a read of any other key is simply NoSuchKey. */
export function isKey(key: string): boolean {
  if (key === '' || key.length > MAX_KEY_BYTES) return false
  return Buffer.byteLength(key) <= MAX_KEY_BYTES && !NOT_XML.test(key)
}
