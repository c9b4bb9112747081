/**
 * Ordered listing with prefix and delimiter, over verified scans.
 *
 * A listing walks the keys of a bucket once and skips what it does not need: behind an object record it steps
 * over a few other records of the key and then seeks; behind a common prefix it seeks past all keys under it.
 */
import type { StateReader } from './chain.js'
import { MetadataError } from './engine.js'
import {
  afterPrefix,
  bucketPrefix,
  HEADER,
  KIND,
  objectKeyEnd,
  objectPrefix,
  openUploadsPrefix,
  uploadKey,
} from './keys.js'
import { unpack } from './record.js'
import type { ListPage, ListQuery, UploadListPage, UploadListQuery } from './reader.js'
import type { ObjectRecord, UploadRecord } from './schema.js'

/** Steps taken before a seek: a step is cheap, a seek starts a new scan. */
const STEPS = 8

const ZERO = 0

export function listObjects(state: StateReader, given: ListQuery): ListPage {
  const query = { ...given, after: beforeZero(given.after) }
  const base = bucketPrefix(query.bucketId)
  const prefix = Buffer.concat([base, Buffer.from(query.prefix, 'utf8')])
  const end = afterPrefix(prefix)
  const delimiter = Buffer.from(query.delimiter, 'utf8')
  const page: ListPage = { entries: [], truncated: false, next: '' }
  if (query.limit <= 0 || query.prefix.includes('\0')) return page
  let from: Buffer | undefined = startOf(query.bucketId, query, prefix, delimiter)
  let last = ''
  while (from !== undefined) {
    const start: Buffer = from
    from = undefined
    let skipTo: Buffer | undefined
    let steps = 0
    for (const entry of state.scan(start, end)) {
      if (skipTo !== undefined && entry.key.compare(skipTo) < 0) {
        if (++steps < STEPS) continue
        from = skipTo
        break
      }
      const keyEnd = objectKeyEnd(entry.key)
      skipTo = undefined
      steps = 0
      if (keyEnd === HEADER || entry.key[keyEnd + 1] !== KIND.object) {
        // Records of the bucket itself, or of a key that has uploads only.
        skipTo = keyEnd === HEADER ? firstKey(query.bucketId) : nextKey(entry.key, keyEnd)
        continue
      }
      if (page.entries.length === query.limit) return { ...page, truncated: true, next: last }
      const cut = delimiter.length === 0 ? -1 : entry.key.subarray(0, keyEnd).indexOf(delimiter, prefix.length)
      if (cut >= 0) {
        const common = entry.key.subarray(0, cut + delimiter.length)
        last = common.toString('utf8', HEADER)
        page.entries.push({ prefix: last })
        from = afterPrefix(common)
        break
      }
      const object = unpack(entry.payload) as ObjectRecord
      page.entries.push({ object })
      last = object.key
      skipTo = nextKey(entry.key, keyEnd)
    }
  }
  return page
}

/** No key has a zero, so a marker with one means the same as what stands before it. */
function beforeZero(marker: string): string {
  const at = marker.indexOf('\0')
  return at < 0 ? marker : marker.slice(0, at)
}

/** Where the scan starts: behind `after`, and behind all of it when it is a common prefix. */
function startOf(bucketId: number, query: ListQuery, prefix: Buffer, delimiter: Buffer): Buffer | undefined {
  if (query.after === '') return prefix
  const after = objectPrefix(bucketId, query.after).subarray(0, -1)
  const isCommonPrefix =
    delimiter.length > 0 &&
    after.length >= prefix.length + delimiter.length &&
    after.subarray(0, prefix.length).equals(prefix) &&
    after.indexOf(delimiter, prefix.length) === after.length - delimiter.length
  const start = isCommonPrefix ? afterPrefix(after) : Buffer.concat([after, Buffer.of(1)])
  return start === undefined || start.compare(prefix) > 0 ? start : prefix
}

/** The smallest key of the view that can belong to the next object key. */
function nextKey(key: Buffer, keyEnd: number): Buffer {
  const out = Buffer.from(key.subarray(0, keyEnd + 1))
  out[keyEnd] = 1
  return out
}

function firstKey(bucketId: number): Buffer {
  return Buffer.concat([bucketPrefix(bucketId), Buffer.of(1)])
}

/** Open uploads, by key and then by upload id, from the index of the bucket. */
export function listUploads(state: StateReader, given: UploadListQuery): UploadListPage {
  const query = { ...given, keyMarker: beforeZero(given.keyMarker) }
  const base = openUploadsPrefix(query.bucketId)
  const prefix = Buffer.concat([base, Buffer.from(query.prefix, 'utf8')])
  const end = afterPrefix(prefix)
  const delimiter = Buffer.from(query.delimiter, 'utf8')
  const page: UploadListPage = { entries: [], truncated: false, nextKeyMarker: '', nextUploadIdMarker: '' }
  if (query.limit <= 0 || query.prefix.includes('\0')) return page
  let last = { key: '', uploadId: '' }
  let from: Buffer | undefined = uploadStart(base, prefix, delimiter, query)
  while (from !== undefined) {
    const start: Buffer = from
    from = undefined
    for (const entry of state.scan(start, end)) {
      const keyEnd = entry.key.indexOf(ZERO, base.length)
      if (page.entries.length === query.limit) {
        return { ...page, truncated: true, nextKeyMarker: last.key, nextUploadIdMarker: last.uploadId }
      }
      const cut = delimiter.length === 0 ? -1 : entry.key.subarray(0, keyEnd).indexOf(delimiter, prefix.length)
      if (cut >= 0) {
        const common = entry.key.subarray(0, cut + delimiter.length)
        last = { key: common.toString('utf8', base.length), uploadId: '' }
        page.entries.push({ prefix: last.key })
        from = afterPrefix(common)
        break
      }
      last = { key: entry.key.toString('utf8', base.length, keyEnd), uploadId: entry.key.toString('utf8', keyEnd + 1) }
      const upload = state.get(uploadKey(query.bucketId, last.key, last.uploadId))
      if (upload === undefined)
        throw new MetadataError('corrupt', 'the index of open uploads names an upload that is missing')
      page.entries.push({ upload: unpack(upload) as UploadRecord })
    }
  }
  return page
}

function uploadStart(base: Buffer, prefix: Buffer, delimiter: Buffer, query: UploadListQuery): Buffer | undefined {
  if (query.keyMarker === '') return prefix
  const marker = Buffer.concat([base, Buffer.from(query.keyMarker, 'utf8')])
  const isCommonPrefix =
    delimiter.length > 0 &&
    marker.length >= prefix.length + delimiter.length &&
    marker.subarray(0, prefix.length).equals(prefix) &&
    marker.indexOf(delimiter, prefix.length) === marker.length - delimiter.length
  let start: Buffer | undefined
  if (isCommonPrefix) start = afterPrefix(marker)
  else if (query.uploadIdMarker === '') start = Buffer.concat([marker, Buffer.of(1)])
  else start = Buffer.concat([marker, Buffer.of(0), Buffer.from(query.uploadIdMarker, 'utf8'), Buffer.of(0)])
  return start === undefined || start.compare(prefix) > 0 ? start : prefix
}
