/**
 * Histories of concurrent operations on an index of locations, and what they are checked against: for each key a
 * register that is absent or holds a location.
 *
 * A program is drawn from a seed: for each thread a list of operations on a few keys. Threads of their own carry it out
 * on the real index (test/native/index_histories.test.ts); `interleave` carries it out on a model made of steps, in an
 * order that another seed gives.
 */
import { seededRandom } from '../../ts/util/random.js';
import { checkByKey } from './linearizability.js';
import type { Model, Operation, Verdict } from './linearizability.js';
import type { Steps } from './old_index.js';

export interface Step {
  readonly what: 'get' | 'insert' | 'set' | 'remove';
  readonly key: number;
  /** insert: the location; set: the new one. */
  readonly location: number;
  /** set: the location it must be at. Small numbers, so that some of them are. */
  readonly expected: number;
}

/** get: the location or -1; the others: 1 when done, 0 when refused. */
export type History = Operation<Step, number>[];

export const LOCATIONS = 4;

export function drawProgram(seed: number, threads: number, length: number, keys: number): Step[][] {
  const random = seededRandom(seed);
  const below = (limit: number): number => Math.floor(random() * limit);
  const whats = ['get', 'get', 'insert', 'insert', 'set', 'remove', 'remove'] as const;
  return Array.from({ length: threads }, () =>
    Array.from({ length }, () => ({
      what: whats[below(whats.length)] ?? 'get',
      key: below(keys),
      location: below(LOCATIONS),
      expected: below(LOCATIONS),
    })),
  );
}

const register: Model<number, Step, number> = {
  initial: -1,
  step(state, { what, location, expected }, output) {
    if (what === 'get') return output === state ? state : undefined;
    const done = what === 'insert' ? state === -1 : what === 'set' ? state === expected : state !== -1;
    if (done !== (output === 1)) return undefined;
    if (!done) return state;
    return what === 'remove' ? -1 : location;
  },
};

export function check(history: History): Verdict & { readonly key: string | undefined } {
  return checkByKey(register, history, ({ key }) => String(key));
}

/** Carries a program out on a table whose operations are made of steps. */
export function interleave(
  program: readonly (readonly Step[])[],
  seed: number,
  start: (step: Step) => Steps<number>,
): History {
  const random = seededRandom(seed);
  const history: History = [];
  const threads = program.map((steps) => ({
    steps,
    at: 0,
    call: 0,
    running: undefined as Steps<number> | undefined,
  }));
  let clock = 0;
  for (;;) {
    const left = threads.filter(({ steps, at }) => at < steps.length);
    const thread = left[Math.floor(random() * left.length)];
    if (thread === undefined) return history;
    const input = thread.steps[thread.at] as Step;
    if (thread.running === undefined) {
      thread.running = start(input);
      thread.call = clock++;
    }
    const { done, value } = thread.running.next();
    if (done !== true) continue;
    history.push({ call: thread.call, return: clock++, input, output: value });
    thread.running = undefined;
    thread.at++;
  }
}
