/**
 * The shard index: a hash table in shared memory that every thread reads and writes at once, without locks for
 * readers and without waiting while it grows. native/index/shard_index.h has the model and the layout.
 *
 * One thread makes the memory (`createIndexMemory`) and hands it to the others, for instance in workerData; each
 * attaches to it once. The memory is reserved for the most entries it is to take, and used only as entries come.
 *
 * Two forms: `ShardIndex` maps 128-bit ids to locations. `HashedIndex` maps keys of any length, that lie elsewhere: a
 * 64-bit hash leads to candidate locations and the caller's resolver says which of them holds the key. Locations are
 * whole numbers from 0 to 2^53 - 1.
 */
import { addon, type IndexStatistics } from './addon.js';

export type { IndexStatistics } from './addon.js';

// Outcome in native/index/shard_index.h.
const DONE = 0;
const CHANGED = 3;
const FULL = 4;

const ID_BYTES = 16;
const MAILBOX_BYTES = 24;
const PIECE_SLOTS = 3072;
const CANDIDATES_MOST = 64;

/** What an index lies in, to be shared with other threads. */
export interface IndexMemory {
  buffer: SharedArrayBuffer;
  /** Where the region starts: an address that is a multiple of 64. */
  offset: number;
}

/** Thrown when the reserved memory is used up, or too many keys share one hash. Nothing was changed. */
export class IndexFullError extends Error {
  override readonly name = 'IndexFullError';
  constructor() {
    super('the shard index is full');
  }
}

export function createIndexMemory(maxEntries: number, form: 'ids' | 'hashed' = 'ids'): IndexMemory {
  const bytes = addon.indexRegionBytes(maxEntries);
  const buffer = new SharedArrayBuffer(bytes + 64);
  const offset = addon.indexPadding(new Uint8Array(buffer));
  addon.indexFormat(new Uint8Array(buffer, offset, bytes), maxEntries, form === 'hashed' ? 1 : 0);
  return { buffer, offset };
}

/** Attached, the addon keeps the memory; an index that nothing can reach any more lets it go. */
const unreachable = new FinalizationRegistry<number>((number) => { addon.indexDetach(number); });

/** What both forms have in common. Use it in the thread that made it. */
class AttachedIndex {
  protected readonly number: number;
  /** The id of a call; behind it the location that a get found. Shared memory, since that cannot be detached. */
  protected readonly mailbox: Uint8Array = new Uint8Array(new SharedArrayBuffer(MAILBOX_BYTES));

  constructor({ buffer, offset }: IndexMemory) {
    this.number = addon.indexAttach(new Uint8Array(buffer, offset), this.mailbox);
    unreachable.register(this, this.number);
  }

  get length(): number {
    return addon.indexLength(this.number);
  }

  /** Not atomic as a whole: entries that other threads insert meanwhile may stay. */
  clear(): void {
    addon.indexClear(this.number);
  }

  /** Makes room for so many entries in all; false when less memory was reserved. */
  reserve(entries: number): boolean {
    return addon.indexReserve(this.number, entries);
  }

  statistics(): IndexStatistics {
    return addon.indexStatistics(this.number);
  }

  protected outcome(outcome: number): boolean {
    if (outcome === FULL) throw new IndexFullError();
    return outcome === DONE;
  }
}

export class ShardIndex extends AttachedIndex {
  readonly #words: Int32Array = new Int32Array(this.mailbox.buffer, 0, 4);
  readonly #answer: Float64Array = new Float64Array(this.mailbox.buffer, ID_BYTES, 1);

  /** The location of a 16-byte id, -1 when it is not there. */
  get(id: Uint8Array): number {
    this.#address(id);
    addon.indexGet(this.number);
    return this.#answer[0] as number;
  }

  /** Looks up ids of 16 bytes each, one behind the other; -1 for those missing. Returns how many were found. */
  getMany(ids: Uint8Array, locations: Float64Array): number {
    return addon.indexGetMany(this.number, ids, bytesOf(locations));
  }

  /** False when the id is there already; nothing is changed then. Throws IndexFullError. */
  insert(id: Uint8Array, location: number): boolean {
    this.#address(id);
    return this.outcome(addon.indexInsert(this.number, location));
  }

  /** Moves an entry that is at `expected`; false when it is not (any more). */
  compareAndSet(id: Uint8Array, expected: number, location: number): boolean {
    this.#address(id);
    return this.outcome(addon.indexCompareAndSet(this.number, expected, location));
  }

