/**
 * Segments as files: names, the header of a segment, and where a record lies as one number.
 *
 *   segments/<number>.seg    header of 64 bytes, then batches (batch.ts), each at a multiple of 8
 *   segments/<number>.hint   what a sealed segment holds (hint.ts)
 *   segments/ballast         bytes that are given up when the drive is full, so that deletes can still be written
 *
 * Numbers are decimal, start at 1, grow over the life of a drive and are not used again while anything of that number
 * lies on it. Header, little-endian:
 *
 *     0  8  magic "OSTRKSEG"
 *     8  2  format version (1)
 *    10  2  zero
 *    12  4  number
 *    16 36  drive id (a UUID as text, zeros where the drive has none)
 *    52  4  zero
 *    56  8  XXH3-64, seeded, of the 56 bytes before
 *
 * All checksums of a segment but those of the blocks are seeded with `segmentSeed`: so a record of another drive or
 * segment, and bytes that a client planted in an object, never pass for one of this segment. The seed follows from
 * drive id and number alone: a damaged header costs nothing.
 */
import { checksum64, checksum64Matches } from '../../native/hash.js'

export const SEGMENT_VERSION = 1
export const SEGMENT_HEADER_SIZE = 64
export const SEGMENTS_DIRECTORY = 'segments'
export const BALLAST_PATH = 'segments/ballast'
/** A batch never begins beyond this offset, so that locations fit. */
export const MAX_OFFSET: number = 2 ** 29 - 8
export const MAX_SEGMENT_NUMBER: number = 2 ** 23 - 1

const MAGIC = Buffer.from('OSTRKSEG', 'latin1')
const SEED_OF_SEEDS = 0x5345_474d

/** Seed of all checksums of a segment: 52 bits. */
export function segmentSeed(driveId: string, number: number): number {
  const out = Buffer.alloc(8)
  checksum64(out, 0, [Buffer.from(`${driveId}/${String(number)}`, 'latin1')], SEED_OF_SEEDS)
  return out.readUIntBE(2, 6) * 16 + ((out[1] ?? 0) & 15)
}

export function encodeSegmentHeader(driveId: string, number: number): Buffer {
  const bytes = Buffer.alloc(SEGMENT_HEADER_SIZE)
  MAGIC.copy(bytes)
  bytes.writeUInt16LE(SEGMENT_VERSION, 8)
  bytes.writeUInt32LE(number, 12)
  bytes.write(driveId, 16, 36, 'latin1')
  checksum64(bytes, 56, [bytes.subarray(0, 56)], segmentSeed(driveId, number))
  return bytes
}

/** 'bad' is no reason not to read the segment, 'newer' is. */
export function checkSegmentHeader(bytes: Buffer, driveId: string, number: number): 'good' | 'bad' | 'newer' {
  if (bytes.length < SEGMENT_HEADER_SIZE) return 'bad'
  if (!checksum64Matches(bytes, 56, [bytes.subarray(0, 56)], segmentSeed(driveId, number))) return 'bad'
  if (!bytes.subarray(0, 8).equals(MAGIC)) return 'bad'
  if (bytes.readUInt16LE(8) !== SEGMENT_VERSION) return 'newer'
  return bytes.equals(encodeSegmentHeader(driveId, number)) ? 'good' : 'bad'
}

export function segmentPath(number: number): string {
  return `${SEGMENTS_DIRECTORY}/${String(number)}.seg`
}

export function hintPath(number: number): string {
  return `${SEGMENTS_DIRECTORY}/${String(number)}.hint`
}

/** What a name in segments/ stands for; undefined for a name that is none of ours. */
export function parseSegmentName(name: string): { number: number; kind: 'seg' | 'hint' } | undefined {
  const match = /^([1-9][0-9]{0,6})\.(seg|hint)$/.exec(name)
  if (match === null) return undefined
  const number = Number(match[1])
  if (number > MAX_SEGMENT_NUMBER) return undefined
  return { number, kind: match[2] === 'seg' ? 'seg' : 'hint' }
}

/**
 * Where a record lies, as the index keeps it, in 53 bits: number (23), offset / 8 (26), size class (3), dead (1). Dead:
 * the record there is a tombstone. Locations of one id compare like the order in which its records were appended.
 */
export interface Location {
  number: number
  offset: number
  /** See SIZE_CLASSES. */
  sizeClass: number
  dead: boolean
}

/** A record of class i has at most so many bytes; those of the last class, number 7, have more than all. */
export const SIZE_CLASSES: readonly number[] = [768, 2304, 4352, 8448, 16_640, 33_024, 65_792]

export function sizeClassOf(bytes: number): number {
  const at = SIZE_CLASSES.findIndex((most) => bytes <= most)
  return at < 0 ? SIZE_CLASSES.length : at
}

export function packLocation(number: number, offset: number, size: number, dead: boolean): number {
  return (number * 2 ** 26 + offset / 8) * 16 + sizeClassOf(size) * 2 + (dead ? 1 : 0)
}

export function unpackLocation(location: number): Location {
  const place = Math.floor(location / 16)
  return {
    number: Math.floor(place / 2 ** 26),
    offset: (place % 2 ** 26) * 8,
    sizeClass: (location % 16) >> 1,
    dead: location % 2 === 1,
  }
}

export function isDead(location: number): boolean {
  return location % 2 === 1
}

export function segmentOf(location: number): number {
  return Math.floor(location / 2 ** 30)
}
