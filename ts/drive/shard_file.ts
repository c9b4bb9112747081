/**
 * The bytes of a shard: one header, then its cells (16 bytes of checksum + one block each) in order. A shard file is
 * exactly that; a record of a segment (segments/batch.ts) is that too, with a checksum seed of its own. Pure: no I/O.
 *
 * Header, integers little-endian:
 *
 *     0  4  magic "OSRC"
 *     4  1  format version (1)
 *     5  1  kind: 1 shard, 2 tombstone (segments/batch.ts)
 *     6  2  header size in bytes, a multiple of 8, at most 8192
 *     8 16  data id
 *    24  4  shard number 0..k+m-1, k, m, coding matrix (1 = Cauchy over GF(2^8)), one byte each
 *    28  4  stripe size
 *    32  8  stored length: bytes of part data after the transforms, what the geometry cuts into stripes
 *    40  1  fields that follow (below); a version that does not know one of them does not judge the shard
 *    41  1  zero
 *    42  2  length of the salvage field
 *    44     the fields named by the byte at 40, in this order, then salvage, then zeros
 *    -8  8  XXH3-64 of everything before it (the last eight bytes of the header)
 *
 * Fields: 1 plain length u64, where it is not the stored length; 2 transforms in the order applied, four bytes; 4 key
 * id u32, nonce 16 bytes, length of the wrapped key u16, wrapped key; 8 (nothing) the salvage field is sealed. None of
 * them is written yet. Salvage, plain: bucket id u64, part number u16, key length u16, key, upload id (UTF-8).
 *
 * The header's checksum says nothing about the place: the reader compares the data id with the one it looked for.
 */
import {
  blockCount, blockSizeAt, CHECKSUM_SIZE, type DataId, type Geometry, type SalvageInfo, type ShardHeader,
} from './drive.js'
import { checksum64Behind, checksum64Matches } from '../native/hash.js'

export const SHARD_FORMAT_VERSION = 1
export const MAX_HEADER_SIZE = 8192
/** One read of this size gets the header of any shard, and all of a small one. */
export const FIRST_READ_SIZE: number = 16 * 1024

/** "OSRC", as a little-endian number. */
export const RECORD_MAGIC = 0x4352_534f
export const KIND_SHARD = 1
export const KIND_TOMBSTONE = 2
/** Every header and record is a multiple of this. */
export const RECORD_ALIGNMENT = 8
const FIXED_SIZE = 44
const SALVAGE_SIZE = 12
const CHECKSUM_BYTES = 8
const MATRIX_CAUCHY = 1
/** Of the headers of shard files; those of a segment have that segment's. */
export const FILE_SEED = 0x5348_4452

/** 'corrupt': not a header that was ever written. 'newer': written by a later version, not to be judged by this one. */
export class ShardHeaderError extends Error {
  readonly code: 'corrupt' | 'newer'
  constructor(code: 'corrupt' | 'newer', detail: string) {
    super(detail)
    this.name = 'ShardHeaderError'
    this.code = code
  }
}

/** Throws RangeError when the header cannot be written in this format. */
export function encodeShardHeader(header: ShardHeader, seed: number = FILE_SEED): Buffer {
  const bytes = Buffer.allocUnsafe(shardHeaderSize(header))
  putShardHeader(header, bytes, 0, seed)
  return bytes
}

/** Bytes of the header, at most MAX_HEADER_SIZE. Throws RangeError as `encodeShardHeader`. */
export function shardHeaderSize(header: ShardHeader): number {
  return commonHeader(header).length
}

/** Puts the header, all its bytes, at `at`, and returns its size. Throws RangeError before anything was put there. */
export function putShardHeader(header: ShardHeader, into: Buffer, at: number, seed: number): number {
  const { geometry, shard } = header
  if (!(Number.isSafeInteger(shard) && shard >= 0 && shard < geometry.k + geometry.m)) {
    throw new RangeError(`shard ${String(shard)} of ${String(geometry.k)}+${String(geometry.m)}`)
  }
  const shared = commonHeader(header)
  into.set(shared, at)
  into[at + 24] = shard
  sealHeader(into, at, shared.length, seed)
  return shared.length
}

/**
 * Headers of the parts that are being written: their shards share everything but number and checksum. By the objects
 * that they share; emptied now and then.
 */
const common = new Map<SalvageInfo, { dataId: DataId; geometry: Geometry; bytes: Buffer }>()
const COMMON_MOST = 128

