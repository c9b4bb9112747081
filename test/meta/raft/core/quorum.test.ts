import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { Changer, restoreConfiguration } from '../../../../ts/meta/raft/core/changer.js';
import {
  decodeConfChange,
  encodeConfChange,
  type ConfChange,
  type ConfChangeOp,
} from '../../../../ts/meta/raft/core/confchange.js';
import {
  jointCommitted,
  jointVote,
  majorityCommitted,
  majorityVote,
} from '../../../../ts/meta/raft/core/quorum.js';
import { confStateOf, Tracker } from '../../../../ts/meta/raft/core/tracker.js';

const voters = fc.uniqueArray(fc.integer({ min: 1, max: 9 }), { maxLength: 7 });
const acked = fc.dictionary(fc.integer({ min: 1, max: 9 }).map(String), fc.nat({ max: 20 }));
const votes = fc
  .dictionary(fc.integer({ min: 1, max: 9 }).map(String), fc.boolean())
  .map((answers) => new Map(Object.entries(answers).map(([id, yes]) => [Number(id), yes])));

const op: fc.Arbitrary<ConfChangeOp> = fc.record({
  kind: fc.constantFrom('add-node', 'add-learner', 'remove-node', 'update-node'),
  nodeId: fc.integer({ min: 1, max: 6 }),
});

describe('quorums', () => {
  test('the committed index is the largest that more than half have reached', () => {
    fc.assert(
      fc.property(voters, acked, (ids, known) => {
        const lookup = (id: number): number | undefined => known[String(id)];
        const reached = (index: number): boolean =>
          2 * ids.filter((id) => (lookup(id) ?? 0) >= index).length > ids.length;
        const candidates = Array.from({ length: 21 }, (_, i) => i).filter(reached);
        const expected = ids.length === 0 ? Infinity : Math.max(0, ...candidates);
        assert.equal(majorityCommitted(ids, lookup), expected);
      }),
    );
  });

  test('a vote is won or lost only when the missing answers cannot change that', () => {
    fc.assert(
      fc.property(voters, votes, fc.boolean(), (ids, answers, rest) => {
        const result = majorityVote(ids, answers);
        const complete = new Map(ids.map((id) => [id, answers.get(id) ?? rest]));
        const end = majorityVote(ids, complete);
        assert.notEqual(end, 'VotePending');
        if (result !== 'VotePending') assert.equal(end, result);
      }),
    );
  });

  test('a joint quorum needs both halves', () => {
    fc.assert(
      fc.property(voters, voters, votes, acked, (a, b, answers, known) => {
        const both = [majorityVote(a, answers), majorityVote(b, answers)];
        const expected = both.includes('VoteLost')
          ? 'VoteLost'
          : both.includes('VotePending')
            ? 'VotePending'
            : 'VoteWon';
        assert.equal(jointVote(a, b, answers), expected);
        const lookup = (id: number): number | undefined => known[String(id)];
        assert.equal(
          jointCommitted(a, b, lookup),
          Math.min(majorityCommitted(a, lookup), majorityCommitted(b, lookup)),
        );
      }),
    );
  });
});

describe('membership changes', () => {
  test('any reachable configuration is restored exactly from its snapshot form', () => {
    const step = fc.oneof(
      fc.record({ how: fc.constant('simple' as const), ops: fc.array(op, { maxLength: 3 }) }),
      fc.record({ how: fc.constant('enter' as const), ops: fc.array(op, { maxLength: 6 }) }),
      fc.record({ how: fc.constant('leave' as const), ops: fc.constant([]) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 12 }), fc.boolean(), (steps, autoLeave) => {
        const tracker = new Tracker(10, Infinity);
        for (const { how, ops } of [
          { how: 'simple' as const, ops: [{ kind: 'add-node' as const, nodeId: 1 }] },
          ...steps,
        ]) {
          const changer = new Changer(tracker, 5);
          const before = [...tracker.config.incoming, ...tracker.config.outgoing];
          const result =
            how === 'simple'
              ? changer.simple(ops)
              : how === 'enter'
                ? changer.enterJoint(autoLeave, ops)
                : changer.leaveJoint();
          if ('refused' in result) continue;
          // Every quorum of before meets every quorum of after.
          if (how === 'simple' && before.length > 0)
            assertIntersect(tracker.config.incoming, result.config.incoming);
          tracker.config = result.config;
          tracker.progress = result.progress;
        }
        const copy = new Tracker(10, Infinity);
        const restored = restoreConfiguration(copy, 5, confStateOf(tracker.config));
        assert.deepEqual(restored.config, tracker.config);
        assert.deepEqual(
          [...restored.progress].map(([id, progress]) => [id, progress.learner]),
          [...tracker.progress].map(([id, progress]) => [id, progress.learner]),
        );
      }),
    );
  });

  test('the bytes of a change give it back, and other bytes never pass for one by accident', () => {
    const any: fc.Arbitrary<ConfChange> = fc.record({
      version: fc.constant(2 as const),
      transition: fc.constantFrom('auto', 'implicit', 'explicit'),
      changes: fc.array(
        fc.tuple(op, fc.maxSafeNat()).map(([{ kind }, nodeId]) => ({ kind, nodeId })),
        { maxLength: 5 },
      ),
      context: fc.uint8Array({ maxLength: 10 }),
    });
    fc.assert(
      fc.property(any, (change) => {
        const entry = {
          term: 1,
          index: 1,
          type: 'EntryConfChangeV2',
          data: encodeConfChange(change),
        } as const;
        const decoded = decodeConfChange(entry);
        assert.ok(decoded !== undefined);
        assert.deepEqual(
          { ...decoded, context: [...decoded.context] },
          { ...change, context: [...change.context] },
        );
      }),
    );
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), fc.boolean(), (data, v1) => {
        const type = v1 ? 'EntryConfChange' : 'EntryConfChangeV2';
        const change = decodeConfChange({ term: 1, index: 1, type, data });
        for (const one of change?.changes ?? [])
          assert.ok(Number.isSafeInteger(one.nodeId) && one.nodeId >= 0);
      }),
    );
  });
});

function assertIntersect(a: readonly number[], b: readonly number[]): void {
  const common = a.filter((id) => b.includes(id)).length;
  const needA = Math.floor(a.length / 2) + 1;
  const needB = Math.floor(b.length / 2) + 1;
  // The least overlap of two quorums: what they cannot place outside the common part.
  const outsideA = Math.min(needA, a.length - common);
  const outsideB = Math.min(needB, b.length - common);
  assert.ok(needA - outsideA + (needB - outsideB) > common, `${a.join(' ')} and ${b.join(' ')}`);
}
