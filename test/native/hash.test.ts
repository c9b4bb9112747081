import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  checksum64, checksum64Behind, checksum64Matches, crc32c, crc64nvme, linkMatches, linkRecord, recordMatches,
  sealRecord, xxh3_128, xxh3_64,
} from '../../ts/native/hash.js';
import { SeededRandom } from './reference.js';

const random = new SeededRandom();
const hint = `seed ${random.seed}`;
const check = Buffer.from('123456789');

test('CRCs of the check string are the published ones', () => {
  assert.equal(crc32c(check), 0xe3069283);
  assert.equal(crc64nvme(check), 0xae8b14860a799888n);
  assert.equal(crc32c(new Uint8Array(0)), 0);
  assert.equal(crc64nvme(new Uint8Array(0)), 0n);
});

test('CRC32C of the vectors of RFC 3720', () => {
  assert.equal(crc32c(new Uint8Array(32)), 0x8a9136aa);
  assert.equal(crc32c(new Uint8Array(32).fill(0xff)), 0x62a8ab43);
  assert.equal(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i)), 0x46dd794e);
  assert.equal(crc32c(Uint8Array.from({ length: 32 }, (_, i) => 31 - i)), 0x113fdb5c);
});

test('a CRC carried on over pieces is the CRC of the whole', () => {
  const data = random.bytes(50_000);
  for (let round = 0; round < 20; round++) {
    let of32 = 0;
    let of64 = 0n;
    for (let start = 0; start < data.length; ) {
      const piece = data.subarray(start, start + random.below(3000));
      of32 = crc32c(piece, of32);
      of64 = crc64nvme(piece, of64);
      start += piece.length;
    }
    assert.equal(of32, crc32c(data), hint);
    assert.equal(of64, crc64nvme(data), hint);
  }
});

test('a CRC depends on every bit', () => {
  const data = random.bytes(1000);
  const before = { of32: crc32c(data), of64: crc64nvme(data) };
  for (let bit = 0; bit < 8000; bit++) {
    data[bit >> 3] = (data[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    assert.notEqual(crc32c(data), before.of32);
    assert.notEqual(crc64nvme(data), before.of64);
    data[bit >> 3] = (data[bit >> 3] ?? 0) ^ (1 << (bit & 7));
  }
});

test('XXH3 gives the published values, seeds matter', () => {
  assert.equal(xxh3_64(new Uint8Array(0)), 0x2d06800538d394c2n);
  const empty = Buffer.from(xxh3_128(new Uint8Array(0))).toString('hex');
  assert.equal(empty, '99aa06d3014798d86001c324468d497f');
  assert.notEqual(xxh3_64(check), xxh3_64(check, 1n));
  assert.notEqual(xxh3_64(check, 1n), xxh3_64(check, 2n ** 63n + 1n));
  const out = new Uint8Array(16);
  assert.equal(xxh3_128(check, 5n, out), out);
  assert.deepEqual(xxh3_128(check, 5n), out);
});

test('a record checksum is the big-endian XXH3-64 of its parts joined', () => {
  for (let round = 0; round < 50; round++) {
    const data = random.bytes(random.below(2000));
    const parts: Uint8Array[] = [];
    for (let start = 0; start < data.length; ) {
      const piece = data.subarray(start, start + random.below(400));
      parts.push(piece);
      start += piece.length;
    }
    const record = Buffer.alloc(20, 0xcc);
    checksum64(record, 5, parts, 77);
    assert.equal(record.readBigUInt64BE(5), xxh3_64(data, 77n), hint);
    assert.ok(record.subarray(0, 5).every((byte) => byte === 0xcc));
    assert.ok(record.subarray(13).every((byte) => byte === 0xcc));
    assert.equal(checksum64Matches(record, 5, parts, 77), true);
    const behind = Buffer.from(record);
    checksum64Behind(behind, 1, 12, 77);
    assert.equal(checksum64Matches(behind, 12, [record.subarray(1, 12)], 77), true);
    assert.deepEqual([behind.subarray(0, 12), behind.subarray(20)], [record.subarray(0, 12), record.subarray(20)]);
    assert.equal(checksum64Matches(record, 5, parts, 78), false);
    assert.equal(checksum64Matches(record, 4, parts, 77), false);
  }
});

test('records of a view are sealed and linked as checksums of lists say', () => {
  for (let round = 0; round < 50; round++) {
    const key = random.bytes(random.below(300));
    const record = Buffer.from(random.bytes(16 + random.below(600)));
    const like = Buffer.from(record);
    linkRecord(record, 8, key);
    checksum64(like, 8, [key]);
    sealRecord(record, key);
    checksum64(like, 0, [key, like.subarray(8)]);
    assert.deepEqual(record, like, hint);
    assert.deepEqual([recordMatches(record, key), linkMatches(record, 8, key)], [true, true], hint);
    const other = Buffer.concat([key, Buffer.of(0)]);
    assert.deepEqual([recordMatches(record, other), linkMatches(record, 8, other)], [false, false], hint);
    const at = random.below(record.length);
    record[at] = (record[at] as number) ^ 1;
    assert.equal(recordMatches(record, key), false, hint);
  }
});
