/**
 * The known weaknesses of the design that native/index started from, one test each: a program that the index carries
 * out well, and a model of the old design (test/support/old_index.ts) does not.
 *
 * Where it takes a certain order of the steps of several threads, the model alone is here: the same orders are forced
 * on the real index in test/native/cc/index_interleavings_test.cc, where threads can be stopped between any two steps.
 * Races of real threads, as they come, are in index_histories.test.ts.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createIndexMemory, HashedIndex } from '../../ts/native/shard_index.js';
import { check, interleave } from '../support/index_histories.js';
import type { History, Step } from '../support/index_histories.js';
import { alone, EndlessProbe, OldIndex } from '../support/old_index.js';
import type { OldKey } from '../support/old_index.js';

/** Keys whose hashes a test chooses; a location is the number of a key. */
interface Table {
  get(key: OldKey): number;
  insert(key: OldKey, location: number): boolean;
  remove(key: OldKey): boolean;
  slots(): number;
  probesMost(): number;
  /** Slots that say that keys collide. */
  collisions(): number;
}

function realTable(): Table {
  const names: string[] = [];
  const index = new HashedIndex<OldKey>(
    createIndexMemory(100_000, 'hashed'),
    ({ hash }) => hash,
    (location, { name }) => names[location] === name,
  );
  return {
    get: (key) => index.get(key),
    insert: (key, location) => {
      names[location] = key.name;
      return index.insert(key, location);
    },
    remove: (key) => index.remove(key),
    slots: () => index.statistics().slots,
    probesMost: () => index.statistics().probesMost,
    collisions: () => Math.max(0, index.statistics().sameHashMost - 1),
  };
}

function oldTable(slotsPerShard: number): Table {
  const index = new OldIndex(slotsPerShard);
  return {
    get: (key) => alone(index.get(key)),
    insert: (key, location) => alone(index.insert(key, location)),
    remove: (key) => alone(index.remove(key)),
    slots: () => index.slots,
    probesMost: () => index.probesMost,
    collisions: () => index.overflowMarkers,
  };
}

function keyOf(number: number, hash: bigint): OldKey {
  return { hash: BigInt.asUintN(64, hash), name: `key ${String(number)}` };
}

/** Mixes all bits of a number, for ids that look random. */
function spread(number: number): bigint {
  return BigInt.asUintN(64, BigInt(number + 1) * 0x9e3779b97f4a7c15n) ^ (BigInt(number) << 7n);
}

function both(name: string, slotsPerShard: number, program: (table: Table) => void): void {
  test(name, () => {
    program(realTable());
    assert.throws(() => { program(oldTable(slotsPerShard)); }, /./, 'the old design passes: this tests nothing');
  });
}

both('keys whose low hash bits all agree spread over the whole table', 512, (table) => {
  for (let i = 0; i < 400; i++) assert.ok(table.insert(keyOf(i, BigInt(i) << 32n), i));
  for (let i = 0; i < 400; i++) assert.equal(table.get(keyOf(i, BigInt(i) << 32n)), i);
  assert.ok(table.probesMost() < 64, `a probe looked at ${String(table.probesMost())} slots`);
});

both('a different key with the same 64-bit hash is not found, and not removed', 64, (table) => {
  assert.ok(table.insert(keyOf(1, 99n), 1));
  assert.equal(table.get(keyOf(2, 99n)), -1);
  assert.equal(table.remove(keyOf(2, 99n)), false);
  assert.equal(table.get(keyOf(1, 99n)), 1);
});

both('a probe path that is full ends, however low the load is', 16, (table) => {
  const key = (number: number): OldKey => keyOf(number, BigInt(number) << 16n);
  for (let i = 0; i < 200; i++) assert.ok(table.insert(key(i), i));
  for (let i = 0; i < 200; i++) assert.equal(table.get(key(i)), i);
  assert.equal(table.get(key(1000)), -1);
});

