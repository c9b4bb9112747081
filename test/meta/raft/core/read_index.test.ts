import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Message } from '../../../../ts/meta/raft/core/types.js';
import { BASE, bytes, change, Group } from '../support/group.js';

describe('ReadIndex', () => {
  test('is confirmed by a quorum that answers a round sent after the request', () => {
    const group = new Group({ voters: [1, 2, 3] });
    const leader = group.elect(1);
    leader.raw.propose(bytes('x'));
    group.run();
    assert.equal(leader.raw.readIndex(7), 'ok');
    group.work();
    assert.deepEqual(leader.reads, [], 'not before anybody answered');
    group.run();
    assert.deepEqual(leader.reads, [{ requestId: 7, index: BASE + 2 }]);
  });

  test('is not confirmed without a quorum', () => {
    const group = new Group({ voters: [1, 2, 3] });
    const leader = group.elect(1);
    group.isolate(1);
    leader.raw.readIndex(7);
    group.run();
    assert.deepEqual(leader.reads, []);
    // A later heartbeat confirms it too, once the quorum is back.
    group.heal();
    group.tick(1);
    group.run();
    assert.deepEqual(leader.reads, [{ requestId: 7, index: BASE + 1 }]);
  });

  test('is not confirmed by answers to earlier rounds, however often and late they come', () => {
    const group = new Group({ voters: [1, 2, 3] });
    const leader = group.elect(1);
    const answers: Message[] = [];
    group.cut = (m) => m.type === 'MsgHeartbeatResp' && answers.push(m) > 0;
    group.tick(1);
    group.run();
    assert.equal(answers.length, 2);
    group.cut = (m) => m.type === 'MsgHeartbeat';
    leader.raw.readIndex(8);
    group.run();
    for (const answer of [...answers, ...answers]) leader.raw.step(answer);
    group.run();
    assert.deepEqual(leader.reads, []);
    // Nor by an answer to a round that was never sent.
    for (const answer of answers) leader.raw.step({ ...answer, round: 1000 });
    group.run();
    assert.deepEqual(leader.reads, []);
  });

  test('waits for the first commit of a new leader', () => {
    const group = new Group({ voters: [1, 2, 3] });
    group.elect(1).raw.propose(bytes('acknowledged'));
    // Node 2 holds the entry, but does not know that it is committed.
    group.cut = (m) => m.type === 'MsgApp' && m.entries.length === 0;
    group.run();
    assert.equal(group.at(1).commit, BASE + 2);
    group.isolate(1);
    // Replication of the new leader's empty entry is held back.
    const isolated = group.cut;
    group.cut = (m) => isolated(m) || m.type === 'MsgApp';
    const leader = group.elect(2);
    assert.ok(leader.commit < BASE + 2);
    assert.equal(leader.raw.readIndex(1), 'ok');
    group.tick(2);
    group.run();
    assert.deepEqual(leader.reads, []);
    group.cut = isolated;
    group.tick(2);
    group.run();
    assert.deepEqual(leader.reads, [{ requestId: 1, index: BASE + 3 }]);
  });

  test('of a follower and of a learner is forwarded to the leader and answered', () => {
    const group = new Group({ voters: [1, 2, 3], learners: [4] });
    group.elect(1);
    group.at(2).raw.readIndex(20);
    group.at(4).raw.readIndex(40);
    group.run();
    assert.deepEqual(group.at(2).reads, [{ requestId: 20, index: BASE + 1 }]);
    assert.deepEqual(group.at(4).reads, [{ requestId: 40, index: BASE + 1 }]);
    assert.deepEqual(group.at(1).reads, []);
  });

  test('is not confirmed by learners', () => {
    const group = new Group({ voters: [1, 2, 3], learners: [4, 5] });
    const leader = group.elect(1);
    group.isolate(1, 4, 5);
    leader.raw.readIndex(7);
    group.run();
    assert.deepEqual(leader.reads, []);
  });

  test('needs both quorums of a joint configuration', () => {
    const group = new Group({ voters: [1, 2, 3] });
    const leader = group.elect(1);
    for (const id of [4, 5]) group.addEmpty(id);
    leader.raw.proposeConfChange({
      ...change(['add-node', 4], ['add-node', 5], ['remove-node', 2], ['remove-node', 3]),
      transition: 'explicit',
    });
    group.run();
    assert.deepEqual(leader.confState.voters, [1, 4, 5]);
    assert.deepEqual(leader.confState.votersOutgoing, [1, 2, 3]);
    group.isolate(2, 3);
    leader.raw.readIndex(7);
    group.run();
    assert.deepEqual(leader.reads, [], 'the outgoing half is missing');
    group.heal();
    group.tick(1);
    group.run();
    assert.equal(leader.reads.length, 1);
  });

  test('answers repeated request ids one by one, each with its own index', () => {
    const group = new Group({ voters: [1, 2, 3] });
    const leader = group.elect(1);
    leader.raw.readIndex(7);
    leader.raw.propose(bytes('x'));
    group.run();
    leader.raw.readIndex(7);
    group.run();
    assert.deepEqual(leader.reads, [
      { requestId: 7, index: BASE + 1 },
      { requestId: 7, index: BASE + 2 },
    ]);
  });

  test('of a leader that was deposed is never answered', () => {
    const group = new Group({ voters: [1, 2, 3] });
    const old = group.elect(1);
    group.isolate(1);
    old.raw.readIndex(7);
    group.run();
    group.elect(2);
    group.heal();
    group.tick(2);
    group.run();
    assert.equal(old.state, 'StateFollower');
    group.elect(1);
    group.tick(1);
    group.run();
    assert.deepEqual(old.reads, []);
  });

  test('is answered at once by a voter that is alone, but not before its first commit', () => {
    const group = new Group({ voters: [1] });
    const leader = group.at(1);
    leader.raw.campaign();
    while (leader.state !== 'StateLeader') leader.work();
    leader.raw.readIndex(1);
    assert.deepEqual(leader.reads, []);
    group.run();
    leader.raw.readIndex(2);
    group.run();
    assert.deepEqual(leader.reads, [
      { requestId: 1, index: BASE + 1 },
      { requestId: 2, index: BASE + 1 },
    ]);
  });

  test('is refused without a leader, and when too many wait', () => {
    const group = new Group({ voters: [1, 2, 3], maxPendingReads: 2 });
    assert.equal(group.at(1).raw.readIndex(1), 'no-leader');
    const leader = group.elect(1);
    group.isolate(1);
    assert.equal(leader.raw.readIndex(1), 'ok');
    assert.equal(leader.raw.readIndex(2), 'ok');
    assert.equal(leader.raw.readIndex(3), 'too-many-reads');
  });
});

