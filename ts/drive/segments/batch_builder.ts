/**
 * A batch as it is put together for one write: its header, record headers, padding and small cells are laid out in one
 * buffer, which is used for batch after batch; larger cells stay where they are, between pieces of it.
 *
 *   buffer   [batch header][header, small cell, padding][header] | [padding][header, ...] |
 *   written   `---------------- piece 0 -----------------------´ cell `----- piece 1 -----´
 *
 * Every byte of a piece was put there for this batch, so nothing of an earlier one reaches the medium. A batch that
 * failed may still be on its way to a drive: its builder is not used again.
 */
import type { DataId, ShardHeader } from '../drive.js'
import { putShardHeader, RECORD_ALIGNMENT, shardHeaderSize } from '../shard_file.js'
import { BATCH_HEADER_SIZE, padding, putBatchHeader, putTombstone, TOMBSTONE_SIZE } from './batch.js'

const BUFFER_SIZE = 256 * 1024
/** Longer cells are not copied. */
const SMALL_CELL = 8 * 1024
/** Cells of one record beyond so many are joined before. */
const RECORD_CELLS = 6
/** A batch is not added to beyond so many pieces: with one more record, a checksum call and a write still take it. */
const MOST_PIECES = 230

export class BatchBuilder {
  readonly #buffer = Buffer.allocUnsafeSlow(BUFFER_SIZE)
  /** Complete pieces, and the cells between them. */
  #pieces: Uint8Array[] = []
  /** Where the piece that is being filled begins, and ends so far. */
  #from = 0
  #at = BATCH_HEADER_SIZE
  /** Bytes of the batch. */
  length: number = BATCH_HEADER_SIZE
  records = 0

  /** The next batch. */
  clear(): void {
    this.#pieces = []
    this.#from = 0
    this.#at = BATCH_HEADER_SIZE
    this.length = BATCH_HEADER_SIZE
    this.records = 0
  }

  /** Bytes of the record without padding; 0: this batch has no room for it, an empty one has. Throws RangeError. */
  addShard(header: ShardHeader, cells: readonly Uint8Array[], seed: number): number {
    const few = cells.length > RECORD_CELLS ? [Buffer.concat(cells)] : cells
    let copied = shardHeaderSize(header) + RECORD_ALIGNMENT
    for (const cell of few) if (cell.length <= SMALL_CELL) copied += cell.length
    if (!this.#hasRoom(copied)) return 0
    const headerSize = putShardHeader(header, this.#buffer, this.#at, seed)
    this.#at += headerSize
    let size = headerSize
    for (const cell of few) {
      this.#addCell(cell)
      size += cell.length
    }
    return this.#end(size)
  }

  /** As `addShard`. */
  addTombstone(dataId: DataId, buried: number, seed: number): number {
    if (!this.#hasRoom(TOMBSTONE_SIZE)) return 0
    putTombstone(dataId, buried, this.#buffer, this.#at, seed)
    this.#at += TOMBSTONE_SIZE
    return this.#end(TOMBSTONE_SIZE)
  }

  /** All bytes of the batch, which is to lie at `offset`; the first piece begins with its header. */
  finish(seed: number, offset: number, syncedTo: number): Uint8Array[] {
    this.#endPiece()
    const [first = this.#buffer, ...rest] = this.#pieces
    const header = { length: this.length, offset, syncedTo, count: this.records }
    putBatchHeader(header, this.#buffer, [first.subarray(BATCH_HEADER_SIZE), ...rest], seed)
    return this.#pieces
  }

  #hasRoom(bytes: number): boolean {
    if (this.records === 0) return true
    return this.#at + bytes <= BUFFER_SIZE && this.#pieces.length < MOST_PIECES
  }

  #addCell(cell: Uint8Array): void {
    if (cell.length <= SMALL_CELL) {
      this.#buffer.set(cell, this.#at)
      this.#at += cell.length
      return
    }
    this.#endPiece()
    this.#pieces.push(cell)
  }

  #endPiece(): void {
    if (this.#at > this.#from) this.#pieces.push(this.#buffer.subarray(this.#from, this.#at))
    this.#from = this.#at
  }

  #end(size: number): number {
    const end = this.#at + padding(size)
    while (this.#at < end) this.#buffer[this.#at++] = 0
    this.length += size + padding(size)
    this.records++
    return size
  }
}
