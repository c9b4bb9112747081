/**
 * The health of all drives of this process in shared memory: one row per drive, read and written by every thread.
 *
 * Any thread takes a drive out when it sees cause (`failed`); only the health monitor, in the control thread, brings
 * one back (`set`), after it has proved it. Row, 128 words of 32 bits:
 *
 *   word 0      state (index into STATES)            word 1      reason (index into REASONS)
 *   word 2      errors ever                          word 3      timeouts ever
 *   word 4      timeouts since the last success      word 5      read errors, halved at every probe
 *   word 6      medium reads (index into MEDIUM)     word 7      drive number
 *   words 8-9   since (ms, u64)   10-11 total bytes   12-13 free bytes   14-15 changes of state
 *   words 16-63, 64-111   latencies of reads, of writes: 48 counters, halved at every probe
 *   words 112-113   free bytes that new shards must leave (u64)
 *
 * Free bytes are set at every probe, and lowered by every thread for what it is about to write, so that the
 * reserve holds between probes too.
 *
 * Latency counter i counts from 2^(i/3) to 2^((i+1)/3) units of 16 microseconds: 48 of them reach over a minute at
 * a resolution of 26 %.
 */
import type { DriveHealth, DriveNumber, DriveState } from './drive.js'

const STATES: readonly DriveState[] = ['online', 'full', 'readOnly', 'slow', 'offline', 'refused']

/** Why a drive is not online, in words for the operator. The order is that of the codes in shared memory. */
const REASONS = [
  '', 'a write or sync failed (EIO)', 'too many reads failed (EIO)', 'the file system is read-only',
  'the drive is missing', 'operations missed their deadlines', 'no space left on the drive',
  'free space is below the reserve', 'format.json is not that of this drive', 'taken out by the operator',
  'too many errors', 'not opened yet',
] as const
export type HealthReason =
  | 'none' | 'writeFailed' | 'readErrors' | 'readOnly' | 'missing' | 'timeouts' | 'noSpace' | 'reserve' | 'format'
  | 'operator' | 'errors' | 'notOpened'
const REASON_NAMES: readonly HealthReason[] = [
  'none', 'writeFailed', 'readErrors', 'readOnly', 'missing', 'timeouts', 'noSpace', 'reserve', 'format', 'operator',
  'errors', 'notOpened',
]

/** How reads of the medium are made: not tried yet, O_DIRECT, dropping the cache, or neither works (reported). */
export type MediumReads = 'unknown' | 'direct' | 'dropCache' | 'none'
const MEDIUM: readonly MediumReads[] = ['unknown', 'direct', 'dropCache', 'none']

const ROW_WORDS = 128
const LATENCIES = 48
const READ_AT = 16
const WRITE_AT = READ_AT + LATENCIES
const UNIT_MS = 0.016

/** Timeouts without a success between them that take a drive out. */
const TIMEOUTS_ALLOWED = 1
/** Failed reads, decaying, that take a drive out: single bad sectors are healed instead. */
const READ_ERRORS_ALLOWED = 16

export type Access = 'read' | 'write'

export class DriveTable {
  /** Hand this to other threads and give it to `DriveTable.over`. */
  readonly memory: SharedArrayBuffer
  readonly #words: Int32Array
  readonly #longs: BigInt64Array
  readonly #now: () => number

  private constructor(memory: SharedArrayBuffer, now: () => number) {
    this.memory = memory
    this.#words = new Int32Array(memory)
    this.#longs = new BigInt64Array(memory)
    this.#now = now
  }

  /** All rows are offline ('notOpened') until something sets them. */
  static create(rows: number, now: () => number = Date.now): DriveTable {
    const table = new DriveTable(new SharedArrayBuffer(rows * ROW_WORDS * 4), now)
    for (let i = 0; i < rows; i++) table.row(i).set('offline', 'notOpened')
    return table
  }

