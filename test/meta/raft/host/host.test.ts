import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  makeMessage,
  NO_DATA,
  type ConfState,
  type Entry,
  type Message,
  type Snapshot,
} from '../../../../ts/meta/raft/core/types.js';
import type { RecoveredLog } from '../../../../ts/meta/raft/host/environment.js';
import { bytes, textOf } from '../support/group.js';
import { BASE, Bench, TICK_MS } from './bench.js';

function entry(term: number, index: number, text: string): Entry {
  return { term, index, type: 'EntryNormal', data: bytes(text) };
}

describe('a host', () => {
  test('applies nothing, and acknowledges nothing, before it is durable', () => {
    const alone = new Bench(1, [1]);
    alone.lead();
    assert.equal(alone.host.propose(bytes('a')), 'ok');
    assert.equal(alone.machine.length, 0);
    alone.endWrite();
    assert.deepEqual(
      alone.machine.map((one) => one.what),
      ['apply 3'],
    );
    assert.deepEqual(alone.applied, []);
    alone.endMachine();
    assert.deepEqual(alone.applied, ['a']);

    const follower = new Bench(2, [1, 2, 3]);
    const fields = { from: 1, term: 2, index: 1, logTerm: 1, entries: [entry(2, 2, 'x')] };
    follower.host.receive([makeMessage('MsgApp', 2, fields)]);
    assert.equal(follower.sent.length, 0);
    follower.endWrite();
    assert.deepEqual(
      follower.sent.map((m) => [m.type, m.index]),
      [['MsgAppResp', 2]],
    );
  });

  test('writes at once when the log is idle, and together what came during a write', () => {
    const bench = new Bench(1, [1]);
    bench.lead();
    for (const text of ['a', 'b', 'c', 'd']) bench.host.propose(bytes(text));
    const texts = (): string[] =>
      bench.writes.flatMap(({ records }) => records.flatMap((one) => one.entries.map(textOf)));
    assert.deepEqual(texts(), ['a']);
    bench.endWrite();
    assert.equal(bench.writes.length, 1);
    assert.deepEqual(texts(), ['b', 'c', 'd']);
    bench.settle();
    assert.deepEqual(bench.applied, ['a', 'b', 'c', 'd']);
  });

  test('does not acknowledge what a later leader replaced in the same write', () => {
    const bench = new Bench(2, [1, 2, 3]);
    const append = (term: number, from: number, ...entries: Entry[]): Message =>
      makeMessage('MsgApp', 2, { from, term, index: 1, logTerm: 1, entries });
    bench.host.receive([append(2, 1, entry(2, 2, 'a'))]);
    bench.host.receive([append(2, 1, entry(2, 2, 'a'), entry(2, 3, 'b'))]);
    bench.host.receive([append(3, 3, entry(3, 2, 'c'))]);
    bench.settle();
    assert.deepEqual(
      bench.sent.map((m) => [m.to, m.term, m.index]),
      [[3, 3, 2]],
    );
  });

  test('does not write a commit index by itself', () => {
    const bench = new Bench(2, [1, 2, 3]);
    const append = { from: 1, term: 2, index: 1, logTerm: 1, entries: [entry(2, 2, 'x')] };
    bench.host.receive([makeMessage('MsgApp', 2, append)]);
    bench.settle();
    bench.host.receive([makeMessage('MsgHeartbeat', 2, { from: 1, term: 2, commit: 2 })]);
    assert.equal(bench.writes.length, 0);
    bench.settle();
    assert.deepEqual(bench.applied, ['x']);
    // It goes before the next entries, also if those say nothing new about it.
    const next = { ...append, index: 2, logTerm: 2, entries: [entry(2, 3, 'y')], commit: 2 };
    bench.host.receive([makeMessage('MsgApp', 2, next)]);
    assert.deepEqual(
      bench.writes[0]?.records.map((record) => record.hardState?.commit),
      [2, undefined],
    );
  });

  test('stops for good when a write fails, and says nothing more', () => {
    const bench = new Bench(1, [1, 2, 3]);
    bench.lead(2);
    bench.host.propose(bytes('a'));
    bench.host.propose(bytes('b'));
    const reads = bench.read(1000);
    bench.sent.length = 0;
    const error = new Error('EIO');
    bench.endWrite(error);
    assert.equal(bench.stopped, error);
    assert.deepEqual(reads, ['stopped']);
    assert.equal(bench.host.propose(bytes('c')), 'stopped');
    bench.host.receive([makeMessage('MsgHeartbeatResp', 1, { from: 2, term: 2 })]);
    bench.pass(1000);
    assert.equal(bench.writes.length, 0, 'the write is not tried again');
    assert.equal(bench.sent.length, 0);
  });

  test('stops when the state machine fails, and when an invariant breaks', () => {
    const bench = new Bench(1, [1]);
    bench.lead();
    bench.host.propose(bytes('a'));
    bench.endWrite();
    bench.endMachine(new Error('database is full'));
    assert.match(String(bench.stopped), /database is full/);

    const follower = new Bench(2, [1, 2, 3]);
    follower.host.receive([makeMessage('MsgHeartbeat', 2, { from: 1, term: 2, commit: 99 })]);
    assert.match(String(follower.stopped), /InvariantError/);
  });

  test('leaves leadership when its log hangs', () => {
    const bench = new Bench(1, [1, 2, 3]);
    bench.lead(2);
    bench.host.propose(bytes('a'));
    for (let i = 0; i < 4; i++) {
      bench.pass(TICK_MS);
      bench.host.receive([makeMessage('MsgHeartbeatResp', 1, { from: 2, term: 2 })]);
    }
    assert.equal(bench.role, 'StateLeader');
    bench.pass(3 * TICK_MS);
    assert.equal(bench.role, 'StateFollower');
  });

  test('whose log hangs takes in only so much, and does not campaign', () => {
    const bench = new Bench(2, [1, 2, 3]);
    const append = (index: number): Message =>
      makeMessage('MsgApp', 2, { from: 1, term: 2, index, logTerm: 2, entries: [entry(2, index + 1, 'x')] });
    bench.host.receive([{ ...append(1), logTerm: 1 }]);
    for (let index = 2; index < 100; index++) bench.host.receive([append(index)]);
    assert.equal(bench.host.queued.writes, 20);
    assert.equal(bench.host.propose(bytes('a')), 'overloaded');
    bench.pass(100 * TICK_MS);
    assert.equal(bench.role, 'StateFollower');
    assert.equal(bench.host.queued.writes, 20);
    bench.settle();
    bench.pass(30 * TICK_MS);
    assert.equal(bench.role, 'StatePreCandidate');
  });
});

