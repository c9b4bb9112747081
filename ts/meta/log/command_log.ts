/**
 * The command log of one metadata copy: an ordered, durable sequence of records over files (frame.ts).
 *
 * Two forms. A log of commands, as one node keeps it, only grows. The log of a replica (`replicated`) also holds
 * changes of membership and the hard state, and an entry may replace what was at and after its index; nothing is
 * overwritten on the medium for that. A log of commands is opened as a replica's without change: new files then are
 * of version 2.
 *
 * Opening applies the tail rules: a bad spot below the highest valid `syncedTo` is corruption (LogCorrupt, the copy
 * is doubtful); above it is an unacknowledged tail, and the log ends at the first bad frame. A good frame above it may
 * be there in the page cache alone, after a sync that failed, so that syncing it again proves nothing: it is written
 * again, at its offset, as the first of a new file, and whoever reads both takes the later. Appending always starts in
 * a new file, so nothing is ever overwritten.
 *
 * Invariants:
 * - `append` resolves when the frame is durable. A failed write or sync is final: every later call rejects.
 * - Indices of the entries in force are consecutive (log_index.ts).
 * - Files are removed oldest first and as a whole (`release`).
 */
import { randomInt } from 'node:crypto'
import type { DriveIo } from '../../drive/io.js'
import { IoError } from '../../drive/io.js'
import { awakeTimer, type Timer } from '../../util/awake_timer.js'
import { encodeFrame, encodeHardState, FILE_COMMANDS, FILE_HEADER, FILE_REPLICATED, frameSize,
  RECORD_HARD_STATE, RECORD_START } from './frame.js'
import type { FileHeader, LogRecord } from './frame.js'
import { isEntry, LogCorrupt, LogIndex } from './log_index.js'
import type { FileInfo, LogHardState } from './log_index.js'
import { fileName, listFiles, prepareFile, readFile, removeFiles } from './log_file.js'
import type { OpenFile, ReadFile } from './log_file.js'

export interface LogOptions {
  /** Bytes of a file, filled with zeros ahead. */
  fileSize: number
  /** Milliseconds for one append to become durable. */
  deadlineMs: number
  /** Measures `deadlineMs`; by default time that this process is awake, on a simulated drive that drive's time. */
  timer?: Timer
  /** The log of a replica. */
  replicated?: boolean
}

export { LogCorrupt } from './log_index.js'

export const DEFAULT_LOG_OPTIONS: LogOptions = { fileSize: 16 << 20, deadlineMs: 30_000 }

export class CommandLog {
  readonly #io: DriveIo
  readonly #directory: string
  readonly #options: LogOptions
  readonly #index: LogIndex
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
  /** Files that the index has forgotten and that may still be there, oldest first. */
  #released: string[] = []
  #removal: Promise<void> | undefined

  private constructor(io: DriveIo, directory: string, options: LogOptions) {
    this.#io = io
    this.#directory = directory
    this.#options = options
    this.#index = new LogIndex(options.replicated === true)
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
    /** The last file that has frames, and those behind it. */
    let waiting: ReadFile[] = []
    const take = (): void => {
      for (const file of waiting) badAt = log.#takeFile(file, badAt)
    }
    for (const number of numbers) {
      const file = await readFile(io, directory, number)
      if (typeof file === 'string') throw new LogCorrupt(`${fileName(number)}: ${file}`)
      if (file.header.version === FILE_REPLICATED && options.replicated !== true) {
        throw new LogCorrupt(`${fileName(number)} belongs to the log of a replica`)
      }
      if (file.broken) throw new LogCorrupt(`${fileName(number)} has damage before a good frame`)
      log.#nextNumber = number + 1
      syncedTo = Math.max(syncedTo, file.syncedTo)
      if (file.frames.length === 0 && !file.rest) {
        empty.push(fileName(number))
        continue
      }
      const base = file.frames[0]?.offset
      if (base !== undefined) {
        cutFrom(waiting, base)
        take()
        waiting = []
      }
      waiting.push(file)
    }
    const start = waiting.find(({ frames }) => frames.length > 0)?.frames[0]?.offset
    const unproved = cutFrom(waiting, syncedTo)
    if (log.#offset === 0 && start !== undefined && start >= syncedTo) {
      // All that is left is a last write. What was before it has been released, so the log begins there, and not at 0,
      // below what was acknowledged; a torn tail in front of it was cut at an earlier opening.
      log.#offset = start
      badAt = undefined
    }
    take()
    if (badAt !== undefined && badAt < syncedTo) {
      throw new LogCorrupt(`damage at offset ${String(badAt)}, acknowledged up to ${String(syncedTo)}`)
    }
    await removeFiles(io, directory, empty)
    log.#syncedTo = log.#offset
    await log.#prepareAhead()
    if (unproved.length > 0) await log.#appendOnce(unproved, true)
    return log
  }

