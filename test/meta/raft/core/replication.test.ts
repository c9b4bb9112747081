import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { Progress } from '../../../../ts/meta/raft/core/progress.js';
import { Inflights } from '../../../../ts/meta/raft/core/inflights.js';
import { makeMessage, NO_DATA, type Entry, type Message } from '../../../../ts/meta/raft/core/types.js';
import { BASE, bytes, Group } from '../support/group.js';

function normal(term: number, index: number, text = ''): Entry {
  return { term, index, type: 'EntryNormal', data: text === '' ? NO_DATA : bytes(text) };
}

describe('duplication and reordering', () => {
  test('a vote that arrives twice counts once', () => {
    const group = new Group({ voters: [1, 2, 3, 4, 5] });
    const candidate = group.at(1);
    candidate.raw.campaign();
    candidate.work();
    const yes = makeMessage('MsgVoteResp', 1, { from: 2, term: candidate.term });
    for (let i = 0; i < 3; i++) candidate.raw.step(yes);
    assert.equal(candidate.state, 'StateCandidate');
    candidate.raw.step({ ...yes, from: 3 });
    assert.equal(candidate.state, 'StateLeader');
  });

  test('a refusal that arrives after the vote does not take it back', () => {
    const group = new Group({ voters: [1, 2, 3] });
    const candidate = group.at(1);
    candidate.raw.campaign();
    const term = candidate.term;
    candidate.raw.step(makeMessage('MsgVoteResp', 1, { from: 2, term }));
    candidate.raw.step(makeMessage('MsgVoteResp', 1, { from: 2, term, reject: true }));
    group.cut = () => true;
    group.run();
    assert.equal(candidate.state, 'StateLeader');
  });

  test('a late append does not cut off what came after it', () => {
    const group = new Group({ voters: [1, 2, 3] });
    const follower = group.at(2);
    const append = (index: number, ...entries: Entry[]): Message =>
      makeMessage('MsgApp', 2, { from: 1, term: 2, index, logTerm: index === BASE ? 1 : 2, entries });
    const [a, b, c] = [normal(2, BASE + 1, 'a'), normal(2, BASE + 2, 'b'), normal(2, BASE + 3, 'c')];
    follower.raw.step(append(BASE, a, b, c));
    follower.work();
    follower.raw.step(append(BASE, a));
    follower.raw.step(append(BASE + 1, b));
    const answers = follower.work();
    assert.deepEqual(
      answers.map((m) => m.index),
      [BASE + 1, BASE + 2],
    );
    assert.equal(follower.storage.lastIndex(), BASE + 3);
  });

  test('acknowledgements only move the match index forward', () => {
    const group = new Group({ voters: [1, 2, 3] });
    const leader = group.elect(1);
    leader.raw.propose(bytes('x'));
    group.run();
    const { term } = leader;
    leader.raw.step(makeMessage('MsgAppResp', 1, { from: 2, term, index: BASE + 1 }));
    leader.raw.step(
      makeMessage('MsgAppResp', 1, { from: 2, term, index: BASE + 1, reject: true, rejectHint: BASE }),
    );
    const progress = leader.raw.status().progress.get(2);
    assert.equal(progress?.match, BASE + 2);
    assert.equal(progress?.state, 'StateReplicate');
  });

  test('a rejection of anything but the latest probe is ignored', () => {
    const progress = new Progress({
      match: 0,
      next: 10,
      inflights: new Inflights(4, 100),
      learner: false,
      recentActive: true,
    });
    assert.equal(progress.maybeDecrementTo(5, 3), false);
    assert.equal(progress.maybeDecrementTo(9, 3), true);
    assert.equal(progress.next, 4);
    assert.equal(progress.maybeDecrementTo(9, 3), false);
  });

  test('nodes that get every message many times and in any order still agree', () => {
    fc.assert(
      fc.property(fc.infiniteStream(fc.nat({ max: 1_000_000 })), (stream) => {
        const group = new Group({ voters: [1, 2, 3] });
        group.elect(1);
        const draw = (below: number): number => (stream.next().value as number) % below;
        for (let i = 0; i < 10; i++) group.at(1).raw.propose(bytes(`p${i}`));
        group.work();
        for (let steps = 0; steps < 150 && group.wire.length > 0; steps++) {
          const at = draw(group.wire.length);
          const m = group.wire[at]!;
          if (draw(3) > 0) group.wire.splice(at, 1);
          group.at(m.to).raw.step(m);
          group.work();
        }
        group.run();
        // What was lost with the last messages, a heartbeat repairs.
        group.tick(1);
        group.run();
        const expected = Array.from({ length: 10 }, (_, i) => `p${i}`);
        for (const id of [1, 2, 3]) assert.deepEqual(group.at(id).texts(), expected);
      }),
      { numRuns: 40 },
    );
  });
});

