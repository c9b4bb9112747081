/**
 * Bytes of the command log, without I/O. Numbers are big-endian.
 *
 * A log is a sequence of files; a file is a header and frames, each at a multiple of 16:
 *
 *   file header, 64 bytes
 *     0   magic    8   "OSTRKLOG"
 *     8   version  4   1: entries of type 1, each behind the one before; 2: everything below
 *     12  number   8   of the file: unique, ascending, never used again
 *     20  seed     8   random, 48 bits: seeds the checksums of the frames of this file
 *     28  zeros
 *     60  crc32c   4   of the 60 bytes before
 *
 *   frame = one group commit
 *     0   magic    4   "OFRM"
 *     4   version  4   1
 *     8   length   4   header and records, without the padding behind
 *     12  count    4   records; 0 in the frame that closes a log cleanly
 *     16  offset   8   of this frame in the whole log
 *     24  syncedTo 8   offset in the whole log that was durable when this frame was written
 *     32  checksum 8   XXH3-64, seeded, of the 32 bytes before and everything behind
 *     40  records
 *
 *   record, padded to 8
 *     0   magic    4   "OREC"
 *     4   type     4   1 commands: a msgpack Batch, or nothing (a new leader's first entry)
 *                      2, 3 membership: a change as raft/core/confchange.ts encodes it, of kind V2 and V1
 *                      16 hard state: term, commit index as index, vote as payload (u64)
 *                      17 start: the log begins behind this term and index, whatever came before
 *     8   group    4
 *     12  epoch    4   range epoch
 *     16  term     8
 *     24  index    8   an entry (1 to 3) in a file of version 2 replaces what was at and after its index
 *     32  length   4   of the payload
 *     36  crc32c   4   of the 36 bytes before and the payload
 *     40  payload
 *
 * The seed keeps bytes that a client planted in a payload from passing as a frame, and frames of one file from
 * passing in another. Every file of version 2 begins with the hard state, so that older files can go. Offsets run
 * through all files: a file's first frame begins where the last file's data ends.
 */
import { checksum64, checksum64Matches, crc32c } from '../../native/hash.js'

export const FILE_HEADER = 64
export const FRAME_HEADER = 40
export const RECORD_HEADER = 40
const ALIGN = 16
const FILE_MAGIC = Buffer.from('OSTRKLOG')
const FRAME_MAGIC = Buffer.from('OFRM')
const RECORD_MAGIC = 0x4f524543
const VERSION = 1
/** Of files: a log of commands alone, as one node keeps it, and the log of a replica. */
export const FILE_COMMANDS = 1
export const FILE_REPLICATED = 2

export const RECORD_COMMANDS = 1
export const RECORD_CHANGE = 2
/** The last of the types of entries. */
export const RECORD_CHANGE_V1 = 3
export const RECORD_HARD_STATE = 16
export const RECORD_START = 17

export interface LogRecord {
  type: number
  group: number
  epoch: number
  term: number
  index: number
  payload: Uint8Array
}

export interface FileHeader {
  version: number
  number: number
  seed: number
}

export interface Frame {
  offset: number
  syncedTo: number
  records: LogRecord[]
  /** Bytes that it takes in the file, padding included. */
  size: number
}

export function encodeFileHeader(header: FileHeader): Buffer {
  const out = Buffer.alloc(FILE_HEADER)
  FILE_MAGIC.copy(out)
  out.writeUInt32BE(header.version, 8)
  out.writeBigUInt64BE(BigInt(header.number), 12)
  out.writeBigUInt64BE(BigInt(header.seed), 20)
  out.writeUInt32BE(crc32c(out.subarray(0, 60)), 60)
  return out
}

/** A header, or in words what is wrong with it. */
export function decodeFileHeader(bytes: Buffer): FileHeader | string {
  if (bytes.length < FILE_HEADER || !bytes.subarray(0, 8).equals(FILE_MAGIC)) return 'it is not a log file'
  if (crc32c(bytes.subarray(0, 60)) !== bytes.readUInt32BE(60)) return 'the checksum of its header does not hold'
  const version = bytes.readUInt32BE(8)
  if (version < FILE_COMMANDS || version > FILE_REPLICATED) {
    return `its format has version ${String(version)}, known are up to ${String(FILE_REPLICATED)}`
  }
  return { version, number: Number(bytes.readBigUInt64BE(12)), seed: Number(bytes.readBigUInt64BE(20)) }
}

export function encodeHardState(
  group: number,
  state: { term: number; vote: number; commit: number },
): LogRecord {
  const payload = Buffer.alloc(8)
  payload.writeBigUInt64BE(BigInt(state.vote))
  return { type: RECORD_HARD_STATE, group, epoch: 0, term: state.term, index: state.commit, payload }
}

/** The vote of a hard state. */
export function decodeVote({ payload }: LogRecord): number {
  const bytes = Buffer.from(payload.buffer, payload.byteOffset, payload.length)
  return bytes.length === 8 ? Number(bytes.readBigUInt64BE()) : 0
}

/** Bytes of the frame that would hold these payloads. */
export function frameSize(payloads: readonly Uint8Array[]): number {
  return pad(FRAME_HEADER + payloads.reduce((sum, { length }) => sum + pad8(RECORD_HEADER + length), 0), ALIGN)
}

