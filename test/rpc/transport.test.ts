import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { after, test } from 'node:test'

import { RpcError } from '../../ts/rpc/errors.js'
import { encodeHello } from '../../ts/rpc/handshake.js'
import { Transport } from '../../ts/rpc/transport.js'
import { TcpProxy } from '../support/tcp_proxy.js'
import { SECRET, certificateOf, startNode, until } from './support.js'
import type { Node, NodeOptions } from './support.js'

const open: { close(): Promise<void> }[] = []
after(() => Promise.all(open.map((one) => one.close())))

async function node(options: NodeOptions): Promise<Node> {
  const made = await startNode(options)
  open.push(made.transport)
  return made
}

async function proxyTo(target: Node): Promise<TcpProxy> {
  const proxy = await TcpProxy.to(() => target.transport.address)
  open.push(proxy)
  return proxy
}

/** a reaches b through a proxy; b does not dial. */
async function pair(options: Partial<NodeOptions> = {}): Promise<{ a: Node; b: Node; proxy: TcpProxy }> {
  const a = await node({ ...options, id: 1 })
  const b = await node({ ...options, id: 2 })
  const proxy = await proxyTo(b)
  a.transport.setPeer(2, proxy.address)
  b.transport.setPeer(1, undefined)
  await until(() => a.transport.isConnected(2) && b.transport.isConnected(1))
  return { a, b, proxy }
}

const text = (value: string): Buffer => Buffer.from(value)

test('messages go both ways over the one connection that either made', async () => {
  const { a, b, proxy } = await pair()
  for (let i = 0; i < 100; i++) {
    assert.ok(a.transport.send(2, 7, text(`a${String(i)}`)))
    assert.ok(b.transport.send(1, 8, text(`b${String(i)}`)))
  }
  await until(() => a.received.length === 100 && b.received.length === 100)
  assert.deepEqual(b.received, Array.from({ length: 100 }, (_, i) => [1, 7, `a${String(i)}`]))
  assert.deepEqual(a.received, Array.from({ length: 100 }, (_, i) => [2, 8, `b${String(i)}`]))
  assert.equal(proxy.accepted, 1)
  assert.deepEqual([a.ups, b.ups], [['+2'], ['+1']])
})

test('two nodes that dial each other end up with one connection that carries everything', async () => {
  const a = await node({ id: 1 })
  const b = await node({ id: 2 })
  const [there, back] = [await proxyTo(b), await proxyTo(a)]
  for (let round = 0; round < 5; round++) {
    a.transport.setPeer(2, there.address)
    b.transport.setPeer(1, back.address)
    await until(() => a.transport.isConnected(2) && b.transport.isConnected(1) && there.open + back.open === 1)
    const before = [a.received.length, b.received.length]
    await until(() => {
      a.transport.send(2, 0, text('x'))
      b.transport.send(1, 0, text('y'))
      return a.received.length > (before[0] ?? 0) && b.received.length > (before[1] ?? 0)
    })
    there.cut()
    back.cut()
    await until(() => a.ups.filter((up) => up === '-2').length > round)
  }
})

test('a node with another secret is refused by both sides, in so many words', async () => {
  const a = await node({ id: 1 })
  const b = await node({ id: 2, secret: randomBytes(32) })
  a.transport.setPeer(2, b.transport.address)
  await until(() => a.transport.state()[0]?.trouble !== '')
  await until(() => (a.transport.state()[0]?.trouble ?? '').includes('the cluster secrets differ'))
  await assert.rejects(b.transport.probe(a.transport.address), { name: 'Refusal', code: 'wrong-secret' })
  assert.ok((b.transport.refused.get('wrong-secret') ?? 0) > 0)
  assert.deepEqual([a.ups, b.ups], [['-2'], []], 'the refusal is told once')
})

test('a node of another cluster is refused by name; one without a cluster is not', async () => {
  const a = await node({ id: 1 })
  const other = await node({ id: 2, clusterId: 'cluster-b' })
  const blank = await node({ id: 3, clusterId: '' })
  await assert.rejects(
    a.transport.probe(other.transport.address),
    (error: Error) => error.message === 'node 2 (node-2) belongs to cluster cluster-b, another one',
  )
  const found = await a.transport.probe(blank.transport.address)
  const { host, port } = blank.transport.address
  assert.deepEqual(found, { nodeId: 3, name: 'node-3', clusterId: '', address: `${host}:${String(port)}` })
})

