/**
 * npm run sim -- [--seeds N] [--events M] [--seed S] [--minutes N] [--mutants] [--twice]
 *
 *   --seeds N     run N seeds, from --seed on (default 100)
 *   --events M    events of the safety phase of each (default 20,000)
 *   --seed S      the first seed; alone, just this one (default: drawn from the clock)
 *   --minutes N   run fresh seeds for so long
 *   --mutants     bring back known bugs one by one, and say within how many seeds each is found
 *   --only TEXT   of the mutants, only those whose name holds this text
 *   --logs        the nodes' logs are real ones, over simulated disks that tear, lose, flip and fail
 *   --twice       run every seed twice and compare the hashes of the runs (otherwise one in twenty)
 *
 * A failing seed prints what failed and the command that repeats it. Ends with a line of totals; exit code 1
 * on any failure.
 */
import { parseArgs } from 'node:util';
import { mutants, type Mutant } from './mutants.js';
import { simulate, simulateWithLogs, type SimResult } from './simulation.js';

const { values: given } = parseArgs({
  options: {
    seeds: { type: 'string' },
    events: { type: 'string' },
    seed: { type: 'string' },
    minutes: { type: 'string' },
    mutants: { type: 'boolean', default: false },
    only: { type: 'string' },
    twice: { type: 'boolean', default: false },
    logs: { type: 'boolean', default: false },
  },
});

function number(text: string | undefined, otherwise: number): number {
  if (text === undefined) return otherwise;
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0) throw new Error(`not a whole number: ${text}`);
  return value;
}

const events = number(given.events, 20_000);
const first = number(given.seed, Date.now() % 1_000_000_000);
const minutes = given.minutes === undefined ? undefined : number(given.minutes, 0);
const onlyOne = given.seed !== undefined && given.seeds === undefined && minutes === undefined;
const seeds = onlyOne ? 1 : number(given.seeds, minutes === undefined ? 100 : Infinity);

/** Runs a seed; now and then twice, to see that it does the same. */
async function run(seed: number): Promise<SimResult> {
  const one = given.logs ? simulateWithLogs : simulate;
  const result = await one(seed, events);
  if (result.failure !== undefined || !(given.twice || onlyOne || seed % 20 === 0)) return result;
  const again = await one(seed, events);
  if (again.hash === result.hash) return result;
  return {
    ...result,
    failure: `two runs differ: ${result.hash} and ${again.hash}`,
    invariant: 'Determinism',
  };
}

async function search(): Promise<number> {
  const counters = new Map<string, number>();
  const started = Date.now();
  let total = 0;
  let failed = 0;
  let done = 0;
  for (; done < seeds; done++) {
    if (minutes !== undefined && Date.now() - started > minutes * 60_000) break;
    const result = await run(first + done);
    total += result.events;
    for (const [name, count] of result.counters) counters.set(name, (counters.get(name) ?? 0) + count);
    if (result.failure === undefined) continue;
    failed++;
    console.log(`seed ${result.seed} failed after ${result.events} events:\n${result.failure}`);
    console.log(`again: npm run sim -- --seed ${result.seed} --events ${events}${given.logs ? ' --logs' : ''}\n`);
  }
  const seconds = (Date.now() - started) / 1000;
  const seen = [...counters]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, count]) => `  ${name}: ${count}`);
  console.log(`seen:\n${seen.join('\n')}`);
  const speed = `${seconds.toFixed(1)} s (${Math.round(total / seconds)}/s)`;
  console.log(`${done} seeds from ${first}, ${total} events in ${speed}, ${failed} failed`);
  return failed;
}

function hunt(mutant: Mutant): boolean {
  const undo = mutant.apply();
  try {
    const most = given.seeds === undefined ? 300 : seeds;
    const from = given.seed === undefined ? 1 : first;
    for (let i = 0; i < most; i++) {
      const result = simulate(from + i, events, mutant.adjust);
      if (result.failure === undefined) continue;
      console.log(`killed    ${mutant.name}: within ${i + 1} seeds, by ${result.invariant}`);
      return true;
    }
    console.log(`SURVIVED  ${mutant.name}: ${most} seeds`);
    return false;
  } finally {
    undo();
  }
}

if (given.mutants) {
  const hunted = mutants.filter((mutant) => mutant.name.includes(given.only ?? ''));
  const killed = hunted.filter(hunt).length;
  console.log(`${killed} of ${hunted.length} mutants killed`);
  process.exitCode = killed === hunted.length ? 0 : 1;
} else {
  process.exitCode = (await search()) === 0 ? 0 : 1;
}
