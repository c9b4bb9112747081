import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { addon } from '../../ts/native/addon.js';
import { createIndexMemory, HashedIndex, IndexFullError, ShardIndex } from '../../ts/native/shard_index.js';
import type { IndexMemory } from '../../ts/native/shard_index.js';

const door = new URL('../../ts/native/shard_index.js', import.meta.url).href;

function idOf(number: number): Buffer {
  const id = Buffer.alloc(16);
  id.writeUInt32LE(number, 0);
  id.writeUInt32LE(number * 7, 12);
  return id;
}

test('any program of operations agrees with a Map', () => {
  const operation = fc.record({
    what: fc.constantFrom('insert', 'insert', 'remove', 'removeAt', 'set'),
    key: fc.nat(40),
    location: fc.nat(3),
  });
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 300 }), (program) => {
      const index = new ShardIndex(createIndexMemory(1000));
      const model = new Map<string, number>();
      for (const { what, key, location } of program) {
        const id = idOf(key);
        const hex = id.toString('hex');
        const known = model.get(hex);
        if (what === 'insert') {
          assert.equal(index.insert(id, location), known === undefined);
          if (known === undefined) model.set(hex, location);
        } else if (what === 'set') {
          assert.equal(index.compareAndSet(id, location, location + 1), known === location);
          if (known === location) model.set(hex, location + 1);
        } else {
          const hit = known !== undefined && (what === 'remove' || known === location);
          assert.equal(what === 'remove' ? index.remove(id) : index.remove(id, location), hit);
          if (hit) model.delete(hex);
        }
        assert.equal(index.get(id), model.get(hex) ?? -1);
      }
      const entries = [...index.entries()].map(({ id, location }) => [id.toString('hex'), location] as const);
      assert.deepEqual(new Map(entries), model);
      assert.equal(entries.length, model.size);
      assert.equal(index.length, model.size);
    }),
    { numRuns: 60 },
  );
});

test('many ids at once are found as one at a time, in any number', () => {
  const index = new ShardIndex(createIndexMemory(50_000));
  const ids = randomBytes(16 * 30_000);
  for (let i = 0; i < 20_000; i++) assert.ok(index.insert(ids.subarray(i * 16, i * 16 + 16), 2 ** 53 - 1 - i));
  for (const count of [0, 1, 63, 64, 65, 30_000]) {
    const locations = new Float64Array(count);
    assert.equal(index.getMany(ids.subarray(0, count * 16), locations), Math.min(count, 20_000));
    for (let i = 0; i < count; i++) assert.equal(locations[i], i < 20_000 ? 2 ** 53 - 1 - i : -1);
  }
  index.clear();
  assert.equal(index.length, 0);
  assert.equal(index.get(ids.subarray(0, 16)), -1);
});

test('a full index says so and keeps what it has', () => {
  const index = new ShardIndex(createIndexMemory(10));
  let inserted = 0;
  assert.throws(() => {
    for (;; inserted++) index.insert(idOf(inserted), inserted);
  }, IndexFullError);
  assert.equal(index.length, inserted);
  for (let i = 0; i < inserted; i++) assert.equal(index.get(idOf(i)), i);
});

test('keys of any length are told apart by the resolver, whatever their hashes', () => {
  const names = Array.from({ length: 4000 }, (_, i) => `object ${String(i)}`);
  // A hash of 7 bits only: every key has thirty others of the same hash.
  const hash = (key: string): bigint => BigInt(Number(key.slice(7)) % 128);
  const index = new HashedIndex<string>(createIndexMemory(20_000, 'hashed'), hash, (at, key) => names[at] === key);
  for (let i = 0; i < names.length; i++) {
    assert.equal(index.insert(names[i] as string, i), true);
    assert.equal(index.insert(names[i] as string, i), false);
  }
  assert.equal(index.get('object 4001'), -1);
  for (let i = 0; i < names.length; i += 3) assert.equal(index.remove(names[i] as string), true);
  for (let i = 0; i < names.length; i++) assert.equal(index.get(names[i] as string), i % 3 === 0 ? -1 : i);
});

test('wrong arguments are refused and nothing crashes', () => {
  const memory = createIndexMemory(100);
  const index = new ShardIndex(memory);
  const number = addon.indexAttach(new Uint8Array(memory.buffer, memory.offset), new Uint8Array(24));
  const refused = { code: 'ERR_OSTRAKA_ARGUMENT' };
  assert.throws(() => index.get(Buffer.alloc(15)), RangeError);
  assert.throws(() => index.getMany(Buffer.alloc(17), new Float64Array(1)), refused);
  assert.throws(() => index.getMany(Buffer.alloc(32), new Float64Array(1)), refused);
  for (const location of [-1, 1.5, NaN, 2 ** 53, Infinity]) {
    assert.throws(() => index.insert(idOf(1), location), refused);
  }
  for (const bad of [-1, 1e6, 'x', undefined, null, {}]) {
    assert.throws(() => addon.indexGet(bad as number), refused);
    assert.throws(() => addon.indexLength(bad as number), refused);
  }
  assert.throws(() => addon.indexAttach(new Uint8Array(4096), new Uint8Array(24)), refused);
  assert.throws(() => addon.indexAttach(new Uint8Array(memory.buffer, memory.offset), new Uint8Array(23)), refused);
  assert.throws(() => addon.indexIterate(number, 0n, new Uint8Array(16), new Uint8Array(16)), refused);
  assert.throws(() => createIndexMemory(0), refused);
});

