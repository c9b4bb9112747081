/**
 * The bytes of a shard file: one header, then the shard's cells (16 bytes of checksum + one block each) in order.
 * Pure: no I/O here.
 *
 * Header, integers little-endian:
 *
 *     0  8  magic "OSTRAKSH"
 *     8  2  format version (1)
 *    10  2  header size in bytes, a multiple of 64, at most 8192
 *    12  1  kind: 1 shard (2 is kept for tombstones)
 *    13  1  shard number, 0..k+m-1
 *    14  1  k
 *    15  1  m
 *    16 16  data id
 *    32  4  stripe size
 *    36  2  coding matrix: 1 = Cauchy over GF(2^8)
 *    38  2  length of the wrapped key (0 for now)
 *    40  8  plain length: bytes of part data as the client sent them
 *    48  8  stored length: after the transforms, what the geometry cuts into stripes
 *    56  4  transforms in the order applied, one byte each, 0 = none (compression, cipher: none yet)
 *    60  4  key id (0: not encrypted)
 *    64 16  nonce (zero for now)
 *    80  1  salvage form: 0 plain, 1 sealed
 *    81  1  zero
 *    82  2  length of the salvage field
 *    84     wrapped key, then salvage, then zeros
 *  -  8  8  XXH3-64 of everything before it (the last eight bytes of the header)
 *
 * Salvage, plain: bucket id u64, part number u32, key length u16, key, upload id length u16, upload id (UTF-8).
 *
 * The header is 64-byte padded so that a reader can take it and the first cell of a small shard with one read. Its
 * checksum says nothing about the place: the reader compares the data id with the name it opened.
 */
import {
  blockCount, blockSizeAt, CHECKSUM_SIZE, type DataId, type Geometry, type SalvageInfo, type ShardHeader,
} from './drive.js'
import { checksum64, checksum64Matches } from '../native/hash.js'

export const SHARD_FORMAT_VERSION = 1
export const MAX_HEADER_SIZE = 8192
/** One read of this size gets the header of any shard, and all of a small one. */
export const FIRST_READ_SIZE: number = 16 * 1024

const MAGIC: Uint8Array = new TextEncoder().encode('OSTRAKSH')
const HEADER_ALIGNMENT = 64
const FIXED_SIZE = 84
const KIND_SHARD = 1
const MATRIX_CAUCHY = 1
/** Keeps the checksum of a shard header apart from those of other records. */
const HEADER_SEED = 0x5348_4452

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
export function encodeShardHeader(header: ShardHeader): Uint8Array {
  const { geometry, salvage, dataId, shard } = header
  const problem = geometryProblem(geometry, shard) ?? (dataId.length === 16 ? undefined : 'data id: 16 bytes')
  if (problem !== undefined) throw new RangeError(problem)
  const sealed = encodeSalvage(salvage)
  const size = alignUp(FIXED_SIZE + sealed.length + 8, HEADER_ALIGNMENT)
  if (size > MAX_HEADER_SIZE) throw new RangeError(`salvage information of ${String(sealed.length)} bytes`)
  const bytes = new Uint8Array(size)
  const view = new DataView(bytes.buffer)
  bytes.set(MAGIC, 0)
  view.setUint16(8, SHARD_FORMAT_VERSION, true)
  view.setUint16(10, size, true)
  bytes.set([KIND_SHARD, shard, geometry.k, geometry.m], 12)
  bytes.set(dataId, 16)
  view.setUint32(32, geometry.stripeSize, true)
  view.setUint16(36, MATRIX_CAUCHY, true)
  view.setBigUint64(40, BigInt(geometry.partSize), true)
  view.setBigUint64(48, BigInt(geometry.partSize), true)
  view.setUint16(82, sealed.length, true)
  bytes.set(sealed, FIXED_SIZE)
  checksum64(bytes, size - 8, [bytes.subarray(0, size - 8)], HEADER_SEED)
  return bytes
}

/**
 * Reads the header at the start of `bytes` (which may go on after it). Throws ShardHeaderError. Bytes that end before
 * the header does are corrupt: the caller read at least MAX_HEADER_SIZE or to the end of the file.
 */
