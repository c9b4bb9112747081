/** The scrub of metadata: a slice of all views walked and compared within one turn, when all are at one position. */
import type { MetadataCopy } from './copy.js'
import { HEAD_KEY } from './keys.js'
import { verifySlice } from './verify.js'
import type { Slice } from './verify.js'

const SLICE = 1000

export interface CompareProgress {
  records: number
  /** Records of the primary view when it began. */
  total: number
  bad: { drive: number; reason: string }[]
}

export interface CompareVerdict {
  records: number
  bad: Map<MetadataCopy, string>
  /** Where the next slice begins; undefined at the end. */
  next: Buffer | undefined
}

/** The primary's answer counts when it is sound; a view that differs from a sound one is bad. */
export function compareSlice(
  copies: readonly MetadataCopy[],
  primary: MetadataCopy,
  from: Buffer | undefined,
): CompareVerdict {
  const bad = new Map<MetadataCopy, string>()
  let standard: Slice | undefined
  for (const copy of [primary, ...copies.filter((other) => other !== primary)]) {
    try {
      copy.drain()
      const slice = verifySlice(copy.view, from ?? HEAD_KEY, SLICE)
      standard ??= slice
      if (slice.digest !== standard.digest) bad.set(copy, 'its view differs from the primary')
    } catch (error) {
      bad.set(copy, error instanceof Error ? error.message : String(error))
    }
  }
  return { records: standard?.records ?? 0, bad, next: standard?.next }
}