describe('commitment', () => {
  test('entries of earlier terms commit only together with one of the current term', () => {
    const group = new Group({ voters: [1, 2, 3] });
    const leader = group.at(1);
    group.cut = (m) => m.type === 'MsgApp';
    leader.raw.campaign();
    group.run();
    leader.raw.propose(bytes('old'));
    group.run();
    // Node 1 leads again in a later term; node 2 acknowledges the old entry but not yet the new one.
    leader.restart();
    group.cut = (m) => m.type === 'MsgApp' && m.entries.length > 0 && m.to === 3;
    leader.raw.campaign();
    group.run();
    assert.equal(leader.state, 'StateLeader');
    const fresh = leader.storage.lastIndex();
    assert.equal(leader.commit, fresh, 'with the new entry, all of it');
    const other = new Group({ voters: [1, 2, 3] });
    const again = other.at(1);
    again.storage.append([normal(2, BASE + 1, 'old')]);
    again.storage.setHardState({ term: 2, vote: 1, commit: BASE });
    again.restart();
    other.cut = (m) => m.type === 'MsgApp';
    again.raw.campaign();
    other.run();
    again.raw.step(makeMessage('MsgAppResp', 1, { from: 2, term: again.term, index: BASE + 1 }));
    assert.equal(again.commit, BASE, 'a quorum holds the old entry, but that proves nothing');
  });

  test('an entry that changes under a slow write is not taken for durable', () => {
    const group = new Group({ voters: [1, 2, 3], asyncStorageWrites: true });
    const follower = group.at(2);
    const append = (term: number, entry: Entry): Message =>
      makeMessage('MsgApp', 2, { from: term, term, index: BASE, logTerm: 1, entries: [entry] });
    follower.raw.step(append(2, normal(2, BASE + 1, 'first')));
    const first = follower.raw.ready().messages.find((m) => m.type === 'MsgStorageAppend');
    follower.raw.step({ ...append(3, normal(3, BASE + 1, 'second')), commit: BASE + 1 });
    const second = follower.raw.ready().messages.find((m) => m.type === 'MsgStorageAppend');
    const report = (m: Message | undefined): void => {
      for (const response of m?.responses ?? []) if (response.to === 2) follower.raw.step(response);
    };
    report(first);
    assert.equal(follower.raw.hasReady(), false, 'nothing may be applied');
    follower.storage.append(second?.entries ?? []);
    report(second);
    assert.deepEqual(
      follower.raw.ready().committedEntries.map((entry) => entry.term),
      [3],
    );
  });
});

