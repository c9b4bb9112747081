import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { checkByKey, checkLinearizable, type Model, type Operation } from './linearizability.js';

const data = resolve(fileURLToPath(new URL('../../../', import.meta.url)), '../shared/linearizability');

// ---- a register with compare-and-set, as Jepsen records it

interface RegisterInput {
  readonly op: 'read' | 'write' | 'cas';
  readonly a: number;
  readonly b: number;
}
type RegisterOutput = 'unknown' | { readonly ok: boolean; readonly value: number };
type RegisterOperation = Operation<RegisterInput, RegisterOutput>;

const NIL = -1;

const register: Model<number, RegisterInput, RegisterOutput> = {
  initial: NIL,
  step(state, { op, a, b }, output) {
    switch (op) {
      case 'read':
        return output === 'unknown' || output.value === state ? state : undefined;
      case 'write':
        return a;
      case 'cas':
        if (output !== 'unknown' && output.ok !== (state === a)) return undefined;
        return state === a ? b : state;
    }
  },
};

const number = (text: string): number => (text === 'nil' ? NIL : Number(text));

function readJepsen(file: string): RegisterOperation[] {
  const open = new Map<string, { input: RegisterInput; call: number }>();
  const history: RegisterOperation[] = [];
  for (const [time, line] of readFileSync(file, 'utf8').split('\n').entries()) {
    const match = /^INFO\s+jepsen\.util - (\d+)\s+:(\w+)\s+:(\w+)\s+(.*)$/.exec(line);
    if (match === null) continue;
    const [, process = '', kind = '', op = '', value = ''] = match;
    const pair = /\[(\d+) (\d+)\]/.exec(value);
    if (kind === 'invoke') {
      const [a, b] = pair === null ? [number(value), NIL] : [Number(pair[1]), Number(pair[2])];
      assert.ok(op === 'read' || op === 'write' || op === 'cas');
      open.set(process, { input: { op, a, b }, call: time });
      continue;
    }
    const started = open.get(process);
    assert.ok(started !== undefined);
    open.delete(process);
    // A read that failed says nothing; a compare-and-set that failed compared.
    if (kind === 'fail' && op !== 'cas') continue;
    if (kind === 'info') history.push({ ...started, return: Infinity, output: 'unknown' });
    else history.push({ ...started, return: time, output: { ok: kind === 'ok', value: number(value) } });
  }
  for (const started of open.values()) history.push({ ...started, return: Infinity, output: 'unknown' });
  return history;
}

// ---- strings under keys

interface KvInput {
  readonly op: 'get' | 'put' | 'append';
  readonly key: string;
  readonly value: string;
}

const kv: Model<string, KvInput, string> = {
  initial: '',
  step(state, { op, value }, output) {
    if (op === 'get') return output === state ? state : undefined;
    return op === 'put' ? value : state + value;
  },
};

function readKv(file: string): Operation<KvInput, string>[] {
  const open = new Map<string, { input: KvInput; call: number }>();
  const history: Operation<KvInput, string>[] = [];
  for (const [time, line] of readFileSync(file, 'utf8').split('\n').entries()) {
    const match = /:process (\d+), :type :(\w+), :f :(\w+), :key "(.*)", :value (nil|"(.*)")}/.exec(line);
    if (match === null) continue;
    const [, process = '', kind = '', op = '', key = '', , value = ''] = match;
    assert.ok(op === 'get' || op === 'put' || op === 'append');
    if (kind === 'invoke') {
      open.set(process, { input: { op, key, value }, call: time });
      continue;
    }
    const started = open.get(process);
    assert.ok(started !== undefined);
    open.delete(process);
    history.push({ ...started, return: time, output: value });
  }
  return history;
}

