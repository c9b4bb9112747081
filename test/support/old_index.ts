/**
 * The index that native/index is to be better than, as a model with its weaknesses: 64 shards of linear probing,
 * shard and slot both taken from the low bits of a 64-bit hash, colliding hashes promoted to an overflow area, growth
 * of a shard under its lock. Tests run their programs on it to show that they would notice.
 *
 * Operations are generators: they yield wherever another thread may come between, so that a schedule is a list of
 * choices and any race can be played again. What happens between two yields is what the original does under the lock
 * of one slot, with the re-check that it does there.
 */
export interface OldKey {
  readonly hash: bigint;
  readonly name: string;
}

interface Slot {
  state: 'empty' | 'live' | 'tombstone' | 'overflow';
  hash: bigint;
  location: number;
  /** Only to fill the overflow area at a promotion: gets and removes do not look at it. */
  key: OldKey | undefined;
}

interface Shard {
  slots: Slot[];
  growing: boolean;
}

export type Steps<Result> = Generator<void, Result>;

const SHARDS = 64n;

/** Thrown where the original would go round for ever. */
export class EndlessProbe extends Error {}

export class OldIndex {
  readonly #shards: Shard[];
  readonly #overflow: { key: OldKey; location: number }[] = [];
  probesMost = 0;

  constructor(slotsPerShard = 16) {
    this.#shards = Array.from({ length: Number(SHARDS) }, () => ({ slots: emptySlots(slotsPerShard), growing: false }));
  }

  get slots(): number {
    return this.#shards.reduce((sum, shard) => sum + shard.slots.length, 0);
  }

  get overflowMarkers(): number {
    return this.#shards.reduce((sum, { slots }) => sum + slots.filter(({ state }) => state === 'overflow').length, 0);
  }

  *get(key: OldKey): Steps<number> {
    const { slot } = yield* this.#find(key);
    if (slot?.state === 'overflow') return this.#overflow.find((one) => one.key.name === key.name)?.location ?? -1;
    return slot?.location ?? -1;
  }

  *insert(key: OldKey, location: number): Steps<boolean> {
    for (;;) {
      yield* this.#growWhenFull();
      const { slot, free } = yield* this.#find(key);
      if (slot === undefined) {
        if (free === undefined) throw new EndlessProbe();
        yield;
        if (free.state === 'live' || free.state === 'overflow') continue;
        Object.assign(free, { state: 'live', hash: key.hash, location, key });
        return true;
      }
      if (slot.state === 'live') {
        if (slot.key?.name === key.name) return false;
        if (slot.key !== undefined) this.#overflow.push({ key: slot.key, location: slot.location });
        yield;
        // Who lost the promotion leaves what it had put there.
        if (slot.state === 'live') slot.state = 'overflow';
      }
      yield;
      if (this.#overflow.some((one) => one.key.name === key.name)) return false;
      this.#overflow.push({ key, location });
      return true;
    }
  }

  *compareAndSet(key: OldKey, expected: number, location: number): Steps<boolean> {
    const { slot } = yield* this.#find(key);
    const at = slot?.state === 'overflow' ? this.#overflow.find((one) => one.key.name === key.name) : slot;
    if (at?.location !== expected) return false;
    at.location = location;
    return true;
  }

  *remove(key: OldKey): Steps<boolean> {
    const { slot } = yield* this.#find(key);
    if (slot === undefined) return false;
    if (slot.state === 'overflow') {
      const at = this.#overflow.findIndex((one) => one.key.name === key.name);
      if (at !== -1) this.#overflow.splice(at, 1);
      return at !== -1;
    }
    yield;
    if (slot.state !== 'live' || slot.hash !== key.hash) return false;
    slot.state = 'tombstone';
    return true;
  }

  #shardOf(key: OldKey): Shard {
    return this.#shards[Number(key.hash % SHARDS)] as Shard;
  }

  /** The slot with this hash, and the first that an insert would take. */
  *#find(key: OldKey): Steps<{ slot?: Slot; free: Slot | undefined }> {
    const shard = this.#shardOf(key);
    while (shard.growing) yield;
    const size = shard.slots.length;
    let free: Slot | undefined;
    for (let step = 0; step < size; step++) {
      const slot = shard.slots[(Number(key.hash % BigInt(size)) + step) % size] as Slot;
      this.probesMost = Math.max(this.probesMost, step + 1);
      if (slot.state === 'empty') return { free: free ?? slot };
      if (slot.state === 'tombstone') free ??= slot;
      else if (slot.hash === key.hash) return { slot, free };
      yield;
    }
    if (free === undefined) throw new EndlessProbe();
    return { free };
  }

  /** Grows a shard when the whole table is three quarters full, tombstones counted. */
  *#growWhenFull(): Steps<void> {
    const used = this.#shards.reduce(
      (sum, { slots }) => sum + slots.filter(({ state }) => state !== 'empty').length,
      0,
    );
    if (used * 4 < this.slots * 3) return;
    for (const shard of this.#shards) {
      shard.growing = true;
      yield;
      const old = shard.slots;
      shard.slots = emptySlots(old.length * 2);
      for (const slot of old) {
        if (slot.state !== 'live' && slot.state !== 'overflow') continue;
        let at = Number(slot.hash % BigInt(shard.slots.length));
        while (shard.slots[at]?.state !== 'empty') at = (at + 1) % shard.slots.length;
        shard.slots[at] = slot;
      }
      shard.growing = false;
    }
  }
}

function emptySlots(count: number): Slot[] {
  return Array.from({ length: count }, () => ({ state: 'empty', hash: 0n, location: 0, key: undefined }));
}

/** Runs an operation that nobody disturbs; one that does not end in a million steps never does. */
export function alone<Result>(steps: Steps<Result>): Result {
  for (let i = 0; i < 1_000_000; i++) {
    const { done, value } = steps.next();
    if (done === true) return value;
  }
  throw new EndlessProbe();
}
