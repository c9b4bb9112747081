/**
 * A hint says what a sealed segment holds, so that a start need not read the segment: a cache, written once when the
 * segment is sealed, never needed and never trusted beyond what a read verifies again. Pure.
 *
 * Little-endian:
 *
 *     0  8  magic "OSTRKHNT"
 *     8  2  format version (1)
 *    10  2  zero
 *    12  4  number of the segment
 *    16  8  length of the segment
 *    24  8  hash of the segment: XXH3-64 (seeded) of the checksums of its batches, one behind the other
 *    32  4  number of entries
 *    36  4  zero
 *    40  8  XXH3-64, seeded with the segment's seed, of the 40 bytes before and of the entries
 *    48     entries of 24 bytes, in the order of their offsets: data id 16, offset / 8 u32, size u32; the highest bit
 *           of the size is set for a tombstone
 *
 * A hint of another drive or segment fails by its seed, one of another length by the size of the file.
 */
import { checksum64, checksum64Matches } from '../../native/hash.js'
import { readWhole, writeWhole } from '../shard_file.js'
import type { DataId } from '../drive.js'
import { BATCH_HEADER_SIZE, MAX_BATCH_SIZE } from './batch.js'
import { SEGMENT_HEADER_SIZE } from './segment_file.js'

export const HINT_VERSION = 1
export const HINT_HEADER_SIZE = 48
export const ENTRY_SIZE = 24

const MAGIC = Buffer.from('OSTRKHNT', 'latin1')
const TOMBSTONE = 0x8000_0000

/** Entries as they lie in a hint, growing as a segment grows, and the running hash of its batches. */
export class HintBuilder {
  #entries = Buffer.alloc(64 * ENTRY_SIZE)
  #checksums = Buffer.alloc(64 * 8)
  #batches = 0
  count = 0

  add(dataId: DataId, offset: number, size: number, tombstone: boolean): void {
    const at = this.count * ENTRY_SIZE
    if (at === this.#entries.length) this.#entries = Buffer.concat([this.#entries, Buffer.alloc(at)])
    this.#entries.set(dataId, at)
    this.#entries.writeUInt32LE(offset / 8, at + 16)
    this.#entries.writeUInt32LE(tombstone ? size + TOMBSTONE : size, at + 20)
    this.count++
  }

  /** `header` is the header of the next batch. */
  addBatch(header: Uint8Array): void {
    const at = this.#batches * 8
    if (at === this.#checksums.length) this.#checksums = Buffer.concat([this.#checksums, Buffer.alloc(at)])
    this.#checksums.set(header.subarray(24, 32), at)
    this.#batches++
  }

  entries(): Buffer {
    return this.#entries.subarray(0, this.count * ENTRY_SIZE)
  }

  /** The hint of a segment of so many bytes. */
  encode(number: number, length: number, seed: number): Buffer {
    const header = Buffer.alloc(HINT_HEADER_SIZE)
    MAGIC.copy(header)
    header.writeUInt16LE(HINT_VERSION, 8)
    header.writeUInt32LE(number, 12)
    writeWhole(header, length, 16)
    checksum64(header, 24, [this.#checksums.subarray(0, this.#batches * 8)], seed)
    header.writeUInt32LE(this.count, 32)
    const entries = this.entries()
    checksum64(header, 40, [header.subarray(0, 40), entries], seed)
    return Buffer.concat([header, entries])
  }
}

export interface HintEntry {
  dataId: DataId
  offset: number
  /** Bytes without padding. */
  size: number
  tombstone: boolean
}

/** A hint that holds for a segment of this number and length; undefined for anything else. */
export function openHint(bytes: Buffer, number: number, length: number, seed: number): Hint | undefined {
  if (bytes.length < HINT_HEADER_SIZE || !bytes.subarray(0, 8).equals(MAGIC)) return undefined
  const body = bytes.subarray(HINT_HEADER_SIZE)
  if (!checksum64Matches(bytes, 40, [bytes.subarray(0, 40), body], seed)) return undefined
  if (bytes.readUInt16LE(8) !== HINT_VERSION || bytes.readUInt32LE(12) !== number) return undefined
  if (readWhole(bytes, 16) !== length || body.length !== bytes.readUInt32LE(32) * ENTRY_SIZE) return undefined
  const hint = new Hint(body, Buffer.from(bytes.subarray(24, 32)))
  return hint.fits(length) ? hint : undefined
}

export class Hint {
  readonly #entries: Buffer
  /** Hash of the segment. */
  readonly hash: Buffer
  readonly count: number

  constructor(entries: Buffer, hash: Buffer) {
    this.#entries = entries
    this.hash = hash
    this.count = entries.length / ENTRY_SIZE
  }

  /** A view of the bytes of the hint, not a copy. */
  dataId(index: number): DataId {
    return this.#entries.subarray(index * ENTRY_SIZE, index * ENTRY_SIZE + 16)
  }

  offset(index: number): number {
    return this.#entries.readUInt32LE(index * ENTRY_SIZE + 16) * 8
  }

  size(index: number): number {
    return this.#entries.readUInt32LE(index * ENTRY_SIZE + 20) % TOMBSTONE
  }

  isTombstone(index: number): boolean {
    return this.#entries.readUInt32LE(index * ENTRY_SIZE + 20) >= TOMBSTONE
  }

  *[Symbol.iterator](): Generator<HintEntry> {
    for (let i = 0; i < this.count; i++) {
      const dataId = Uint8Array.from(this.dataId(i))
      yield { dataId, offset: this.offset(i), size: this.size(i), tombstone: this.isTombstone(i) }
    }
  }

  /** Entries that follow each other inside a segment of that length. */
  fits(length: number): boolean {
    let free = SEGMENT_HEADER_SIZE + BATCH_HEADER_SIZE
    for (let i = 0; i < this.count; i++) {
      const offset = this.offset(i)
      const size = this.size(i)
      if (offset < free || size > MAX_BATCH_SIZE || offset + size > length) return false
      free = offset + size
    }
    return true
  }
}
