/**
 * An erasure set stores parts over 2-16 drives (1 for a single-drive install).
 *
 * Write: the part is cut into stripes; each stripe is laid out in a slab of k+m cells, sealed by one native call
 * (parity and checksums), and its cells are appended to the shards of k+m drives. `write` resolves when every
 * shard it was encoded into is durable, or when shards were left out down to the write quorum and `missing` says so.
 *
 * Geometry: with f drives of the set out when a part starts, it is encoded (k-f)+m over the rest, as long as the
 * write quorum remains (k drives, k+1 when k = m, counted with the set's own k): new parts keep their full m.
 *
 * Read: k shards, data shards first; another one when a block is bad, missing, or slower than the drive's recent
 * p95 (hedge). Nothing unverified is ever yielded. What was found bad is reported through `onDamage`.
 *
 * Memory is bounded: a part in flight holds at most `stripesInFlight` slabs.
 */
import type { DataId, DriveNumber, SalvageInfo } from '../drive/drive.js'
import type { PartLocation } from '../layout/part_location.js'

export type { PartLocation }

export interface PartWrite {
  dataId: DataId
  /** Exact number of bytes that `data` yields; more or fewer is an error and nothing is kept. */
  size: number
  /** All at once, where a part is of one stripe and at hand, or as it comes. */
  data: AsyncIterable<Uint8Array> | Uint8Array
  salvage: SalvageInfo
  /** 0: the set's default parity; a smaller one for REDUCED_REDUNDANCY. */
  parity?: number
  signal?: AbortSignal | undefined
}

export interface PartRead {
  location: PartLocation
  offset: number
  length: number
  signal?: AbortSignal
  background?: boolean
}

/** Shards found missing or bad, to be queued for healing. */
export interface Damage {
  dataId: DataId
  set: number
  shards: number[]
  cause: 'missing' | 'corrupt'
}

export interface HealResult {
  dataId: DataId
  /** Shards rewritten and proved by reading the medium, with the drive that now holds each. */
  healed: { shard: number; drive: DriveNumber }[]
  /** Shards that could not be healed now (drive out), to be tried again. */
  left: number[]
  /**
   * True when some stripe has fewer than k good blocks even if every drive that is out came back: nothing was
   * changed. (When drives that are out could still help, all shards are `left` and `lost` is false.)
   */
  lost: boolean
}

export interface ErasureSet {
  readonly number: number
  readonly driveNumbers: readonly DriveNumber[]
  /** False when fewer drives than the write quorum are writable. */
  readonly writable: boolean
  write(part: PartWrite): Promise<PartLocation>
  /**
   * Yields the bytes asked for, verified. Rejects before the first byte where it can (ErasureError), else mid-way.
   * The yielded buffers belong to the caller.
   */
  read(part: PartRead): AsyncIterable<Uint8Array>
  /**
   * The same bytes at once, when they are few and can be had without waiting; undefined otherwise, for whatever reason.
   */
  readNow?(part: PartRead): Uint8Array | undefined
  /** Deletes the shards of a part from all reachable drives; numbers of drives that could not be reached. */
  delete(location: { dataId: DataId; set: number; drives: readonly DriveNumber[] }): Promise<DriveNumber[]>
  /** Checks every shard of a part on the medium (or from the page cache); returns the bad and missing ones. */
  verify(location: PartLocation, options: { medium: boolean }): Promise<Damage | undefined>
  /**
   * Rewrites `shards` of a part on their drives (on a replacement where metadata maps the position to one) and
   * proves them by reading the medium back. Never deletes the last k readable shards.
   */
  heal(location: PartLocation, shards: readonly number[]): Promise<HealResult>
}

export type ErasureErrorCode =
  | 'writeQuorum' // too few drives took the shards
  | 'readQuorum' // fewer than k shards could be verified
  | 'drivesFull' // the set cannot take more data
  | 'sizeMismatch' // the data ended early or went on
  | 'inconsistent' // intact shards that disagree, and no majority that tells which is wrong
  | 'aborted'

export class ErasureError extends Error {
  readonly code: ErasureErrorCode
  constructor(code: ErasureErrorCode, detail: string, options?: ErrorOptions) {
    super(`${code}: ${detail}`, options)
    this.name = 'ErasureError'
    this.code = code
  }
}
