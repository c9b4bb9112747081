import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { addon } from '../../ts/native/addon.js';
import {
  checksumSize,
  encode,
  erasureKernel,
  parityAgrees,
  reconstruct,
  sealBlock,
  sealStripe,
  slabMemory,
  verifyCells,
} from '../../ts/native/erasure.js';
import { xxh3_128, xxh3_64 } from '../../ts/native/hash.js';
import { encodeSlowly, SeededRandom } from './reference.js';

const largestSet = 16;
const random = new SeededRandom();
const hint = `seed ${random.seed}`;

/** Fails unless the shards `lost` come back from the others. */
function checkLoss(k: number, m: number, shards: readonly Uint8Array[], lost: readonly number[]): void {
  const size = shards[0]?.length ?? 0;
  const given = shards.map((block, shard) => (lost.includes(shard) ? null : block));
  const out = lost.map(() => Buffer.alloc(size, 0xee));
  reconstruct(k, m, size, given, lost, out);
  lost.forEach((shard, j) => {
    assert.deepEqual(out[j], Buffer.from(shards[shard] ?? []), `${k}+${m} lost ${lost.join()} shard ${shard}, ${hint}`);
  });
}

/** Every subset of 0..total-1 with at most m members. */
function* lossPatterns(total: number, m: number): Generator<number[]> {
  for (let mask = 0; mask < 2 ** total; mask++) {
    const lost = Array.from({ length: total }, (_, shard) => shard).filter((shard) => (mask >> shard) & 1);
    if (lost.length <= m) yield lost;
  }
}

test('every geometry from 1+0 to 16 shards encodes like the slow reference and survives random losses', () => {
  for (let total = 1; total <= largestSet; total++) {
    for (let k = 1; k <= total; k++) {
      const m = total - k;
      const size = 1 + random.below(200);
      const data = Array.from({ length: k }, () => random.bytes(size));
      const shards = encodeSlowly(k, m, data);
      const parity = Array.from({ length: m }, () => Buffer.alloc(size, 0xee));
      encode(k, m, size, data, parity);
      parity.forEach((block, i) => assert.deepEqual(block, Buffer.from(shards[k + i] ?? []), `${k}+${m}, ${hint}`));
      assert.equal(parityAgrees(k, m, size, shards), true);
      for (let round = 0; round < 10; round++) checkLoss(k, m, shards, random.choose(random.below(m + 1), total));
      checkLoss(k, m, shards, random.choose(m, total));
    }
  }
});

test('every loss pattern of every geometry of up to 8 shards is rebuilt', () => {
  for (let total = 1; total <= 8; total++) {
    for (let k = 1; k <= total; k++) {
      const m = total - k;
      const shards = encodeSlowly(k, m, Array.from({ length: k }, () => random.bytes(33)));
      for (const lost of lossPatterns(total, m)) checkLoss(k, m, shards, lost);
    }
  }
});

test('views at odd offsets and over shared memory work', () => {
  const size = 1001;
  const memory = new Uint8Array(new SharedArrayBuffer(16 * (size + 3)));
  const view = (i: number): Uint8Array => memory.subarray(i * (size + 3) + 1, i * (size + 3) + 1 + size);
  const data = [0, 1, 2].map((i) => {
    view(i).set(random.bytes(size));
    return view(i);
  });
  encode(3, 2, size, data, [view(3), view(4)]);
  const expected = encodeSlowly(3, 2, data);
  [3, 4].forEach((i) => assert.deepEqual(Buffer.from(view(i)), Buffer.from(expected[i] ?? []), hint));
  reconstruct(3, 2, size, [null, null, view(2), view(3), view(4)], [1, 0], [view(11), view(10)]);
  assert.deepEqual(Buffer.from(view(10)), Buffer.from(view(0)), hint);
  assert.deepEqual(Buffer.from(view(11)), Buffer.from(view(1)), hint);
});

test('parity that does not belong to the data is seen', () => {
  const shards = encodeSlowly(4, 3, Array.from({ length: 4 }, () => random.bytes(5000)));
  for (const block of shards) {
    const place = random.below(5000);
    block[place] = (block[place] ?? 0) ^ 1;
    assert.equal(parityAgrees(4, 3, 5000, shards), false, hint);
    block[place] = (block[place] ?? 0) ^ 1;
  }
  assert.equal(parityAgrees(4, 3, 5000, shards), true);
});

/** The checksum as the format page words it. */
function checksumOf(block: Uint8Array, dataId: Uint8Array, shard: number, blockNumber: number): Buffer {
  const place = Buffer.alloc(21);
  place.set(dataId);
  place.writeUInt8(shard, 16);
  place.writeUInt32LE(blockNumber, 17);
  return Buffer.from(xxh3_128(block, xxh3_64(place)));
}

