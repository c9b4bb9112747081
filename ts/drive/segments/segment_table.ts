/**
 * What all threads of the process share of one drive's segments: the index (data id -> location) and this table of the
 * segments themselves, in SharedArrayBuffers. Made once for each drive by the control thread.
 *
 * Table, 32-bit words: 16 of header, then slots of 8, found by linear probing from number % slots.
 *
 *   header  0 phase   1 next number   2 segments dropped so far   3 damaged places found by loading
 *           4 segments to load   5 segments loaded   6 who compacts (0: nobody)   7 seal below
 *   slot    0 number (0 empty, -1 dropped)   1 state   2 length / 8   3 shard records   4 their weight
 *           5 weight of those that the index names   6 tombstones   7 shard records that the index names
 *
 * Weights are sizes estimated from the size class of a location, in units of 64 bytes: so what becomes dead can be
 * subtracted without reading it. Counts are updated one by one: a look at a slot is a sketch, not a snapshot.
 */
import { createIndexMemory, type IndexMemory } from '../../native/shard_index.js'

export interface SegmentsMemory {
  index: IndexMemory
  table: SharedArrayBuffer
  /** Entries that the index takes. */
  maxEntries: number
}

/**
 * new: nobody has looked at the drive. listed: numbers are known, records are being loaded. loaded: what is not in the
 * index is not there. failed: loading failed, nothing can be said to be missing.
 */
export type LoadPhase = 'new' | 'claimed' | 'listed' | 'loaded' | 'failed'
const PHASES: readonly LoadPhase[] = ['new', 'claimed', 'listed', 'loaded', 'failed']

/**
 * active: a thread appends to it, or did until it failed. sealed: complete, whether it has a hint or not. compacting: a
 * sealed one that somebody is about to drop. loading: its records are told to the index, or were until that failed.
 */
export type SegmentState = 'active' | 'sealed' | 'compacting' | 'loading'
const STATES: readonly SegmentState[] = ['active', 'sealed', 'compacting', 'loading']

export interface SegmentInfo {
  number: number
  state: SegmentState
  bytes: number
  /** Shard records in it, and how many of them the index names. */
  records: number
  live: number
  tombstones: number
  /** 0..1: estimated share of the bytes of its shard records that nothing refers to any more; 1 when it has none. */
  deadShare: number
}

/** All segments of a drive together; bytes of shards are estimates. */
export interface SegmentTotals {
  segments: number
  bytes: number
  /** Of `bytes`: shard records that nothing refers to. */
  deadBytes: number
  /** Shards that the index names. */
  shards: number
  tombstones: number
}

/** Bytes that a tombstone takes, its part of a batch included; and what a segment has beside its records. */
const TOMBSTONE_BYTES = 48
const OVERHEAD_BYTES = 128

/** An estimate: bytes of shard records in a segment that nothing refers to. */
export function deadBytes({ bytes, tombstones, deadShare }: SegmentInfo): number {
  return Math.round(deadShare * Math.max(0, bytes - OVERHEAD_BYTES - tombstones * TOMBSTONE_BYTES))
}

const HEADER_WORDS = 16
const SLOT_WORDS = 8
const DEFAULT_SLOTS = 65_536
const WEIGHTS: readonly number[] = [8, 24, 52, 100, 196, 388, 772, 2048]
/** Entries that an index is made for where there is room; memory is used only as entries come. */
const INDEX_ENTRIES: readonly number[] = [64_000_000, 2 ** 24, 2 ** 22, 2 ** 20]

/** Made for as many shards as the machine lets it reserve address space for, or for `entries`. */
export function createSegmentsMemory(entries?: number, slots: number = DEFAULT_SLOTS): SegmentsMemory {
  const table = new SharedArrayBuffer((HEADER_WORDS + slots * SLOT_WORDS) * 4)
  new Int32Array(table)[1] = 1
  for (const maxEntries of entries === undefined ? INDEX_ENTRIES : [entries]) {
    try {
      return { index: createIndexMemory(maxEntries), table, maxEntries }
    } catch (error) {
      if (!(error instanceof RangeError)) throw error
    }
  }
  throw new Error('no memory for the index of a drive')
}

