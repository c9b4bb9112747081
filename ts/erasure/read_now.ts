/**
 * The short way of a small read: when every block that is wanted can be had without waiting, as small parts that were
 * written or read lately can, the bytes are there in one synchronous call, without a promise, a timer or a thread.
 *
 * It only ever answers with verified bytes. Whatever is not as it should be (a drive that is out, a block that is not
 * cached, damaged or gone) is left to the long way (`part_reader.ts`), which waits, reconstructs and reports.
 */
import { blockSizeAt, type Drive } from '../drive/drive.js'
import type { DriveNumber } from '../drive/drive.js'
import type { PartLocation } from './erasure_set.js'

/** Longer reads would keep the event loop. */
export const MAX_READ_NOW: number = 128 * 1024

const SLAB_BYTES = 64 * 1024
const LARGEST_PIECE = 16 * 1024
const ALIGNMENT = 64

/**
 * Buffers of small answers are cut from larger ones, which live until their last piece was sent: a client that takes
 * nothing holds one of them.
 */
let slab: Uint8Array = new Uint8Array(0)
let slabUsed = 0

function cut(bytes: number): Uint8Array {
  if (bytes > LARGEST_PIECE) return Buffer.allocUnsafeSlow(bytes)
  if (slabUsed + bytes > slab.length) {
    slab = Buffer.allocUnsafeSlow(SLAB_BYTES)
    slabUsed = 0
  }
  const piece = slab.subarray(slabUsed, slabUsed + bytes)
  slabUsed += Math.ceil(bytes / ALIGNMENT) * ALIGNMENT
  return piece
}

/** The bytes of a range within one stripe, or undefined. `location` was checked. */
export function readNow(
  location: PartLocation,
  offset: number,
  length: number,
  driveOf: (number: DriveNumber) => Drive | undefined,
): Uint8Array | undefined {
  const { geometry, dataId, drives } = location
  const { stripeSize, partSize } = geometry
  const stripe = Math.floor(offset / stripeSize)
  const from = offset - stripe * stripeSize
  if (offset < 0 || length < 1 || from + length > stripeSize || offset + length > partSize) return undefined
  const blockSize = blockSizeAt(geometry, stripe)
  const first = Math.floor(from / blockSize)
  const last = Math.floor((from + length - 1) / blockSize)
  if ((last - first + 1) * blockSize > MAX_READ_NOW) return undefined
  const bytes = cut((last - first + 1) * blockSize)
  for (let shard = first; shard <= last; shard++) {
    const drive = driveOf(drives[shard] ?? 0)
    if (drive?.readBlockNow === undefined || !drive.readable) return undefined
    const at = (shard - first) * blockSize
    if (!drive.readBlockNow(dataId, shard, stripe, bytes.subarray(at, at + blockSize))) return undefined
  }
  const start = from - first * blockSize
  return length === bytes.length ? bytes : bytes.subarray(start, start + length)
}