  /** Says where a log that holds no record begins. */
  startAt(index: number): void {
    this.#index.startAt(index)
  }

  get isEmpty(): boolean {
    return this.#index.isEmpty
  }

  /** Index of the first entry kept; of the next one when there is none. */
  get firstIndex(): number {
    return this.#index.first
  }

  /** Index of the last durable entry; firstIndex - 1 when there is none. */
  get lastIndex(): number {
    return this.#index.last
  }

  get lastTerm(): number {
    return this.#index.lastTerm
  }

  /** The term of a durable entry, or of the one before the first where the log knows it. */
  term(index: number): number | undefined {
    return this.#index.term(index)
  }

  /** The last durable hard state. */
  get hardState(): LogHardState | undefined {
    return this.#index.hardState
  }

  get bytes(): number {
    return this.#index.files.reduce((sum, file) => sum + file.bytes, 0)
  }

  /** Appends records as one frame. Resolves when it is durable. One call at a time. */
  append(records: readonly LogRecord[]): Promise<void> {
    return this.#appendOnce(records, false)
  }

  /** `again`: the log held these before, at the same place. */
  async #appendOnce(records: readonly LogRecord[], again: boolean): Promise<void> {
    if (this.#failure !== undefined) throw new Error('the log has failed', { cause: this.#failure })
    try {
      const size = frameSize(records.map(({ payload }) => payload))
      const fits = this.#current !== undefined && this.#at + size <= this.#current.size
      const work = this.#append(records, again, fits)
      // The write has a deadline of its own.
      await (fits ? work : this.#beforeDeadline(work))
    } catch (error) {
      this.#failure = error
      throw error
    }
  }

  /** For what has to come before the write, a new file, as well. */
  async #beforeDeadline(work: Promise<void>): Promise<void> {
    const { deadlineMs, timer = awakeTimer } = this.#options
    let cancel: (() => void) | undefined
    const late = new Promise<never>((_, reject) => {
      cancel = timer(() => { reject(new IoError('ETIMEDOUT', -1, 'append')) }, deadlineMs)
    })
    try {
      await Promise.race([work, late])
    } finally {
      cancel?.()
    }
  }

  /** `fits`: into the file that is there. */
  async #append(records: readonly LogRecord[], again: boolean, fits: boolean): Promise<void> {
    this.#check(records, again)
    let all = records
    if (!fits) {
      await this.#nextFile()
      all = this.#withHardState(records)
    }
    const file = this.#current as OpenFile
    const frame = encodeFrame(file.header.seed, this.#offset, this.#syncedTo, all)
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
    const info = this.#index.files.at(-1) as FileInfo
    info.bytes = Math.max(info.bytes, this.#at)
    for (const record of all) this.#index.take(record)
  }

  #check(records: readonly LogRecord[], again: boolean): void {
    // What may come next once an entry of this frame has come; another write may replace part of the one before it.
    let expected: number | undefined
    // Files released since may have held what was replaced then.
    let lowest = again ? 0 : this.#index.first
    for (const record of records) {
      const { index } = record
      const replaces = this.#options.replicated === true && expected !== undefined && index >= lowest
      const inside = expected !== undefined && isEntry(record)
      const refusal = inside
        ? index === expected || (replaces && index < (expected ?? 0))
          ? undefined
          : `record ${String(index)} is out of order`
        : again && this.#isOlder(record)
          ? undefined
          : this.#index.refusal(record)
      if (refusal !== undefined) throw new Error(refusal)
      if (record.type === RECORD_START) lowest = index + 1
      if (isEntry(record) || record.type === RECORD_START) expected = index + 1
    }
  }

