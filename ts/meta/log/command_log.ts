/**
 * The command log of one metadata copy: an ordered, durable sequence of records over files (frame.ts).
 *
 * Opening applies the tail rules: a bad spot below the highest valid `syncedTo` is corruption (LogCorrupt, the copy
 * is doubtful); above it is an unacknowledged tail, and the log ends at the first bad frame. What remains is synced
 * once more before anything is built on it, and appending starts in a new file, so nothing is ever overwritten.
 *
 * Invariants:
 * - `append` resolves when the frame is durable. A failed write or sync is final: every later call rejects.
 * - Indices of the records are consecutive.
 * - Files are removed oldest first and as a whole (`release`).
 */
import { randomInt } from 'node:crypto'
import type { DriveIo } from '../../drive/io.js'
import { IoError } from '../../drive/io.js'
import { encodeFrame, FILE_HEADER, frameSize } from './frame.js'
import type { LogRecord } from './frame.js'
import { fileName, listFiles, prepareFile, readFile, removeFiles, syncFile } from './log_file.js'
import type { OpenFile, ReadFile } from './log_file.js'

export interface LogOptions {
  /** Bytes of a file, filled with zeros ahead. */
  fileSize: number
  /** Milliseconds for one append to become durable. */
  deadlineMs: number
}

export const DEFAULT_LOG_OPTIONS: LogOptions = { fileSize: 16 << 20, deadlineMs: 30_000 }

/** Acknowledged records of this copy are damaged. */
export class LogCorrupt extends Error {}

interface FileInfo {
  number: number
  bytes: number
  /** Index of the first and last record, 0 when it holds none. */
  first: number
  last: number
}

export class CommandLog {
  readonly #io: DriveIo
  readonly #directory: string
  readonly #options: LogOptions
  #files: FileInfo[] = []
  #current: OpenFile | undefined
  /** Where the next frame goes in the current file. */
  #at = 0
  /** Offset of the next frame in the whole log. */
  #offset = 0
  #syncedTo = 0
  #nextNumber = 1
  #prepared: Promise<OpenFile> | undefined
  #failure: unknown
  /** Reads that are going on. */
  #reading = 0
  #first = 0
  #last = 0
  #lastTerm = 0

  private constructor(io: DriveIo, directory: string, options: LogOptions) {
    this.#io = io
    this.#directory = directory
    this.#options = options
  }

  /**
   * An empty log whose first record will have the index `startIndex`; what was in the directory goes. The parent
   * directory exists; the caller syncs it.
   */
  static async create(io: DriveIo, directory: string, startIndex: number, options: LogOptions): Promise<CommandLog> {
    await io.run([{ op: 'makeDir', path: directory }])
    const { numbers, others } = await listFiles(io, directory)
    await removeFiles(io, directory, [...numbers.map(fileName), ...others])
    const log = new CommandLog(io, directory, options)
    log.#nextNumber = (numbers.at(-1) ?? 0) + 1
    log.startAt(startIndex)
    await log.#prepareAhead()
    return log
  }

  /** Reads and judges an existing log. Throws LogCorrupt, IoError. */
  static async open(io: DriveIo, directory: string, options: LogOptions): Promise<CommandLog> {
    const log = new CommandLog(io, directory, options)
    const { numbers, others } = await listFiles(io, directory)
    await removeFiles(io, directory, others)
    let syncedTo = 0
    /** Offset of the first bad spot, when one was found. */
    let badAt: number | undefined
    const empty: string[] = []
    for (const number of numbers) {
      const file = await readFile(io, directory, number)
      if (typeof file === 'string') throw new LogCorrupt(`${fileName(number)}: ${file}`)
      log.#nextNumber = number + 1
      syncedTo = Math.max(syncedTo, file.syncedTo)
      if (file.frames.length === 0 && !file.rest) {
        empty.push(fileName(number))
        continue
      }
      badAt = log.#takeFile(file, badAt)
    }
    if (badAt !== undefined && badAt < syncedTo) {
      throw new LogCorrupt(`damage at offset ${String(badAt)}, acknowledged up to ${String(syncedTo)}`)
    }
    await removeFiles(io, directory, empty)
    const tail = log.#files.at(-1)
    if (tail !== undefined) await syncFile(io, directory, tail.number)
    log.#syncedTo = log.#offset
    await log.#prepareAhead()
    return log
  }