describe('a lease', () => {
  const options = { voters: [1, 2, 3], readOnly: 'lease-based', checkQuorum: true } as const;

  function leaseHolder(): Group {
    const group = new Group(options);
    // At first, everybody may have promised something to a leader before the restart.
    for (const id of [2, 3, 1]) group.tick(id, 10);
    group.run();
    assert.equal(group.at(1).state, 'StateLeader');
    group.tick(1);
    group.run();
    return group;
  }

  /** Whether a read is answered without any message. */
  function answersAlone(group: Group): boolean {
    const leader = group.at(1);
    const before = leader.reads.length;
    const { cut } = group;
    group.cut = () => true;
    leader.raw.readIndex(before + 1);
    group.run();
    group.cut = cut;
    return leader.reads.length > before;
  }

  test('answers reads without a round', () => {
    assert.ok(answersAlone(leaseHolder()));
  });

  test('is not used when reads are safe', () => {
    const group = new Group({ ...options, readOnly: 'safe' });
    group.elect(1);
    group.tick(1);
    group.run();
    assert.ok(!answersAlone(group));
  });

  test('is counted from the sending of the confirmed heartbeat, and ends before the election timeout', () => {
    const group = leaseHolder();
    group.isolate(1);
    group.tick(1, 6);
    assert.ok(answersAlone(group), 'six of ten ticks have passed');
    group.tick(1);
    assert.ok(!answersAlone(group), 'the margin begins');
    assert.equal(group.at(1).state, 'StateLeader');
  });

  test('falls back to a round when it has ended', () => {
    const group = leaseHolder();
    group.isolate(1);
    group.tick(1, 9);
    group.run();
    group.heal();
    group.at(1).raw.readIndex(5);
    assert.deepEqual(group.at(1).reads, []);
    group.run();
    assert.equal(group.at(1).reads.length, 1);
  });

  test('is void for the rest of the term once a transfer was ordered', () => {
    const group = leaseHolder();
    group.cut = (m) => m.type === 'MsgTimeoutNow';
    group.at(1).raw.transferLeader(2);
    group.run();
    group.tick(1, 11);
    group.run();
    assert.equal(group.at(1).raw.status().leadTransferee, 0);
    assert.equal(group.at(1).state, 'StateLeader');
    assert.ok(!answersAlone(group));
  });

  test('begins anew when the host doubts its clock', () => {
    const group = leaseHolder();
    group.at(1).raw.doubtClock();
    assert.ok(!answersAlone(group));
    group.tick(1);
    group.run();
    assert.ok(answersAlone(group));
  });

  test('is honoured by a voter that restarts and no longer knows the leader', () => {
    const group = leaseHolder();
    group.isolate(3);
    group.tick(3, 13);
    group.run();
    group.at(2).restart();
    group.isolate(1);
    group.tick(3, 13);
    group.run();
    assert.notEqual(group.at(3).state, 'StateLeader');
    group.tick(2, 10);
    group.tick(3, 13);
    group.run();
    assert.equal(group.at(3).state, 'StateLeader', 'after an election timeout it votes again');
  });

  test('keeps followers from forgetting the leader, and from campaigning before their timeout', () => {
    const group = leaseHolder();
    group.at(2).raw.forgetLeader();
    assert.equal(group.at(2).raw.status().softState.lead, 1);
    group.at(2).raw.campaign();
    assert.equal(group.at(2).state, 'StateFollower');
  });
});