  static over(memory: SharedArrayBuffer, now: () => number = Date.now): DriveTable {
    return new DriveTable(memory, now)
  }

  get rows(): number {
    return this.#words.length / ROW_WORDS
  }

  row(index: number): DriveRow {
    if (!Number.isInteger(index) || index < 0 || index >= this.rows) throw new RangeError(`row ${String(index)}`)
    return new DriveRow(this.#words, this.#longs, index * ROW_WORDS, this.#now)
  }
}

/** One drive's row. Cheap to make; all state is in shared memory. */
export class DriveRow {
  readonly #words: Int32Array
  readonly #longs: BigInt64Array
  readonly #at: number
  readonly #now: () => number

  constructor(words: Int32Array, longs: BigInt64Array, at: number, now: () => number) {
    this.#words = words
    this.#longs = longs
    this.#at = at
    this.#now = now
  }

  get state(): DriveState {
    return STATES[Atomics.load(this.#words, this.#at)] ?? 'offline'
  }

  get reason(): HealthReason {
    return REASON_NAMES[Atomics.load(this.#words, this.#at + 1)] ?? 'none'
  }

  /** Number of changes of state so far: tells a watcher that it missed some. */
  get changes(): number {
    return Number(Atomics.load(this.#longs, (this.#at + 14) / 2))
  }

  get number(): DriveNumber {
    return Atomics.load(this.#words, this.#at + 7)
  }

  set number(number: DriveNumber) {
    Atomics.store(this.#words, this.#at + 7, number)
  }

  get mediumReads(): MediumReads {
    return MEDIUM[Atomics.load(this.#words, this.#at + 6)] ?? 'unknown'
  }

  set mediumReads(kind: MediumReads) {
    Atomics.store(this.#words, this.#at + 6, MEDIUM.indexOf(kind))
  }

  get health(): DriveHealth {
    return {
      state: this.state,
      reason: REASONS[REASON_NAMES.indexOf(this.reason)] ?? '',
      sinceMs: this.#long(8),
      totalBytes: this.#long(10),
      freeBytes: this.#long(12),
      readP95Ms: this.percentile('read', 0.95),
      writeP95Ms: this.percentile('write', 0.95),
      errors: Atomics.load(this.#words, this.#at + 2),
      timeouts: Atomics.load(this.#words, this.#at + 3),
    }
  }

  /**
   * Puts the drive into a state, whatever it was in. For the health monitor and for opening; true when that is a
   * change.
   */
  set(state: DriveState, reason: HealthReason): boolean {
    const before = Atomics.exchange(this.#words, this.#at, STATES.indexOf(state))
    const reasonBefore = Atomics.exchange(this.#words, this.#at + 1, REASON_NAMES.indexOf(reason))
    if (before === STATES.indexOf(state) && reasonBefore === REASON_NAMES.indexOf(reason)) return false
    this.#changed()
    if (state === 'online') {
      Atomics.store(this.#words, this.#at + 4, 0)
      Atomics.store(this.#words, this.#at + 5, 0)
    }
    return true
  }

  setSpace(totalBytes: number, freeBytes: number, reserveBytes = 0): void {
    Atomics.store(this.#longs, (this.#at + 112) / 2, BigInt(Math.floor(reserveBytes)))
    Atomics.store(this.#longs, (this.#at + 12) / 2, BigInt(Math.floor(freeBytes)))
    Atomics.store(this.#longs, (this.#at + 10) / 2, BigInt(Math.floor(totalBytes)))
  }

  /** Before bytes of a shard are written: false, and the drive is full, when they would go into the reserve. */
  claimSpace(bytes: number): boolean {
    if (this.#long(10) === 0) return true // not probed yet
    const left = Number(Atomics.sub(this.#longs, (this.#at + 12) / 2, BigInt(bytes))) - bytes
    if (left >= this.#long(112)) return true
    this.#takeOut('full', 'reserve')
    return false
  }

  /** A batch succeeded in `ms` milliseconds. */
  succeeded(access: Access, ms: number): void {
    const bucket = Math.max(0, Math.min(LATENCIES - 1, Math.floor(3 * Math.log2(Math.max(ms, UNIT_MS) / UNIT_MS))))
    Atomics.add(this.#words, this.#at + (access === 'read' ? READ_AT : WRITE_AT) + bucket, 1)
    if (Atomics.load(this.#words, this.#at + 4) !== 0) Atomics.store(this.#words, this.#at + 4, 0)
  }

  /** A batch failed with this errno name: counts it, and takes the drive out where that is due. */
  failed(access: Access, code: string): void {
    switch (code) {
      case 'ETIMEDOUT':
        Atomics.add(this.#words, this.#at + 3, 1)
        if (Atomics.add(this.#words, this.#at + 4, 1) >= TIMEOUTS_ALLOWED) this.#takeOut('slow', 'timeouts')
        break
      case 'ENOSPC':
      case 'EDQUOT':
        this.#takeOut('full', 'noSpace')
        break
      case 'EROFS':
        this.#takeOut('readOnly', 'readOnly')
        break
      case 'ENOENT': // the caller made sure that it is the drive that is not there
      case 'ENODEV':
      case 'ENXIO':
      case 'ESTALE':
      case 'ENOTCONN':
        Atomics.add(this.#words, this.#at + 2, 1)
        this.#takeOut('offline', 'missing')
        break
      case 'EAGAIN': // our own queue bound: says nothing about the drive
      case 'ESHUTDOWN':
        break
      default:
        Atomics.add(this.#words, this.#at + 2, 1)
        if (access === 'write') this.#takeOut('offline', 'writeFailed')
        else if (Atomics.add(this.#words, this.#at + 5, 1) >= READ_ERRORS_ALLOWED)
          this.#takeOut('offline', 'readErrors')
    }
  }

  /** Milliseconds below which that share of recent accesses stayed (the upper edge of a counter); 0 without any. */
  percentile(access: Access, share: number): number {
    const from = this.#at + (access === 'read' ? READ_AT : WRITE_AT)
    const counts = this.#words.subarray(from, from + LATENCIES)
    const total = counts.reduce((sum, count) => sum + count, 0)
    if (total === 0) return 0
    let below = 0
    for (const [bucket, count] of counts.entries()) {
      below += count
      if (below >= total * share) return UNIT_MS * 2 ** ((bucket + 1) / 3)
    }
    return UNIT_MS * 2 ** (LATENCIES / 3)
  }

  /** Halves what decays, once per probe of the health monitor. A count added meanwhile may be lost: it is a sketch. */
  decay(): void {
    const decaying = [this.#at + 5, ...Array.from({ length: 2 * LATENCIES }, (_, i) => this.#at + READ_AT + i)]
    for (const word of decaying) {
      const count = Atomics.load(this.#words, word)
      if (count > 0) Atomics.sub(this.#words, word, count - (count >> 1))
    }
  }

  /** Worse states replace better ones, never the other way round: another thread may know more. */
  #takeOut(state: DriveState, reason: HealthReason): void {
    for (;;) {
      const current = Atomics.load(this.#words, this.#at)
      const wanted = STATES.indexOf(state)
      if (current >= wanted) return
      if (Atomics.compareExchange(this.#words, this.#at, current, wanted) !== current) continue
      Atomics.store(this.#words, this.#at + 1, REASON_NAMES.indexOf(reason))
      this.#changed()
      return
    }
  }

  #changed(): void {
    Atomics.store(this.#longs, (this.#at + 8) / 2, BigInt(Math.floor(this.#now())))
    Atomics.add(this.#longs, (this.#at + 14) / 2, 1n)
  }

  #long(word: number): number {
    return Number(Atomics.load(this.#longs, (this.#at + word) / 2))
  }
}
