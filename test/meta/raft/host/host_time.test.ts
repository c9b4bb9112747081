import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { makeMessage, NONE } from '../../../../ts/meta/raft/core/types.js';
import { Bench, TICK_MS } from './bench.js';
import { bytes } from '../support/group.js';

describe("a host's ticks", () => {
  /** Of a follower that hears nothing more: its timeout is 15. */
  function ticksLeft(bench: Bench): number {
    for (let ticks = 1; ; ticks++) {
      bench.pass(TICK_MS);
      if (bench.role === 'StatePreCandidate') return ticks;
    }
  }
  const heartbeat = makeMessage('MsgHeartbeat', 2, { from: 1, term: 2 });

  test('that were missed are counted when it wakes', () => {
    const bench = new Bench(2, [1, 2, 3]);
    for (let i = 0; i < 3; i++) {
      bench.standStill(4 * TICK_MS);
      assert.equal(bench.role, 'StateFollower');
    }
    assert.equal(ticksLeft(bench), 3);
  });

  test('are counted of a standstill up to a few, so that what waited in the meantime comes first', () => {
    const bench = new Bench(2, [1, 2, 3]);
    bench.pass(5 * TICK_MS);
    bench.standStill(100 * TICK_MS);
    assert.equal(bench.role, 'StateFollower');
    assert.equal(ticksLeft(bench), 15 - 5 - 1 - 5);
  });

  test('that were missed are not counted against a leader whose messages waited', () => {
    const bench = new Bench(2, [1, 2, 3]);
    bench.host.receive([heartbeat]);
    bench.settle();
    for (let i = 0; i < 10; i++) {
      bench.pass(5 * TICK_MS);
      bench.wake(6 * TICK_MS);
      bench.host.receive([heartbeat]);
      bench.pass(0);
    }
    assert.equal(bench.role, 'StateFollower');
    assert.equal(ticksLeft(bench), 15);
  });

  test('that were missed are counted when somebody else was heard', () => {
    const bench = new Bench(2, [1, 2, 3]);
    bench.host.receive([heartbeat]);
    bench.settle();
    bench.wake(6 * TICK_MS);
    bench.host.receive([makeMessage('MsgPreVote', 2, { from: 3, term: 3, index: 1, logTerm: 1 })]);
    bench.pass(0);
    bench.settle();
    assert.equal(ticksLeft(bench), 15 - 1 - 5);
  });

  test('that were missed do not make a leader repeat its heartbeats', () => {
    const bench = new Bench(1, [1, 2, 3]);
    bench.lead(2);
    bench.standStill(4 * TICK_MS);
    assert.equal(bench.sent.filter(({ type, to }) => type === 'MsgHeartbeat' && to === 2).length, 1);
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
