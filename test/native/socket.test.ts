import assert from 'node:assert/strict'
import { connect, createServer } from 'node:net'
import { once } from 'node:events'
import { test } from 'node:test'

import { bindReusePort, setThreadNice } from '../../ts/native/socket.js'

test('two sockets share a port, and a connection to it is taken by one of them', async () => {
  const first = bindReusePort('127.0.0.1', 0)
  const second = bindReusePort('127.0.0.1', first.port)
  assert.equal(second.port, first.port)
  const servers = [first, second].map(({ fd }) => createServer((socket) => socket.end('here')).listen({ fd }))
  await Promise.all(servers.map((server) => once(server, 'listening')))
  for (let i = 0; i < 20; i++) {
    const client = connect(first.port, '127.0.0.1')
    const [data] = (await once(client, 'data')) as [Buffer]
    assert.equal(data.toString(), 'here')
    client.destroy()
  }
  for (const server of servers) server.close()
})

test('a socket without SO_REUSEPORT on the same port is refused', async () => {
  const { fd, port } = bindReusePort('127.0.0.1', 0)
  const holder = createServer().listen({ fd })
  await once(holder, 'listening')
  const probe = createServer().listen({ host: '127.0.0.1', port, exclusive: true })
  const [error] = (await once(probe, 'error')) as [NodeJS.ErrnoException]
  assert.equal(error.code, 'EADDRINUSE')
  holder.close()
})

test('arguments that make no sense are refused with a typed error', () => {
  for (const [host, port] of [
    ['localhost', 0],
    ['', 0],
    ['127.0.0.1', -1],
    ['127.0.0.1', 65536],
    [7, 0],
    ['::1', 1.5],
  ] as [string, number][]) {
    assert.throws(
      () => bindReusePort(host, port),
      (e: NodeJS.ErrnoException) => e.code === 'EINVAL' || e.code === 'ERR_OSTRAKA_ARGUMENT',
    )
  }
  assert.throws(() => { setThreadNice(20) }, RangeError)
  assert.throws(() => { setThreadNice('1' as unknown as number) }, TypeError)
})

test('an address this machine does not have is refused by name', () => {
  assert.throws(() => bindReusePort('192.0.2.1', 0), { code: 'EADDRNOTAVAIL' })
})
