/**
 * The shard index as JavaScript sees it, beside `Map` and an empty call into the addon.
 *
 * Ids come to the loops as 32-bit words that are copied into one buffer of 16 bytes, so that no loop pays for a
 * million little Uint8Arrays; the copying is measured by itself and taken off. The keys of the `Map` are ready-made
 * strings of 16 characters, which a store would have to make first.
 */
import { randomFillSync } from 'node:crypto'
import { addon } from '../ts/native/addon.js'
import { createIndexMemory, ShardIndex } from '../ts/native/shard_index.js'
import type { Metrics } from './placement.js'

const WORDS = 4
const BATCH = 256

/** Ids as words, `count` of them one behind the other. */
function randomIds(count: number): Uint32Array {
  const ids = new Uint32Array(count * WORDS)
  const piece = WORDS << 16
  for (let at = 0; at < ids.length; at += piece) randomFillSync(ids.subarray(at, Math.min(ids.length, at + piece)))
  return ids
}

/** Keys of one turn. */
const TURN = 1 << 14

/**
 * ns for each call: the best of many short turns, each over other ids, so that neither a busy neighbour nor what the
 * turn before left in the caches counts.
 */
function best(turns: number, count: number, turn: (from: number, to: number) => void): number {
  let fastest = Infinity
  const size = Math.min(TURN, count)
  for (let i = 0; i < turns; i++) {
    const from = (i % Math.floor(count / size)) * size
    const started = performance.now()
    turn(from, from + size)
    // The first ones run before the compiler has seen the loop.
    if (i >= 8) fastest = Math.min(fastest, performance.now() - started)
  }
  return (fastest * 1e6) / size
}

interface Loops {
  copy: (ids: Uint32Array, from: number, to: number) => void
  empty: (ids: Uint32Array, from: number, to: number) => void
  get: (ids: Uint32Array, from: number, to: number) => number
  getMany: (ids: Uint32Array, from: number, to: number) => number
}

function loopsOver(index: ShardIndex): Loops {
  const id = new Uint8Array(16)
  const word = new Uint32Array(id.buffer)
  const locations = new Float64Array(BATCH)
  const put = (ids: Uint32Array, at: number): void => {
    word[0] = ids[at] as number
    word[1] = ids[at + 1] as number
    word[2] = ids[at + 2] as number
    word[3] = ids[at + 3] as number
  }
  return {
    copy: (ids, from, to) => {
      for (let at = from * WORDS; at < to * WORDS; at += WORDS) put(ids, at)
    },
    empty: (ids, from, to) => {
      for (let at = from * WORDS; at < to * WORDS; at += WORDS) {
        put(ids, at)
        addon.indexNothing()
      }
    },
    get: (ids, from, to) => {
      let found = 0
      for (let at = from * WORDS; at < to * WORDS; at += WORDS) {
        put(ids, at)
        if (index.get(id) !== -1) found++
      }
      return found
    },
    getMany: (ids, from, to) => {
      const bytes = new Uint8Array(ids.buffer, ids.byteOffset, ids.byteLength)
      let found = 0
      for (let at = from * 16; at < to * 16; at += BATCH * 16) {
        found += index.getMany(bytes.subarray(at, at + BATCH * 16), locations)
      }
      return found
    },
  }
}

/** Adds `index.<entries>.js.<what>` to the metrics. */
export function measureJs(entries: number, quick: boolean, metrics: Metrics): void {
  const turns = quick ? 60 : 150
  const all = randomIds(entries)
  const index = new ShardIndex(createIndexMemory(Math.ceil(entries * 1.25)))
  const bytes = new Uint8Array(all.buffer)
  for (let i = 0; i < entries; i++) index.insert(bytes.subarray(i * 16, (i + 1) * 16), i)
  const sample = Math.min(entries, quick ? 1 << 18 : 1 << 20)
  const counted = sample - (sample % BATCH)
  // Ids lie in the index by their hashes, so any order of random ids is a random one.
  const hits = all.subarray(0, counted * WORDS)
  const misses = randomIds(counted)
  const loops = loopsOver(index)
  const note = (what: string, value: number): void => {
    metrics[`index.${String(entries)}.js.${what}`] = { value, unit: 'ns' }
  }
  const each = (turn: (from: number, to: number) => void): number => best(turns, counted, turn)
  const found = (loop: Loops['get'], ids: Uint32Array, all: boolean): number => each((from, to) => {
    if (loop(ids, from, to) !== (all ? to - from : 0)) throw new Error('the index gave a wrong answer')
  })
  const copy = each((from, to) => { loops.copy(hits, from, to) })
  note('emptyCall', each((from, to) => { loops.empty(hits, from, to) }) - copy)
  note('get.hit', found(loops.get, hits, true) - copy)
  note('get.miss', found(loops.get, misses, false) - copy)
  note('getMany.hit', found(loops.getMany, hits, true))
  note('getMany.miss', found(loops.getMany, misses, false))
  measureMap(bytes, entries, counted, turns, note)
}

function measureMap(
  bytes: Uint8Array,
  entries: number,
  counted: number,
  turns: number,
  note: (what: string, value: number) => void,
): void {
  const map = new Map<string, number>()
  const text = Buffer.from(bytes.buffer).toString('latin1')
  const key = (i: number): string => Buffer.from(text.slice(i * 16, (i + 1) * 16), 'latin1').toString('latin1')
  const keys: string[] = []
  for (let i = 0; i < entries; i++) {
    const one = key(i)
    if (i < counted) keys.push(one)
    map.set(one, i)
  }
  // Looked up once, so that they have their hashes as the others do.
  const absent = keys.map((one) => `${one.slice(1)}-`)
  for (const one of absent) map.get(one)
  const found = (of: readonly string[]): number => best(turns, counted, (from, to) => {
    let sum = 0
    for (let i = from; i < to; i++) if (map.get(of[i] as string) !== undefined) sum++
    if (sum !== (of === keys ? to - from : 0)) throw new Error('the Map gave a wrong answer')
  })
  note('map.hit', found(keys))
  note('map.miss', found(absent))
}
