/**
 * The simulator over many seeds, and over known bugs that it has to find. `npm run sim` runs more of both.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { mutants } from './sim/mutants.js';
import { simulate } from './sim/simulation.js';

const long = process.env['OSTRAKA_TEST_LONG'] !== undefined;

/** Seeds that once failed, for whatever reason: [seed, events]. */
const failedOnce: readonly (readonly [number, number])[] = [
  [1, 5000],
  [6, 5000],
  [49, 5000],
  [75, 10_000],
  [198, 20_000],
  [10_001_845, 20_000],
  [20_000_225, 20_000],
  [30_000_567, 20_000],
  [30_002_307, 20_000],
  [7114, 20_000],
  [210_366_223, 20_000],
  [500_001_837, 20_000],
];

function run(seed: number, events: number): ReturnType<typeof simulate> {
  const result = simulate(seed, events);
  assert.equal(result.failure, undefined, `npm run sim -- --seed ${seed} --events ${events}`);
  return result;
}

describe('simulated groups', () => {
  test('stay safe, and recover, on every seed that once failed', () => {
    for (const [seed, events] of failedOnce) run(seed, events);
  });

  test('do the same when they are run twice', () => {
    for (let seed = 1000; seed < 1010; seed++) assert.equal(run(seed, 5000).hash, run(seed, 5000).hash);
  });

  test('stay safe, and recover, on fresh seeds', (t) => {
    const first = Date.now() % 1_000_000_000;
    const most = long ? 3000 : 300;
    // A slow machine runs fewer, so that the tests stay within their time.
    const end = long ? Infinity : Date.now() + 60_000;
    const counters = new Map<string, number>();
    let seed = first;
    for (; seed < first + most && (seed < first + 20 || Date.now() < end); seed++) {
      for (const [name, count] of run(seed, 20_000).counters)
        counters.set(name, (counters.get(name) ?? 0) + count);
    }
    t.diagnostic(`${seed - first} seeds from ${first}`);
    // The run was worth something: all this happened.
    for (const name of [
      'leader',
      'restart',
      'power loss',
      'pause',
      'partition',
      'transfer',
      'snapshot sent',
    ]) {
      assert.ok((counters.get(name) ?? 0) > 0, name);
    }
    for (const name of ['membership change', 'joint configuration', 'history checked']) {
      assert.ok((counters.get(name) ?? 0) > 0, name);
    }
  });
});

describe('the simulator finds', () => {
  for (const mutant of mutants) {
    test(mutant.name, () => {
      const first = mutant.seed ?? 1;
      const seeds = long ? 1000 : 100;
      const events = mutant.seed === undefined ? 10_000 : 20_000;
      const undo = mutant.apply();
      try {
        for (let seed = first; seed < first + seeds; seed++) {
          if (simulate(seed, events, mutant.adjust).failure !== undefined) return;
        }
      } finally {
        undo();
      }
      assert.fail(`not found within ${seeds} seeds`);
    });
  }
});
