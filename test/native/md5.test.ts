import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { md5Digest, md5MaxPieces, md5Of, md5Size, md5Start, md5Update } from '../../ts/native/md5.js';
import { SeededRandom } from './reference.js';

const random = new SeededRandom();
const hint = `seed ${String(random.seed)}`;
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const openssl = (bytes: Uint8Array): string => createHash('md5').update(bytes).digest('hex');

test('one stream of every length up to 300 agrees with OpenSSL', () => {
  for (let length = 0; length <= 300; length++) {
    const data = random.bytes(length);
    const state = md5Start();
    md5Update([state], [data]);
    assert.equal(hex(md5Digest(state)), openssl(data), hint);
  }
});

test('many streams in pieces of any length and any order agree with OpenSSL', () => {
  for (let round = 0; round < 60; round++) {
    const count = 1 + random.below(40);
    const streams = Array.from({ length: count }, () => ({
      state: md5Start(), data: random.bytes(random.below(4) === 0 ? random.below(30) : random.below(5000)), at: 0,
    }));
    while (streams.some(({ data, at }) => at < data.length)) {
      const states: Uint8Array[] = [];
      const pieces: Uint8Array[] = [];
      const calls = 1 + random.below(md5MaxPieces);
      for (let i = 0; i < calls; i++) {
        const stream = streams[random.below(count)];
        if (stream === undefined) continue;
        const end = Math.min(stream.data.length, stream.at + random.below(1000));
        states.push(stream.state);
        pieces.push(stream.data.subarray(stream.at, end));
        stream.at = end;
      }
      md5Update(states, pieces);
    }
    for (const { state, data } of streams) assert.equal(hex(md5Digest(state)), openssl(data), hint);
  }
});

test('the digests of many pieces of any length agree with OpenSSL', () => {
  for (const count of [0, 1, 2, 3, 16, 17, 100, md5MaxPieces]) {
    const pieces = Array.from({ length: count }, () => random.bytes(random.below(random.below(3) === 0 ? 5000 : 130)));
    const digests = hex(md5Of(pieces));
    assert.equal(digests, pieces.map(openssl).join(''), hint);
    assert.equal(digests.length, 2 * md5Size * count);
  }
});

test('a digest in between leaves the stream as it is', () => {
  const state = md5Start();
  const data = random.bytes(1000);
  md5Update([state], [data.subarray(0, 70)]);
  assert.equal(hex(md5Digest(state)), openssl(data.subarray(0, 70)));
  md5Update([state], [data.subarray(70)]);
  assert.equal(hex(md5Digest(state)), openssl(data), hint);
});

test('arguments that do not fit are refused', () => {
  assert.throws(() => { md5Update([new Uint8Array(87)], [new Uint8Array(1)]); }, RangeError);
  assert.throws(() => { md5Update([md5Start()], []); }, RangeError);
  assert.throws(() => { md5Digest(new Uint8Array(5)); }, RangeError);
  assert.throws(() => { md5Of(Array.from({ length: md5MaxPieces + 1 }, () => new Uint8Array(1))); }, RangeError);
  assert.throws(() => { md5Of(['' as unknown as Uint8Array]); }, TypeError);
});

test('the same holds with narrower instruction sets', { skip: process.env['OSTRAKA_CPU'] !== undefined }, (t) => {
  for (const level of ['avx2', 'portable']) {
    const env: NodeJS.ProcessEnv = { ...process.env, OSTRAKA_CPU: level };
    delete env['NODE_TEST_CONTEXT'];
    const file = fileURLToPath(import.meta.url);
    const { status, stdout } = spawnSync(process.execPath, ['--test', file], { env, encoding: 'utf8' });
    if (stdout.includes('this CPU lacks')) t.diagnostic(`not tested: this CPU lacks ${level}`);
    else assert.equal(status, 0, stdout);
  }
});
