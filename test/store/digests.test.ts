import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import { crc32c, crc64nvme } from '../../ts/native/hash.js'
import {
  CHECKSUM_ALGORITHMS,
  DIGEST_SIZE,
  PartHasher,
  digestsOf,
  fromBase64,
  toBase64,
  toHex,
} from '../../ts/store/digests.js'

const check = Buffer.from('123456789')

/** Bit by bit, straight from the definition. */
function slowCrc(data: Uint8Array, width: number, polynomial: bigint): bigint {
  const mask = (1n << BigInt(width)) - 1n
  let c = mask
  for (const byte of data) {
    c ^= BigInt(byte)
    for (let bit = 0; bit < 8; bit++) c = (c & 1n) === 1n ? (c >> 1n) ^ polynomial : c >> 1n
  }
  return c ^ mask
}

test('digests of one buffer are those of its stream', () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), fc.constantFrom(undefined, ...CHECKSUM_ALGORITHMS),
    fc.boolean(), (bytes, checksum, payloadSha256) => {
      const options = { ...(checksum === undefined ? {} : { checksum }), payloadSha256 }
      const hasher = new PartHasher(options)
      hasher.update(bytes)
      const { size, md5, checksum: value, payloadSha256: sha256 } = digestsOf(bytes, options)
      assert.deepEqual({ size, md5, checksum: value, payloadSha256: sha256 }, hasher.digests())
    }))
})

test('the five checksums have the published check values', () => {
  const expected: Record<string, string> = {
    CRC32: 'cbf43926',
    CRC32C: 'e3069283',
    CRC64NVME: 'ae8b14860a799888',
    SHA1: createHash('sha1').update(check).digest('hex'),
    SHA256: createHash('sha256').update(check).digest('hex'),
  }
  for (const algorithm of CHECKSUM_ALGORITHMS) {
    const hasher = new PartHasher({ checksum: algorithm })
    hasher.update(check)
    const { checksum, size, md5 } = hasher.digests()
    assert.equal(toHex(checksum!.value), expected[algorithm])
    assert.equal(checksum!.value.length, DIGEST_SIZE[algorithm])
    assert.equal(checksum!.type, 'FULL_OBJECT')
    assert.equal(size, 9)
    assert.equal(toHex(md5), '25f9e794323b453885f5181f1b624d0b')
  }
})

test('cutting a body anywhere changes no digest, and the CRCs equal their definition', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.array(fc.nat(300), { maxLength: 5 }), (data, cuts) => {
      const points = [...new Set([0, ...cuts.map((c) => Math.min(c, data.length)), data.length])].sort((a, b) => a - b)
      for (const checksum of CHECKSUM_ALGORITHMS) {
        const whole = new PartHasher({ checksum, payloadSha256: true })
        whole.update(data)
        const pieces = new PartHasher({ checksum, payloadSha256: true })
        for (let i = 1; i < points.length; i++) pieces.update(data.subarray(points[i - 1], points[i]))
        assert.deepEqual(pieces.digests(), whole.digests())
        assert.equal(whole.digests().payloadSha256, createHash('sha256').update(data).digest('hex'))
      }
      assert.equal(BigInt(crc32c(data)), slowCrc(data, 32, 0x82f63b78n))
      assert.equal(crc64nvme(data), slowCrc(data, 64, 0x9a6c9329ac4bc9b5n))
    }),
  )
})

test('base64 of a digest is accepted only in its one canonical form', () => {
  const value = Uint8Array.from([1, 2, 3, 255])
  assert.deepEqual(fromBase64(toBase64(value), 4), value)
  for (const wrong of ['', 'AQID/w=', 'AQID/w', 'AQID/x==', ' AQID/w==', 'AQID_w==', 'AQIDBAUG']) {
    assert.equal(fromBase64(wrong, 4), undefined, wrong)
  }
})

test('only what was asked for is computed', () => {
  const hasher = new PartHasher()
  hasher.update(check)
  for (const { checksum, payloadSha256 } of [hasher.digests(), digestsOf(check, {})]) {
    assert.deepEqual([checksum, payloadSha256], [undefined, undefined])
  }
  assert.throws(() => { hasher.update(check) })
})