both('what colliding keys needed is given back when they go', 64, (table) => {
  for (let i = 0; i < 50; i++) {
    for (let j = 0; j < 3; j++) assert.ok(table.insert(keyOf(i * 3 + j, spread(i)), i * 3 + j));
  }
  assert.ok(table.collisions() > 0);
  for (let i = 0; i < 50; i++) {
    for (let j = 0; j < 3; j++) assert.ok(table.remove(keyOf(i * 3 + j, spread(i))));
  }
  assert.equal(table.collisions(), 0);
});

both('deleting and inserting at full load does not double the table', 256, (table) => {
  const key = (number: number): OldKey => keyOf(number, spread(number));
  const live = 12_200;
  for (let i = 0; i < live; i++) assert.ok(table.insert(key(i), i));
  const before = table.slots();
  for (let i = live; i < 30_000; i++) {
    assert.ok(table.remove(key(i - live)));
    assert.ok(table.insert(key(i), i));
  }
  assert.ok(table.slots() < 2 * before, `${String(before)} slots became ${String(table.slots())}`);
  for (let i = 30_000 - live; i < 30_000; i++) assert.equal(table.get(key(i)), i);
});

/** Whether some order of the steps of these programs, one for each thread, goes wrong on the old design. */
function oldDesignFails(
  hashes: readonly bigint[],
  programs: readonly (readonly Step[])[],
  first: readonly Step[],
): boolean {
  const key = ({ key: number }: Step): OldKey => keyOf(number, hashes[number] ?? 0n);
  for (let seed = 1; seed <= 500; seed++) {
    const index = new OldIndex();
    const carryOut = function* (step: Step): Generator<void, number> {
      if (step.what === 'get') return yield* index.get(key(step));
      if (step.what === 'insert') return Number(yield* index.insert(key(step), step.location));
      return Number(yield* index.remove(key(step)));
    };
    const before = interleave([first], 1, carryOut);
    const clock = before.length * 2;
    const during = interleave(programs, seed, carryOut);
    const after = interleave([hashes.map((_, number) => step('get', number))], 1, carryOut);
    const later = (history: History, by: number): History =>
      history.map((one) => ({ ...one, call: one.call + by, return: one.return + by }));
    if (check([...before, ...later(during, clock), ...later(after, clock + 1000)]).verdict !== 'linearizable')
      return true;
  }
  return false;
}

function step(what: Step['what'], key: number, location = 0): Step {
  return { what, key, location, expected: 0 };
}

test('two writers past different tombstones: in some order of their steps the old design holds the key twice', () => {
  // Keys 0 and 1 stand on the path of key 2; both go while two threads insert it and one removes it again.
  const hashes = [64n, 64n + 1024n, 64n + 2048n];
  const first = [step('insert', 0), step('insert', 1), step('remove', 1)];
  const programs = [[step('remove', 0)], [step('insert', 2, 1), step('remove', 2)], [step('insert', 2, 2)]];
  assert.ok(oldDesignFails(hashes, programs, first));
});

test('two writers that make one hash collide at once: the old design keeps a second truth of the key before', () => {
  const hashes = [77n, 77n, 77n];
  const programs = [[step('insert', 1, 1)], [step('insert', 2, 2)], [step('remove', 0)]];
  assert.ok(oldDesignFails(hashes, programs, [step('insert', 0, 3)]));
});

test('a reader of the old design waits for a growth to end', () => {
  const index = new OldIndex(2);
  const key = (number: number): OldKey => keyOf(number, BigInt(number % 64));
  let writer: Generator<void, boolean> | undefined;
  for (let i = 0; i < 200 && writer === undefined; i++) {
    const insert = index.insert({ hash: BigInt(i), name: String(i) }, i);
    // Stopped at its first step when that is one of a growth: then a reader of shard 0 gets nowhere.
    if (i >= 96) {
      insert.next();
      writer = insert;
    } else {
      alone(insert);
    }
  }
  assert.throws(() => alone(index.get(key(0))), EndlessProbe);
});