  /** Says where a log that holds no record begins. */
  startAt(index: number): void {
    if (this.#files.some((file) => file.first !== 0)) throw new Error('the log has records')
    this.#first = index
    this.#last = index - 1
  }

  get isEmpty(): boolean {
    return this.#last < this.#first || this.#first === 0
  }

  /** Index of the first record kept; of the next one when there is none. */
  get firstIndex(): number {
    return this.#first
  }

  /** Index of the last durable record; firstIndex - 1 when there is none. */
  get lastIndex(): number {
    return this.#last
  }

  get lastTerm(): number {
    return this.#lastTerm
  }

  get bytes(): number {
    return this.#files.reduce((sum, file) => sum + file.bytes, 0)
  }

  /** Appends records as one frame. Resolves when it is durable. One call at a time. */
  async append(records: readonly LogRecord[]): Promise<void> {
    if (this.#failure !== undefined) throw new Error('the log has failed', { cause: this.#failure })
    try {
      await this.#beforeDeadline(this.#append(records))
    } catch (error) {
      this.#failure = error
      throw error
    }
  }

  /** The write has a deadline of its own; this one is for what may have to come before it, a new file. */
  async #beforeDeadline(work: Promise<void>): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => { reject(new IoError('ETIMEDOUT', -1, 'append')) }, this.#options.deadlineMs)
    })
    try {
      await Promise.race([work, late])
    } finally {
      clearTimeout(timer)
    }
  }

  async #append(records: readonly LogRecord[]): Promise<void> {
    let expected = this.#last + 1
    for (const { index } of records) if (index !== expected++) throw new Error(`record ${String(index)} out of order`)
    const size = frameSize(records.map(({ payload }) => payload))
    if (this.#current === undefined || this.#at + size > this.#current.size) await this.#nextFile()
    const file = this.#current as OpenFile
    const frame = encodeFrame(file.header.seed, this.#offset, this.#syncedTo, records)
    await this.#io.run(
      [
        { op: 'write', file: file.handle, offset: this.#at, from: [frame] },
        { op: 'sync', file: file.handle },
      ],
      { deadlineMs: this.#options.deadlineMs },
    )
    this.#at += frame.length
    this.#offset += frame.length
    this.#syncedTo = this.#offset
    const info = this.#files.at(-1) as FileInfo
    info.bytes = Math.max(info.bytes, this.#at)
    if (records.length === 0) return
    if (info.first === 0) info.first = (records[0] as LogRecord).index
    const last = records.at(-1) as LogRecord
    info.last = last.index
    this.#last = last.index
    this.#lastTerm = last.term
  }

  /** Records with index >= from, in order. Throws LogCorrupt when they are not all there. */
  async *read(from: number): AsyncGenerator<LogRecord> {
    this.#reading++
    try {
      yield* this.#read(from)
    } finally {
      this.#reading--
    }
  }

  async *#read(from: number): AsyncGenerator<LogRecord> {
    if (from < this.#first) throw new LogCorrupt(`record ${String(from)} is no longer kept`)
    let next = from
    const until = this.#last
    for (const info of this.#files.slice()) {
      if (info.last < from || info.first === 0) continue
      const last = Math.min(info.last, until)
      const file = await readFile(this.#io, this.#directory, info.number)
      if (typeof file === 'string') throw new LogCorrupt(`${fileName(info.number)}: ${file}`)
      for (const frame of file.frames) {
        for (const record of frame.records) {
          if (record.index < next || record.index > until) continue
          if (record.index !== next) throw new LogCorrupt(`record ${String(next)} is missing`)
          next++
          yield record
        }
      }
      if (next <= last) throw new LogCorrupt(`record ${String(next)} cannot be read any more`)
    }
    if (next <= until) throw new LogCorrupt(`record ${String(next)} is missing`)
  }

  /** Reads every closed file again. Throws LogCorrupt. */
  async verify(): Promise<void> {
    for await (const record of this.read(this.#first)) void record
  }

  /** Removes files all of whose records have an index <= upTo, keeping at least `keepBytes` of the log. */
  async release(upTo: number, keepBytes: number): Promise<void> {
    // A file that is being read stays until the next time.
    if (this.#reading > 0) return
    let left = this.bytes
    const names: string[] = []
    for (const info of this.#files.slice(0, -1)) {
      if (info.last > upTo || left - info.bytes < keepBytes) break
      left -= info.bytes
      names.push(fileName(info.number))
    }
    if (names.length === 0) return
    this.#files = this.#files.slice(names.length)
    const first = this.#files.find((info) => info.first !== 0)
    this.#first = first?.first ?? this.#last + 1
    await removeFiles(this.#io, this.#directory, names)
  }

  /** Ends the log with an empty frame, so that the next opening knows everything before it was durable. */
  async close(): Promise<void> {
    await this.#prepared?.catch(() => undefined)
    if (this.#failure === undefined && !this.isEmpty) await this.append([]).catch(() => undefined)
    const prepared = await this.#prepared?.catch(() => undefined)
    for (const file of new Set([this.#current, prepared])) {
      if (file !== undefined) await this.#io.run([{ op: 'close', file: file.handle }]).catch(() => undefined)
    }
    this.#failure ??= new Error('the log is closed')
  }

  /** Adds what a file holds at opening. Returns the first bad spot so far. */
  #takeFile(file: ReadFile, badAt: number | undefined): number | undefined {
    const base = file.frames[0]?.offset
    let bad = badAt
    if (base !== undefined) {
      // A file that goes on where the last good frame ended: what lay behind that was cut at an earlier opening.
      if (this.#files.length === 0) this.#offset = base
      else if (base !== this.#offset)
        throw new LogCorrupt(`frames are missing before file ${String(file.header.number)}`)
      bad = undefined
    }
    const info: FileInfo = { number: file.header.number, bytes: file.bytes, first: 0, last: 0 }
    for (const frame of file.frames) {
      for (const record of frame.records) {
        if (this.#first === 0) this.#first = record.index
        else if (record.index !== this.#last + 1) throw new LogCorrupt(`record ${String(record.index)} is out of order`)
        if (info.first === 0) info.first = record.index
        info.last = record.index
        this.#last = record.index
        this.#lastTerm = record.term
      }
      this.#offset = frame.offset + frame.size
    }
    this.#files.push(info)
    return file.rest ? (bad ?? this.#offset) : bad
  }

  async #nextFile(): Promise<void> {
    const next = await (this.#prepared ?? this.#prepare(false))
    const old = this.#current
    this.#current = next
    this.#at = FILE_HEADER
    this.#files.push({ number: next.header.number, bytes: 0, first: 0, last: 0 })
    this.#prepared = undefined
    if (old !== undefined) void this.#io.run([{ op: 'close', file: old.handle }]).catch(() => undefined)
    this.#prepared = this.#prepare(true)
    this.#prepared.catch(() => undefined)
  }

  async #prepareAhead(): Promise<void> {
    this.#prepared = this.#prepare(false)
    await this.#prepared
  }

  #prepare(background: boolean): Promise<OpenFile> {
    const header = { number: this.#nextNumber++, seed: randomInt(1, 2 ** 47) }
    return prepareFile(this.#io, this.#directory, header, this.#options.fileSize, background)
  }
}
