/**
 * Reads a segment from its bytes alone: every record that can be found, and how far the segment is good.
 *
 * Rules:
 * - A batch whose checksum holds gives all its records.
 * - A bad place is followed by a search for the next batch that holds. If that one was written when the bad place was
 *   durable already (its syncedTo lies behind the place), the place is damage: it is reported, records in it whose
 *   headers hold are still given (their blocks are verified when they are read), and the scan goes on.
 * - Otherwise the segment ends at the bad place: what follows was never acknowledged. `end` is where it is to be cut.
 * - Zeros are not data.
 */
import { BATCH_HEADER_SIZE, BATCH_MAGIC, batchHolds, findRecords, MAX_BATCH_SIZE, readBatchHeader } from './batch.js'
import type { SegmentRecord } from './batch.js'
import { SEGMENT_HEADER_SIZE } from './segment_file.js'

export interface ScanSource {
  /** Bytes of the segment's file. */
  size: number
  seed: number
  /** So many bytes from `offset`, fewer at the end of the file only. */
  read: (offset: number, length: number) => Promise<Buffer>
}

export interface ScanResult {
  /** Where the last good batch ends: what follows is no data. */
  end: number
  /** The last batch says that the segment was closed. */
  closed: boolean
  /** Bytes (from, to) below `end` that hold no record any more; none for damage that spared all headers. */
  lost: [from: number, to: number][]
  /** Damaged places. */
  damaged: number
}

/** One batch, or what could be found at a damaged place. */
export interface ScanPiece {
  records: readonly SegmentRecord[]
  /** Of a batch that holds. */
  batchHeader: Buffer | undefined
}

const CHUNK = 2 ** 20

export async function scanSegment(
  source: ScanSource, take: (piece: ScanPiece) => void | Promise<void>,
): Promise<ScanResult> {
  const window = new Window(source)
  const result: ScanResult = { end: SEGMENT_HEADER_SIZE, closed: false, lost: [], damaged: 0 }
  while (result.end < source.size) {
    const batch = await wholeBatch(window, result.end)
    if (batch !== undefined) {
      const { records } = findRecords(batch.subarray(BATCH_HEADER_SIZE), result.end + BATCH_HEADER_SIZE, source.seed)
      await take({ records, batchHeader: batch.subarray(0, BATCH_HEADER_SIZE) })
      result.closed = batch.readUInt32LE(16) === 0
      result.end += batch.length
      continue
    }
    const next = await nextBatch(window, result.end)
    if (next === undefined) break
    result.damaged++
    await takeDamaged(window, result, next, take)
  }
  return result
}

/** What lies between the end of the good part and `next`. A record across two pieces is not found: it is healed. */
async function takeDamaged(
  window: Window, result: ScanResult, next: number, take: (piece: ScanPiece) => void | Promise<void>,
): Promise<void> {
  while (result.end < next) {
    const bytes = await window.bytes(result.end, Math.min(next - result.end, 2 * MAX_BATCH_SIZE))
    const { records, lost } = findRecords(bytes, result.end, window.source.seed)
    await take({ records, batchHeader: undefined })
    result.lost.push(...lost)
    result.end += bytes.length
  }
}

/** The batch at `offset`, when its checksum holds. */
async function wholeBatch(window: Window, offset: number): Promise<Buffer | undefined> {
  const header = readBatchHeader(await window.bytes(offset, BATCH_HEADER_SIZE), offset)
  if (header === undefined || offset + header.length > window.source.size) return undefined
  const bytes = await window.bytes(offset, header.length)
  return bytes.length === header.length && batchHolds(bytes, window.source.seed) ? bytes : undefined
}

/** Where the next batch begins that holds and was written after what lies at `bad` was durable. */
async function nextBatch(window: Window, bad: number): Promise<number | undefined> {
  const magic = Buffer.alloc(4)
  magic.writeUInt32LE(BATCH_MAGIC)
  for (let from = bad + 8; from < window.source.size;) {
    const bytes = Buffer.from(await window.bytes(from, CHUNK))
    for (let at = bytes.indexOf(magic); at >= 0; at = bytes.indexOf(magic, at + 1)) {
      if ((from + at) % 8 !== 0) continue
      const batch = await wholeBatch(window, from + at)
      if (batch !== undefined && batch.readUInt32LE(12) > bad) return from + at
    }
    if (bytes.length < CHUNK) return undefined
    from += CHUNK - 8
  }
  return undefined
}

/** A part of the file in memory, moved along as the scan goes. */
class Window {
  readonly source: ScanSource
  #from = 0
  #bytes: Buffer = Buffer.alloc(0)

  constructor(source: ScanSource) {
    this.source = source
  }

  /** So many bytes, fewer at the end of the file only; valid until the next call. */
  async bytes(offset: number, length: number): Promise<Buffer> {
    const wanted = Math.min(length, this.source.size - offset)
    if (offset < this.#from || offset + wanted > this.#from + this.#bytes.length) {
      const most = Math.min(Math.max(wanted, CHUNK), this.source.size - offset)
      this.#bytes = await this.source.read(offset, most)
      this.#from = offset
    }
    return this.#bytes.subarray(offset - this.#from, offset - this.#from + wanted)
  }
}