test('a node at the address of another, or one that is not admitted, is refused', async () => {
  const a = await node({ id: 1 })
  const b = await node({ id: 2, handlers: { admit: ({ nodeId }) => (nodeId === 9 ? 'node 9 was removed' : '') } })
  a.transport.setPeer(5, b.transport.address)
  await until(() => a.transport.state()[0]?.trouble === 'this is node 2 (node-2), not 5')
  const removed = await node({ id: 9 })
  await assert.rejects(removed.transport.probe(b.transport.address), {
    code: 'not-admitted',
    message: 'node 9 was removed',
  })
})

test('what was recorded of one connection is worth nothing on another', async () => {
  const { a, b, proxy } = await pair()
  a.transport.send(2, 1, text('once'))
  await until(() => b.received.length === 1)
  const recorded = Buffer.concat(proxy.recorded[0] ?? [])
  for (let round = 0; round < 3; round++) {
    const socket = connect(b.transport.address)
    socket.on('error', () => undefined)
    socket.resume()
    socket.write(recorded)
    await new Promise((resolve) => socket.once('close', resolve))
  }
  assert.equal(b.received.length, 1)
  assert.equal(b.transport.refused.get('wrong-secret'), 3)
  assert.ok(a.transport.isConnected(2))
})

test('a frame that is repeated within a connection ends it, and is not handed over', async () => {
  const { a, b, proxy } = await pair({ limits: { pingMs: 60_000, deadMs: 600_000 } })
  proxy.change = (bytes, direction) => (direction === 'there' ? Buffer.concat([bytes, bytes]) : bytes)
  a.transport.send(2, 1, text('once'))
  await until(() => b.ups.includes('-1'))
  assert.deepEqual(b.received, [[1, 1, 'once']])
})

test('a changed bit on the way ends the connection; the next one works', async () => {
  const { a, b, proxy } = await pair({ limits: { pingMs: 60_000, deadMs: 600_000 } })
  proxy.change = (bytes, direction) => {
    if (direction === 'there') bytes[bytes.length - 1]! ^= 1
    return bytes
  }
  a.transport.send(2, 1, text('changed'))
  await until(() => b.ups.includes('-1'))
  proxy.change = (bytes) => bytes
  await until(() => a.transport.send(2, 1, text('whole')))
  await until(() => b.received.length > 0)
  assert.deepEqual(b.received[0], [1, 1, 'whole'])
})

/** Bytes of a stranger; resolves when the node closes the connection. */
function stranger(target: Node, bytes: Uint8Array): Promise<number> {
  return new Promise((resolve) => {
    const socket: Socket = connect(target.transport.address)
    let got = 0
    socket.on('data', (data) => { got += data.length })
    socket.on('error', () => undefined)
    socket.on('close', () => { resolve(got) })
    socket.write(bytes)
  })
}

test('a stranger is cut off: noise, a long greeting, half of one, silence', async () => {
  const b = await node({ id: 2, limits: { handshakeMs: 100 } })
  const frame = (body: Uint8Array): Buffer => {
    const head = Buffer.alloc(4)
    head.writeUInt32LE(body.length)
    return Buffer.concat([head, body])
  }
  const hello = encodeHello({
    lowest: 1, highest: 1, lane: 'control', tls: false, secret: true, nodeId: 7, wanted: 0, instance: Buffer.alloc(16),
    nonce: Buffer.alloc(32), clusterId: 'cluster-a', name: 'x', address: '',
  })
  for (const bytes of [
    Buffer.from('GET / HTTP/1.1\r\n\r\n'), frame(Buffer.alloc(1025)), frame(randomBytes(200)),
    frame(hello).subarray(0, 40), frame(hello), Buffer.concat([frame(hello), frame(randomBytes(33))]), Buffer.alloc(0),
  ]) {
    assert.ok((await stranger(b, bytes)) < 1000, 'it is told little')
  }
  assert.deepEqual([b.ups, b.received], [[], []])
})

test('a peer that cannot take more loses messages, and nothing waits for it', async () => {
  const { a, b, proxy } = await pair({ limits: { queueBytes: 1 << 20, pingMs: 60_000, deadMs: 600_000 } })
  proxy.hold()
  const payload = randomBytes(100_000)
  let dropped = 0
  // Kernel buffers take some megabytes first.
  while (dropped < 100) if (!a.transport.send(2, 1, payload)) dropped += 1; else await new Promise(setImmediate)
  const state = a.transport.state()[0]
  assert.ok((state?.queuedBytes ?? 0) <= 1 << 20)
  assert.ok((state?.dropped ?? 0) >= 100)
  await assert.rejects(a.transport.call(2, 'x', payload, 1000), { code: 'overloaded' })
  proxy.release()
  await until(() => a.transport.state()[0]?.queuedBytes === 0)
  assert.ok(a.transport.send(2, 1, text('after')))
  await until(() => b.received.at(-1)?.[2] === 'after')
})