describe('linearizability checker', () => {
  const skip = existsSync(data) ? false : `${data} is not present`;

  test('agrees with the verdicts on register histories recorded by Jepsen', { skip }, () => {
    const verdicts = JSON.parse(readFileSync(join(data, 'verdicts.json'), 'utf8')) as Record<string, boolean>;
    const names = Object.keys(verdicts);
    assert.ok(names.length > 0);
    for (const name of names) {
      const { verdict } = checkLinearizable(register, readJepsen(join(data, 'jepsen', name)));
      assert.equal(verdict, verdicts[name] === true ? 'linearizable' : 'not-linearizable', name);
    }
  });

  test('agrees with the verdicts on key-value histories', { skip }, () => {
    const names = readdirSync(join(data, 'kv'));
    assert.ok(names.length > 0);
    for (const name of names) {
      const { verdict } = checkByKey(kv, readKv(join(data, 'kv', name)), (input) => input.key);
      assert.equal(verdict, name.includes('-ok') ? 'linearizable' : 'not-linearizable', name);
    }
  });

  const write = (call: number, end: number, a: number): RegisterOperation => ({
    call,
    return: end,
    input: { op: 'write', a, b: NIL },
    output: end === Infinity ? 'unknown' : { ok: true, value: a },
  });
  const read = (call: number, end: number, value: number): RegisterOperation => ({
    call,
    return: end,
    input: { op: 'read', a: NIL, b: NIL },
    output: { ok: true, value },
  });
  const verdictOf = (...history: RegisterOperation[]): string => checkLinearizable(register, history).verdict;

  test('allows a read between the old and the new value only while the write runs', () => {
    assert.equal(verdictOf(write(0, 1, 1), write(2, 5, 2), read(3, 4, 1)), 'linearizable');
    assert.equal(verdictOf(write(0, 1, 1), write(2, 5, 2), read(3, 4, 2)), 'linearizable');
    assert.equal(verdictOf(write(0, 1, 1), write(2, 5, 2), read(6, 7, 1)), 'not-linearizable');
    assert.equal(verdictOf(write(0, 1, 1), write(2, 9, 2), read(3, 4, 2), read(5, 6, 1)), 'not-linearizable');
  });

  test('counts intervals that touch as concurrent', () => {
    assert.equal(verdictOf(write(0, 1, 1), write(2, 3, 2), read(3, 4, 1)), 'linearizable');
  });

  test('lets a write of unknown outcome happen late or never', () => {
    assert.equal(verdictOf(write(0, 1, 1), write(2, Infinity, 2), read(3, 4, 1)), 'linearizable');
    assert.equal(
      verdictOf(write(0, 1, 1), write(2, Infinity, 2), read(3, 4, 1), read(5, 6, 2)),
      'linearizable',
    );
    assert.equal(
      verdictOf(write(0, 1, 1), write(2, Infinity, 2), read(3, 4, 2), read(5, 6, 1)),
      'not-linearizable',
    );
  });

  test('says unknown when it is not allowed to search on', () => {
    assert.equal(checkLinearizable(register, [write(0, 1, 1), read(2, 3, 1)], 1).verdict, 'unknown');
    assert.equal(checkLinearizable(register, [], 1).verdict, 'linearizable');
  });

  test('agrees with trying every order on small histories', () => {
    const operation = fc.tuple(
      fc.nat({ max: 8 }),
      fc.nat({ max: 4 }),
      fc.constantFrom('read', 'write'),
      fc.nat({ max: 2 }),
    );
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 5 }), (list) => {
        const history = list.map(([call, length, op, value]) =>
          op === 'read' ? read(call, call + length, value - 1) : write(call, call + length, value),
        );
        assert.equal(
          verdictOf(...history),
          tryEveryOrder(history, NIL) ? 'linearizable' : 'not-linearizable',
        );
      }),
      { numRuns: 500 },
    );
  });
});

function tryEveryOrder(left: readonly RegisterOperation[], state: number): boolean {
  if (left.length === 0) return true;
  return left.some((operation, i) => {
    const others = left.filter((_, j) => j !== i);
    if (others.some((other) => other.return < operation.call)) return false;
    const after = register.step(state, operation.input, operation.output);
    return after !== undefined && tryEveryOrder(others, after);
  });
}
