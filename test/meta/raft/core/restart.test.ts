import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { InvariantError } from '../../../../ts/meta/raft/core/invariant.js';
import { RawNode } from '../../../../ts/meta/raft/core/rawnode.js';
import { MemoryStorage } from '../../../../ts/meta/raft/core/storage.js';
import { makeMessage } from '../../../../ts/meta/raft/core/types.js';
import { BASE, bytes, change, Group } from '../support/group.js';

const vote = { term: 5, index: BASE, logTerm: 1 };

describe('a restart', () => {
  test('keeps term, vote, log and commit index, and comes back as a follower', () => {
    const group = new Group({ voters: [1, 2, 3] });
    const leader = group.elect(1);
    leader.raw.propose(bytes('x'));
    group.run();
    const before = leader.raw.status();
    leader.restart();
    const after = leader.raw.status();
    assert.deepEqual(after.hardState, before.hardState);
    assert.equal(after.lastIndex, before.lastIndex);
    assert.equal(after.applied, before.applied);
    assert.equal(after.softState.state, 'StateFollower');
    assert.equal(leader.raw.hasReady(), false);
  });

  test('does not free the vote of the term', () => {
    const group = new Group({ voters: [1, 2, 3] });
    const voter = group.at(3);
    voter.raw.step(makeMessage('MsgVote', 3, { from: 1, ...vote }));
    assert.equal(voter.work()[0]?.reject, false);
    voter.restart();
    voter.raw.step(makeMessage('MsgVote', 3, { from: 2, ...vote }));
    assert.equal(voter.work()[0]?.reject, true);
    voter.raw.step(makeMessage('MsgVote', 3, { from: 1, ...vote }));
    assert.equal(voter.work()[0]?.reject, false, 'the same vote again');
  });

  test('does not send a vote before it is durable', () => {
    const group = new Group({ voters: [1, 2, 3] });
    const voter = group.at(3);
    voter.raw.step(makeMessage('MsgVote', 3, { from: 1, ...vote }));
    const ready = voter.raw.ready();
    assert.deepEqual(ready.hardState, { term: 5, vote: 1, commit: BASE });
    assert.equal(ready.mustSync, true);
    assert.equal(ready.messages[0]?.type, 'MsgVoteResp');
  });

  test('applies again only what was committed and not applied', () => {
    const group = new Group({ voters: [1] });
    const leader = group.elect(1);
    for (const text of ['a', 'b', 'c']) leader.raw.propose(bytes(text));
    group.run();
    assert.deepEqual(leader.texts(), ['a', 'b', 'c']);
    leader.applied.pop();
    leader.restart();
    group.run();
    assert.deepEqual(leader.texts(), ['a', 'b', 'c']);
  });

  test('continues with the membership that was applied', () => {
    const group = new Group({ voters: [1, 2, 3] });
    const leader = group.elect(1);
    leader.raw.proposeConfChange(change(['remove-node', 3]));
    group.run();
    for (const id of [1, 2]) group.at(id).restart();
    group.isolate(3);
    group.elect(2);
    assert.deepEqual(group.at(2).raw.status().config.incoming, [1, 2]);
  });

  test('refuses a durable commit index that the log does not reach', () => {
    const storage = new MemoryStorage();
    storage.setHardState({ term: 2, vote: 1, commit: 4 });
    assert.throws(() => new RawNode({ id: 1, storage, random: () => 0 }), InvariantError);
  });

  test('a follower that lost durable entries stops instead of committing what it does not have', () => {
    const group = new Group({ voters: [1, 2, 3] });
    group.elect(1);
    const beat = makeMessage('MsgHeartbeat', 2, { from: 1, term: group.at(1).term, commit: BASE + 50 });
    assert.throws(() => group.at(2).raw.step(beat), InvariantError);
  });
});
