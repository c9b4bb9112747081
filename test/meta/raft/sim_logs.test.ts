/** The simulator with real logs over simulated disks: `npm run sim -- --logs` runs more. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { CommandLog, LogCorrupt } from '../../../ts/meta/log/command_log.js';
import { simulateWithLogs, type SimResult } from './sim/simulation.js';

const long = process.env['OSTRAKA_TEST_LONG'] !== undefined;

async function run(seed: number, events: number): Promise<SimResult> {
  const result = await simulateWithLogs(seed, events);
  assert.equal(result.failure, undefined, `npm run sim -- --logs --seed ${seed} --events ${events}`);
  return result;
}

describe('simulated groups with real logs', () => {
  test('stay safe, and recover, on every seed that once failed', async () => {
    for (const seed of [1076, 1114, 5171, 216_879_148, 600_004_299, 600_004_581, 600_004_615])
      await run(seed, 15_000);
    await run(610_001_277, 20_000);
  });

  test('do the same when they are run twice', async () => {
    for (let seed = 1; seed < 4; seed++) assert.equal((await run(seed, 5000)).hash, (await run(seed, 5000)).hash);
  });

  test('stay safe, and recover, on fresh seeds', async (t) => {
    const first = Date.now() % 1_000_000_000;
    const most = long ? 1000 : 60;
    const end = long ? Infinity : Date.now() + 20_000;
    const counters = new Map<string, number>();
    let seed = first;
    for (; seed < first + most && (seed < first + 8 || Date.now() < end); seed++) {
      for (const [name, count] of (await run(seed, 15_000)).counters)
        counters.set(name, (counters.get(name) ?? 0) + count);
    }
    t.diagnostic(`${seed - first} seeds from ${first}`);
    assert.ok((counters.get('restart') ?? 0) > 0 && (counters.get('settled') ?? 0) > 0);
  });
});

describe('the simulator with real logs finds', () => {
  const found = async (): Promise<boolean> => {
    for (let seed = 1; seed <= (long ? 300 : 40); seed++) {
      if ((await simulateWithLogs(seed, 10_000)).failure !== undefined) return true;
    }
    return false;
  };

  test('a log that acknowledges before it has written', async () => {
    const real = CommandLog.prototype.append;
    const going = new WeakMap<CommandLog, Promise<void>>();
    CommandLog.prototype.append = function (this: CommandLog, records): Promise<void> {
      const write = (): Promise<void> => real.call(this, records).catch(() => undefined);
      going.set(this, (going.get(this) ?? Promise.resolve()).then(write));
      return Promise.resolve();
    };
    try {
      assert.ok(await found());
    } finally {
      CommandLog.prototype.append = real;
    }
  });

  test('a damaged log that begins again instead of stopping', async () => {
    const real = CommandLog.open.bind(CommandLog);
    CommandLog.open = async (io, directory, options) => {
      try {
        return await real(io, directory, options);
      } catch (error) {
        if (!(error instanceof LogCorrupt)) throw error;
        return CommandLog.create(io, directory, 0, options);
      }
    };
    try {
      assert.ok(await found());
    } finally {
      CommandLog.open = real;
    }
  });
});
