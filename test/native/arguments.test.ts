/** Nothing that JavaScript can pass may crash the process or be taken for something it is not. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MessageChannel } from 'node:worker_threads';
import fc from 'fast-check';
import { addon } from '../../ts/native/addon.js';
import { encode, reconstruct, sealBlock, sealStripe, verifyCells } from '../../ts/native/erasure.js';
import {
  checksum64, checksum64Behind, checksum64Matches, crc32c, crc64nvme, linkMatches, linkRecord, recordMatches,
  sealRecord, xxh3_128, xxh3_64,
} from '../../ts/native/hash.js';

const typeError = { name: 'TypeError', code: 'ERR_OSTRAKA_ARGUMENT' };
const rangeError = { name: 'RangeError', code: 'ERR_OSTRAKA_ARGUMENT' };
const bytes = (length: number): Uint8Array<ArrayBuffer> => new Uint8Array(length);

/** A view whose buffer has been moved to another owner. */
function detached(length: number): Uint8Array {
  const view = bytes(length);
  const { port1, port2 } = new MessageChannel();
  port1.postMessage(view, [view.buffer]);
  port1.close();
  port2.close();
  return view;
}

/** Calls a function of the addon as untyped JavaScript would. */
function callUntyped(name: string, args: readonly unknown[]): unknown {
  return Reflect.apply(Reflect.get(addon, name) as () => unknown, addon, args);
}

test('wrong types are named', () => {
  const wrong = [
    undefined,
    null,
    5,
    5n,
    'text',
    {},
    [],
    new ArrayBuffer(8),
    new Uint16Array(4),
    new DataView(new ArrayBuffer(8)),
  ];
  for (const value of wrong) {
    assert.throws(() => callUntyped('crc32c', [value, 0]), { ...typeError, message: /^data: expected a Uint8Array/ });
  }
  assert.throws(() => callUntyped('crc32c', [new SharedArrayBuffer(8), 0]), {
    ...typeError,
    message: /SharedArrayBuffer/,
  });
  assert.throws(() => callUntyped('crc32c', [bytes(1), '0']), { ...typeError, message: /running/ });
  assert.throws(() => callUntyped('xxh3_64', [bytes(1), 0]), { ...typeError, message: /seed/ });
  assert.throws(() => callUntyped('encode', [2, 1, 4, bytes(8), []]), {
    ...typeError,
    message: /data: expected an array/,
  });
});

test('numbers outside their range are refused', () => {
  for (const running of [-1, 2 ** 32, 0.5, NaN, Infinity]) assert.throws(() => crc32c(bytes(1), running), rangeError);
  for (const running of [-1n, 2n ** 64n]) assert.throws(() => crc64nvme(bytes(1), running), rangeError);
  assert.throws(() => xxh3_64(bytes(1), -1n), rangeError);
  for (const [k, m] of [[0, 1], [17, 0], [1, 16], [9, 8], [-1, 2], [1.5, 1]] as const) {
    assert.throws(() => encode(k, m, 1, [], []), rangeError);
  }
  for (const size of [0, -1, 2 ** 31, 1.5]) assert.throws(() => encode(1, 0, size, [bytes(1)], []), rangeError);
});

test('lengths that do not fit are refused', () => {
  assert.throws(() => encode(2, 1, 8, [bytes(8)], [bytes(8)]), rangeError);
  assert.throws(() => encode(2, 1, 8, [bytes(8), bytes(7)], [bytes(8)]), rangeError);
  assert.throws(() => encode(2, 1, 8, [bytes(8), bytes(8)], [bytes(9)]), rangeError);
  const shape = { k: 2, m: 1, blockSize: 8, stride: 24 };
  assert.throws(() => sealStripe(bytes(71), shape, bytes(16), 0), rangeError);
  assert.throws(() => sealStripe(bytes(72), shape, bytes(15), 0), rangeError);
  assert.throws(() => sealStripe(bytes(99), { ...shape, stride: 23 }, bytes(16), 0), rangeError);
  assert.throws(() => sealStripe(bytes(72), shape, bytes(16), 2 ** 32), rangeError);
  assert.throws(() => sealStripe(bytes(72), shape, bytes(16), 0, [bytes(9), bytes(8)]), rangeError);
  const many = Array.from({ length: 257 }, () => bytes(0));
  assert.throws(() => sealStripe(bytes(72), shape, bytes(16), 0, many), rangeError);
  assert.throws(() => sealBlock(bytes(16), bytes(16), 0, 0), rangeError);
  assert.throws(() => verifyCells(bytes(47), 8, 2, 8, bytes(16), 0, 0), rangeError);
  assert.throws(() => verifyCells(bytes(48), 8, 2, 9, bytes(16), 0, 0), rangeError);
  assert.throws(() => verifyCells(bytes(48), 8, 2, 8, bytes(16), 0, 2 ** 32 - 1), rangeError);
  assert.throws(() => xxh3_128(bytes(1), 0n, bytes(15)), rangeError);
  for (const offset of [-1, 1, 2 ** 53]) assert.throws(() => checksum64(bytes(8), offset, []), rangeError);
  assert.throws(() => checksum64(bytes(7), 0, []), rangeError);
  for (const record of [bytes(0), bytes(7)]) {
    assert.throws(() => { sealRecord(record, bytes(3)); }, rangeError);
    assert.throws(() => recordMatches(record, bytes(3)), rangeError);
    assert.throws(() => { linkRecord(record, 0, bytes(3)); }, rangeError);
    assert.throws(() => linkMatches(record, 0, bytes(3)), rangeError);
  }
  for (const offset of [-1, 1, 2 ** 53]) assert.throws(() => { linkRecord(bytes(8), offset, bytes(3)); }, rangeError);
  for (const [from, to] of [[-1, 0], [1, 0], [0, 1], [0, -8], [0, 2 ** 40], [0, 0.5]] as const) {
    assert.throws(() => { checksum64Behind(bytes(8), from, to, 0); }, rangeError);
  }
  assert.throws(() => checksum64Matches(bytes(8), 0, Array.from({ length: 257 }, () => bytes(1))), rangeError);
});

