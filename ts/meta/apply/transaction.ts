/**
 * The changes of one batch over a verified state: reads see what the batch has changed so far, and a refused
 * command can be undone alone.
 *
 * Values here are plain data; encoding happens once at the end (`changes`).
 */
import type { Entry, StateReader } from '../chain.js'
import { afterPrefix, COLLECTION_KEY, COUNTERS_KEY, TOTALS_KEY } from '../keys.js'
import { pack, unpack } from '../record.js'
import { SortedMap } from '../sorted_map.js'

/** Counts over the whole store. */
export interface Totals {
  garbage: number
  heals: number
  objects: number
  bytes: number
  buckets: number
  /** Request ids kept. */
  requests: number
}

/** The next numbers to give. */
export interface Counters {
  nextBucketId: number
  nextEpoch: number
}

const NO_TOTALS: Totals = { garbage: 0, heals: 0, objects: 0, bytes: 0, buckets: 0, requests: 0 }

export function readTotals(state: StateReader): Totals {
  const payload = state.get(TOTALS_KEY)
  return payload === undefined ? { ...NO_TOTALS } : { ...NO_TOTALS, ...(unpack(payload) as Totals) }
}

export function readCollectionEnabled(state: StateReader): boolean {
  const payload = state.get(COLLECTION_KEY)
  return payload === undefined || (unpack(payload) as { enabled: boolean }).enabled
}

/** Runs of sorted entries from the overlay and from below, the overlay winning; undefined hides an entry. */
export class Transaction implements StateReader {
  readonly #base: StateReader
  readonly changes: SortedMap<Buffer | undefined> = new SortedMap()
  /** What each change of the current command replaced, for undo. */
  #journal: { key: string; had: boolean; value: Buffer | undefined }[] = []

  constructor(base: StateReader) {
    this.#base = base
  }

  get(key: Buffer): Buffer | undefined {
    const text = key.toString('latin1')
    return this.changes.has(text) ? this.changes.get(text) : this.#base.get(key)
  }

  /** A decoded record, or undefined. The type is the one this key was written with. */
  read<T>(key: Buffer): T | undefined {
    const payload = this.get(key)
    return payload === undefined ? undefined : (unpack(payload) as T)
  }

  put(key: Buffer, value: unknown): void {
    this.#change(key, pack(value))
  }

  remove(key: Buffer): void {
    this.#change(key, undefined)
  }

  *scan(from: Buffer, to: Buffer | undefined): Generator<Entry> {
    const end = to?.toString('latin1')
    const over = this.changes.keysFrom(from.toString('latin1'))
    let change = over.next()
    const changed = (): string | undefined =>
      change.done === true || (end !== undefined && change.value >= end) ? undefined : change.value
    for (const entry of this.#base.scan(from, to)) {
      const text = entry.key.toString('latin1')
      for (let key = changed(); key !== undefined && key < text; key = changed()) {
        yield* this.#changedEntry(key)
        change = over.next()
      }
      if (changed() === text) {
        yield* this.#changedEntry(text)
        change = over.next()
      } else {
        yield entry
      }
    }
    for (let key = changed(); key !== undefined; key = changed()) {
      yield* this.#changedEntry(key)
      change = over.next()
    }
  }

  first(prefix: Buffer): Entry | undefined {
    for (const entry of this.scan(prefix, afterPrefix(prefix))) return entry
    return undefined
  }

  /** Starts a command: what follows can be undone alone. */
  begin(): void {
    this.#journal = []
  }

  /** Takes back everything since `begin`. */
  undo(): void {
    for (const { key, had, value } of this.#journal.reverse()) {
      if (had) this.changes.set(key, value)
      else this.changes.delete(key)
    }
    this.#journal = []
  }

  totals(): Totals {
    return readTotals(this)
  }

  addTotals(delta: Partial<Totals>): void {
    const totals = this.totals()
    for (const [name, by] of Object.entries(delta) as [keyof Totals, number][]) totals[name] += by
    this.put(TOTALS_KEY, totals)
  }

  counters(): Counters {
    return this.read<Counters>(COUNTERS_KEY) ?? { nextBucketId: 1, nextEpoch: 1 }
  }

  *#changedEntry(key: string): Generator<Entry> {
    const payload = this.changes.get(key)
    if (payload !== undefined) yield { key: Buffer.from(key, 'latin1'), payload }
  }

  #change(key: Buffer, payload: Buffer | undefined): void {
    const text = key.toString('latin1')
    this.#journal.push({ key: text, had: this.changes.has(text), value: this.changes.get(text) })
    this.changes.set(text, payload)
  }
}
