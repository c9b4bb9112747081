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
  /** Id of the next node; absent: 2, since 1 is the first. */
  nextNode?: number
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

/** A decoded record. `changed`: it is newer than what `changes` has of it. Never modified, only replaced. */
interface Flat {
  readonly value: object
  readonly changed: boolean
}

/** Sorted entries from the overlay and from below, the overlay winning; undefined hides an entry. */
export class Transaction implements StateReader {
  readonly #base: StateReader
  readonly changes: SortedMap<Buffer | undefined> = new SortedMap()
  /** All that was known of a key before each change of the current command, for undo. */
  #journal: { key: string; had: boolean; value: Buffer | undefined; flat: Flat | undefined }[] = []
  /** Records that most commands change, decoded, newest state; `settle` encodes them. */
  readonly #flat = new Map<string, Flat>()
  /** No request id is old enough to be dropped (requests.ts). */
  oldRequestsGone = false

  constructor(base: StateReader) {
    this.#base = base
  }

  get(key: Buffer): Buffer | undefined {
    const text = key.toString('latin1')
    if (this.#flat.get(text)?.changed === true) this.settle()
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

  /** As `read`, for records without nested ones: decoded once for the whole batch. The copy given is the caller's. */
  readFlat<T extends object>(key: Buffer): T | undefined {
    const text = key.toString('latin1')
    const known = this.#flat.get(text)
    if (known !== undefined) return { ...(known.value as T) }
    const value = this.read<T>(key)
    if (value !== undefined) this.#flat.set(text, { value, changed: false })
    return value && { ...value }
  }

  /** Changes a record that `readFlat` gave; one that it did not find is put. */
  putFlat(key: Buffer, value: object): void {
    const text = key.toString('latin1')
    const known = this.#flat.get(text)
    if (known === undefined) {
      this.put(key, value)
      return
    }
    this.#note(text)
    this.#flat.set(text, { value: { ...value }, changed: true })
  }

  /**
   * Makes encoded changes of what `putFlat` was given: before that `changes` lacks them. What a record is does not
   * change by this, so there is nothing to undo.
   */
  settle(): void {
    for (const [key, flat] of this.#flat) {
      if (!flat.changed) continue
      this.#flat.set(key, { value: flat.value, changed: false })
      this.changes.set(key, pack(flat.value))
    }
  }

  #note(key: string): void {
    const had = this.changes.has(key)
    this.#journal.push({ key, had, value: this.changes.get(key), flat: this.#flat.get(key) })
  }

  *scan(from: Buffer, to: Buffer | undefined): Generator<Entry> {
    this.settle()
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
    const text = prefix.toString('latin1')
    let touched = this.changes.ceiling(text)?.startsWith(text) === true
    for (const key of this.#flat.keys()) touched ||= key.startsWith(text)
    if (!touched) return this.#base.first(prefix)
    for (const entry of this.scan(prefix, afterPrefix(prefix))) return entry
    return undefined
  }

  /** Starts a command: what follows can be undone alone. */
  begin(): void {
    this.#journal = []
  }

  /** Takes back everything since `begin`. */
  undo(): void {
    for (const { key, had, value, flat } of this.#journal.reverse()) {
      if (had) this.changes.set(key, value)
      else this.changes.delete(key)
      if (flat === undefined) this.#flat.delete(key)
      else this.#flat.set(key, flat)
    }
    this.#journal = []
  }

  totals(): Totals {
    return { ...NO_TOTALS, ...this.readFlat<Totals>(TOTALS_KEY) }
  }

  addTotals(delta: Partial<Totals>): void {
    const totals = this.totals()
    for (const [name, by] of Object.entries(delta) as [keyof Totals, number][]) totals[name] += by
    this.putFlat(TOTALS_KEY, totals)
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
    this.#note(text)
    this.#flat.delete(text)
    this.changes.set(text, payload)
  }
}