  /** At opening: released files may have held what it replaces. */
  #isOlder(record: LogRecord): boolean {
    return this.#options.replicated === true && isEntry(record) && record.index < this.#index.first
  }

  /** A new file says the hard state again, so that the files before it can go. */
  #withHardState(records: readonly LogRecord[]): readonly LogRecord[] {
    const { hardState } = this.#index
    if (hardState === undefined || records.some(({ type }) => type === RECORD_HARD_STATE)) return records
    return [encodeHardState(0, hardState), ...records]
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
    if (from < this.#index.first) throw new LogCorrupt(`record ${String(from)} is no longer kept`)
    let next = from
    const until = this.#index.last
    for (const info of this.#index.files.slice()) {
      if (info.last < from || info.first === 0) continue
      const last = Math.min(info.last, until)
      const file = await readFile(this.#io, this.#directory, info.number)
      if (typeof file === 'string') throw new LogCorrupt(`${fileName(info.number)}: ${file}`)
      for (const frame of file.frames) {
        for (const record of frame.records) {
          if (!isEntry(record) || record.index < next || record.index > until) continue
          if (record.term !== this.#index.term(record.index)) continue
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
    for await (const record of this.read(this.#index.first)) void record
  }

  /**
   * Removes files all of whose entries have an index <= upTo, keeping at least `keepBytes` of the log. Calls may
   * overlap. Rejects with IoError when one could not be removed.
   */
  async release(upTo: number, keepBytes: number): Promise<void> {
    // A file that is being read stays until the next time.
    if (this.#reading > 0) return
    const { files } = this.#index
    let left = this.bytes
    let count = 0
    // The newest file may not say anything yet.
    const settled = files.at(-1)?.bytes === 0 ? -2 : -1
    for (const info of files.slice(0, settled)) {
      if (info.last > upTo || left - info.bytes < keepBytes) break
      left -= info.bytes
      this.#released.push(fileName(info.number))
      count++
    }
    if (count > 0) this.#index.drop(count)
    if (this.#released.length > 0) await (this.#removal ??= this.#removeReleased())
  }

  /**
   * One durably after the other, whichever call released them: after a crash a gap would look like loss. What cannot
   * be removed stays the first for the next call, and holds back those behind it.
   */
  async #removeReleased(): Promise<void> {
    try {
      for (let name = this.#released[0]; name !== undefined; name = this.#released[0]) {
        await removeFiles(this.#io, this.#directory, [name])
        this.#released.shift()
      }
    } finally {
      this.#removal = undefined
    }
  }

  /** Ends the log with an empty frame, so that the next opening knows everything before it was durable. */
  async close(): Promise<void> {
    await this.#prepared?.catch(() => undefined)
    if (this.#failure === undefined && !(this.isEmpty && this.hardState === undefined))
      await this.append([]).catch(() => undefined)
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
      // What was released before may have left a file of nothing but such a tail in front.
      if (this.#offset === 0) this.#offset = base
      else if (base !== this.#offset)
        throw new LogCorrupt(`frames are missing before file ${String(file.header.number)}`)
      bad = undefined
    }
    this.#index.files.push({ number: file.header.number, bytes: file.bytes, first: 0, last: 0 })
    for (const frame of file.frames) {
      for (const record of frame.records) {
        const refusal = this.#isOlder(record) ? undefined : this.#index.refusal(record)
        if (refusal !== undefined) throw new LogCorrupt(refusal)
        this.#index.take(record)
      }
      this.#offset = frame.offset + frame.size
    }
    return file.rest ? (bad ?? this.#offset) : bad
  }

  async #nextFile(): Promise<void> {
    const next = await (this.#prepared ?? this.#prepare(false))
    const old = this.#current
    this.#current = next
    this.#at = FILE_HEADER
    this.#index.files.push({ number: next.header.number, bytes: 0, first: 0, last: 0 })
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
    const version = this.#options.replicated === true ? FILE_REPLICATED : FILE_COMMANDS
    const header: FileHeader = { version, number: this.#nextNumber++, seed: randomInt(1, 2 ** 47) }
    return prepareFile(this.#io, this.#directory, header, this.#options.fileSize, background)
  }
}

/** Takes the frames at and behind an offset out of these files; their records. */
function cutFrom(files: readonly ReadFile[], offset: number): LogRecord[] {
  const cut: LogRecord[] = []
  for (const file of files) {
    for (const frame of file.frames) if (frame.offset >= offset) cut.push(...frame.records)
    file.frames = file.frames.filter((frame) => frame.offset < offset)
  }
  return cut
}