  /** Removes an entry, with `expected` only if it is at that location; false when it is not there. */
  remove(id: Uint8Array, expected?: number): boolean {
    this.#address(id);
    return this.outcome(
      expected === undefined ? addon.indexRemove(this.number) : addon.indexRemove(this.number, expected),
    );
  }

  /**
   * Entries in the order of their hashes, as of one moment for each few thousand of them. What is there all the
   * while comes exactly once.
   */
  *entries(): Generator<{ id: Buffer; location: number }> {
    const ids = Buffer.alloc(PIECE_SLOTS * ID_BYTES);
    const locations = new Float64Array(PIECE_SLOTS);
    let next = addon.indexIterate(this.number, 0n, ids, bytesOf(locations));
    while (next !== null) {
      for (let i = 0; i < next.count; i++) {
        yield { id: Buffer.from(ids.subarray(i * ID_BYTES, (i + 1) * ID_BYTES)), location: locations[i] ?? -1 };
      }
      next = addon.indexIterate(this.number, next.cursor, ids, bytesOf(locations));
    }
  }

  // As words, and not by Uint8Array.set: the addon reads them as words, and so finds them in the CPU's store buffer.
  #address(id: Uint8Array): void {
    if (id.length !== ID_BYTES) throw new RangeError(`expected an id of 16 bytes, got ${String(id.length)}`);
    const words = this.#words;
    words[0] = (id[0] as number) | ((id[1] as number) << 8) | ((id[2] as number) << 16) | ((id[3] as number) << 24);
    words[1] = (id[4] as number) | ((id[5] as number) << 8) | ((id[6] as number) << 16) | ((id[7] as number) << 24);
    words[2] = (id[8] as number) | ((id[9] as number) << 8) | ((id[10] as number) << 16) | ((id[11] as number) << 24);
    words[3] = (id[12] as number) | ((id[13] as number) << 8) | ((id[14] as number) << 16) | ((id[15] as number) << 24);
  }
}

/** Says whether the key is the one stored at a location. Must not change while an operation runs. */
export type Resolver<Key> = (location: number, key: Key) => boolean;

export class HashedIndex<Key> extends AttachedIndex {
  readonly #hashOf: (key: Key) => bigint;
  readonly #isAt: Resolver<Key>;
  readonly #candidates = new Float64Array(CANDIDATES_MOST);
  readonly #hash: DataView = new DataView(this.mailbox.buffer);

  constructor(memory: IndexMemory, hashOf: (key: Key) => bigint, isAt: Resolver<Key>) {
    super(memory);
    this.#hashOf = hashOf;
    this.#isAt = isAt;
  }

  /** The location of a key, -1 when it is not there. */
  get(key: Key): number {
    return this.#resolve(key).location;
  }

  /** False when the key is there already. Throws IndexFullError. */
  insert(key: Key, location: number): boolean {
    for (;;) {
      const there = this.#resolve(key);
      if (there.location !== -1) return false;
      if (there.count > CANDIDATES_MOST) throw new IndexFullError();
      const seen = bytesOf(this.#candidates);
      const outcome = addon.indexInsertHashed(this.number, location, seen, there.count);
      if (outcome !== CHANGED) return this.outcome(outcome);
    }
  }

  compareAndSet(key: Key, expected: number, location: number): boolean {
    if (this.#resolve(key).location !== expected) return false;
    return this.outcome(addon.indexCompareAndSet(this.number, expected, location));
  }

  remove(key: Key): boolean {
    for (;;) {
      const { location } = this.#resolve(key);
      if (location === -1) return false;
      // Not there any more: another thread moved the entry (look again) or removed it (the look finds nothing).
      if (this.outcome(addon.indexRemove(this.number, location))) return true;
    }
  }

  /** Leaves the hash in the mailbox and the candidates in #candidates. */
  #resolve(key: Key): { location: number; count: number } {
    this.#hash.setBigUint64(0, this.#hashOf(key), true);
    const count = addon.indexCandidates(this.number, bytesOf(this.#candidates));
    for (let i = 0; i < Math.min(count, CANDIDATES_MOST); i++) {
      const location = this.#candidates[i] as number;
      if (this.#isAt(location, key)) return { location, count };
    }
    return { location: -1, count };
  }
}

function bytesOf(numbers: Float64Array): Uint8Array {
  return new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength);
}
