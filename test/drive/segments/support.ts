/** Segments made by hand, for tests of what is read from them. */
import { cellsSize, encodeShardHeader } from '../../../ts/drive/shard_file.js'
import { blockCount, type Geometry } from '../../../ts/drive/drive.js'
import { encodeBatchHeader, encodeTombstone, padding } from '../../../ts/drive/segments/batch.js'
import { HintBuilder } from '../../../ts/drive/segments/hint.js'
import { scanSegment, type ScanResult } from '../../../ts/drive/segments/scan.js'
import { encodeSegmentHeader, segmentSeed } from '../../../ts/drive/segments/segment_file.js'
import type { Random } from '../../../ts/util/random.js'
import { makeShard, type TestShard } from '../shards.js'

export const DRIVE_ID = '6d1f2b8e-0000-4000-8000-0000000000d2'
export const tiny: Geometry = { k: 2, m: 2, stripeSize: 64, partSize: 77 }

export interface Placed {
  shard: TestShard
  tombstone: boolean
  offset: number
  size: number
  batch: number
}

export interface BuiltSegment {
  number: number
  seed: number
  bytes: Buffer
  placed: Placed[]
  /** Offset of each batch, and the end. */
  batches: number[]
  hint: Buffer
}

export type Item = { shard: TestShard; tombstone?: boolean }

/** `closed`: with the empty batch of a clean end. */
export function buildSegment(number: number, batches: readonly (readonly Item[])[], closed = false): BuiltSegment {
  const seed = segmentSeed(DRIVE_ID, number)
  const builder = new HintBuilder()
  const pieces: Buffer[] = [encodeSegmentHeader(DRIVE_ID, number)]
  const placed: Placed[] = []
  const offsets: number[] = []
  let end = 64
  for (const [batch, items] of [...batches, ...(closed ? [[]] : [])].entries()) {
    const start = end
    offsets.push(start)
    const parts: Uint8Array[] = []
    end += 32
    for (const { shard, tombstone = false } of items) {
      const { dataId, geometry } = shard.header
      const header = tombstone ? encodeTombstone(dataId, 0, seed) : encodeShardHeader(shard.header, seed)
      const size = header.length + (tombstone ? 0 : cellsSize(geometry, 0, blockCount(geometry)))
      parts.push(header, ...(tombstone ? [] : shard.cells), Buffer.alloc(padding(size)))
      placed.push({ shard, tombstone, offset: end, size, batch })
      builder.add(dataId, end, size, tombstone)
      end += size + padding(size)
    }
    const header = encodeBatchHeader(seed, start, start === 64 ? 64 : start, items.length, parts)
    builder.addBatch(header)
    pieces.push(header, ...parts.map((part) => Buffer.from(part)))
  }
  offsets.push(end)
  const bytes = Buffer.concat(pieces)
  return { number, seed, bytes, placed, batches: offsets, hint: builder.encode(number, bytes.length, seed) }
}

export function randomItems(random: Random, count: number): Item[] {
  return Array.from({ length: count }, () => ({ shard: makeShard(random, tiny), tombstone: random() < 0.2 }))
}

export async function scanBytes(
  bytes: Buffer, seed: number,
): Promise<ScanResult & { found: { offset: number; size: number; id: string; tombstone: boolean }[] }> {
  const found: { offset: number; size: number; id: string; tombstone: boolean }[] = []
  const read = (offset: number, length: number): Promise<Buffer> =>
    Promise.resolve(Buffer.from(bytes.subarray(offset, offset + length)))
  const result = await scanSegment({ size: bytes.length, seed, read }, ({ records }) => {
    for (const { offset, size, dataId, header } of records) {
      found.push({ offset, size, id: Buffer.from(dataId).toString('hex'), tombstone: header === undefined })
    }
  })
  return { ...result, found }
}

export function expected(
  placed: readonly Placed[],
): { offset: number; size: number; id: string; tombstone: boolean }[] {
  return placed.map(({ offset, size, shard, tombstone }) => {
    return { offset, size, id: Buffer.from(shard.header.dataId).toString('hex'), tombstone }
  })
}
