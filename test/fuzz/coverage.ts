/**
 * What a run of a target reached: the counters of all instrumented modules (instrument.ts), side by side in one array.
 *
 * A counter's value is put into one of eight classes (1, 2, 3, 4-7, 8-15, 16-31, 32-127, more), and an input is new
 * when some counter has a class that no input before it had. "Places" are counters that were reached at all.
 */
const ROOM = 1 << 17

export class Coverage {
  readonly #hits = new Uint8Array(ROOM)
  readonly #words: (string | number)[] = []
  #used = 0
  #places = 0
  #seen = new Uint8Array(ROOM)

  /** Called by an instrumented module when it is loaded. */
  module(name: string, counters: number, words: readonly (string | number)[]): Uint8Array {
    if (this.#used + counters > ROOM) throw new Error(`no room for the counters of ${name}`)
    const hits = this.#hits.subarray(this.#used, this.#used + counters)
    this.#used += counters
    this.#words.push(...words)
    return hits
  }

  /** String and number literals of the instrumented modules. */
  get words(): readonly (string | number)[] {
    return this.#words
  }

  /** Counters there are. */
  get counters(): number {
    return this.#used
  }

  /** Forgets what was seen. */
  reset(): void {
    this.#seen = new Uint8Array(ROOM)
    this.#places = 0
    this.#hits.fill(0, 0, this.#used)
  }

  /** Before a run. */
  clear(): void {
    this.#hits.fill(0, 0, this.#used)
  }

  /** After a run: true when it reached something new, which counts as seen from now on. */
  takeNew(): boolean {
    let isNew = false
    for (let i = 0; i < this.#used; i++) {
      const hits = this.#hits[i] ?? 0
      if (hits === 0) continue
      const bit = classBit(hits)
      const seen = this.#seen[i] ?? 0
      if ((seen & bit) !== 0) continue
      this.#seen[i] = seen | bit
      if (seen === 0) this.#places++
      isNew = true
    }
    return isNew
  }

  /** Places that this run reached, of those that `known` does not have; adds them. */
  addPlaces(known: Set<number>): number {
    const before = known.size
    for (let i = 0; i < this.#used; i++) if (this.#hits[i] !== 0) known.add(i)
    return known.size - before
  }

  /** Places seen so far. */
  places(): number {
    return this.#places
  }
}

function classBit(hits: number): number {
  if (hits < 4) return 1 << (hits - 1)
  if (hits < 8) return 8
  if (hits < 16) return 16
  if (hits < 32) return 32
  return hits < 128 ? 64 : 128
}

declare global {
  var ostrakaFuzz: Coverage
}

globalThis.ostrakaFuzz = new Coverage()
export const coverage: Coverage = globalThis.ostrakaFuzz
