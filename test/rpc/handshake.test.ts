import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'

import fc from 'fast-check'

import { ProtocolError, Refusal } from '../../ts/rpc/errors.js'
import {
  checkHello,
  checkProof,
  commonVersion,
  decodeHello,
  decodeProof,
  deriveKeys,
  encodeHello,
  encodeProof,
  encodeRefusal,
} from '../../ts/rpc/handshake.js'
import type { Hello } from '../../ts/rpc/handshake.js'

function hello(fields: Partial<Hello> = {}): Hello {
  return {
    lowest: 1, highest: 1, lane: 'control', tls: false, secret: true, nodeId: 1, wanted: 0,
    instance: Buffer.from(randomBytes(16)), nonce: Buffer.from(randomBytes(32)),
    clusterId: 'c', name: 'n', address: '127.0.0.1:1', ...fields,
  }
}

const greeting = (one: Hello): { hello: Hello; bytes: Buffer } => ({ hello: one, bytes: encodeHello(one) })

test('a greeting says what was meant', () => {
  const id = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER })
  const name = fc.string({ maxLength: 60 })
  fc.assert(
    fc.property(id, id, name, name, fc.constantFrom('control', 'bulk', 'probe'), (nodeId, wanted, a, b, lane) => {
      const said = hello({ nodeId, wanted, clusterId: a, name: b, lane })
      assert.deepEqual(decodeHello(encodeHello(said)), said)
    }),
  )
})

test('bytes that are no greeting are refused, whatever they are', () => {
  const bytes = encodeHello(hello())
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(bytes.length), (noise, cut) => {
      for (const input of [noise, bytes.subarray(0, cut), Buffer.concat([bytes, noise])]) {
        if (input.length === bytes.length) continue
        assert.throws(() => decodeHello(input), (error) => error instanceof ProtocolError || error instanceof Refusal)
      }
    }),
  )
})

test('a refusal arrives as one, with its reason in printable characters', () => {
  const bytes = encodeRefusal(new Refusal('other-cluster', 'node 1\n\u0007belongs elsewhere'))
  for (const decode of [decodeHello, decodeProof]) {
    assert.throws(
      () => decode(bytes),
      (error) => error instanceof Refusal && error.code === 'other-cluster' && error.remote &&
        error.message === 'node 1??belongs elsewhere',
    )
  }
})

test('nodes that do not fit together refuse each other and say why', () => {
  const mine = hello()
  const cases: [Partial<Hello>, string][] = [
    [{ nodeId: 2, clusterId: 'd' }, 'other-cluster'],
    [{ nodeId: 1 }, 'same-node'],
    [{ nodeId: 2, wanted: 3 }, 'wrong-node'],
    [{ nodeId: 2, tls: true }, 'security'],
    [{ nodeId: 2, secret: false }, 'security'],
  ]
  for (const [fields, code] of cases) {
    assert.throws(() => { checkHello(mine, hello(fields)) }, (error) => error instanceof Refusal && error.code === code)
  }
  assert.throws(() => { checkHello(hello({ wanted: 5 }), hello({ nodeId: 2 })) }, { code: 'wrong-node' })
  checkHello(mine, hello({ nodeId: 2, clusterId: '' }))
  checkHello(mine, hello({ nodeId: 2, wanted: 1 }))
})

test('the highest version that both speak is taken', () => {
  assert.equal(commonVersion(hello({ highest: 3 }), hello({ highest: 2 })), 2)
  assert.equal(commonVersion(hello({ lowest: 2, highest: 4 }), hello({ lowest: 1, highest: 9 })), 4)
  assert.throws(() => commonVersion(hello({ lowest: 3, highest: 4 }), hello({ highest: 2 })), { code: 'version' })
})

test('proofs and keys hold only for this secret, these nonces, these nodes and these directions', () => {
  const secret = randomBytes(32)
  const a = hello()
  const b = hello({ nodeId: 2 })
  const keys = deriveKeys(secret, greeting(a), greeting(b))
  assert.deepEqual(deriveKeys(secret, greeting(a), greeting(b)), keys)
  const others = [
    deriveKeys(randomBytes(32), greeting(a), greeting(b)),
    deriveKeys(secret, greeting(b), greeting(a)),
    deriveKeys(secret, greeting({ ...a, nonce: randomBytes(32) }), greeting(b)),
    deriveKeys(secret, greeting(a), greeting({ ...b, nodeId: 3 })),
    deriveKeys(secret, greeting(a), greeting({ ...b, clusterId: 'x' })),
    deriveKeys(secret, greeting({ ...a, lane: 'bulk' }), greeting(b)),
  ]
  const all = [keys, ...others].flatMap((one) => Object.values(one) as Buffer[]).map((key) => key.toString('hex'))
  assert.equal(new Set(all).size, all.length, 'every key differs from every other')
  checkProof(keys.dialerProof, decodeProof(encodeProof(keys.dialerProof)), false)
  assert.throws(() => { checkProof(keys.dialerProof, keys.listenerProof, false) }, { code: 'wrong-secret' })
})