test('a message that no frame can hold is not taken, and disturbs nothing', async () => {
  const { a, b } = await pair({ limits: { frameBytes: 10_000 } })
  assert.equal(a.transport.send(2, 1, Buffer.alloc(10_000)), false)
  await assert.rejects(a.transport.call(2, 'x', Buffer.alloc(20_000), 1000), { code: 'overloaded' })
  for (let i = 0; i < 20; i++) a.transport.send(2, 1, Buffer.alloc(4_000))
  await until(() => b.received.length === 20)
})

test('a peer that falls silent without a word is noticed, and found again', async () => {
  const { a, b, proxy } = await pair()
  proxy.swallowed.add('there').add('back')
  await until(() => a.ups.includes('-2') && b.ups.includes('-1'))
  // Whichever side notices first closes the connection, and the other one sees that.
  assert.match(a.transport.state()[0]?.trouble ?? '', /nothing was heard|handshake|no connection|closed the connection/)
  proxy.swallowed.clear()
  await until(() => a.transport.isConnected(2) && b.transport.isConnected(1))
})

test('a connection that is lost is made again, also when the peer starts anew elsewhere', async () => {
  const { a, b, proxy } = await pair()
  proxy.refusing = true
  proxy.cut()
  await until(() => a.ups.includes('-2'))
  assert.equal(a.transport.send(2, 1, text('lost')), false)
  proxy.refusing = false
  await until(() => a.transport.isConnected(2))
  await b.transport.close()
  await until(() => !a.transport.isConnected(2))
  const again = await node({ id: 2 })
  a.transport.setPeer(2, again.transport.address)
  await until(() => a.transport.isConnected(2))
  a.transport.send(2, 1, text('new'))
  await until(() => again.received.length === 1)
})

test('a call is answered once, or says whether it may have happened', async () => {
  let hang: () => void = () => undefined
  const { a, b, proxy } = await pair({
    handlers: {
      call: async (_from, name, body) => {
        if (name === 'refuse') throw new RpcError('refused', 'not here')
        if (name === 'fail') throw new Error('broken')
        if (name === 'hang') await new Promise<void>((resolve) => { hang = resolve })
        return Buffer.from([...body].reverse())
      },
    },
  })
  const [one, two] = await Promise.all([
    a.transport.call(2, 'x', Buffer.from([1, 2, 3]), 5000), b.transport.call(1, 'x', Buffer.from([4, 5]), 5000),
  ])
  assert.deepEqual([[...one], [...two]], [[3, 2, 1], [5, 4]])
  await assert.rejects(a.transport.call(2, 'refuse', Buffer.alloc(1), 5000), { code: 'refused', message: 'not here' })
  await assert.rejects(a.transport.call(2, 'fail', Buffer.alloc(1), 5000), { code: 'failed', message: 'broken' })
  await assert.rejects(a.transport.call(2, 'hang', Buffer.alloc(1), 20), { code: 'unknown' })
  hang()
  await assert.rejects(a.transport.call(3, 'x', Buffer.alloc(1), 20), { code: 'unreachable' })
  const lost = a.transport.call(2, 'hang', Buffer.alloc(1), 60_000)
  lost.catch(() => undefined)
  await new Promise((resolve) => setTimeout(resolve, 20))
  proxy.refusing = true
  proxy.cut()
  await assert.rejects(lost, { code: 'unknown' })
  await assert.rejects(a.transport.call(2, 'x', Buffer.alloc(1), 1000), { code: 'unreachable' })
  hang()
})

test('nodes with certificates of one authority talk; the name in the certificate is the name of the node', async () => {
  const identity = { name: 'one' }
  const a = await node({ id: 1, secret: undefined, tls: certificateOf('one'), identity })
  const b = await node({ id: 2, secret: undefined, tls: certificateOf('two'), identity: { name: 'two' } })
  a.transport.setPeer(2, b.transport.address)
  a.transport.send(2, 1, text('x'))
  await until(() => a.transport.isConnected(2) && b.transport.isConnected(1))
  a.transport.send(2, 1, text('over TLS'))
  await until(() => b.received.length === 1)

  const liar = await node({ id: 3, secret: undefined, tls: certificateOf('two'), identity: { name: 'three' } })
  await assert.rejects(liar.transport.probe(a.transport.address), /the certificate of node 3 is not made out to three/)
  const unknown = await node({ id: 3, secret: undefined, tls: certificateOf('stranger'), identity: { name: 'two' } })
  await assert.rejects(unknown.transport.probe(a.transport.address))
  await assert.rejects(a.transport.probe(unknown.transport.address))
  const both = await node({ id: 3, secret: SECRET, tls: certificateOf('two'), identity: { name: 'two' } })
  await assert.rejects(both.transport.probe(a.transport.address), { code: 'security' })
  assert.equal(a.transport.isConnected(3), false)
})

