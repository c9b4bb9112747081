/**
 * What threads see of the shard index, through growth and over used tombstones, is linearizable.
 *
 * That this test can fail was seen by breaking the index: an insert that searches before it takes the lock
 * (native/index/write.cc) and a remove of the hashed form that gives up when the entry has moved are found within a few
 * rounds, as is a writer that does not look at the directory once it has the lock; a get that does not look at it
 * again afterwards (read.cc) in the long form. The last test shows it on a model of the old design.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { createIndexMemory, HashedIndex, ShardIndex } from '../../ts/native/shard_index.js';
import type { IndexStatistics } from '../../ts/native/shard_index.js';
import { check, drawProgram, interleave } from '../support/index_histories.js';
import type { History, Step } from '../support/index_histories.js';
import { OldIndex } from '../support/old_index.js';
import type { HistoryWork } from './index_history_worker.js';

const THREADS = 3;
const LENGTH = 4000;
const KEYS = 3;
const ROUNDS = process.env.OSTRAKA_TEST_LONG === undefined ? 4 : 60;

const firstSeed = Number(process.env.OSTRAKA_SEED ?? Date.now() % 1_000_000);

async function record(
  seed: number,
  form: 'ids' | 'hashed',
): Promise<{ history: History; statistics: IndexStatistics }> {
  const memory = createIndexMemory(200_000, form);
  const shared = new Int32Array(new SharedArrayBuffer(8));
  const workers = drawProgram(seed, THREADS, LENGTH, KEYS).map((steps, thread) => {
    const workerData: HistoryWork = { memory, form, shared, threads: THREADS, thread, steps, fillers: 200 };
    return new Worker(new URL('./index_history_worker.js', import.meta.url), { workerData });
  });
  const seen = (await Promise.all(workers.map((worker) => once(worker, 'message')))) as [
    { history: History; wrong: number },
  ][];
  assert.ok(
    seen.every(([{ wrong }]) => wrong === 0),
    `a thread saw its own entries wrong, seed ${String(seed)}`,
  );
  const index =
    form === 'ids' ? new ShardIndex(memory) : new HashedIndex<number>(memory, BigInt, () => false);
  return { history: seen.flatMap(([{ history }]) => history), statistics: index.statistics() };
}

for (const form of ['ids', 'hashed'] as const) {
  test(`histories of threads on an index of ${form}, recorded while it grows, are linearizable`, async (t) => {
    t.diagnostic(`OSTRAKA_SEED=${String(firstSeed)}`);
    for (let round = 0; round < ROUNDS; round++) {
      const { history, statistics } = await record(firstSeed + round, form);
      assert.equal(history.length, THREADS * LENGTH);
      assert.ok(statistics.splits + statistics.enlargements > 5, 'the table grew meanwhile');
      const { verdict, key } = check(history);
      assert.equal(verdict, 'linearizable', `key ${String(key)}, seed ${String(firstSeed + round)}`);
    }
  });
}

/** Keys that share one shard of the old design, next to each other; with `sameHash` they collide. */
function onOldIndex(seed: number, sameHash: boolean): History {
  const index = new OldIndex();
  const program = drawProgram(seed, THREADS, 12, KEYS);
  return interleave(program, seed, function* ({ what, key, location, expected }: Step) {
    const at = { hash: sameHash ? 64n : 64n * BigInt(1 + (key % 2)) + 1024n * BigInt(key), name: String(key) };
    if (what === 'get') return yield* index.get(at);
    if (what === 'insert') return Number(yield* index.insert(at, location));
    if (what === 'set') return Number(yield* index.compareAndSet(at, expected, location));
    return Number(yield* index.remove(at));
  });
}

test('the same programs, stepped through on the old design, are found not to be linearizable', () => {
  for (const sameHash of [false, true]) {
    let refused = 0;
    for (let seed = 1; seed <= 200; seed++) {
      if (check(onOldIndex(seed, sameHash)).verdict === 'not-linearizable') refused++;
    }
    assert.ok(refused > 0, sameHash ? 'colliding keys' : 'keys on one probe path');
  }
});
