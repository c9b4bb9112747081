import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import { HmacKey } from '../../../ts/server/auth/hmac.js'

test('signs as node does, whatever the length of the key and of the texts before', () => {
  const text = fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes).toString('latin1'))
  fc.assert(fc.property(fc.uint8Array({ maxLength: 150 }), fc.array(text, { maxLength: 8 }), (bytes, texts) => {
    const key = new HmacKey(bytes)
    for (const each of texts) {
      assert.equal(key.sign(each), createHmac('sha256', bytes).update(each, 'latin1').digest('hex'))
    }
  }))
})