export function decodeShardHeader(bytes: Uint8Array): { header: ShardHeader; size: number } {
  if (bytes.length < FIXED_SIZE || !MAGIC.every((byte, at) => bytes[at] === byte)) throw corrupt('no shard header')
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const size = view.getUint16(10, true)
  if (size < HEADER_ALIGNMENT * 2 || size > MAX_HEADER_SIZE || size % HEADER_ALIGNMENT !== 0 || size > bytes.length) {
    throw corrupt(`header size ${String(size)} of ${String(bytes.length)} bytes`)
  }
  if (!checksum64Matches(bytes, size - 8, [bytes.subarray(0, size - 8)], HEADER_SEED)) throw corrupt('header checksum')
  const version = view.getUint16(8, true)
  if (version !== SHARD_FORMAT_VERSION) throw newer(`shard format ${String(version)}`)
  if (bytes[12] !== KIND_SHARD) throw newer(`record kind ${String(bytes[12])}`)
  if (view.getUint16(36, true) !== MATRIX_CAUCHY) throw newer(`coding matrix ${String(view.getUint16(36, true))}`)
  if (view.getUint32(56, true) !== 0 || view.getUint32(60, true) !== 0) throw newer('transforms')
  const geometry: Geometry = {
    k: bytes[14] ?? 0, m: bytes[15] ?? 0, stripeSize: view.getUint32(32, true),
    partSize: Number(view.getBigUint64(48, true)),
  }
  const shard = bytes[13] ?? 0
  const problem = geometryProblem(geometry, shard)
  if (problem !== undefined) throw corrupt(problem)
  const salvageAt = FIXED_SIZE + view.getUint16(38, true)
  const salvage = decodeSalvage(bytes.subarray(salvageAt, salvageAt + view.getUint16(82, true)), size)
  return { header: { dataId: bytes.slice(16, 32), shard, geometry, salvage }, size }
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

function encodeSalvage(salvage: SalvageInfo): Uint8Array {
  const key = Buffer.from(salvage.key, 'utf8')
  const uploadId = Buffer.from(salvage.uploadId, 'utf8')
  if (key.length > 4096 || uploadId.length > 1024) throw new RangeError('key or upload id too long')
  const bytes = Buffer.alloc(16 + key.length + uploadId.length)
  bytes.writeBigUInt64LE(BigInt(salvage.bucketId), 0)
  bytes.writeUInt32LE(salvage.partNumber, 8)
  bytes.writeUInt16LE(key.length, 12)
  key.copy(bytes, 14)
  bytes.writeUInt16LE(uploadId.length, 14 + key.length)
  uploadId.copy(bytes, 16 + key.length)
  return bytes
}

/** The header's checksum held, so a field that does not fit was written wrong; still nothing is read outside of it. */
function decodeSalvage(field: Uint8Array, headerSize: number): SalvageInfo {
  const bytes = Buffer.from(field.buffer, field.byteOffset, field.byteLength)
  if (bytes.length < 16 || bytes.length > headerSize) throw corrupt('salvage field')
  const keyLength = bytes.readUInt16LE(12)
  if (16 + keyLength > bytes.length) throw corrupt('salvage field')
  const uploadIdLength = bytes.readUInt16LE(14 + keyLength)
  if (16 + keyLength + uploadIdLength !== bytes.length) throw corrupt('salvage field')
  return {
    bucketId: Number(bytes.readBigUInt64LE(0)),
    partNumber: bytes.readUInt32LE(8),
    key: bytes.toString('utf8', 14, 14 + keyLength),
    uploadId: bytes.toString('utf8', 16 + keyLength),
  }
}

function corrupt(detail: string): ShardHeaderError {
  return new ShardHeaderError('corrupt', detail)
}

function newer(detail: string): ShardHeaderError {
  return new ShardHeaderError('newer', `${detail} is not known to this version`)
}

function alignUp(value: number, to: number): number {
  return Math.ceil(value / to) * to
}
