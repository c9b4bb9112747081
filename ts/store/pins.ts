/**
 * The pin board: how readers in many threads hold the collector back.
 *
 * Layout: a SharedArrayBuffer of BigInt64, one slot of 64 bytes (one cache line) per thread that reads. Words
 * of a slot:
 *   0  pin: the oldest metadata position among the thread's open handles, NONE (-1) when it has none
 *   1  writer epoch in use, 0 for none      2  older writer epoch still draining, 0 for none
 *   3  1 while a live thread owns the slot
 * Only the owning thread writes its slot; the control thread clears it after the thread has ended.
 *
 * Protocol of a reader (`Pins.open`):                   Protocol of the collector:
 *   r1  p = published position                            c1  snapshot; c = min(its position, published)
 *   r2  slot = min(slot, p)                               c2  oldest = minimum over all slots
 *   r3  q = published position                            c3  collects entry g only if g <= c and g <= oldest
 *   r4  snapshot; its position s must be >= q
 *
 * Why nothing is deleted under a reader. A handle reads a part only if the part was live at s, so the
 * position g at which it became garbage is > s. All of these are sequentially consistent (Atomics).
 * - r2 before c2: the collector sees a pin <= p <= q <= s < g, so c3 refuses g.
 * - c2 before r2: then c1 is before r3, so q >= c >= g, so s >= g: the part was no longer live at s. Contradiction.
 * The published position never goes back, so a thread's oldest handle holds its smallest pin.
 */
const WORDS = 8
const PIN = 0
const EPOCH = 1
const DRAINING = 2
const LIVE = 3
const NONE = -1n

export class PinBoard {
  readonly memory: SharedArrayBuffer
  readonly #words: BigInt64Array

  /** Threads that share a board share `memory`; each constructs its own PinBoard over it. */
  constructor(memory: SharedArrayBuffer) {
    this.memory = memory
    this.#words = new BigInt64Array(memory)
  }

  static create(slots: number): PinBoard {
    const board = new PinBoard(new SharedArrayBuffer(slots * WORDS * 8))
    for (let slot = 0; slot < slots; slot++) board.clear(slot)
    return board
  }

  get slots(): number {
    return this.#words.length / WORDS
  }

  /** Ends a slot: no pin, no epoch, not live. For the owner at its end, or the control thread after the owner died. */
  clear(slot: number): void {
    const at = this.#at(slot)
    Atomics.store(this.#words, at + LIVE, 0n)
    Atomics.store(this.#words, at + EPOCH, 0n)
    Atomics.store(this.#words, at + DRAINING, 0n)
    Atomics.store(this.#words, at + PIN, NONE)
  }

  claim(slot: number): void {
    this.clear(slot)
    Atomics.store(this.#words, this.#at(slot) + LIVE, 1n)
  }

  isLive(slot: number): boolean {
    return Atomics.load(this.#words, this.#at(slot) + LIVE) === 1n
  }

  setPin(slot: number, position: number | undefined): void {
    Atomics.store(this.#words, this.#at(slot) + PIN, position === undefined ? NONE : BigInt(position))
  }

  pin(slot: number): number | undefined {
    const value = Atomics.load(this.#words, this.#at(slot) + PIN)
    return value === NONE ? undefined : Number(value)
  }

  /** The oldest pinned position of all threads; Infinity when nothing is pinned. */
  oldest(): number {
    let oldest = Infinity
    for (let slot = 0; slot < this.slots; slot++) oldest = Math.min(oldest, this.pin(slot) ?? Infinity)
    return oldest
  }

  setEpochs(slot: number, current: number, draining: number): void {
    const at = this.#at(slot)
    // The draining epoch first: a reader of the board may see one epoch twice, but never miss it.
    Atomics.store(this.#words, at + DRAINING, BigInt(draining))
    Atomics.store(this.#words, at + EPOCH, BigInt(current))
  }

  /** Writer epochs that live threads use: `current` takes new parts, `draining` only ends those begun. */
  epochs(): { current: Set<number>; draining: Set<number> } {
    const current = new Set<number>()
    const draining = new Set<number>()
    for (let slot = 0; slot < this.slots; slot++) {
      // The current epoch first, the reverse of setEpochs.
      const epoch = Number(Atomics.load(this.#words, this.#at(slot) + EPOCH))
      const old = Number(Atomics.load(this.#words, this.#at(slot) + DRAINING))
      if (epoch !== 0) current.add(epoch)
      if (old !== 0) draining.add(old)
    }
    return { current, draining }
  }

  #at(slot: number): number {
    if (!Number.isInteger(slot) || slot < 0 || slot >= this.slots) throw new RangeError(`no slot ${String(slot)}`)
    return slot * WORDS
  }
}

/** What pinning needs of a metadata reader. */
export interface Positions {
  refresh(): void
  readonly position: number
  readonly publishedPosition: number
}

/** A pin on one metadata position. `release` is idempotent. */
export interface Pin {
  readonly position: number
  release(): void
}

/** The pins of one thread. */
export class Pins {
  readonly #board: PinBoard
  readonly #slot: number
  /** Open pins by published position; positions arrive in rising order, so the first key is the oldest. */
  readonly #open = new Map<number, number>()
  /** What the board says. */
  #shown: number | undefined

  constructor(board: PinBoard, slot: number) {
    this.#board = board
    this.#slot = slot
  }

  get openCount(): number {
    let count = 0
    for (const n of this.#open.values()) count += n
    return count
  }

  /**
   * Pins, then takes a fresh snapshot: what the reader shows from here until its next refresh stays readable
   * until release. Undefined (and nothing pinned) when the view lags behind the published position.
   */
  open(reader: Positions): Pin | undefined {
    const published = reader.publishedPosition
    this.#add(published)
    let released = false
    const release = (): void => {
      if (released) return
      released = true
      this.#remove(published)
    }
    try {
      const required = reader.publishedPosition
      for (let attempt = 0; attempt < 3; attempt++) {
        reader.refresh()
        if (reader.position >= required) return { position: reader.position, release }
      }
    } catch (error) {
      release()
      throw error
    }
    release()
    return undefined
  }

  /**
   * Keeps what becomes garbage from here on from being collected, until it is released; no snapshot is touched. In the
   * proof above this is r1 and r2: a command proposed afterwards has a position g > p, and > c when c2 came before r2.
   */
  hold(reader: Positions): () => void {
    const position = reader.publishedPosition
    this.#add(position)
    let released = false
    return () => {
      if (!released) this.#remove(position)
      released = true
    }
  }

  #add(position: number): void {
    const count = this.#open.get(position) ?? 0
    this.#open.set(position, count + 1)
    this.#publish()
  }

  #remove(position: number): void {
    const count = this.#open.get(position) ?? 0
    if (count > 1) this.#open.set(position, count - 1)
    else this.#open.delete(position)
    this.#publish()
  }

  #publish(): void {
    const oldest = this.#open.keys().next()
    const position = oldest.done === true ? undefined : oldest.value
    if (position === this.#shown) return
    this.#shown = position
    this.#board.setPin(this.#slot, position)
  }
}