describe('limits', () => {
  test('proposals beyond the uncommitted limit are dropped until others are applied', () => {
    const group = new Group({ voters: [1, 2, 3], maxUncommittedSize: 10 });
    const leader = group.elect(1);
    group.isolate(1);
    assert.equal(leader.raw.propose(bytes('12345678')), 'ok');
    assert.equal(leader.raw.propose(bytes('abc')), 'uncommitted-limit');
    assert.equal(leader.raw.propose(NO_DATA), 'ok', 'empty entries are always taken');
    group.run();
    group.heal();
    group.tick(1);
    group.run();
    assert.equal(leader.raw.propose(bytes('abc')), 'ok');
    group.run();
    assert.deepEqual(group.at(3).texts(), ['12345678', 'abc']);
  });

  test('a first proposal of any size is taken', () => {
    const group = new Group({ voters: [1], maxUncommittedSize: 4 });
    assert.equal(group.elect(1).raw.propose(bytes('much too long')), 'ok');
  });

  test('bytes in flight to a follower are bounded', () => {
    const group = new Group({
      voters: [1, 2],
      maxInflightBytes: 20,
      maxSizePerMessage: 20,
      maxInflightMessages: 100,
    });
    const leader = group.elect(1);
    group.isolate(2);
    for (let i = 0; i < 10; i++) leader.raw.propose(bytes('1234567890'));
    const sent = leader.work().filter((m) => m.type === 'MsgApp' && m.entries.length > 0);
    assert.equal(sent.length, 2);
    assert.equal(leader.raw.status().progress.get(2)?.isPaused(), true);
  });

  test('messages in flight to a follower are bounded, and acknowledgements let more go', () => {
    const group = new Group({ voters: [1, 2], maxInflightMessages: 3, maxSizePerMessage: 1 });
    const leader = group.elect(1);
    for (let i = 0; i < 10; i++) leader.raw.propose(bytes('x'));
    group.work();
    assert.equal(group.wire.filter((m) => m.type === 'MsgApp').length, 3);
    group.run();
    assert.equal(group.at(2).texts().length, 10);
  });

  test('messages carry at most so many bytes, but at least one entry', () => {
    const group = new Group({ voters: [1, 2], maxSizePerMessage: 64 });
    const leader = group.elect(1);
    group.isolate(2);
    for (let i = 0; i < 10; i++) leader.raw.propose(bytes('x'.repeat(20)));
    leader.raw.propose(bytes('y'.repeat(500)));
    group.run();
    leader.raw.reportUnreachable(2);
    group.heal();
    const counts: number[] = [];
    group.cut = (m) => m.type === 'MsgApp' && m.entries.length > 0 && counts.push(m.entries.length) < 0;
    group.tick(1);
    group.run();
    assert.ok(Math.max(...counts) === 2 && counts.length >= 6, `entries per message: ${counts.join(' ')}`);
    assert.equal(group.at(2).texts().length, 11);
  });

  test('entries are handed out to be applied within the size limit, in order and without loss', () => {
    const group = new Group({ voters: [1], maxCommittedSizePerReady: 60 });
    const leader = group.elect(1);
    for (let i = 0; i < 20; i++) leader.raw.propose(bytes(`entry number ${i}`));
    const sizes: number[] = [];
    while (leader.raw.hasReady()) {
      const before = leader.applied.length;
      leader.work();
      sizes.push(leader.applied.length - before);
    }
    assert.ok(Math.max(...sizes) <= 2, `applied at once: ${sizes.join(' ')}`);
    assert.deepEqual(
      leader.texts(),
      Array.from({ length: 20 }, (_, i) => `entry number ${i}`),
    );
  });

  test('malformed messages are refused', () => {
    const group = new Group({ voters: [1, 2, 3] });
    const { raw } = group.at(2);
    const append = makeMessage('MsgApp', 2, { from: 1, term: 2, index: BASE, logTerm: 1 });
    const wrong: Message[] = [
      { ...append, entries: [normal(2, BASE + 2)] },
      { ...append, entries: [normal(3, BASE + 1)] },
      { ...append, entries: [normal(2, BASE + 1), normal(1, BASE + 2)] },
      { ...append, index: 1.5 },
      { ...append, commit: -1 },
      { ...append, term: NaN },
      makeMessage('MsgSnap', 2, { from: 1, term: 2 }),
      makeMessage('MsgProp', 2, { from: 1 }),
    ];
    for (const m of wrong) assert.equal(raw.step(m), 'malformed', JSON.stringify(m));
    assert.equal(raw.step(makeMessage('MsgHup', 2, { from: 1 })), 'local-message');
    assert.equal(raw.step(makeMessage('MsgAppResp', 2, { from: 9, term: 2 })), 'peer-not-found');
    assert.equal(raw.status().hardState.term, 1);
  });
});