test('reconstruction refuses too few blocks and shards that are not there or there twice', () => {
  const out = [bytes(4), bytes(4)];
  assert.throws(() => reconstruct(2, 1, 4, [bytes(4), null, null], [1], [bytes(4)]), {
    ...rangeError,
    message: /at least 2/,
  });
  assert.throws(() => reconstruct(2, 1, 4, [bytes(4), bytes(4), null], [3], [bytes(4)]), rangeError);
  assert.throws(() => reconstruct(2, 1, 4, [bytes(4), bytes(4), null], [2, 2], out), rangeError);
  assert.throws(() => reconstruct(2, 1, 4, [bytes(4), bytes(4), null], [2], out), rangeError);
  assert.throws(
    () => callUntyped('reconstruct', [2, 1, 4, [bytes(4), bytes(4), undefined], [2], [bytes(4)]]),
    typeError,
  );
});

test('detached buffers are refused', () => {
  for (const call of [
    () => crc32c(detached(8)),
    () => crc64nvme(detached(8)),
    () => xxh3_64(detached(0)),
    () => checksum64(bytes(8), 0, [bytes(1), detached(4)]),
    () => checksum64(detached(8), 0, []),
    () => { sealRecord(detached(8), bytes(1)); },
    () => recordMatches(bytes(8), detached(8)),
    () => { linkRecord(detached(8), 0, bytes(1)); },
    () => linkMatches(bytes(8), 0, detached(8)),
    () => { checksum64Behind(detached(8), 0, 0, 0); },
    () => encode(1, 1, 8, [detached(8)], [bytes(8)]),
    () => encode(1, 1, 8, [bytes(8)], [detached(8)]),
    () => sealBlock(detached(32), bytes(16), 0, 0),
    () => addon.zstdCompress(detached(8), 3),
    () => addon.zstdDecompress(detached(8), 100),
  ]) {
    assert.throws(call, { ...typeError, message: /detached/ });
  }
});

test('outputs that overlap anything are refused, inputs may be the same', () => {
  const memory = bytes(64);
  const view = (start: number): Uint8Array => memory.subarray(start, start + 16);
  assert.throws(() => encode(2, 1, 16, [view(0), view(16)], [view(31)]), {
    ...rangeError,
    message: /overlaps an input/,
  });
  assert.throws(() => encode(1, 2, 16, [view(0)], [view(16), view(31)]), { ...rangeError, message: /outputs overlap/ });
  assert.throws(() => reconstruct(1, 1, 16, [view(0), null], [1], [view(8)]), rangeError);
  assert.throws(() => reconstruct(1, 2, 16, [view(0), null, null], [1, 2], [view(16), view(20)]), rangeError);
  encode(2, 1, 16, [view(0), view(0)], [view(16)]);
  const slab = bytes(72);
  const shape = { k: 2, m: 1, blockSize: 8, stride: 24 };
  assert.throws(() => sealStripe(slab, shape, slab.subarray(8, 24), 0), rangeError);
  assert.throws(() => sealStripe(slab, shape, bytes(16), 0, [slab.subarray(70, 71)]), rangeError);
});

test('a getter that detaches a buffer while the arguments are read does no harm', () => {
  const victim = bytes(4096);
  const list: unknown[] = [victim, null];
  Object.defineProperty(list, 1, {
    get() {
      const { port1, port2 } = new MessageChannel();
      port1.postMessage(victim, [victim.buffer]);
      port1.close();
      port2.close();
      return bytes(4096);
    },
  });
  assert.throws(() => callUntyped('encode', [2, 1, 4096, list, [bytes(4096)]]), typeError);
  const throwing: unknown[] = [0];
  Object.defineProperty(throwing, 0, {
    get() {
      throw new Error('from the getter');
    },
  });
  assert.throws(() => callUntyped('checksum64', [bytes(8), 0, throwing, 0]), /from the getter/);
});

test('whatever is passed to any function, it returns or throws a typed error', () => {
  const values = fc.oneof(
    fc.anything(),
    fc.integer({ min: -2, max: 40 }),
    fc.bigInt({ min: -2n, max: 2n ** 65n }),
    fc.uint8Array({ maxLength: 64 }),
    fc.array(fc.oneof(fc.uint8Array({ maxLength: 32 }), fc.constant(null), fc.integer()), { maxLength: 20 }),
    fc.constantFrom(
      new SharedArrayBuffer(16),
      new Uint8Array(new SharedArrayBuffer(16)),
      detached(8),
      new ArrayBuffer(8),
    ),
  );
  const names = fc.constantFrom(
    ...Object.keys(addon).filter((name) =>
      /^(encode|reconstruct|parity|seal|verify|xxh|crc|checksum|zstd)/.test(name),
    ),
  );
  fc.assert(
    fc.property(names, fc.array(values, { maxLength: 8 }), (name, args) => {
      try {
        callUntyped(name, args);
      } catch (error) {
        assert.ok(error instanceof Error);
        assert.match(String(Reflect.get(error, 'code')), /^ERR_OSTRAKA_(ARGUMENT|CODEC)$/, `${name}: ${error.message}`);
      }
    }),
    { numRuns: 5000 },
  );
});
