import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { describeMessage, describeTarget, quote } from '../../../../ts/meta/raft/core/describe.js';
import { Inflights } from '../../../../ts/meta/raft/core/inflights.js';
import { InvariantError } from '../../../../ts/meta/raft/core/invariant.js';
import { RaftLog } from '../../../../ts/meta/raft/core/log.js';
import { EMPTY_SNAPSHOT, MemoryStorage } from '../../../../ts/meta/raft/core/storage.js';
import {
  APPEND_THREAD,
  entrySize,
  limitedSlice,
  makeMessage,
  type Entry,
} from '../../../../ts/meta/raft/core/types.js';
import { Unstable } from '../../../../ts/meta/raft/core/unstable.js';
import { bytes } from '../support/group.js';

function entry(term: number, index: number, text = 'x'): Entry {
  return { term, index, type: 'EntryNormal', data: bytes(text) };
}

function entries(term: number, from: number, to: number): Entry[] {
  return Array.from({ length: to - from + 1 }, (_, i) => entry(term, from + i));
}

describe('in-flight window', () => {
  test('frees by index, and may overshoot its bytes by one message', () => {
    const window = new Inflights(3, 10);
    window.add(5, 4);
    window.add(7, 20);
    assert.ok(window.full());
    window.freeUpTo(6);
    assert.equal(window.count(), 1);
    assert.ok(window.full());
    window.freeUpTo(7);
    assert.equal(window.count(), 0);
    assert.ok(!window.full());
  });

  test('takes no more when it is full, and nothing out of order', () => {
    const window = new Inflights(2, Infinity);
    window.add(5, 0);
    assert.throws(() => window.add(5, 0), InvariantError);
    window.add(6, 0);
    assert.throws(() => window.add(7, 0), InvariantError);
  });
});

describe('unstable log', () => {
  test('keeps what was replaced under a write from being taken for durable', () => {
    const log = new Unstable(5);
    log.truncateAndAppend(entries(1, 5, 7));
    log.acceptInProgress();
    log.truncateAndAppend(entries(2, 6, 6));
    assert.deepEqual(
      log.nextEntries().map((one) => one.index),
      [6],
    );
    log.stableTo({ term: 1, index: 7 });
    log.stableTo({ term: 1, index: 6 });
    assert.equal(log.offset, 5);
    log.stableTo({ term: 1, index: 5 });
    assert.equal(log.offset, 6);
    log.stableTo({ term: 2, index: 6 });
    assert.equal(log.entries.length, 0);
  });

  test('is never handed out twice, nor with a gap', () => {
    const log = new Unstable(5);
    log.truncateAndAppend(entries(1, 5, 6));
    log.acceptInProgress();
    assert.deepEqual(log.nextEntries(), []);
    log.truncateAndAppend(entries(1, 7, 7));
    assert.deepEqual(
      log.nextEntries().map((one) => one.index),
      [7],
    );
    assert.throws(() => log.truncateAndAppend(entries(1, 9, 9)), InvariantError);
  });
});

describe('log', () => {
  test('reads across storage and what is not durable, within the size asked for', () => {
    const storage = new MemoryStorage();
    storage.applySnapshot({ ...EMPTY_SNAPSHOT, index: 3, term: 1 });
    storage.append(entries(1, 4, 6));
    const log = new RaftLog(storage, Infinity);
    log.append(entries(2, 7, 9));
    const indexes = (low: number, high: number, size: number): number[] | string => {
      const found = log.slice(low, high, size);
      return typeof found === 'string' ? found : found.map((one) => one.index);
    };
    assert.deepEqual(indexes(4, 10, Infinity), [4, 5, 6, 7, 8, 9]);
    const size = entrySize(entry(1, 4));
    assert.deepEqual(indexes(5, 10, 3 * size), [5, 6, 7]);
    assert.deepEqual(indexes(5, 10, 0), [5]);
    assert.deepEqual(indexes(3, 5, Infinity), 'compacted');
    assert.throws(() => log.slice(8, 11, Infinity), InvariantError);
    assert.deepEqual(
      [2, 3, 4, 9, 10].map((index) => log.term(index)),
      ['compacted', 1, 1, 2, 'unavailable'],
    );
  });

  test('refuses to replace what is committed', () => {
    const log = new RaftLog(new MemoryStorage(), Infinity);
    log.append(entries(1, 1, 3));
    log.commitTo(2);
    assert.throws(() => log.append(entries(2, 2, 2)), InvariantError);
    assert.throws(() => log.maybeAppend({ term: 1, index: 1 }, entries(2, 2, 2), 2), InvariantError);
    assert.throws(() => log.commitTo(4), InvariantError);
  });

  test('skips whole terms when it looks for where two logs part', () => {
    const log = new RaftLog(new MemoryStorage(), Infinity);
    log.append([...entries(1, 1, 3), ...entries(4, 4, 6), ...entries(7, 7, 9)]);
    assert.deepEqual(log.findConflictByTerm(9, 5), { index: 6, term: 4 });
    assert.deepEqual(log.findConflictByTerm(5, 3), { index: 3, term: 1 });
    assert.deepEqual(log.findConflictByTerm(2, 0), { index: 0, term: 0 });
  });
});

describe('descriptions', () => {
  test('name targets, and quote bytes', () => {
    assert.deepEqual([0, 10, 255, APPEND_THREAD].map(describeTarget), ['None', 'a', 'ff', 'AppendThread']);
    assert.equal(quote(bytes('a"b\\\n\t\u0001é')), '"a\\"b\\\\\\n\\t\\x01é"');
    assert.equal(quote(Uint8Array.of(0x61, 0xff, 0x0a)), '"a\\xff\\n"');
    const m = makeMessage('MsgAppResp', 2, { from: 10, term: 3, index: 4, reject: true, rejectHint: 2 });
    assert.equal(describeMessage(m), 'a->2 MsgAppResp Term:3 Log:0/4 Rejected (Hint: 2)');
  });

  test('and limits cut lists without looking at the rest', () => {
    const list = entries(1, 1, 100);
    const size = entrySize(list[0]!);
    assert.equal(limitedSlice(list, 10, 100, 5 * size).length, 5);
    assert.equal(limitedSlice(list, 10, 12, Infinity).length, 2);
    assert.equal(limitedSlice(list, 10, 10, Infinity).length, 0);
    assert.equal(limitedSlice(list, 0, 100, Infinity), list);
  });
});
