/**
 * One drive, as the erasure layer sees it: a store of shards, each identified by the data id (a drive holds at
 * most one shard of a data id) and made of checksummed blocks behind a self-describing header.
 *
 * Invariants:
 * - What `putShard` or `ShardWriter.commit` acknowledged is durable: data, name and directory.
 * - A reader returns only blocks whose checksum held for (data id, shard number, block number).
 * - A shard is immutable once committed; deleting is final.
 */

/** 128 bits: writer epoch u48 big-endian, u16 that may be anything, then 64 random bits. Always 16 bytes. */
export type DataId = Uint8Array

/** A drive's number in its cluster: given once by metadata, never used again for another drive. 1..65535. */
export type DriveNumber = number

/** Bytes of checksum in front of every block. A cell is checksum + block. */
export const CHECKSUM_SIZE = 16

/** How a part is cut: stripes of `stripeSize` bytes of data, each encoded into k + m blocks. */
export interface Geometry {
  k: number
  m: number
  /** Bytes of part data per full stripe; the last stripe may be shorter. */
  stripeSize: number
  /** Bytes of part data in all. */
  partSize: number
}

/** For salvage only: whose data this was. Never consulted while metadata is healthy. */
export interface SalvageInfo {
  bucketId: number
  key: string
  uploadId: string
  partNumber: number
}

export interface ShardHeader {
  dataId: DataId
  /** Row of the coding matrix this shard holds: 0..k-1 data, k..k+m-1 parity. */
  shard: number
  geometry: Geometry
  salvage: SalvageInfo
}

/** Bytes in block number `block` of any shard of this geometry (all shards of a stripe have blocks of one size). */
export function blockSizeAt(g: Geometry, block: number): number {
  const left = g.partSize - block * g.stripeSize
  return Math.ceil(Math.min(left, g.stripeSize) / g.k)
}

/** Number of blocks of a shard of this geometry: one per stripe. */
export function blockCount(g: Geometry): number {
  return Math.ceil(g.partSize / g.stripeSize)
}

export interface ReadOptions {
  /** Read the medium, not the page cache (scrub, heal proof). */
  medium?: boolean
  background?: boolean
  deadlineMs?: number
}

export interface ShardWriter {
  /** Appends whole cells (checksum + block, in block order). Resolves when the drive has taken them. */
  append(cells: readonly Uint8Array[]): Promise<void>
  /** Makes the shard durable under its name. */
  commit(): Promise<void>
  /** Removes what was written; never throws. */
  abort(): Promise<void>
}

export interface ShardReader {
  readonly header: ShardHeader
  /**
   * Blocks first..first+count-1, verified, as one buffer of consecutive cells (checksum + block each). Throws
   * ShardError 'corrupt' with the number of the first bad block, 'missing' when the file ends too early.
   */
  readCells(first: number, count: number, options?: ReadOptions): Promise<Uint8Array>
  close(): Promise<void>
}

export interface ShardListing {
  dataId: DataId
  /** Bytes on the drive, header included. */
  size: number
}

export type DriveState = 'online' | 'full' | 'readOnly' | 'slow' | 'offline' | 'refused'

export interface DriveHealth {
  state: DriveState
  /** Plain words for the operator, '' when all is well. */
  reason: string
  sinceMs: number
  totalBytes: number
  freeBytes: number
  /** Moving 95th percentile of recent reads, for hedging. */
  readP95Ms: number
  writeP95Ms: number
  errors: number
  timeouts: number
}

export interface Drive {
  readonly number: DriveNumber
  readonly set: number
  readonly position: number
  readonly health: DriveHealth
  /** True when new shards may be put (online and above the free-space reserve). */
  readonly writable: boolean
  readonly readable: boolean

  /** A whole small shard, durable when it resolves: one submission. */
  putShard(header: ShardHeader, cells: readonly Uint8Array[], options?: ReadOptions): Promise<void>
  /**
   * As `putShard`, for a small shard that has nothing to wait for before: `ended` is called once, in a later turn, with
   * what it failed with, if it did. False: nothing was begun, and `putShard` does it. May throw what `putShard` rejects
   * with. Small writes need no promises this way.
   */
  putPacked?(header: ShardHeader, cells: readonly Uint8Array[], ended: (error?: unknown) => void): boolean
  createShard(header: ShardHeader): Promise<ShardWriter>
  /** Opens a shard; one submission that also reads the first block when it is small. ShardError 'missing' if absent. */
  openShard(dataId: DataId, options?: ReadOptions): Promise<ShardReader>
  /**
   * Copies a block of a shard, verified, into `into` (as long as the block) in the calling thread, if that takes no
   * waiting. False: nothing is known of `into`; `openShard` gives the block or tells what the matter is.
   */
  readBlockNow?(dataId: DataId, shard: number, block: number, into: Uint8Array): boolean
  /** True when something was deleted. Allowed on a full drive. Durable when it resolves. */
  deleteShard(dataId: DataId): Promise<boolean>
  /** Shards with data id greater than `after` (undefined: from the start), ordered by data id, at most `limit`. */
  listShards(after: DataId | undefined, limit: number): Promise<ShardListing[]>
  /**
   * Removes temporary files left by a crash, and makes the names of all shards durable. Call once, before serving. The
   * number of files removed.
   */
  recover(): Promise<number>
  close(): Promise<void>
}

export type ShardErrorCode = 'missing' | 'corrupt' | 'driveOffline' | 'driveFull' | 'driveReadOnly' | 'io' | 'timeout'

export class ShardError extends Error {
  readonly code: ShardErrorCode
  readonly drive: DriveNumber
  /** For 'corrupt': the first bad block, -1 for the header. */
  readonly block: number

  constructor(code: ShardErrorCode, drive: DriveNumber, detail: string, block = -1, options?: ErrorOptions) {
    super(`drive ${String(drive)}: ${code}: ${detail}`, options)
    this.name = 'ShardError'
    this.code = code
    this.drive = drive
    this.block = block
  }
}
