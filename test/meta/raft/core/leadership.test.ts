import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { makeMessage, type Message } from '../../../../ts/meta/raft/core/types.js';
import { BASE, bytes, change, Group, type NodeOptions } from '../support/group.js';

describe('leadership transfer', () => {
  const all = { voters: [1, 2, 3], preVote: true, checkQuorum: true } as const;

  test('goes at once to a follower that has everything, past pre-votes and sticky votes', () => {
    const group = new Group(all);
    group.elect(1).raw.transferLeader(2);
    group.run();
    assert.equal(group.at(2).state, 'StateLeader');
    assert.equal(group.at(1).state, 'StateFollower');
    assert.equal(group.at(2).term, 3);
  });

  test('waits until the follower has caught up', () => {
    const group = new Group({ ...all, maxSizePerMessage: 1, maxInflightMessages: 1 });
    const leader = group.elect(1);
    group.isolate(3);
    for (let i = 0; i < 5; i++) leader.raw.propose(bytes(`x${i}`));
    group.run();
    group.heal();
    group.tick(1);
    leader.raw.transferLeader(3);
    assert.equal(leader.raw.propose(bytes('no')), 'transferring-leadership');
    group.run();
    assert.equal(group.at(3).state, 'StateLeader');
    assert.equal(group.at(3).texts().length, 5);
  });

  test('can be asked of a follower', () => {
    const group = new Group(all);
    group.elect(1);
    group.at(3).raw.transferLeader(2);
    group.run();
    assert.equal(group.at(2).state, 'StateLeader');
  });

  test('is given up after an election timeout, and proposals are taken again', () => {
    const group = new Group(all);
    const leader = group.elect(1);
    group.isolate(3);
    leader.raw.propose(bytes('x'));
    group.run();
    leader.raw.transferLeader(3);
    for (let i = 0; i < 10; i++) {
      assert.equal(leader.raw.propose(bytes('no')), 'transferring-leadership');
      group.tick(1);
      group.run();
    }
    assert.equal(leader.state, 'StateLeader');
    assert.equal(leader.raw.propose(bytes('yes')), 'ok');
  });

  test('is not made to learners, strangers or oneself; a second one replaces the first', () => {
    const group = new Group({ ...all, learners: [4] });
    const leader = group.elect(1);
    for (const id of [4, 9, 1]) {
      leader.raw.transferLeader(id);
      assert.equal(leader.raw.status().leadTransferee, 0, String(id));
    }
    group.isolate(2);
    leader.raw.propose(bytes('x'));
    group.run();
    leader.raw.transferLeader(2);
    assert.equal(leader.raw.status().leadTransferee, 2);
    leader.raw.transferLeader(3);
    group.run();
    assert.equal(group.at(3).state, 'StateLeader');
  });

  test('that fails does not leave the group in a joint configuration', () => {
    const group = new Group(all);
    const leader = group.elect(1);
    group.isolate(3);
    leader.raw.proposeConfChange(change(['add-learner', 4], ['add-learner', 5]));
    leader.raw.transferLeader(3);
    group.run();
    assert.deepEqual(leader.confState.votersOutgoing, [1, 2, 3]);
    for (let i = 0; i < 10; i++) {
      group.tick(1);
      group.run();
    }
    assert.equal(leader.state, 'StateLeader');
    assert.deepEqual(leader.confState.votersOutgoing, []);
    assert.deepEqual(leader.confState.learners, [4, 5]);
  });

  test('is given up when the target is removed', () => {
    const group = new Group(all);
    const leader = group.elect(1);
    leader.raw.proposeConfChange(change(['remove-node', 3]));
    group.isolate(3);
    leader.raw.transferLeader(3);
    group.run();
    assert.equal(leader.raw.status().leadTransferee, 0);
    assert.equal(leader.raw.propose(bytes('x')), 'ok');
  });

  test('is refused by a target whose log does not end like the leader says', () => {
    const group = new Group(all);
    const leader = group.elect(1);
    const { term } = leader;
    const target = group.at(2);
    const order = makeMessage('MsgTimeoutNow', 2, { from: 1, term });
    target.raw.step(order);
    target.raw.step({ ...order, lastId: { term, index: BASE + 2 } });
    target.raw.step({ ...order, lastId: { term: term + 1, index: BASE + 1 } });
    assert.equal(target.state, 'StateFollower');
    target.raw.step({ ...order, lastId: { term, index: BASE + 1 } });
    assert.equal(target.state, 'StateCandidate');
  });
});