test('an index that nothing can reach any more lets its memory go, and nothing else', { timeout: 60_000 }, async () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const kept: ShardIndex[] = [];
  const memories = Array.from({ length: 40 }, (_, i) => {
    const memory = createIndexMemory(1000);
    const index = new ShardIndex(memory);
    index.insert(idOf(i), i);
    if (i % 4 === 0) kept.push(index);
    return new WeakRef(memory.buffer);
  });
  const held = (): number => memories.filter((memory) => memory.deref() !== undefined).length;
  // The index first, and what it was attached to after that. The test's own time limit ends this if it never is.
  while (held() > kept.length) {
    await sleep(1);
    collect();
  }
  for (const [i, index] of kept.entries()) assert.equal(index.get(idOf(4 * i)), 4 * i);
  // Numbers are given out again: to one index each.
  const more = Array.from({ length: 40 }, () => new ShardIndex(createIndexMemory(1000)));
  for (const [i, index] of more.entries()) index.insert(idOf(i), 1000 + i);
  for (const [i, index] of more.entries()) assert.equal(index.get(idOf(i)), 1000 + i);
  for (const [i, index] of kept.entries()) assert.equal(index.get(idOf(4 * i)), 4 * i);
});

test('of a detached index nothing can be asked', () => {
  const memory = createIndexMemory(100);
  const attach = (): number => {
    return addon.indexAttach(new Uint8Array(memory.buffer, memory.offset), new Uint8Array(24));
  };
  const [first, second] = [attach(), attach()];
  const refused = { code: 'ERR_OSTRAKA_ARGUMENT' };
  addon.indexDetach(first);
  for (const ask of [addon.indexGet, addon.indexRemove, addon.indexLength, addon.indexClear, addon.indexDetach]) {
    assert.throws(() => { ask(first); }, refused);
  }
  assert.equal(attach(), first);
  assert.equal(addon.indexInsert(second, 7), 0);
  assert.equal(addon.indexLength(first), 1);
});

function inWorker(memory: IndexMemory, body: string): Worker {
  const source = `
    const { parentPort, workerData } = require('node:worker_threads');
    (async () => {
      const { ShardIndex } = await import(${JSON.stringify(door)});
      const index = new ShardIndex(workerData);
      const idOf = (number) => {
        const id = Buffer.alloc(16);
        id.writeUInt32LE(number, 0);
        id.writeUInt32LE(number * 7, 12);
        return id;
      };
      ${body}
    })();`;
  return new Worker(source, { eval: true, workerData: memory });
}

test('a thread that slept while the table grew reads it right', async () => {
  const memory = createIndexMemory(200_000);
  const index = new ShardIndex(memory);
  for (let i = 0; i < 100; i++) index.insert(idOf(i), i);
  const worker = inWorker(
    memory,
    `parentPort.on('message', (count) => {
       let wrong = 0;
       for (let i = 0; i < count; i++) if (index.get(idOf(i)) !== i) wrong++;
       if (index.get(idOf(count)) !== -1) wrong++;
       parentPort.postMessage({ wrong, length: index.length });
     });
     parentPort.postMessage('attached');`,
  );
  await once(worker, 'message');
  for (let i = 100; i < 100_000; i++) index.insert(idOf(i), i);
  assert.ok(index.statistics().splits > 10);
  worker.postMessage(100_000);
  const [answer] = (await once(worker, 'message')) as [unknown];
  assert.deepEqual(answer, { wrong: 0, length: 100_000 });
  await worker.terminate();
});

test('workers stopped at random points leave nothing locked and nothing half written', async () => {
  const memory = createIndexMemory(100_000);
  const index = new ShardIndex(memory);
  for (let round = 0; round < 6; round++) {
    const workers = [0, 1, 2].map((seed) =>
      inWorker(
        memory,
        `parentPort.postMessage('running');
         for (let i = ${String(seed)}; ; i = (i * 48271 + 11) % 30011) {
           if (!index.insert(idOf(i), i)) index.remove(idOf(i));
           const at = index.get(idOf(i + 1));
           if (at !== -1 && at !== i + 1) throw new Error('wrong location');
         }`,
      ),
    );
    const failed: unknown[] = [];
    for (const worker of workers) worker.on('error', (error) => failed.push(error));
    await Promise.all(workers.map((worker) => once(worker, 'message')));
    await sleep(5 + round * 7);
    await Promise.all(workers.map((worker) => worker.terminate()));
    assert.deepEqual(failed, []);
    let found = 0;
    for (const { id, location } of index.entries()) {
      assert.ok(id.equals(idOf(location)));
      assert.equal(index.get(id), location);
      assert.equal(index.compareAndSet(id, location, location), true);
      found++;
    }
    assert.equal(index.length, found);
  }
});
