/**
 * Erasure coding: systematic Reed-Solomon, k data and m parity shards, k >= 1, m >= 0, k + m <= 16.
 *
 * Shards are numbered 0..k-1 (data) and k..k+m-1 (parity). A cell is what a drive holds for one block: the 16-byte
 * checksum, then the block. The checksum is XXH3-128 (big-endian) of the block, seeded with XXH3-64 of data id, shard
 * number (u8) and block number (u32, little-endian), so that an intact block in the wrong place does not verify.
 *
 * All calls are synchronous. They throw RangeError or TypeError (`code` 'ERR_OSTRAKA_ARGUMENT') for arguments that do
 * not fit, having written nothing. Buffers may be views over a SharedArrayBuffer, and need no alignment.
 */
import { addon } from './addon.js';

/** The checksum in front of each block, in bytes. */
export const checksumSize = 16;

/**
 * Slab: k+m cells, one every `stride` bytes (stride >= 16 + blockSize); data blocks 0..k-1 are filled in by the caller.
 */
export interface StripeShape {
  k: number;
  m: number;
  blockSize: number;
  stride: number;
}

const CACHE_LINE = 64;

/**
 * Memory for a slab of `bytes` bytes, with arbitrary contents. Its blocks begin at cache lines, where the stride is a
 * multiple of 64: no call needs that, but all are faster by a tenth.
 */
export function slabMemory(bytes: number): Uint8Array {
  const room = Buffer.allocUnsafeSlow(bytes + CACHE_LINE);
  const start = (addon.indexPadding(room) + CACHE_LINE - checksumSize) % CACHE_LINE;
  return room.subarray(start, start + bytes);
}

/** The most pieces that `sealStripe` takes. */
export const sealMaxPieces = 256;

/**
 * Computes the m parity blocks of the slab in place, then writes the checksum of all k+m blocks in front of each.
 * `dataId` is 16 bytes. The slab holds (k+m-1) * stride + 16 + blockSize bytes at least.
 *
 * With `pieces` (at most `sealMaxPieces`, at most k * blockSize bytes together, none of them in the slab) the data
 * blocks are first filled with them, one after the other, and with zeros after the last.
 */
export function sealStripe(
  slab: Uint8Array,
  shape: StripeShape,
  dataId: Uint8Array,
  blockNumber: number,
  pieces?: readonly Uint8Array[],
): void {
  const { k, m, blockSize, stride } = shape;
  addon.sealStripe(slab, k, m, blockSize, stride, dataId, blockNumber, pieces);
}

/**
 * Verifies consecutive cells of one shard, all `blockSize` long but the last, which may be shorter (`lastBlockSize`).
 * `cells` has exactly that many bytes. Returns -1 when all hold, else the index of the first bad cell.
 */
export function verifyCells(
  cells: Uint8Array,
  blockSize: number,
  cellCount: number,
  lastBlockSize: number,
  dataId: Uint8Array,
  shard: number,
  firstBlock: number,
): number {
  return addon.verifyCells(cells, blockSize, cellCount, lastBlockSize, dataId, shard, firstBlock);
}

/**
 * Rebuilds blocks: blocks[i] is the (verified) block of shard i without its checksum, or null; fills out[j] with the
 * block of shard wanted[j]. At least k blocks must be given, and no output may overlap an input or another output.
 * What the inputs hold is not checked: a wrong block gives wrong results.
 */
export function reconstruct(
  k: number,
  m: number,
  blockSize: number,
  blocks: readonly (Uint8Array | null)[],
  wanted: readonly number[],
  out: readonly Uint8Array[],
): void {
  addon.reconstruct(k, m, blockSize, blocks, wanted, out);
}

/** True when the parity agrees with the data; all k+m blocks are given. */
export function parityAgrees(k: number, m: number, blockSize: number, blocks: readonly Uint8Array[]): boolean {
  return addon.parityAgrees(k, m, blockSize, blocks);
}

/** Writes the 16-byte checksum of the one block that makes up the rest of the cell. */
export function sealBlock(cell: Uint8Array, dataId: Uint8Array, shard: number, blockNumber: number): void {
  addon.sealBlock(cell, dataId, shard, blockNumber);
}

/** Fills the m parity blocks from the k data blocks, each `blockSize` bytes. Parity may overlap nothing. */
export function encode(
  k: number,
  m: number,
  blockSize: number,
  data: readonly Uint8Array[],
  parity: readonly Uint8Array[],
): void {
  addon.encode(k, m, blockSize, data, parity);
}

/**
 * The kernel by which this process makes m blocks of k (parity blocks, or as many as are rebuilt), k + m <= 16: by
 * default the faster one of its own widest kernel and ISA-L, measured once; a fixed one where OSTRAKA_CPU forces it.
 * All kernels give the same bytes.
 */
export function erasureKernel(k = 8, m = 4): string {
  return addon.erasureKernel(k, m);
}
