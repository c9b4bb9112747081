/**
 * The bytes behind a segment's header: batches, each one group commit, of records. Pure.
 *
 * Batch, little-endian, at a multiple of 8 of the segment:
 *
 *     0  4  magic "OSBT"
 *     4  4  length, this header included: a multiple of 8
 *     8  4  offset of the batch in its segment
 *    12  4  syncedTo: everything before this offset was durable when the batch was written
 *    16  4  number of records (0: the segment was closed, and all of it is durable)
 *    20  4  zero
 *    24  8  XXH3-64, seeded with the segment's seed, of the 24 bytes before and of everything behind this field
 *    32     records
 *
 * A record of a shard has the bytes of a shard file (../shard_file.ts) and zeros up to a multiple of 8. A tombstone is
 *
 *     0 24  as every header: magic, version, kind 2, size 40, data id
 *    24  4  number of the segment that held what it buries, as far as known
 *    28  4  zero
 *    32  8  XXH3-64, seeded, of the 32 bytes before
 *
 * A packed shard of one block thus costs 64 bytes and its key and upload id, up to 7 of padding twice, 16 for the
 * block's checksum, and its part of the 32 of a batch.
 */
import { blockCount, type DataId, type ShardHeader } from '../drive.js'
import {
  alignUp, cellsSize, decodeShardHeader, KIND_SHARD, KIND_TOMBSTONE, MAX_HEADER_SIZE, putPrefix, RECORD_ALIGNMENT,
  RECORD_MAGIC, sealHeader, ShardHeaderError, wholeHeader,
} from '../shard_file.js'
import { checksum64, checksum64Matches } from '../../native/hash.js'
import { MAX_OFFSET } from './segment_file.js'

/** "OSBT", as a little-endian number. */
export const BATCH_MAGIC = 0x5442_534f
export const BATCH_HEADER_SIZE = 32
export const TOMBSTONE_SIZE = 40
/** No batch is longer, and no record: what claims more was never written. */
export const MAX_BATCH_SIZE: number = 16 * 2 ** 20

/** Parts that one checksum call takes. */
const MAX_PARTS = 250

export function encodeTombstone(dataId: DataId, buried: number, seed: number): Buffer {
  const bytes = Buffer.allocUnsafe(TOMBSTONE_SIZE)
  putTombstone(dataId, buried, bytes, 0, seed)
  return bytes
}

/** Puts a tombstone, all its bytes, at `at`. */
export function putTombstone(dataId: DataId, buried: number, into: Buffer, at: number, seed: number): void {
  putPrefix(into, at, KIND_TOMBSTONE, TOMBSTONE_SIZE, dataId)
  into.writeUInt32LE(buried, at + 24)
  into.writeUInt32LE(0, at + 28)
  sealHeader(into, at, TOMBSTONE_SIZE, seed)
}

/** Zeros that follow a record of so many bytes. */
export function padding(size: number): number {
  return alignUp(size, RECORD_ALIGNMENT) - size
}

/** The header of a batch whose records are `parts`, padded already: at most 250 buffers. */
export function encodeBatchHeader(
  seed: number, offset: number, syncedTo: number, count: number, parts: readonly Uint8Array[],
): Buffer {
  if (parts.length > MAX_PARTS) throw new RangeError(`${String(parts.length)} parts of a batch`)
  let length = BATCH_HEADER_SIZE
  for (const part of parts) length += part.length
  const bytes = Buffer.allocUnsafe(BATCH_HEADER_SIZE)
  putBatchHeader({ length, offset, syncedTo, count }, bytes, parts, seed)
  return bytes
}

/** Puts the header of a batch whose records are `parts` at the start of `into`. */
export function putBatchHeader(header: BatchHeader, into: Buffer, parts: readonly Uint8Array[], seed: number): void {
  into.writeUInt32LE(BATCH_MAGIC, 0)
  into.writeUInt32LE(header.length, 4)
  into.writeUInt32LE(header.offset, 8)
  into.writeUInt32LE(header.syncedTo, 12)
  into.writeUInt32LE(header.count, 16)
  into.writeUInt32LE(0, 20)
  checksum64(into, 24, [into.subarray(0, 24), ...parts], seed)
}

export interface BatchHeader {
  length: number
  offset: number
  syncedTo: number
  count: number
}

