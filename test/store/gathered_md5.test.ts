import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'

import { PartHasher } from '../../ts/store/digests.js'
import { GatheredMd5, WholeMd5 } from '../../ts/store/gathered_md5.js'

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
const openssl = (bytes: Uint8Array): string => createHash('md5').update(bytes).digest('hex')

test('streams that take turns get the digests that OpenSSL gives, whenever they end', async () => {
  const streams = Array.from({ length: 40 }, (_, i) => ({ md5: new GatheredMd5(), data: randomBytes(i * 2000), at: 0 }))
  const open = new Set(streams)
  for (let round = 0; open.size > 0; round++) {
    for (const stream of open) {
      const piece = stream.data.subarray(stream.at, stream.at + 1 + ((round * 7919 + stream.data.length) % 3000))
      stream.md5.update(piece)
      stream.at += piece.length
      if (stream.at < stream.data.length) continue
      open.delete(stream)
      assert.equal(hex(stream.md5.digest()), openssl(stream.data))
    }
    if (round % 3 === 0) await turn()
  }
})

test('more pieces and more bytes in one turn than are gathered at once', () => {
  const md5 = new GatheredMd5()
  const whole = createHash('md5')
  for (let i = 0; i < 1000; i++) {
    const piece = new Uint8Array(i % 100 === 0 ? 3 << 20 : 10).fill(i)
    md5.update(piece)
    whole.update(piece)
  }
  assert.equal(hex(md5.digest()), whole.digest('hex'))
})

test('a part hasher gives the same digests gathered and at once', async () => {
  const data = randomBytes(100_000)
  const hashers = [
    new PartHasher({ checksum: 'CRC64NVME' }),
    new PartHasher({ checksum: 'CRC64NVME', gatherMd5: true }),
  ]
  for (let at = 0; at < data.length; at += 7777) {
    for (const hasher of hashers) hasher.update(data.subarray(at, at + 7777))
    await turn()
  }
  assert.deepEqual(hashers[0]?.digests(), hashers[1]?.digests())
  assert.equal(hex(hashers[1]?.digests().md5 ?? new Uint8Array(0)), openssl(data))
})

test('whole bodies have the digests that OpenSSL gives, in whatever order they are asked for', () => {
  const bodies = Array.from({ length: 600 }, (_, i) => randomBytes(i % 200 === 7 ? 3 << 20 : (i * 37) % 900))
  const kept: { md5: WholeMd5; body: Uint8Array }[] = []
  for (const [i, body] of bodies.entries()) {
    kept.push({ md5: new WholeMd5(body), body })
    if (i % 101 === 100) for (const one of kept.splice(i % 3)) assert.equal(hex(one.md5.digest()), openssl(one.body))
  }
  for (const { md5, body } of kept.reverse()) {
    assert.equal(hex(md5.digest()), openssl(body))
    assert.equal(hex(md5.digest()), openssl(body))
  }
})
