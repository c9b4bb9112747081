import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  makeMessage,
  NO_DATA,
  NONE,
  type ConfState,
  type Entry,
  type Message,
  type Snapshot,
} from '../../../../ts/meta/raft/core/types.js';
import type { Applied, Done, LogRecord, RecoveredLog } from '../../../../ts/meta/raft/host/environment.js';
import { RaftHost, type HostOptions } from '../../../../ts/meta/raft/host/host.js';
import type { ReadOutcome } from '../../../../ts/meta/raft/host/reads.js';
import { bytes, textOf } from '../support/group.js';

const BASE = { index: 1, term: 1 };
const TICK_MS = 10;

/** A host whose log, state machine, clock and network do only what the test says. */
class Bench {
  now = 1000;
  readonly sent: Message[] = [];
  readonly writes: { records: readonly LogRecord[]; done: Done }[] = [];
  /** Operations on the state machine, in words, and how to end them. */
  readonly machine: { what: string; done: Done }[] = [];
  readonly applied: string[] = [];
  readonly released: number[] = [];
  stopped: Error | 'asked' | undefined = undefined;
  private timer: { at: number; run: () => void } | undefined = undefined;
  readonly host: RaftHost;

  constructor(
    id: number,
    voters: readonly number[],
    more: Partial<HostOptions> = {},
    at: Applied | undefined = undefined,
  ) {
    const confState: ConfState = {
      voters,
      votersOutgoing: [],
      learners: [],
      learnersNext: [],
      autoLeave: false,
    };
    const start = at ?? { ...BASE, confState };
    const machineTask = (what: string, done: Done): void => void this.machine.push({ what, done });
    let last: Applied = start;
    this.host = new RaftHost({
      id,
      clock: {
        now: () => this.now,
        after: (ms, run) => {
          const timer = { at: this.now + ms, run };
          this.timer = timer;
          return () => {
            if (this.timer === timer) this.timer = undefined;
          };
        },
      },
      random: (below) => below >> 1,
      network: { send: (message) => void this.sent.push(message) },
      log: {
        write: (records, done) => void this.writes.push({ records, done }),
        release: (index) => void this.released.push(index),
      },
      recovered: { hardState: { term: 1, vote: NONE, commit: 1 }, before: BASE, entries: [] },
      machine: {
        recovered: start,
        apply: (entries, applied, done) => {
          last = applied;
          machineTask(`apply ${entries.map((entry) => entry.index).join(' ')}`, done);
        },
        install: (snapshot, done) => {
          last = snapshot;
          machineTask(`install ${snapshot.index}`, done);
        },
        flush: (done) => machineTask('flush', done),
        snapshot: () => ({ ...last, data: NO_DATA }),
      },
      events: {
        onApplied: (entries) =>
          void this.applied.push(...entries.filter((entry) => entry.data.length > 0).map(textOf)),
        onStop: (error) => void (this.stopped = error ?? 'asked'),
      },
      tickMs: TICK_MS,
      stallMs: 50,
      maxQueuedWrites: 20,
      releaseEvery: 10,
      trailingEntries: 3,
      readRetryMs: 100,
      maxReads: 10,
      snapshotTimeoutMs: 1000,
      core: { electionTick: 10 },
      ...more,
    });
  }

  /** Time passes, with every timer on its time. */
  pass(ms: number): void {
    const end = this.now + ms;
    for (let { timer } = this; timer !== undefined && timer.at <= end; { timer } = this) {
      this.now = Math.max(this.now, timer.at);
      this.timer = undefined;
      timer.run();
    }
    this.now = end;
  }

  /** Nothing happens for so long; then everything that was due. */
  standStill(ms: number): void {
    this.now += ms;
    this.pass(0);
  }

  endWrite(error?: Error): void {
    this.writes.shift()!.done(error);
  }

  endMachine(error?: Error): void {
    this.machine.shift()!.done(error);
  }

  settle(): void {
    while (this.writes.length > 0 || this.machine.length > 0) {
      if (this.writes.length > 0) this.endWrite();
      else this.endMachine();
    }
  }

  get role(): string {
    return this.host.status().softState.state;
  }

  /** Makes the only voter, or a voter that hears of others' votes, leader. */
  lead(...voters: number[]): void {
    while (this.role !== 'StateLeader') {
      this.pass(TICK_MS);
      for (const from of voters) {
        const { term } = this.host.status().hardState;
        const pre = this.role === 'StatePreCandidate';
        const type = pre ? 'MsgPreVoteResp' : 'MsgVoteResp';
        this.host.receive([makeMessage(type, 1, { from, term: pre ? term + 1 : term })]);
      }
      this.settle();
    }
    this.settle();
    this.sent.length = 0;
  }

