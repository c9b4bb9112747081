/**
 * Walking a whole view, or a slice of it: every checksum, every link, and a digest by which copies at the same
 * position are compared.
 */
import { createHash } from 'node:crypto'
import type { Hash } from 'node:crypto'
import { MetadataError } from './engine.js'
import { HEAD_KEY } from './keys.js'
import { checkValue, linksTo } from './record.js'
import type { RawEntry, ViewSnapshot } from './view_store.js'

export interface Slice {
  records: number
  /** Over all keys and values of the slice, in order. */
  digest: string
  /** Where the next slice begins, undefined at the end of the view. */
  next: Buffer | undefined
}

/** Walks at most `limit` records from `from`. Throws MetadataError 'corrupt'. */
export function verifySlice(view: ViewSnapshot, from: Buffer, limit: number): Slice {
  const hash = createHash('sha256')
  let previous: RawEntry | undefined
  let records = 0
  for (const entry of view.ascend(from)) {
    checkValue(entry.key, entry.value)
    checkStep(view, from, previous, entry)
    if (records === limit) return { records, digest: hash.digest('hex'), next: entry.key }
    add(hash, entry)
    previous = entry
    records++
  }
  if (previous === undefined || !linksTo(previous.value, undefined)) throw broken()
  return { records, digest: hash.digest('hex'), next: undefined }
}

function checkStep(view: ViewSnapshot, from: Buffer, previous: RawEntry | undefined, entry: RawEntry): void {
  if (previous !== undefined) {
    if (entry.key.compare(previous.key) <= 0 || !linksTo(previous.value, entry.key)) throw broken()
    return
  }
  if (entry.key.equals(HEAD_KEY)) return
  const before = view.before(from)
  if (before === undefined) throw broken()
  checkValue(before.key, before.value)
  if (!linksTo(before.value, entry.key)) throw broken()
}

function add(hash: Hash, { key, value }: RawEntry): void {
  const lengths = Buffer.allocUnsafe(8)
  lengths.writeUInt32BE(key.length, 0)
  lengths.writeUInt32BE(value.length, 4)
  hash.update(lengths).update(key).update(value)
}

/** Walks a whole view; `onProgress` gets the number of records so far. */
export function verifyView(
  view: ViewSnapshot,
  onProgress?: (records: number) => void,
): { records: number; digest: string } {
  const hash = createHash('sha256')
  let records = 0
  let from: Buffer | undefined = HEAD_KEY
  while (from !== undefined) {
    const slice: Slice = verifySlice(view, from, 4096)
    records += slice.records
    hash.update(slice.digest)
    onProgress?.(records)
    from = slice.next
  }
  return { records, digest: hash.digest('hex') }
}

function broken(): MetadataError {
  return new MetadataError('corrupt', 'the chain of records is broken')
}