describe("a host's log", () => {
  test('is released only after the state machine was flushed, and keeps what followers may need', () => {
    const bench = new Bench(1, [1]);
    bench.lead();
    for (let i = 0; i < 12; i++) {
      bench.host.propose(bytes(`${i}`));
      bench.endWrite();
      while (bench.machine.some((one) => one.what !== 'flush')) bench.endMachine();
      if (bench.machine.length > 0) break;
    }
    assert.deepEqual(
      bench.machine.map((one) => one.what),
      ['flush'],
    );
    assert.equal(bench.released.length, 0);
    const { applied } = bench.host;
    bench.endMachine();
    assert.deepEqual(bench.released, [applied - 3]);
    assert.equal(bench.host.status().firstIndex, applied - 2);
  });

  const confState: ConfState = {
    voters: [1, 2, 3],
    votersOutgoing: [],
    learners: [],
    learnersNext: [],
    autoLeave: false,
  };

  test('is reset by a snapshot only after that is in the state machine, and acknowledged after both', () => {
    const bench = new Bench(2, [1, 2, 3]);
    const snapshot: Snapshot = { index: 20, term: 2, confState, data: NO_DATA };
    bench.host.receive([makeMessage('MsgSnap', 2, { from: 1, term: 2, snapshot })]);
    assert.deepEqual(
      bench.machine.map((one) => one.what),
      ['install 20'],
    );
    assert.equal(bench.writes.length, 0);
    bench.endMachine();
    assert.deepEqual(
      bench.writes[0]?.records.map((record) => record.reset),
      [{ index: 20, term: 2 }],
    );
    assert.equal(bench.sent.length, 0);
    bench.endWrite();
    assert.deepEqual(
      bench.sent.map((m) => [m.type, m.index]),
      [['MsgAppResp', 20]],
    );
    assert.equal(bench.host.applied, 20);
  });

  test('that falls short of the state machine is reset at the start, before anything else is written', () => {
    const recovered: RecoveredLog = {
      hardState: { term: 2, vote: 1, commit: 3 },
      before: BASE,
      entries: [entry(2, 2, 'a'), entry(2, 3, 'b')],
    };
    const bench = new Bench(2, [], { recovered }, { index: 20, term: 2, confState });
    assert.deepEqual(bench.writes[0]?.records, [
      { hardState: { term: 2, vote: 1, commit: 20 }, reset: { index: 20, term: 2 }, entries: [] },
    ]);
    const append = { from: 1, term: 2, index: 20, logTerm: 2, entries: [entry(2, 21, 'x')] };
    bench.host.receive([makeMessage('MsgApp', 2, { ...append, commit: 21 })]);
    bench.settle();
    assert.deepEqual(bench.applied, ['x']);
  });

  test('is applied from where the state machine stands', () => {
    const entries = [entry(2, 2, 'a'), entry(2, 3, 'b'), entry(2, 4, 'c')];
    const recovered: RecoveredLog = { hardState: { term: 2, vote: 1, commit: 4 }, before: BASE, entries };
    const bench = new Bench(2, [], { recovered }, { index: 2, term: 2, confState });
    bench.pass(2 * TICK_MS);
    bench.settle();
    assert.deepEqual(bench.applied, ['b', 'c']);
  });

  test('that starts after what the state machine holds, or was committed differently, is refused', () => {
    const hardState = { term: 3, vote: 1, commit: 20 };
    const after: RecoveredLog = { hardState, before: { index: 20, term: 3 }, entries: [] };
    assert.throws(
      () => new Bench(2, [], { recovered: after }, { index: 10, term: 2, confState }),
      /only 10 is applied/,
    );
    const entries = [entry(3, 2, 'a')];
    const other: RecoveredLog = { hardState: { ...hardState, commit: 2 }, before: BASE, entries };
    assert.throws(
      () => new Bench(2, [], { recovered: other }, { index: 2, term: 2, confState }),
      /committed differently/,
    );
  });
});