  read(timeoutMs: number): ReadOutcome[] {
    const outcomes: ReadOutcome[] = [];
    this.host.read(timeoutMs, (outcome) => outcomes.push(outcome));
    return outcomes;
  }
}

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

  test('counts a standstill as one tick', () => {
    const bench = new Bench(2, [1, 2, 3]);
    bench.pass(5 * TICK_MS);
    bench.standStill(100 * TICK_MS);
    assert.equal(bench.role, 'StateFollower', 'what waited in the meantime comes first');
    bench.pass(20 * TICK_MS);
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

describe("a host's reads", () => {
  test('wait until the state machine has reached the confirmed index', () => {
    const bench = new Bench(1, [1]);
    bench.lead();
    bench.host.propose(bytes('a'));
    bench.endWrite();
    const outcomes = bench.read(1000);
    assert.deepEqual(outcomes, [], 'confirmed, but the entry is still being applied');
    bench.endMachine();
    assert.deepEqual(outcomes, ['ok']);
  });

  test('are asked again under another id, and given up at their deadline', () => {
    const bench = new Bench(2, [1, 2, 3]);
    bench.host.receive([makeMessage('MsgHeartbeat', 2, { from: 1, term: 2 })]);
    bench.settle();
    const outcomes = bench.read(250);
    for (let i = 0; i < 26; i++) {
      bench.host.receive([makeMessage('MsgHeartbeat', 2, { from: 1, term: 2 })]);
      bench.pass(TICK_MS);
    }
    const asked = bench.sent.filter((m) => m.type === 'MsgReadIndex').map((m) => m.requestId);
    assert.equal(asked.length, 3);
    assert.equal(new Set(asked).size, 3);
    assert.deepEqual(outcomes, ['timeout']);
    // An answer to any of them comes too late.
    for (const requestId of asked) {
      bench.host.receive([makeMessage('MsgReadIndexResp', 2, { from: 1, term: 2, requestId, index: 1 })]);
    }
    assert.deepEqual(outcomes, ['timeout']);
  });

  test('are bounded in number, and end with the host', () => {
    const bench = new Bench(2, [1, 2, 3], { maxReads: 2 });
    const outcomes = [1, 2, 3].map(() => bench.read(1000));
    assert.deepEqual(outcomes, [[], [], ['too-many-reads']]);
    bench.host.stop();
    assert.deepEqual(outcomes, [['stopped'], ['stopped'], ['too-many-reads']]);
    assert.equal(bench.stopped, 'asked');
    assert.deepEqual(bench.read(1000), ['stopped']);
  });
});

describe('a host in a hurry', () => {
  /** A voter of three or more that has heard its leader, node 1. */
  function follower(id: number, voters: readonly number[], hurry = true): Bench {
    const bench = new Bench(id, voters, { hurry });
    bench.host.receive([makeMessage('MsgHeartbeat', id, { from: 1, term: 2 })]);
    bench.settle();
    bench.sent.length = 0;
    return bench;
  }

  /** Ticks until it sends the first vote request of a round. */
  function ticksToCampaign(bench: Bench): number {
    for (let ticks = 1; ticks < 100; ticks++) {
      bench.pass(TICK_MS);
      bench.settle();
      if (bench.sent.some((m) => m.type === 'MsgPreVote')) {
        bench.sent.length = 0;
        return ticks;
      }
    }
    return Infinity;
  }

  test('campaigns soon when the connection to its leader is lost, one voter after the other', () => {
    const ticks = [2, 3, 4].map((id) => {
      const bench = follower(id, [1, 2, 3, 4]);
      bench.host.reportUnreachable(1);
      assert.equal(bench.host.status().softState.lead, NONE);
      return ticksToCampaign(bench);
    });
    assert.deepEqual(ticks, [1, 3, 5]);
    const patient = follower(2, [1, 2, 3], false);
    patient.host.reportUnreachable(1);
    assert.equal(patient.host.status().softState.lead, 1);
    assert.ok(ticksToCampaign(patient) > 10);
  });

  test('does not mind the connection to anybody else, and follows a leader that is heard again', () => {
    const bench = follower(2, [1, 2, 3]);
    bench.host.reportUnreachable(3);
    assert.equal(bench.host.status().softState.lead, 1);
    bench.host.reportUnreachable(1);
    bench.host.receive([makeMessage('MsgHeartbeat', 2, { from: 1, term: 2 })]);
    assert.equal(bench.host.status().softState.lead, 1);
    assert.ok(ticksToCampaign(bench) > 10);
  });

  test('repeats an election that nobody won, twice, and is patient then', () => {
    const bench = follower(2, [1, 2, 3]);
    assert.equal(ticksToCampaign(bench), 15);
    // Half of the timeout of 10 ticks and up to as much again; the core would wait 15.
    const [first, second, third] = [ticksToCampaign(bench), ticksToCampaign(bench), ticksToCampaign(bench)];
    assert.ok(first <= 10 && second <= 10, `${first} ${second}`);
    assert.ok(third <= 15);
    const later = [1, 2, 3].map(() => ticksToCampaign(bench));
    assert.deepEqual(later, [15, 15, 15]);
  });

  test('asks its reads again when there is a new leader', () => {
    const bench = follower(2, [1, 2, 3]);
    bench.read(10_000);
    const asked = (): number[] => bench.sent.filter((m) => m.type === 'MsgReadIndex').map((m) => m.to);
    assert.deepEqual(asked(), [1]);
    bench.host.receive([makeMessage('MsgHeartbeat', 2, { from: 3, term: 3 })]);
    bench.settle();
    bench.pass(TICK_MS);
    assert.deepEqual(asked(), [1, 3]);
  });
});