describe('elections', () => {
  test('a log of a later term wins over a longer one', () => {
    const group = new Group({ voters: [1, 2] });
    const voter = group.at(2);
    voter.storage.append([
      { term: 2, index: BASE + 1, type: 'EntryNormal', data: bytes('a') },
      { term: 2, index: BASE + 2, type: 'EntryNormal', data: bytes('b') },
    ]);
    voter.storage.setHardState({ term: 2, vote: 0, commit: BASE });
    voter.restart();
    const ask = (logTerm: number, index: number): boolean => {
      const { term } = voter;
      voter.raw.step(makeMessage('MsgVote', 2, { from: 1, term: term + 1, logTerm, index }));
      return voter.work().some((m) => m.type === 'MsgVoteResp' && !m.reject);
    };
    assert.equal(ask(1, BASE + 9), false, 'longer, but of an earlier term');
    assert.equal(ask(2, BASE + 1), false, 'same term, shorter');
    assert.equal(ask(2, BASE + 2), true, 'equal');
    assert.equal(ask(3, BASE + 1), true, 'shorter, but of a later term');
  });

  test('a candidate that falls back to follower in its own term keeps its vote', () => {
    const group = new Group({ voters: [1, 2, 3] });
    const candidate = group.at(1);
    candidate.raw.campaign();
    candidate.work();
    const { term } = candidate;
    candidate.raw.step(makeMessage('MsgHeartbeat', 1, { from: 2, term }));
    assert.equal(candidate.state, 'StateFollower');
    assert.equal(candidate.raw.status().hardState.vote, 1);
  });

  test('a removed node that does not know it cannot disturb the others', () => {
    const group = new Group({ voters: [1, 2, 3], preVote: true, checkQuorum: true });
    const leader = group.elect(1);
    group.isolate(3);
    leader.raw.proposeConfChange(change(['remove-node', 3]));
    group.run();
    group.heal();
    for (let i = 0; i < 60; i++) {
      for (const id of [1, 2, 3]) group.tick(id);
      group.run();
    }
    assert.equal(leader.state, 'StateLeader');
    assert.equal(leader.term, 2);
  });

  test('pre-candidates with different terms do not block each other', () => {
    const group = new Group({ voters: [1, 2, 3], preVote: true, checkQuorum: true });
    const ahead = group.at(2);
    ahead.storage.setHardState({ term: 7, vote: 0, commit: BASE });
    ahead.restart();
    const longer = group.at(1);
    longer.storage.append([{ term: 2, index: BASE + 1, type: 'EntryNormal', data: bytes('x') }]);
    longer.storage.setHardState({ term: 2, vote: 0, commit: BASE });
    longer.restart();
    group.isolate(3);
    for (let i = 0; i < 100 && longer.state !== 'StateLeader'; i++) {
      for (const id of [1, 2]) group.tick(id);
      group.run();
    }
    assert.equal(longer.state, 'StateLeader');
    assert.ok(longer.term > 7);
  });

  test('a leader that hears from no quorum steps down', () => {
    const group = new Group({ voters: [1, 2, 3], preVote: true, checkQuorum: true });
    const leader = group.elect(1);
    group.isolate(1);
    for (let i = 0; i < 20; i++) {
      group.tick(1);
      group.run();
    }
    assert.notEqual(leader.state, 'StateLeader');
    assert.equal(leader.term, 2, 'without raising its term');
  });
});

