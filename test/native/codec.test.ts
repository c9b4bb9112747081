import assert from 'node:assert/strict';
import { test } from 'node:test';
import { zstdCompress, zstdDecompress } from '../../ts/native/codec.js';
import { SeededRandom } from './reference.js';

const random = new SeededRandom();
const hint = `seed ${random.seed}`;

test('what is compressed expands to itself', () => {
  for (const length of [0, 1, 100, 70_000, 1_500_000]) {
    const data = Buffer.alloc(length);
    for (let i = 0; i < length; i++) data[i] = (i * i) >> 7;
    for (const level of [-7, 1, 3, 12]) {
      const small = zstdCompress(data, level);
      assert.deepEqual(zstdDecompress(small, length), data);
    }
  }
  assert.ok(zstdCompress(Buffer.alloc(100_000)).length < 100);
});

test('content larger than allowed is refused, whatever the frame says', () => {
  const small = zstdCompress(Buffer.alloc(100_000));
  assert.throws(() => zstdDecompress(small, 99_999), { code: 'ERR_OSTRAKA_CODEC', message: /larger/ });
  assert.equal(zstdDecompress(small, 100_000).length, 100_000);
});

test('what is not exactly one whole frame is refused', () => {
  const good = zstdCompress(random.bytes(500));
  const bad = { code: 'ERR_OSTRAKA_CODEC' };
  for (let cut = 0; cut < good.length; cut++)
    assert.throws(() => zstdDecompress(good.subarray(0, cut), 10_000), bad, hint);
  assert.throws(() => zstdDecompress(Buffer.concat([good, good]), 10_000), bad);
  assert.throws(() => zstdDecompress(random.bytes(500), 10_000), bad, hint);
});
