/**
 * Reading from segments: a bounded number of them kept open in each thread, least recently used closed first.
 *
 * Segments of which the table knows no longer are closed when the next read notices, so that what compaction dropped
 * does not keep its space.
 */
import type { ReadOptions } from '../drive.js'
import { LAST_OPENED } from '../io.js'
import type { DriveAccess } from '../local_drive.js'
import { segmentPath } from './segment_file.js'
import type { SegmentTable } from './segment_table.js'

interface OpenSegment {
  file: number
  reading: number
}

export class SegmentFiles {
  readonly #drive: DriveAccess
  readonly #table: SegmentTable
  readonly #limit: number
  readonly #open = new Map<number, OpenSegment>()
  #drops: number

  constructor(drive: DriveAccess, table: SegmentTable, limit: number) {
    this.#drive = drive
    this.#table = table
    this.#limit = limit
    this.#drops = table.drops
  }

  /** The number of bytes found, fewer than asked only at the end of the segment. ShardError 'missing': it is gone. */
  async read(number: number, offset: number, into: Uint8Array, options: ReadOptions): Promise<number> {
    if (options.medium === true) return await this.#drive.readFile(segmentPath(number), offset, into, options)
    this.#sweep()
    const open = this.#open.get(number)
    if (open === undefined) return await this.#openAndRead(number, offset, into, options)
    this.#open.delete(number)
    this.#open.set(number, open)
    open.reading++
    try {
      return (await this.#drive.run('read', [{ op: 'read', file: open.file, offset, into }], options))[0] as number
    } catch (error) {
      // Perhaps it is the file that is no good any more, as after the drive was mounted again.
      if (this.#open.get(number) === open) this.#open.delete(number)
      throw error
    } finally {
      open.reading--
      if (open.reading === 0 && this.#open.get(number) !== open) this.#close(open.file)
    }
  }

  /** Reads at once what the page cache holds of a segment that is open; false otherwise. */
  readNow(number: number, offset: number, into: Uint8Array): boolean {
    this.#sweep()
    const open = this.#open.get(number)
    return open !== undefined && this.#drive.io.readNow?.(open.file, offset, into) === true
  }

  close(): void {
    for (const { file } of this.#open.values()) this.#close(file)
    this.#open.clear()
  }

  async #openAndRead(number: number, offset: number, into: Uint8Array, options: ReadOptions): Promise<number> {
    const [file, found] = await this.#drive.run('read', [
      { op: 'open', path: segmentPath(number), mode: 'read' }, { op: 'read', file: LAST_OPENED, offset, into },
    ], options) as [number, number]
    if (this.#open.has(number) || !this.#table.has(number)) {
      this.#close(file)
      return found
    }
    this.#open.set(number, { file, reading: 0 })
    for (const [other, { file: old, reading }] of this.#open) {
      if (this.#open.size <= this.#limit) break
      if (reading > 0 || other === number) continue
      this.#open.delete(other)
      this.#close(old)
    }
    return found
  }

  #sweep(): void {
    const { drops } = this.#table
    if (drops === this.#drops) return
    this.#drops = drops
    for (const [number, open] of this.#open) {
      if (this.#table.has(number)) continue
      this.#open.delete(number)
      if (open.reading === 0) this.#close(open.file)
    }
  }

  #close(file: number): void {
    void this.#drive.io.run([{ op: 'close', file }], { deadlineMs: 30_000 }).catch(() => undefined)
  }
}
