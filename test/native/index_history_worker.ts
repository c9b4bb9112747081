/** One thread of index_histories.test.ts: carries its part of a program out and sends what it saw. */
import { parentPort, workerData } from 'node:worker_threads';
import { HashedIndex, ShardIndex } from '../../ts/native/shard_index.js';
import type { IndexMemory } from '../../ts/native/shard_index.js';
import type { History, Step } from '../support/index_histories.js';

export interface HistoryWork {
  memory: IndexMemory;
  form: 'ids' | 'hashed';
  /** [clock, threads that are ready]. */
  shared: Int32Array;
  threads: number;
  thread: number;
  steps: Step[];
  /** Entries of its own that the thread puts in, and partly takes out, before every `BURST`th step. */
  fillers: number;
}

/** A location says which key lies there, so that locations of different keys differ. */
const KEYS = 64;
const FILLER_KEYS = 1 << 20;
/** Steps between two bursts follow each other closely, so that threads meet on the few keys of the program. */
const BURST = 32;

interface Table {
  get(key: number): number;
  insert(key: number, location: number): boolean;
  set(key: number, expected: number, location: number): boolean;
  remove(key: number): boolean;
}

function idTable(memory: IndexMemory): Table {
  const index = new ShardIndex(memory);
  const idOf = (key: number): Buffer => {
    const id = Buffer.alloc(16);
    id.writeUInt32LE(key, 0);
    return id;
  };
  return {
    get: (key) => index.get(idOf(key)),
    insert: (key, location) => index.insert(idOf(key), location),
    set: (key, expected, location) => index.compareAndSet(idOf(key), expected, location),
    remove: (key) => index.remove(idOf(key)),
  };
}

/** All recorded keys share one hash, and the fillers have few. */
function hashedTable(memory: IndexMemory): Table {
  const index = new HashedIndex<number>(
    memory,
    (key) => (key < FILLER_KEYS ? 7n : BigInt(key >> 2)),
    (location, key) => (key < FILLER_KEYS ? location % KEYS === key : location === key),
  );
  return {
    get: (key) => index.get(key),
    insert: (key, location) => index.insert(key, location),
    set: (key, expected, location) => index.compareAndSet(key, expected, location),
    remove: (key) => index.remove(key),
  };
}

function carryOut(table: Table, { what, key, location, expected }: Step): number {
  const at = (place: number): number => place * KEYS + key;
  if (what === 'get') {
    const found = table.get(key);
    return found === -1 ? -1 : (found - key) / KEYS;
  }
  if (what === 'insert') return Number(table.insert(key, at(location)));
  if (what === 'set') return Number(table.set(key, at(expected), at(location)));
  return Number(table.remove(key));
}

const { memory, form, shared, threads, thread, steps, fillers } = workerData as HistoryWork;
const table = form === 'ids' ? idTable(memory) : hashedTable(memory);
const history: History = [];
let filler = 0;
let wrong = 0;
Atomics.add(shared, 1, 1);
while (Atomics.load(shared, 1) < threads);
for (const [number, input] of steps.entries()) {
  for (let i = 0; number % BURST === 0 && i < fillers; i++, filler++) {
    const key = FILLER_KEYS * (thread + 1) + filler;
    if (!table.insert(key, key)) wrong++;
    // Two of three go again, so that the table is full of tombstones.
    if (filler % 3 !== 0 && !table.remove(key)) wrong++;
    if (filler % 3 === 0 && table.get(key) !== key) wrong++;
  }
  const call = Atomics.add(shared, 0, 1);
  const output = carryOut(table, input);
  history.push({ call, return: Atomics.add(shared, 0, 1), input, output });
}
parentPort?.postMessage({ history, wrong });
