/**
 * The chain: every record of the view carries the hash of the next key of the whole view, and a head record at
 * the smallest key starts it. LMDB's pages have no checksums; a changed byte in a branch page can hide records
 * without a sign. With the chain every answer is proved by the records themselves:
 *
 * - a hit by its checksum over key and value;
 * - a miss by the record before, whose link names the record behind;
 * - a scan by its first step as a miss is, then by every link.
 *
 * What does not hold is MetadataError 'corrupt'.
 *
 * `linkChanges` turns changed payloads into raw writes: new links for what was inserted and for the neighbours of
 * what was inserted or removed. It reads only the neighbours, and is the same on every copy, so the other copies
 * replay the raw writes without reading.
 */
import { MetadataError } from './engine.js'
import { afterPrefix, HEAD_KEY, hasPrefix } from './keys.js'
import { checkValue, encodeValue, linksTo, pack, payloadOf, replaceValue } from './record.js'
import { SortedMap } from './sorted_map.js'
import type { RawEntry, RawWrite, ViewSnapshot } from './view_store.js'

export interface Entry {
  key: Buffer
  payload: Buffer
}

/** Verified reads of one state. Payloads are views of buffers that nobody else changes. */
export interface StateReader {
  get(key: Buffer): Buffer | undefined
  /** Entries with from <= key < to, ascending. */
  scan(from: Buffer, to: Buffer | undefined): Iterable<Entry>
  /** The first entry whose key begins with `prefix`. */
  first(prefix: Buffer): Entry | undefined
}

/** Two neighbours in the view: no record lies between them. */
interface Gap {
  before: RawEntry
  /** Key of the record behind, undefined: the end. */
  next: Buffer | undefined
}

/** What was found out about a state that does not change meanwhile. */
interface Memory {
  /** Checked values by key. */
  values: Map<string, Buffer | undefined>
  /** Proved gaps, by the key before; `until` is the key behind. */
  gaps: SortedMap<Gap & { until: string | undefined }>
}

/** Every answer checked against checksums and the chain. */
export class CheckedView implements StateReader {
  readonly #view: ViewSnapshot
  readonly #memory: Memory | undefined

  /** `remember`: for a short life in which the view does not change and the same keys are asked for again. */
  constructor(view: ViewSnapshot, remember = false) {
    this.#view = view
    if (remember) this.#memory = { values: new Map(), gaps: new SortedMap() }
  }

  get(key: Buffer): Buffer | undefined {
    const value = this.value(key)
    if (value !== undefined) return payloadOf(value)
    this.proveGap(key)
    return undefined
  }

  /** The whole value of a key, checked. That there is none is not proved. */
  value(key: Buffer): Buffer | undefined {
    const text = this.#memory === undefined ? '' : key.toString('latin1')
    const known = this.#memory?.values.get(text)
    if (known !== undefined) return known
    if (this.#memory !== undefined && this.#gapAround(text) !== undefined) return undefined
    const value = this.#view.get(key)
    if (value !== undefined) checkValue(key, value)
    this.#memory?.values.set(text, value)
    return value
  }

  *scan(from: Buffer, to: Buffer | undefined): Generator<Entry> {
    let previous: RawEntry | undefined
    for (const entry of this.#view.ascend(from)) {
      checkValue(entry.key, entry.value)
      if (previous === undefined) this.#proveFirst(from, entry)
      else if (entry.key.compare(previous.key) <= 0 || !linksTo(previous.value, entry.key)) throw broken()
      if (to !== undefined && entry.key.compare(to) >= 0) return
      yield { key: entry.key, payload: payloadOf(entry.value) }
      previous = entry
    }
    if (previous === undefined) this.#proveFirst(from, undefined)
    else if (!linksTo(previous.value, undefined)) throw broken()
  }

  first(prefix: Buffer): Entry | undefined {
    const gap = this.#memory && this.#gapAround(prefix.toString('latin1'))
    if (gap !== undefined && (gap.next === undefined || !hasPrefix(gap.next, prefix))) return undefined
    const to = afterPrefix(prefix)
    const [last, previous] = to === undefined ? [] : this.#view.lastTwo(to)
    // The usual case, one record under the prefix: the record before it names it, so one look at the view proves it.
    const alone = previous !== undefined && previous.key.compare(prefix) < 0
    if (alone && last !== undefined && hasPrefix(last.key, prefix)) {
      checkValue(last.key, last.value)
      checkValue(previous.key, previous.value)
      if (!linksTo(previous.value, last.key)) throw broken()
      return { key: last.key, payload: payloadOf(last.value) }
    }
    if (to !== undefined && last !== undefined && last.key.compare(prefix) < 0) {
      this.proveGap(prefix, last)
      return undefined
    }
    for (const entry of this.scan(prefix, to)) return entry
    return undefined
  }

  /** Proves that no record has this key; the neighbours that prove it. `last`: the record before, as the view says. */
  proveGap(key: Buffer, last?: RawEntry): Gap {
    if (this.#memory === undefined) return this.#findGap(key, last)
    const known = this.#gapAround(key.toString('latin1'))
    if (known !== undefined) return known
    const gap = this.#findGap(key, last)
    this.#memory.gaps.set(gap.before.key.toString('latin1'), { ...gap, until: gap.next?.toString('latin1') })
    return gap
  }

  /** A gap found before that this key lies in. */
  #gapAround(text: string): Gap | undefined {
    const gaps = this.#memory?.gaps
    const at = gaps?.lower(text)
    const gap = at === undefined ? undefined : gaps?.get(at)
    return gap?.until === undefined || text < gap.until ? gap : undefined
  }

  /** The key behind is proved by the link that names it, whatever its value. */
  #findGap(key: Buffer, last: RawEntry | undefined): Gap {
    const next = this.#view.keyFrom(key)
    if (next?.equals(key) === true) throw new MetadataError('corrupt', 'a record is found by scan but not by key')
    if (last !== undefined) checkValue(last.key, last.value)
    const before = last ?? this.before(key)
    if (!linksTo(before.value, next)) throw broken()
    return { before, next }
  }