function commonHeader({ dataId, geometry, salvage }: ShardHeader): Buffer {
  const known = common.get(salvage)
  if (known !== undefined && known.dataId === dataId && known.geometry === geometry) return known.bytes
  const problem = geometryProblem(geometry, 0) ?? (dataId.length === 16 ? undefined : 'data id: 16 bytes')
  if (problem !== undefined) throw new RangeError(problem)
  const keyLength = Buffer.byteLength(salvage.key, 'utf8')
  const uploadIdLength = Buffer.byteLength(salvage.uploadId, 'utf8')
  if (keyLength > 4096 || uploadIdLength > 1024) throw new RangeError('key or upload id too long')
  const salvageLength = SALVAGE_SIZE + keyLength + uploadIdLength
  const size = alignUp(FIXED_SIZE + salvageLength + CHECKSUM_BYTES, RECORD_ALIGNMENT)
  const bytes = Buffer.alloc(size)
  putPrefix(bytes, 0, KIND_SHARD, size, dataId)
  bytes[25] = geometry.k
  bytes[26] = geometry.m
  bytes[27] = MATRIX_CAUCHY
  bytes.writeUInt32LE(geometry.stripeSize, 28)
  writeWhole(bytes, geometry.partSize, 32)
  bytes.writeUInt16LE(salvageLength, 42)
  writeWhole(bytes, salvage.bucketId, FIXED_SIZE)
  bytes.writeUInt16LE(salvage.partNumber, FIXED_SIZE + 8)
  bytes.writeUInt16LE(keyLength, FIXED_SIZE + 10)
  bytes.write(salvage.key, FIXED_SIZE + SALVAGE_SIZE, 'utf8')
  bytes.write(salvage.uploadId, FIXED_SIZE + SALVAGE_SIZE + keyLength, 'utf8')
  if (common.size >= COMMON_MOST) common.clear()
  common.set(salvage, { dataId, geometry, bytes })
  return bytes
}

/** The fields that the headers of all kinds begin with. */
export function putPrefix(bytes: Buffer, at: number, kind: number, size: number, dataId: DataId): void {
  bytes.writeUInt32LE(RECORD_MAGIC, at)
  bytes[at + 4] = SHARD_FORMAT_VERSION
  bytes[at + 5] = kind
  bytes.writeUInt16LE(size, at + 6)
  bytes.set(dataId, at + 8)
}

/** Puts the checksum into the last eight of the `size` bytes of the header at `at`. */
export function sealHeader(bytes: Uint8Array, at: number, size: number, seed: number): void {
  checksum64Behind(bytes, at, at + size - CHECKSUM_BYTES, seed)
}

/**
 * The header at the start of `bytes` (which may go on after it), of whatever kind: it is whole, its checksum holds, and
 * its version is known. Throws ShardHeaderError. Bytes that end before the header does are corrupt: the
 * caller read at least MAX_HEADER_SIZE or to the end of the file.
 */
export function wholeHeader(bytes: Uint8Array, seed: number): { kind: number; header: Buffer } {
  const all = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (all.length < 40 || all.readUInt32LE(0) !== RECORD_MAGIC) throw corrupt('no shard header')
  const size = all.readUInt16LE(6)
  if (size < 40 || size > MAX_HEADER_SIZE || size % RECORD_ALIGNMENT !== 0 || size > all.length) {
    throw corrupt(`header size ${String(size)} of ${String(all.length)} bytes`)
  }
  const header = all.subarray(0, size)
  const at = size - CHECKSUM_BYTES
  if (!checksum64Matches(header, at, [header.subarray(0, at)], seed)) throw corrupt('header checksum')
  if (header[4] !== SHARD_FORMAT_VERSION) throw newer(`shard format ${String(header[4])}`)
  return { kind: header[5] ?? 0, header }
}

/** Reads the shard header at the start of `bytes`. Throws ShardHeaderError, as `wholeHeader`. */
export function decodeShardHeader(
  bytes: Uint8Array, seed: number = FILE_SEED,
): { header: ShardHeader; size: number } {
  const { kind, header } = wholeHeader(bytes, seed)
  if (kind === KIND_TOMBSTONE) throw corrupt('a tombstone in place of a shard')
  if (kind !== KIND_SHARD) throw newer(`record kind ${String(kind)}`)
  if (header[27] !== MATRIX_CAUCHY) throw newer(`coding matrix ${String(header[27])}`)
  if (header[40] !== 0) throw newer(`fields ${String(header[40])}`)
  const geometry: Geometry = {
    k: header[25] ?? 0, m: header[26] ?? 0, stripeSize: header.readUInt32LE(28), partSize: readWhole(header, 32),
  }
  const shard = header[24] ?? 0
  const problem = geometryProblem(geometry, shard)
  if (problem !== undefined) throw corrupt(problem)
  const salvageEnd = FIXED_SIZE + header.readUInt16LE(42)
  if (salvageEnd > header.length - CHECKSUM_BYTES) throw corrupt('salvage field')
  const salvage = decodeSalvage(header.subarray(FIXED_SIZE, salvageEnd))
  return { header: { dataId: Uint8Array.from(header.subarray(8, 24)), shard, geometry, salvage }, size: header.length }
}