test('a sealed stripe holds parity and checksums, and leaves the rest of the slab alone', () => {
  const shape = { k: 3, m: 2, blockSize: 500, stride: 530 };
  const slab = Buffer.alloc(5 * shape.stride, 0xab);
  const dataId = random.bytes(16);
  const cell = (i: number): Buffer =>
    slab.subarray(i * shape.stride, i * shape.stride + checksumSize + shape.blockSize);
  const data = [0, 1, 2].map((i) => {
    cell(i).set(random.bytes(500), checksumSize);
    return cell(i).subarray(checksumSize);
  });
  const shards = encodeSlowly(3, 2, data);
  sealStripe(slab, shape, dataId, 0xfffffffe);
  for (let i = 0; i < 5; i++) {
    assert.deepEqual(cell(i).subarray(checksumSize), Buffer.from(shards[i] ?? []), hint);
    assert.deepEqual(cell(i).subarray(0, checksumSize), checksumOf(shards[i] ?? slab, dataId, i, 0xfffffffe), hint);
    const gap = slab.subarray(i * shape.stride + 516, (i + 1) * shape.stride);
    assert.ok(gap.every((byte) => byte === 0xab));
    assert.equal(verifyCells(cell(i), 500, 1, 500, dataId, i, 0xfffffffe), -1);
    assert.equal(verifyCells(cell(i), 500, 1, 500, dataId, (i + 1) % 5, 0xfffffffe), 0, 'another shard');
    assert.equal(verifyCells(cell(i), 500, 1, 500, dataId, i, 0xfffffffd), 0, 'another block');
  }
});

test('a stripe split from pieces is sealed like one laid out by hand, with zeros behind the last piece', () => {
  for (let round = 0; round < 60; round++) {
    const k = 1 + random.below(8);
    const m = random.below(5);
    const blockSize = 1 + random.below(round % 4 === 0 ? 9000 : 700);
    const shape = { k, m, blockSize, stride: blockSize + checksumSize + random.below(70) };
    const bytes = (k + m) * shape.stride;
    const [byHand, fused] = [Buffer.alloc(bytes, 0xcd), Buffer.alloc(bytes, 0xcd)];
    const body = random.bytes(random.below(k * blockSize + 1));
    for (let i = 0; i < k; i++) {
      const cell = byHand.subarray(i * shape.stride + checksumSize, i * shape.stride + checksumSize + blockSize);
      cell.fill(0).set(body.subarray(i * blockSize, (i + 1) * blockSize));
    }
    const pieces: Uint8Array[] = [];
    for (let at = 0; at < body.length; ) {
      const piece = body.subarray(at, at + random.below(blockSize * 2));
      if (pieces.length < 200) pieces.push(piece);
      else pieces.push(body.subarray(at));
      at += pieces.at(-1)?.length ?? 0;
    }
    const dataId = random.bytes(16);
    sealStripe(byHand, shape, dataId, round);
    sealStripe(fused, shape, dataId, round, pieces);
    assert.ok(byHand.equals(fused), hint);
  }
});

test('cells are verified in one call, down to a short last one', () => {
  const dataId = random.bytes(16);
  const cells = random.bytes(3 * (16 + 64) + 16 + 9);
  for (let i = 0; i < 4; i++) sealBlock(cells.subarray(i * 80, i * 80 + (i === 3 ? 25 : 80)), dataId, 7, 40 + i);
  assert.equal(verifyCells(cells, 64, 4, 9, dataId, 7, 40), -1);
  assert.equal(verifyCells(cells.subarray(80), 64, 3, 9, dataId, 7, 41), -1);
  assert.equal(verifyCells(new Uint8Array(0), 64, 0, 0, dataId, 7, 40), -1);
  for (const place of [0, 79, 80, 200, cells.length - 1]) {
    cells[place] = (cells[place] ?? 0) ^ 0x80;
    assert.equal(verifyCells(cells, 64, 4, 9, dataId, 7, 40), Math.floor(place / 80), hint);
    cells[place] = (cells[place] ?? 0) ^ 0x80;
  }
});

test('the same holds with the portable kernel', { skip: process.env['OSTRAKA_CPU'] !== undefined }, () => {
  assert.notEqual(erasureKernel(), 'portable');
  const env: NodeJS.ProcessEnv = { ...process.env, OSTRAKA_CPU: 'portable' };
  delete env['NODE_TEST_CONTEXT'];
  for (const name of ['erasure.test.js', 'hash.test.js']) {
    const file = fileURLToPath(new URL(name, import.meta.url));
    const { status, stdout } = spawnSync(process.execPath, ['--test', file], { env, encoding: 'utf8' });
    assert.equal(status, 0, stdout);
  }
  const loader = fileURLToPath(new URL('../../ts/native/erasure.js', import.meta.url));
  const script = `import(${JSON.stringify(loader)}).then((door) => console.log(door.erasureKernel()))`;
  assert.equal(spawnSync(process.execPath, ['-e', script], { env, encoding: 'utf8' }).stdout.trim(), 'portable');
  const mistaken = { ...env, OSTRAKA_CPU: 'fast' };
  assert.match(spawnSync(process.execPath, ['-e', script], { env: mistaken, encoding: 'utf8' }).stderr, /OSTRAKA_CPU/);
});

test('the blocks of a slab begin at cache lines', () => {
  for (const bytes of [17, 4096, 100_000, 3 << 19]) {
    const slab = slabMemory(bytes);
    assert.equal(slab.length, bytes);
    assert.equal(addon.indexPadding(slab.subarray(checksumSize)), 0, 'bytes up to the next line');
  }
});