  /** The record before `key`, checked. */
  before(key: Buffer): RawEntry {
    const entry = this.#view.before(key)
    if (entry === undefined || entry.key.compare(key) >= 0)
      throw new MetadataError('corrupt', 'the head of the view is missing')
    checkValue(entry.key, entry.value)
    return entry
  }

  /** Proves that `first` is the first record with key >= from; returns the record before. */
  #proveFirst(from: Buffer, first: RawEntry | undefined): RawEntry {
    if (first !== undefined && first.key.compare(from) < 0) throw broken()
    if (first?.key.equals(HEAD_KEY) === true) return first
    const entry = this.before(from)
    if (!linksTo(entry.value, first?.key)) throw broken()
    return entry
  }
}

function broken(): MetadataError {
  return new MetadataError('corrupt', 'the chain of records is broken')
}

/** What an empty view consists of. */
export function emptyView(): RawWrite[] {
  return [{ key: HEAD_KEY, value: encodeValue(HEAD_KEY, pack({}), undefined) }]
}

/** A link still to be decided: which key follows. */
interface Pending {
  key: Buffer
  payload: Uint8Array
}

/**
 * Raw writes for a set of changes (undefined: remove) over the state `view`. Changes that remove what does not
 * exist are left out.
 */
export function linkChanges(
  view: ViewSnapshot, changes: SortedMap<Buffer | undefined>, checked: CheckedView = new CheckedView(view),
): RawWrite[] {
  const writes: RawWrite[] = []
  /** The record whose link is not known yet: it will name the next record that remains. */
  let open: Pending | undefined
  /** The first key behind `open` in the old state, undefined: the end. */
  let oldNext: Buffer | undefined
  const finish = (next: Buffer | undefined): void => {
    if (open !== undefined) writes.push({ key: open.key, value: encodeValue(open.key, open.payload, next) })
    open = undefined
  }
  for (const [text, payload] of changes.entries()) {
    const key = Buffer.from(text, 'latin1')
    if (open !== undefined && oldNext !== undefined && oldNext.compare(key) < 0) finish(oldNext)
    const old = checked.value(key)
    if (open === undefined) {
      if (old !== undefined && payload !== undefined) {
        writes.push({ key, value: replaceValue(key, payload, old) })
        continue
      }
      const gap = old === undefined ? checked.proveGap(key) : { before: checked.before(key), next: key }
      if (old === undefined && payload === undefined) continue
      if (!linksTo(gap.before.value, gap.next)) throw broken()
      open = takeBack(writes, gap.before)
      oldNext = gap.next
    } else if ((oldNext?.equals(key) === true) !== (old !== undefined)) {
      throw broken()
    }
    if (payload === undefined) {
      if (old === undefined) continue
      writes.push({ key, value: undefined })
    } else {
      finish(key)
      open = { key, payload }
    }
    if (old !== undefined) oldNext = successor(view, { key, value: old })
  }
  finish(oldNext)
  return writes
}

/** The record before a change, with the payload that this batch has already given it. */
function takeBack(writes: RawWrite[], before: RawEntry): Pending {
  const last = writes.at(-1)
  if (last?.value === undefined || !last.key.equals(before.key))
    return { key: before.key, payload: payloadOf(before.value) }
  writes.pop()
  return { key: last.key, payload: payloadOf(last.value) }
}

/** The key that follows `entry` in the old state, proved by its link; undefined at the end. */
function successor(view: ViewSnapshot, entry: RawEntry): Buffer | undefined {
  if (linksTo(entry.value, undefined)) return undefined
  for (const next of view.ascend(Buffer.concat([entry.key, Buffer.of(0)]))) {
    if (!linksTo(entry.value, next.key)) throw broken()
    return next.key
  }
  throw broken()
}