test('a transport without secret and certificate is not made', async () => {
  await assert.rejects(
    Transport.listen({
      listen: { host: '127.0.0.1', port: 0 },
      identity: { clusterId: '', nodeId: 1, name: '', advertised: '' },
      security: { secret: undefined, tls: undefined },
      handlers: {} as never,
    }),
    /no cluster secret/,
  )
})

async function collect(answer: AsyncIterable<Uint8Array>, most = Infinity): Promise<Buffer> {
  const found: Uint8Array[] = []
  for await (const chunk of answer) if (found.push(chunk) >= most) break
  return Buffer.concat(found)
}

/** A node that answers with these bytes from the offset in the question on. */
function answering(bytes: Buffer, seen: { made: number; ended: number; questions: number[] }): Partial<NodeOptions> {
  return {
    handlers: {
      answer: async function* (_from, question) {
        const from = Number(Buffer.from(question).toString())
        seen.questions.push(from)
        try {
          for (let at = from; at < bytes.length; at += 1 << 20) {
            seen.made += 1
            yield bytes.subarray(at, at + (1 << 20))
          }
        } finally {
          seen.ended += 1
        }
      },
    },
  }
}

test('a long answer arrives whole, goes on after lost connections where the asker says, and is never cut unseen', async () => {
  const bytes = randomBytes(9_500_000)
  const seen = { made: 0, ended: 0, questions: [] as number[] }
  const a = await node({ id: 1 })
  const b = await node({ id: 2, ...answering(bytes, seen) })
  const proxy = await proxyTo(b)
  a.transport.setPeer(2, proxy.address)
  assert.ok((await collect(a.transport.ask(2, text('0')))).equals(bytes))

  const parts: Uint8Array[] = []
  let held = 0
  for (let cuts = 0; held < bytes.length;) {
    try {
      for await (const chunk of a.transport.ask(2, text(String(held)))) {
        parts.push(chunk)
        held += chunk.length
        if (cuts < 3 && parts.length % 2 === 0) {
          cuts += 1
          proxy.cut()
        }
      }
      assert.equal(held, bytes.length, 'an answer that ends well is whole')
    } catch (error) {
      assert.ok(error instanceof Error)
    }
  }
  assert.ok(Buffer.concat(parts).equals(bytes))
  await until(() => seen.ended === seen.questions.length)
})

test('an answer is not made faster than it is used, and ends when the asker stops', async () => {
  const seen = { made: 0, ended: 0, questions: [] as number[] }
  const a = await node({ id: 1 })
  const b = await node({ id: 2, ...answering(Buffer.alloc(64 << 20), seen) })
  a.transport.setPeer(2, b.transport.address)
  const answer = a.transport.ask(2, text('0'))
  await answer.next()
  await new Promise((resolve) => setTimeout(resolve, 100))
  assert.ok(seen.made <= 8, `${String(seen.made)} chunks were made for one`)
  await answer.return()
  await until(() => seen.ended === 1)
  assert.equal((await collect(a.transport.ask(2, text('0')), 2)).length, 2 << 20)
  await until(() => seen.ended === 2)
})

test('an answer that fails says why; one that cannot be asked for says so', async () => {
  const a = await node({ id: 1 })
  const b = await node({
    id: 2,
    handlers: {
      answer: async function* (from, question) {
        yield Buffer.from([1])
        throw new Error(`nothing about ${Buffer.from(question).toString()} for ${String(from)}`)
      },
    },
  })
  a.transport.setPeer(2, b.transport.address)
  await assert.rejects(collect(a.transport.ask(2, text('x'))), { code: 'refused', message: 'nothing about x for 1' })
  await assert.rejects(collect(a.transport.ask(3, text('x'))), { code: 'unreachable' })
  await b.transport.close()
  await assert.rejects(collect(a.transport.ask(2, text('x'))))
})

test('an answer of nothing is an answer', async () => {
  const seen = { made: 0, ended: 0, questions: [] as number[] }
  const a = await node({ id: 1 })
  const b = await node({ id: 2, ...answering(Buffer.alloc(0), seen) })
  a.transport.setPeer(2, b.transport.address)
  assert.equal((await collect(a.transport.ask(2, text('0')))).length, 0)
})