export class SegmentTable {
  readonly #words: Int32Array
  readonly #slots: number

  constructor(table: SharedArrayBuffer) {
    this.#words = new Int32Array(table)
    this.#slots = (this.#words.length - HEADER_WORDS) / SLOT_WORDS
  }

  get phase(): LoadPhase {
    return PHASES[Atomics.load(this.#words, 0)] ?? 'failed'
  }

  set phase(phase: LoadPhase) {
    Atomics.store(this.#words, 0, PHASES.indexOf(phase))
  }

  /** True for the one caller that is to load. A failed load may be claimed again. */
  claimLoading(): boolean {
    const [fresh, claimed, failed] = [0, 1, PHASES.indexOf('failed')]
    return Atomics.compareExchange(this.#words, 0, fresh, claimed) === fresh ||
      Atomics.compareExchange(this.#words, 0, failed, claimed) === failed
  }

  /** A number that no segment of the drive has or had. */
  takeNumber(): number {
    return Atomics.add(this.#words, 1, 1)
  }

  /** Numbers up to this one are taken. */
  raiseNumber(number: number): void {
    for (;;) {
      const next = Atomics.load(this.#words, 1)
      if (next > number || Atomics.compareExchange(this.#words, 1, next, number + 1) === next) return
    }
  }

  /** Grows whenever a segment is dropped: files of segments kept open should be looked through. */
  get drops(): number {
    return Atomics.load(this.#words, 2)
  }

  /** True when the caller, known by a number of its own, is the one that compacts the drive from now on. */
  claimCompaction(who: number): boolean {
    const before = Atomics.compareExchange(this.#words, 6, 0, who)
    return before === 0 || before === who
  }

  /** Without `who`, whoever has it: for a thread that knows that its predecessor is dead. */
  releaseCompaction(who?: number): void {
    if (who === undefined) Atomics.store(this.#words, 6, 0)
    else Atomics.compareExchange(this.#words, 6, who, 0)
  }

  /** Active segments of lower numbers are to be sealed by the threads that write to them. */
  get sealBelow(): number {
    return Atomics.load(this.#words, 7)
  }

  /** Asks for all segments that exist now to be sealed; the first number that is not meant. */
  askToSeal(): number {
    const next = this.nextNumber
    for (;;) {
      const below = Atomics.load(this.#words, 7)
      if (below >= next || Atomics.compareExchange(this.#words, 7, below, next) === below) return next
    }
  }

  /** All segments made from now on have this number or a higher one. */
  get nextNumber(): number {
    return Atomics.load(this.#words, 1)
  }

  get damaged(): number {
    return Atomics.load(this.#words, 3)
  }

  get progress(): { toLoad: number; loaded: number } {
    return { toLoad: Atomics.load(this.#words, 4), loaded: Atomics.load(this.#words, 5) }
  }

  startLoading(segments: number): void {
    Atomics.store(this.#words, 4, segments)
    Atomics.store(this.#words, 5, 0)
  }

  loadedOne(damagedPlaces: number): void {
    Atomics.add(this.#words, 3, damagedPlaces)
    Atomics.add(this.#words, 5, 1)
  }

  /** For a number that is not in the table. False when that is full: the segment must not be made. */
  add(number: number, state: SegmentState, bytes: number): boolean {
    for (let probe = 0; probe < this.#slots; probe++) {
      const at = this.#slotAt(number + probe)
      const found = Atomics.load(this.#words, at)
      if (found > 0) continue
      if (Atomics.compareExchange(this.#words, at, found, number) !== found) {
        probe--
        continue
      }
      // Nobody else knows the number yet.
      for (let word = 3; word < SLOT_WORDS; word++) Atomics.store(this.#words, at + word, 0)
      Atomics.store(this.#words, at + 1, STATES.indexOf(state))
      Atomics.store(this.#words, at + 2, bytes / 8)
      return true
    }
    return false
  }

  has(number: number): boolean {
    return this.#find(number) >= 0
  }

  setState(number: number, state: SegmentState): void {
    const at = this.#find(number)
    if (at >= 0) Atomics.store(this.#words, at + 1, STATES.indexOf(state))
  }

  /** True when the segment was in state `from` and is now in `to`: for one thread only. */
  changeState(number: number, from: SegmentState, to: SegmentState): boolean {
    const at = this.#find(number)
    const expected = STATES.indexOf(from)
    return at >= 0 && Atomics.compareExchange(this.#words, at + 1, expected, STATES.indexOf(to)) === expected
  }

  setLength(number: number, bytes: number): void {
    const at = this.#find(number)
    if (at >= 0) Atomics.store(this.#words, at + 2, bytes / 8)
  }

  /** Bytes known to be written, 0 for a segment that is not known. */
  length(number: number): number {
    const at = this.#find(number)
    return at < 0 ? 0 : Atomics.load(this.#words, at + 2) * 8
  }

  /** A record lies in the segment, whether the index names it or not (1), or was counted twice (-1). */
  countRecord(number: number, sizeClass: number, tombstone: boolean, change: 1 | -1 = 1): void {
    const at = this.#find(number)
    if (at < 0) return
    if (tombstone) {
      Atomics.add(this.#words, at + 6, change)
      return
    }
    Atomics.add(this.#words, at + 3, change)
    Atomics.add(this.#words, at + 4, change * (WEIGHTS[sizeClass] ?? 0))
  }

  /** The index names a shard record of the segment from now on (1), or does no longer (-1). */
  countLive(number: number, sizeClass: number, change: 1 | -1): void {
    const at = this.#find(number)
    if (at < 0) return
    Atomics.add(this.#words, at + 5, change * (WEIGHTS[sizeClass] ?? 0))
    Atomics.add(this.#words, at + 7, change)
  }

  remove(number: number): void {
    const at = this.#find(number)
    if (at < 0) return
    Atomics.store(this.#words, at, -1)
    Atomics.add(this.#words, 2, 1)
  }

  info(number: number): SegmentInfo | undefined {
    const at = this.#find(number)
    return at < 0 ? undefined : this.#info(at)
  }

  /** In no order. */
  all(): SegmentInfo[] {
    const found: SegmentInfo[] = []
    for (let slot = 0; slot < this.#slots; slot++) {
      const at = HEADER_WORDS + slot * SLOT_WORDS
      if (Atomics.load(this.#words, at) > 0) found.push(this.#info(at))
    }
    return found
  }

  totals(): SegmentTotals {
    const totals = { segments: 0, bytes: 0, deadBytes: 0, shards: 0, tombstones: 0 }
    for (const info of this.all()) {
      totals.segments++
      totals.bytes += info.bytes
      totals.deadBytes += deadBytes(info)
      totals.shards += info.live
      totals.tombstones += info.tombstones
    }
    return totals
  }

  #info(at: number): SegmentInfo {
    const word = (index: number): number => Atomics.load(this.#words, at + index)
    const weight = word(4)
    return {
      number: word(0), state: STATES[word(1)] ?? 'active', bytes: word(2) * 8, records: word(3),
      live: Math.max(0, word(7)), tombstones: word(6),
      deadShare: weight === 0 ? 1 : Math.min(1, Math.max(0, 1 - word(5) / weight)),
    }
  }

  #find(number: number): number {
    for (let probe = 0; probe < this.#slots; probe++) {
      const at = this.#slotAt(number + probe)
      const found = Atomics.load(this.#words, at)
      if (found === number) return at
      if (found === 0) return -1
    }
    return -1
  }

  #slotAt(number: number): number {
    return HEADER_WORDS + (number % this.#slots) * SLOT_WORDS
  }
}