/** Bytes of cells first..first+count-1. */
export function cellsSize(g: Geometry, first: number, count: number): number {
  if (count === 0) return 0
  return (count - 1) * (CHECKSUM_SIZE + blockSizeAt(g, first)) + CHECKSUM_SIZE + blockSizeAt(g, first + count - 1)
}

/** Where cell number `block` starts in the file. */
export function cellOffset(g: Geometry, headerSize: number, block: number): number {
  return headerSize + (block === 0 ? 0 : block * (CHECKSUM_SIZE + blockSizeAt(g, 0)))
}

/** Bytes of the whole file. */
export function shardFileSize(g: Geometry, headerSize: number): number {
  return headerSize + cellsSize(g, 0, blockCount(g))
}

export function dataIdName(id: DataId): string {
  return Buffer.from(id.buffer, id.byteOffset, id.byteLength).toString('hex')
}

/** The data id that a file name stands for; undefined for other names. */
export function parseDataIdName(name: string): DataId | undefined {
  return /^[0-9a-f]{32}$/.test(name) ? Uint8Array.from(Buffer.from(name, 'hex')) : undefined
}

/** The directory of a shard: by the last byte of the data id, which is random (the first ones are the writer epoch). */
export function shardDirectory(id: DataId): string {
  return `shards/${(id[15] ?? 0).toString(16).padStart(2, '0')}`
}

export function shardPath(id: DataId): string {
  return `${shardDirectory(id)}/${dataIdName(id)}`
}

function geometryProblem(g: Geometry, shard: number): string | undefined {
  const { k, m, stripeSize, partSize } = g
  const whole = [k, m, stripeSize, partSize, shard].every((value) => Number.isSafeInteger(value) && value >= 0)
  if (!whole || k < 1 || k + m > 16) return `geometry ${String(k)}+${String(m)}`
  if (stripeSize < 1 || stripeSize > 2 ** 30 || partSize > 2 ** 50) return `stripe size ${String(stripeSize)}`
  if (blockCount(g) > 0xffff_ffff) return `${String(partSize)} bytes in stripes of ${String(stripeSize)}`
  return shard < k + m ? undefined : `shard ${String(shard)} of ${String(k)}+${String(m)}`
}

/** The header's checksum held, so a field that does not fit was written wrong; still nothing is read outside of it. */
function decodeSalvage(field: Buffer): SalvageInfo {
  if (field.length < SALVAGE_SIZE) throw corrupt('salvage field')
  const keyEnd = SALVAGE_SIZE + field.readUInt16LE(10)
  if (keyEnd > field.length) throw corrupt('salvage field')
  return {
    bucketId: readWhole(field, 0),
    partNumber: field.readUInt16LE(8),
    key: field.toString('utf8', SALVAGE_SIZE, keyEnd),
    uploadId: field.toString('utf8', keyEnd),
  }
}

/** A whole number up to 2^53 - 1 as u64, without a BigInt. */
export function writeWhole(bytes: Buffer, value: number, at: number): void {
  bytes.writeUInt32LE(value % 0x1_0000_0000, at)
  bytes.writeUInt32LE(Math.floor(value / 0x1_0000_0000), at + 4)
}

/** The inverse of `writeWhole`; larger numbers come out inexact, and so large that nothing takes them for sound. */
export function readWhole(bytes: Buffer, at: number): number {
  return bytes.readUInt32LE(at + 4) * 0x1_0000_0000 + bytes.readUInt32LE(at)
}

function corrupt(detail: string): ShardHeaderError {
  return new ShardHeaderError('corrupt', detail)
}

function newer(detail: string): ShardHeaderError {
  return new ShardHeaderError('newer', `${detail} is not known to this version`)
}

export function alignUp(value: number, to: number): number {
  return Math.ceil(value / to) * to
}