describe('membership', () => {
  test('a second change waits until the first is applied', () => {
    const group = new Group({ voters: [1, 2, 3] });
    const leader = group.elect(1);
    leader.raw.proposeConfChange(change(['remove-node', 3]));
    leader.raw.proposeConfChange(change(['remove-node', 2]));
    group.run();
    assert.deepEqual(leader.confState.voters, [1, 2]);
    assert.deepEqual(
      leader.applied.slice(-2).map((entry) => entry.type),
      ['EntryConfChangeV2', 'EntryNormal'],
    );
  });

  test('a new leader proposes no change before everything in its log is applied', () => {
    const group = new Group({ voters: [1, 2, 3] });
    const leader = group.at(1);
    leader.storage.append([
      { term: 1, index: BASE + 1, type: 'EntryNormal', data: bytes('may be a change') },
    ]);
    leader.restart();
    group.cut = (m) => m.type === 'MsgApp';
    leader.raw.campaign();
    group.run();
    assert.equal(leader.raw.proposeConfChange(change(['remove-node', 3])), 'ok');
    group.heal();
    group.tick(1);
    group.run();
    assert.deepEqual(leader.confState.voters, [1, 2, 3]);
    leader.raw.proposeConfChange(change(['remove-node', 3]));
    group.run();
    assert.deepEqual(leader.confState.voters, [1, 2]);
  });

  test('no candidacy while a committed change is not applied', () => {
    const group = new Group({ voters: [1, 2, 3] });
    const leader = group.elect(1);
    leader.raw.proposeConfChange(change(['remove-node', 1]));
    const follower = group.at(2);
    let held: Message[] = [];
    group.cut = (m) => m.to === 2 && m.type === 'MsgApp' && m.commit > BASE + 1 && held.push(m) > 0;
    group.run();
    follower.raw.step(held[0]!);
    assert.equal(follower.commit, BASE + 2);
    follower.raw.campaign();
    assert.equal(follower.state, 'StateFollower');
    held = [];
    group.run();
    follower.raw.campaign();
    assert.equal(follower.state, 'StateCandidate');
  });

  test('a learner becomes voter only when it has caught up', () => {
    const group = new Group({ voters: [1, 2, 3], learners: [4], learnerMaxLag: 2 });
    const leader = group.elect(1);
    group.isolate(4);
    for (let i = 0; i < 5; i++) leader.raw.propose(bytes(`x${i}`));
    group.run();
    assert.equal(leader.raw.proposeConfChange(change(['add-node', 4])), 'learner-behind');
    group.heal();
    group.tick(1);
    group.run();
    assert.equal(leader.raw.proposeConfChange(change(['add-node', 4])), 'ok');
    group.run();
    assert.deepEqual(leader.confState.voters, [1, 2, 3, 4]);
    assert.deepEqual(leader.confState.learners, []);
  });

  test('a new member far behind is brought up by a snapshot, in the configuration of that snapshot', () => {
    const group = new Group({ voters: [1, 2, 3] });
    const leader = group.elect(1);
    for (let i = 0; i < 5; i++) leader.raw.propose(bytes(`x${i}`));
    group.run();
    group.addEmpty(4);
    leader.raw.proposeConfChange(change(['add-learner', 4]));
    group.run();
    const last = leader.storage.lastIndex();
    const term = leader.storage.term(last);
    assert.ok(typeof term === 'number');
    leader.storage.setSnapshot({ index: last, term, confState: leader.confState, data: bytes('state') });
    leader.storage.compact(last);
    // The snapshot that was sent at first does not know the new member, who did not want it.
    leader.raw.reportSnapshot(4, false);
    for (let i = 0; i < 3; i++) {
      group.tick(1);
      group.run();
    }
    assert.equal(group.at(4).storage.lastIndex(), last);
    assert.deepEqual(group.at(4).confState.learners, [4]);
    leader.raw.propose(bytes('after'));
    group.run();
    assert.deepEqual(group.at(4).texts(), ['after']);
  });

  test('a snapshot that the log already reaches keeps the entries after it', () => {
    const group = new Group({ voters: [1, 2, 3] });
    const leader = group.elect(1);
    const follower = group.at(2);
    group.cut = (m) => m.type === 'MsgApp' && m.entries.length === 0;
    for (let i = 0; i < 3; i++) leader.raw.propose(bytes(`x${i}`));
    group.run();
    assert.ok(follower.commit < BASE + 2);
    const snapshot = { index: BASE + 2, term: 2, confState: follower.confState, data: bytes('state') };
    follower.raw.step(makeMessage('MsgSnap', 2, { from: 1, term: leader.term, snapshot }));
    assert.equal(follower.raw.status().lastIndex, BASE + 4);
    assert.equal(follower.commit, BASE + 2);
  });
});

describe('removed members that alone know of their removal', () => {
  // 3 and 4 are removed, and commit that with entries that 1 and 2 lack; 1 and 2 still count with their votes.
  function removeTwo(options: NodeOptions): Group {
    const group = new Group({ voters: [1, 2, 3, 4], preVote: true, checkQuorum: true, ...options });
    const leader = group.elect(4);
    const left = BASE + 3;
    group.cut = (m) =>
      m.to <= 2 && (m.commit >= left || m.entries.some((entry) => entry.index > left) || m.type === 'MsgHeartbeat');
    assert.equal(leader.raw.proposeConfChange(change(['remove-node', 3], ['remove-node', 4])), 'ok');
    while (leader.raw.status().lastIndex < left) step(group);
    assert.equal(leader.raw.propose(bytes('x')), 'ok');
    group.run();
    assert.deepEqual([1, 2, 3, 4].map((id) => group.at(id).commit >= left), [false, false, true, true]);
    group.heal();
    return group;
  }

  function step(group: Group): void {
    group.work();
    const batch = group.wire.splice(0);
    for (const m of batch) if (!group.cut(m)) group.at(m.to).raw.step(m);
    group.work();
  }

  function leaders(group: Group): number[] {
    for (let i = 0; i < 100; i++) {
      for (const id of [1, 2, 3, 4]) group.tick(id);
      group.run();
    }
    return [1, 2, 3, 4].filter((id) => group.at(id).state === 'StateLeader');
  }

  test('tell the others when they refuse them their votes', () => {
    const group = removeTwo({});
    const [leader, second] = leaders(group);
    assert.ok(leader === 1 || leader === 2);
    assert.equal(second, undefined);
    assert.deepEqual(group.at(leader).confState.voters, [1, 2]);
    assert.deepEqual(group.at(leader).confState.votersOutgoing, []);
  });

  test('would leave the group without a leader if they did not', () => {
    assert.deepEqual(leaders(removeTwo({ tellCommitted: false })), []);
  });

  test('are not believed what this log does not hold', () => {
    const group = new Group({ voters: [1, 2, 3] });
    const { raw } = group.at(1);
    const vote = { from: 2, term: 5, index: BASE, logTerm: 1 };
    raw.step(makeMessage('MsgVote', 1, { ...vote, committed: { term: 1, index: BASE + 1 } }));
    raw.step(makeMessage('MsgVote', 1, { ...vote, committed: { term: 4, index: BASE } }));
    assert.equal(group.at(1).commit, BASE);
  });
});