export function encodeFrame(seed: number, offset: number, syncedTo: number, records: readonly LogRecord[]): Buffer {
  const out = Buffer.alloc(frameSize(records.map(({ payload }) => payload)))
  let at = FRAME_HEADER
  for (const record of records) at = encodeRecord(out, at, record)
  FRAME_MAGIC.copy(out)
  out.writeUInt32BE(VERSION, 4)
  out.writeUInt32BE(at, 8)
  out.writeUInt32BE(records.length, 12)
  out.writeBigUInt64BE(BigInt(offset), 16)
  out.writeBigUInt64BE(BigInt(syncedTo), 24)
  checksum64(out, 32, [out.subarray(0, 32), out.subarray(FRAME_HEADER, at)], seed)
  return out
}

function encodeRecord(out: Buffer, at: number, record: LogRecord): number {
  out.writeUInt32BE(RECORD_MAGIC, at)
  out.writeUInt32BE(record.type, at + 4)
  out.writeUInt32BE(record.group, at + 8)
  out.writeUInt32BE(record.epoch, at + 12)
  out.writeBigUInt64BE(BigInt(record.term), at + 16)
  out.writeBigUInt64BE(BigInt(record.index), at + 24)
  out.writeUInt32BE(record.payload.length, at + 32)
  out.writeUInt32BE(crc32c(record.payload, crc32c(out.subarray(at, at + 36))), at + 36)
  out.set(record.payload, at + RECORD_HEADER)
  return at + pad8(RECORD_HEADER + record.payload.length)
}

/** The frame at `at`, or undefined when there is no valid one. Payloads are views of `bytes`. */
export function decodeFrame(bytes: Buffer, at: number, seed: number): Frame | undefined {
  if (at + FRAME_HEADER > bytes.length || bytes.compare(FRAME_MAGIC, 0, 4, at, at + 4) !== 0) return undefined
  const length = bytes.readUInt32BE(at + 8)
  if (bytes.readUInt32BE(at + 4) !== VERSION || length < FRAME_HEADER || at + length > bytes.length) return undefined
  const body = [bytes.subarray(at, at + 32), bytes.subarray(at + FRAME_HEADER, at + length)]
  if (!checksum64Matches(bytes, at + 32, body, seed)) return undefined
  const records: LogRecord[] = []
  let from = at + FRAME_HEADER
  for (let left = bytes.readUInt32BE(at + 12); left > 0; left--) {
    const record = decodeRecord(bytes, from, at + length)
    if (record === undefined) return undefined
    records.push(record)
    from += pad8(RECORD_HEADER + record.payload.length)
  }
  return {
    offset: Number(bytes.readBigUInt64BE(at + 16)),
    syncedTo: Number(bytes.readBigUInt64BE(at + 24)),
    records,
    size: pad(length, ALIGN),
  }
}

function decodeRecord(bytes: Buffer, at: number, end: number): LogRecord | undefined {
  if (at + RECORD_HEADER > end || bytes.readUInt32BE(at) !== RECORD_MAGIC) return undefined
  const length = bytes.readUInt32BE(at + 32)
  if (at + RECORD_HEADER + length > end) return undefined
  const payload = bytes.subarray(at + RECORD_HEADER, at + RECORD_HEADER + length)
  if (crc32c(payload, crc32c(bytes.subarray(at, at + 36))) !== bytes.readUInt32BE(at + 36)) return undefined
  return {
    type: bytes.readUInt32BE(at + 4),
    group: bytes.readUInt32BE(at + 8),
    epoch: bytes.readUInt32BE(at + 12),
    term: Number(bytes.readBigUInt64BE(at + 16)),
    index: Number(bytes.readBigUInt64BE(at + 24)),
    payload,
  }
}

export interface ParsedFile {
  /** Frames that follow each other from the start of the file. */
  frames: Frame[]
  /** Highest syncedTo of any valid frame of the file, those behind a bad spot included; 0 when there is none. */
  syncedTo: number
  /** True when bytes other than zero lie behind the last of `frames`. */
  rest: boolean
  /** True when a valid frame lies there: frames are written one at a time, so what is bad before it was durable. */
  broken: boolean
}

/** Everything that a log file says. `bytes` is the whole file, its header already decoded. */
export function parseFile(bytes: Buffer, seed: number): ParsedFile {
  const frames: Frame[] = []
  let at = FILE_HEADER
  let syncedTo = 0
  let broken = false
  for (let frame = decodeFrame(bytes, at, seed); frame !== undefined; frame = decodeFrame(bytes, at, seed)) {
    const expected = frames.at(-1)
    if (expected !== undefined && frame.offset !== expected.offset + expected.size) break
    frames.push(frame)
    syncedTo = Math.max(syncedTo, frame.syncedTo)
    at += frame.size
  }
  for (let found = bytes.indexOf(FRAME_MAGIC, at); found >= 0; found = bytes.indexOf(FRAME_MAGIC, found + 1)) {
    const frame = found % ALIGN === 0 ? decodeFrame(bytes, found, seed) : undefined
    if (frame === undefined) continue
    syncedTo = Math.max(syncedTo, frame.syncedTo)
    broken = true
  }
  return { frames, syncedTo, rest: !isZero(bytes, at), broken }
}

function isZero(bytes: Buffer, from: number): boolean {
  for (let at = from; at < bytes.length; at++) if (bytes[at] !== 0) return false
  return true
}

function pad(value: number, to: number): number {
  return Math.ceil(value / to) * to
}

function pad8(value: number): number {
  return pad(value, 8)
}
