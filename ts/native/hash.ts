/**
 * Checksums: XXH3 with a 64-bit seed, CRC32C and CRC64NVME, and checksums of records.
 *
 * Stored checksums are big-endian (canonical). The CRCs take and return a running value, 0 at the start, so that
 * crc(b, crc(a)) is the CRC of a followed by b.
 */
import { addon } from './addon.js';

export function xxh3_64(data: Uint8Array, seed = 0n): bigint {
  return addon.xxh3_64(data, seed);
}

/** 16 bytes, into `out` when it is given. */
export function xxh3_128(data: Uint8Array, seed = 0n, out: Uint8Array = new Uint8Array(16)): Uint8Array {
  addon.xxh3_128(data, seed, out);
  return out;
}

export function crc32c(data: Uint8Array, running = 0): number {
  return addon.crc32c(data, running);
}

export function crc64nvme(data: Uint8Array, running = 0n): bigint {
  return addon.crc64nvme(data, running);
}

/**
 * Writes the XXH3-64 of the concatenation of the parts (at most 256) at out[outOffset..outOffset+8). The checksum is
 * computed before it is written, so the parts may lie around it in the same buffer. No BigInt is made. `seed` is a
 * safe integer.
 */
export function checksum64(out: Uint8Array, outOffset: number, parts: readonly Uint8Array[], seed = 0): void {
  addon.checksum64(out, outOffset, parts, seed);
}

/** Writes the XXH3-64 of bytes[from..to) at bytes[to..to+8): as `checksum64`, of one part and what follows it. */
export function checksum64Behind(bytes: Uint8Array, from: number, to: number, seed: number): void {
  addon.checksum64Behind(bytes, from, to, seed);
}

/** True when expected[expectedOffset..expectedOffset+8) is what `checksum64` would write. */
export function checksum64Matches(
  expected: Uint8Array,
  expectedOffset: number,
  parts: readonly Uint8Array[],
  seed = 0,
): boolean {
  return addon.checksum64Matches(expected, expectedOffset, parts, seed);
}

/*
 * The same for the records of a metadata view, without the lists: a record is the XXH3-64 of its key and of all behind
 * the first eight bytes, then that.
 */

/** Writes record[0..8). */
export function sealRecord(record: Uint8Array, key: Uint8Array): void {
  addon.sealRecord(record, key);
}

/** True when record[0..8) is what `sealRecord` would write. */
export function recordMatches(record: Uint8Array, key: Uint8Array): boolean {
  return addon.recordMatches(record, key);
}

/** Writes the XXH3-64 of a key at record[offset..offset+8). */
export function linkRecord(record: Uint8Array, offset: number, key: Uint8Array): void {
  addon.linkRecord(record, offset, key);
}

/** True when record[offset..offset+8) is what `linkRecord` would write. */
export function linkMatches(record: Uint8Array, offset: number, key: Uint8Array): boolean {
  return addon.linkMatches(record, offset, key);
}
