import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { decodeMessage, encodeMessage, MessageFormatError } from '../../../ts/meta/raft/codec.js';
import { makeMessage, type Entry, type Message } from '../../../ts/meta/raft/core/types.js';

const count = fc.maxSafeNat();
const data = fc.uint8Array({ maxLength: 20 });
const entry: fc.Arbitrary<Entry> = fc
  .tuple(count, count, fc.constantFrom('EntryNormal', 'EntryConfChange', 'EntryConfChangeV2'), data)
  .map(([term, index, type, bytes]) => ({ term, index, type, data: bytes }));
const ids = fc.array(count, { maxLength: 5 });
const snapshot = fc
  .tuple(count, count, fc.tuple(ids, ids, ids, ids), fc.boolean(), data)
  .map(([index, term, [voters, votersOutgoing, learners, learnersNext], autoLeave, bytes]) => {
    return {
      index,
      term,
      confState: { voters, votersOutgoing, learners, learnersNext, autoLeave },
      data: bytes,
    };
  });
const id = fc.option(fc.record({ term: count, index: count }, { noNullPrototype: true }), { nil: undefined });
const message: fc.Arbitrary<Message> = fc
  .tuple(
    fc.constantFrom(
      'MsgApp',
      'MsgProp',
      'MsgSnap',
      'MsgVote',
      'MsgTimeoutNow',
      'MsgHeartbeat',
      'MsgReadIndexResp',
    ),
    fc.array(count, { minLength: 9, maxLength: 9 }),
    fc.tuple(fc.boolean(), fc.boolean()),
    fc.array(entry, { maxLength: 4 }),
    fc.option(snapshot, { nil: undefined }),
    fc.tuple(id, id),
  )
  .map(([type, numbers, [reject, force], entries, snap, [lastId, committed]]) => {
    const [to, from, term, logTerm, index, commit, rejectHint, round, requestId] = numbers;
    return makeMessage(type, to!, {
      ...{ from: from!, term: term!, logTerm: logTerm!, index: index!, commit: commit! },
      ...{ rejectHint: rejectHint!, round: round!, requestId: requestId!, reject, force, entries },
      snapshot: snap,
      lastId,
      committed,
    });
  });

/** With bytes as lists, since a Buffer and a plain byte array of equal content are equal here. */
function plain(m: Message): unknown {
  const bytes = <T extends { readonly data: Uint8Array }>(one: T): unknown => ({
    ...one,
    data: [...one.data],
  });
  return {
    ...m,
    entries: m.entries.map(bytes),
    snapshot: m.snapshot === undefined ? undefined : bytes(m.snapshot),
  };
}

describe('message codec', () => {
  test('gives back every message', () => {
    fc.assert(
      fc.property(message, (m) => {
        assert.deepEqual(plain(decodeMessage(encodeMessage(m))), plain(m));
      }),
    );
  });

  test('refuses bytes of any other form, and nothing but with its own error', () => {
    const mutated = fc
      .tuple(message, fc.nat(), fc.nat({ max: 255 }), fc.nat({ max: 3 }))
      .map(([m, at, byte, cut]) => {
        const bytes = Uint8Array.from(encodeMessage(m));
        bytes[at % bytes.length] = byte;
        return cut === 0 ? bytes.subarray(0, at % bytes.length) : bytes;
      });
    fc.assert(
      fc.property(fc.oneof(mutated, fc.uint8Array({ maxLength: 60 })), (bytes) => {
        try {
          const m = decodeMessage(bytes);
          for (const one of m.entries)
            assert.ok(Number.isSafeInteger(one.index) && one.data instanceof Uint8Array);
        } catch (error) {
          assert.ok(error instanceof MessageFormatError, String(error));
        }
      }),
      { numRuns: 2000 },
    );
  });

  test('does not let local messages out', () => {
    assert.throws(() => encodeMessage(makeMessage('MsgHup', 1)), MessageFormatError);
  });
});
