/**
 * The index of a drive's packed shards: data id -> location of its record, or of its tombstone. One for all threads,
 * in shared memory; each thread has an object of its own over it.
 *
 * Rules, whatever the order in which records become known (by loading, by appends of several threads):
 * - A tombstone is final: an id that has one stays dead, and its shard records count as dead.
 * - Of several shard records of one id the last one counts: the highest segment number, then the highest offset.
 * A tombstone keeps its entry until compaction has removed the tombstone itself.
 */
import { ShardIndex } from '../../native/shard_index.js'
import type { DataId } from '../drive.js'
import { isDead, packLocation, unpackLocation } from './segment_file.js'
import { type SegmentsMemory, SegmentTable } from './segment_table.js'

export class SegmentIndex {
  readonly table: SegmentTable
  readonly #index: ShardIndex
  readonly #maxEntries: number
  /** So often `full` may be asked until the entries are counted again. */
  #surelyRoom = 0

  constructor(memory: SegmentsMemory) {
    this.table = new SegmentTable(memory.table)
    this.#index = new ShardIndex(memory.index)
    // Every thread may be about to add some.
    this.#maxEntries = memory.maxEntries - Math.min(4096, memory.maxEntries / 16)
  }

  /** -1, or a location (segment_file.ts), perhaps a dead one. */
  get(dataId: DataId): number {
    return this.#index.get(dataId)
  }

  /** Ids that the index has, dead ones included. */
  get length(): number {
    return this.#index.length
  }

  /**
   * No more shards should be packed. Asked before each, but counting takes the longer the more entries there are: they
   * are counted again after a 64th of the room that was left, so that fewer than 64 threads never use more than that.
   */
  get full(): boolean {
    if (this.#surelyRoom-- > 0) return false
    const room = this.#maxEntries - this.#index.length
    this.#surelyRoom = Math.min(1024, Math.floor(room / 64))
    return room <= 0
  }

  entries(): Generator<{ id: Buffer; location: number }> {
    return this.#index.entries()
  }

  /** A record that lies durably on the drive. Throws IndexFullError. */
  add(dataId: DataId, number: number, offset: number, size: number, tombstone: boolean): void {
    const location = packLocation(number, offset, size, tombstone)
    const { sizeClass } = unpackLocation(location)
    this.table.countRecord(number, sizeClass, tombstone)
    // Most ids are new. Another thread may remove or move what stands in the way.
    while (!this.#index.insert(dataId, location)) {
      const current = this.#index.get(dataId)
      if (current === -1) continue
      if (current === location) {
        // Counted when it was named: a load that failed and is begun again tells of it once more.
        this.table.countRecord(number, sizeClass, tombstone, -1)
        return
      }
      if (isDead(current) || (!tombstone && current > location)) return
      if (!this.#index.compareAndSet(dataId, current, location)) continue
      this.#countLive(current, -1)
      break
    }
    if (!tombstone) this.table.countLive(number, sizeClass, 1)
  }

  /**
   * For compaction: a copy of the record at `from` lies durably at `to`. False when the index does not name `from` any
   * more; the copy is dead then.
   */
  move(dataId: DataId, from: number, to: number): boolean {
    const { number, sizeClass } = unpackLocation(to)
    this.table.countRecord(number, sizeClass, isDead(to))
    if (!this.#index.compareAndSet(dataId, from, to)) return false
    if (isDead(from)) return true
    this.#countLive(from, -1)
    this.#countLive(to, 1)
    return true
  }

  /** For compaction: forgets a tombstone, or a record whose segment is gone, if the index still names that. */
  forget(dataId: DataId, location: number): boolean {
    if (!this.#index.remove(dataId, location)) return false
    if (!isDead(location)) this.#countLive(location, -1)
    return true
  }

  #countLive(location: number, change: 1 | -1): void {
    if (isDead(location)) return
    const { number, sizeClass } = unpackLocation(location)
    this.table.countLive(number, sizeClass, change)
  }
}