/** Fields that could be those of a batch at `offset`; the checksum is not looked at. */
export function readBatchHeader(bytes: Buffer, offset: number): BatchHeader | undefined {
  if (bytes.length < BATCH_HEADER_SIZE || bytes.readUInt32LE(0) !== BATCH_MAGIC) return undefined
  const length = bytes.readUInt32LE(4)
  const syncedTo = bytes.readUInt32LE(12)
  const sound = length >= BATCH_HEADER_SIZE && length <= MAX_BATCH_SIZE && length % RECORD_ALIGNMENT === 0 &&
    bytes.readUInt32LE(8) === offset && offset <= MAX_OFFSET && syncedTo <= offset && bytes.readUInt32LE(20) === 0
  return sound ? { length, offset, syncedTo, count: bytes.readUInt32LE(16) } : undefined
}

/** True when the checksum of the batch that `bytes` are holds. */
export function batchHolds(bytes: Buffer, seed: number): boolean {
  return checksum64Matches(bytes, 24, [bytes.subarray(0, 24), bytes.subarray(BATCH_HEADER_SIZE)], seed)
}

/** A record, as its header says; its blocks are not looked at. */
export interface SegmentRecord {
  dataId: DataId
  /** Of its first byte, in the segment. */
  offset: number
  /** Bytes without padding. */
  size: number
  /** Undefined: a tombstone. */
  header: ShardHeader | undefined
  headerSize: number
  /** Of a tombstone: the segment that held what it buries, 0 when that was not known. */
  buried: number
}

/** The record at the start of `bytes`, which lie at `offset` of the segment. Throws ShardHeaderError. */
export function decodeRecord(bytes: Uint8Array, offset: number, seed: number): SegmentRecord {
  const { kind, header } = wholeHeader(bytes, seed)
  if (kind === KIND_TOMBSTONE) {
    if (header.length !== TOMBSTONE_SIZE) throw new ShardHeaderError('newer', 'tombstone of another size')
    const dataId = Uint8Array.from(header.subarray(8, 24))
    const size = TOMBSTONE_SIZE
    return { dataId, offset, size, header: undefined, headerSize: size, buried: header.readUInt32LE(24) }
  }
  if (kind !== KIND_SHARD) throw new ShardHeaderError('newer', `record kind ${String(kind)}`)
  const { header: shard, size: headerSize } = decodeShardHeader(bytes, seed)
  const cells = cellsSize(shard.geometry, 0, blockCount(shard.geometry))
  if (cells > MAX_BATCH_SIZE) throw new ShardHeaderError('corrupt', `${String(cells)} bytes of cells in a segment`)
  return { dataId: shard.dataId, offset, size: headerSize + cells, header: shard, headerSize, buried: 0 }
}

export interface BatchRecords {
  records: SegmentRecord[]
  /** Bytes (from, to) of the segment in which no record could be found, beside those of known records. */
  lost: [from: number, to: number][]
}

/**
 * The records of bytes that lie at `offset` of a segment, batch headers among them. Where one does not decode,
 * the next that does is searched for, so that one bad byte costs one record. Of a batch that holds nothing is lost.
 */
export function findRecords(bytes: Buffer, offset: number, seed: number): BatchRecords {
  const records: SegmentRecord[] = []
  const lost: [number, number][] = []
  let at = 0
  let bad = -1
  const end = (): void => {
    if (bad >= 0) lost.push([offset + bad, offset + at])
    bad = -1
  }
  while (at < bytes.length) {
    if (readBatchHeader(bytes.subarray(at, at + BATCH_HEADER_SIZE), offset + at) !== undefined) {
      end()
      at += BATCH_HEADER_SIZE
      continue
    }
    const record = tryDecode(bytes.subarray(at, at + MAX_HEADER_SIZE), offset + at, seed)
    if (record === undefined || at + record.size > bytes.length) {
      if (bad < 0) bad = at
      at += RECORD_ALIGNMENT
      continue
    }
    end()
    records.push(record)
    at += alignUp(record.size, RECORD_ALIGNMENT)
  }
  at = Math.min(at, bytes.length)
  end()
  return { records, lost }
}

function tryDecode(bytes: Buffer, offset: number, seed: number): SegmentRecord | undefined {
  if (bytes.length < TOMBSTONE_SIZE || bytes.readUInt32LE(0) !== RECORD_MAGIC) return undefined
  try {
    return decodeRecord(bytes, offset, seed)
  } catch (error) {
    if (error instanceof ShardHeaderError) return undefined
    throw error
  }
}
