/** Copying a view record by record, verified on the way, in slices that leave other work its turn. */
import { MetadataError } from './engine.js'
import { HEAD_KEY } from './keys.js'
import { checkValue, linksTo } from './record.js'
import type { RawEntry, RawWrite, ViewSnapshot, ViewStore } from './view_store.js'

const SLICE = 1000

/** Throws MetadataError 'corrupt' when the source is damaged. The target is committed, not flushed. */
export async function cloneView(
  source: ViewSnapshot,
  target: ViewStore,
  onProgress?: (records: number) => void,
): Promise<number> {
  let records = 0
  let last: RawEntry | undefined
  for (;;) {
    const slice: RawWrite[] = []
    for (const entry of source.ascend(last === undefined ? HEAD_KEY : Buffer.concat([last.key, Buffer.of(0)]))) {
      checkValue(entry.key, entry.value)
      const follows = last === undefined ? entry.key.equals(HEAD_KEY) : linksTo(last.value, entry.key)
      if (!follows) throw new MetadataError('corrupt', 'the chain of records is broken')
      slice.push(entry)
      last = entry
      if (slice.length === SLICE) break
    }
    if (slice.length === 0) break
    target.commit(slice)
    records += slice.length
    onProgress?.(records)
    await new Promise((resolve) => setImmediate(resolve))
  }
  if (last === undefined || !linksTo(last.value, undefined)) {
    throw new MetadataError('corrupt', 'the chain of records is broken')
  }
  return records
}
