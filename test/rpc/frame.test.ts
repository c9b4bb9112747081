import assert from 'node:assert/strict'
import { test } from 'node:test'

import fc from 'fast-check'

import { ProtocolError } from '../../ts/rpc/errors.js'
import { FrameReader, FrameWriter, TAG_BYTES } from '../../ts/rpc/frame.js'

const KEY = Buffer.alloc(32, 1)
const OTHER = Buffer.alloc(32, 2)

function sealed(bodies: readonly Uint8Array[], key: Uint8Array | 'open' = KEY): Buffer[] {
  const writer = new FrameWriter()
  writer.useKey(key === 'open' ? undefined : key)
  return bodies.map((body) => Buffer.concat(writer.frame(body)))
}

function reader(limit = 1000, key: Uint8Array | 'open' = KEY): FrameReader {
  const made = new FrameReader(limit)
  made.useKey(key === 'open' ? undefined : key, limit)
  return made
}

function readAll(from: FrameReader): Buffer[] {
  const found: Buffer[] = []
  for (let body = from.next(); body !== undefined; body = from.next()) found.push(Buffer.from(body))
  return found
}

const bodies = fc.array(fc.uint8Array({ minLength: 1, maxLength: 300 }), { minLength: 1, maxLength: 8 })

test('frames come out as they went in, however the stream is cut', () => {
  fc.assert(
    fc.property(
      bodies,
      fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1 }),
      fc.boolean(),
      (all, cuts, seal) => {
        const key = seal ? KEY : 'open'
        const stream = Buffer.concat(sealed(all, key))
        const frames = reader(1000, key)
        const found: Buffer[] = []
        for (let at = 0, i = 0; at < stream.length; i++) {
          const piece = cuts[i % cuts.length] ?? 1
          frames.push(stream.subarray(at, at + piece))
          found.push(...readAll(frames))
          at += piece
        }
        assert.deepEqual(
          found,
          all.map((body) => Buffer.from(body)),
        )
        assert.equal(frames.held, 0)
      },
    ),
  )
})

test('a stream that is cut short gives only whole frames', () => {
  fc.assert(
    fc.property(bodies, fc.nat(), (all, at) => {
      const stream = Buffer.concat(sealed(all))
      const frames = reader()
      frames.push(stream.subarray(0, at % stream.length))
      const found = readAll(frames)
      assert.ok(found.length < all.length)
      assert.deepEqual(found, all.slice(0, found.length).map((body) => Buffer.from(body)))
    }),
  )
})

test('one changed bit anywhere is found before the frame is used', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 100 }), fc.nat(), fc.nat(7), (body, at, bit) => {
      const [frame] = sealed([body])
      const changed = Buffer.from(frame ?? [])
      changed[at % changed.length]! ^= 1 << bit
      const frames = reader()
      frames.push(changed)
      // A longer length waits for bytes that make up the rest.
      frames.push(Buffer.alloc(2000))
      assert.throws(() => frames.next(), ProtocolError)
    }),
  )
})

test('a frame that is repeated, left out, moved or reflected is refused', () => {
  const [a, b, c] = sealed([Buffer.from('a'), Buffer.from('b'), Buffer.from('c')]) as [Buffer, Buffer, Buffer]
  for (const stream of [[a, a], [a, c], [b, a], [a, b, b]]) {
    const frames = reader()
    frames.push(Buffer.concat(stream))
    assert.throws(() => readAll(frames), /did not make for this place/)
    assert.throws(() => frames.next(), ProtocolError, 'and nothing is read after it')
  }
  const otherDirection = reader(1000, OTHER)
  otherDirection.push(a)
  assert.throws(() => otherDirection.next(), ProtocolError)
})

test('a length beyond the limit, or of nothing, is refused before its bytes are awaited', () => {
  for (const length of [0, TAG_BYTES, 101 + TAG_BYTES, 0x7fff_ffff, 0xffff_ffff]) {
    const frames = reader(100)
    const head = Buffer.alloc(4)
    head.writeUInt32LE(length)
    frames.push(head)
    assert.throws(() => frames.next(), ProtocolError, String(length))
    assert.equal(frames.held, 0)
  }
  const exact = reader(100)
  exact.push(sealed([Buffer.alloc(100)])[0] ?? Buffer.alloc(0))
  assert.equal(exact.next()?.length, 100)
})
