/** The load generator against servers made for it. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer as createHttp } from 'node:http'
import type { RequestListener } from 'node:http'
import { createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Connection } from '../../ts/cli/load/connection.js'
import { runJob } from '../../ts/cli/load/generator.js'
import { runGenerator } from '../../ts/cli/load/run_generator.js'
import { allCells } from '../../ts/cli/load/s3_bench.js'
import { parseEndpoint } from '../../ts/cli/load/target.js'
import type { Address } from '../../ts/cli/load/connection.js'
import type { Job } from '../../ts/cli/load/workload.js'
import { Workload } from '../../ts/cli/load/workload.js'

const GET = 'GET / HTTP/1.1\r\nhost: x\r\n\r\n'

/** A server that answers each request with the next of `answers`, sent in pieces of `piece` bytes. */
async function withAnswers(answers: string[], piece: number, work: (address: Address) => Promise<void>): Promise<void> {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => undefined)
    socket.on('data', () => {
      void (async () => {
        const answer = answers.shift() ?? ''
        for (let at = 0; at < answer.length; at += piece) {
          socket.write(answer.slice(at, at + piece))
          await sleep(0)
        }
        if (/\r\nconnection: close/.test(answer)) socket.end()
      })()
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  try {
    await work({ host: '127.0.0.1', port: (server.address() as AddressInfo).port, tls: false, insecure: false })
  } finally {
    for (const socket of sockets) socket.destroy()
    server.close()
  }
}

async function withHttp(listener: RequestListener, work: (address: Address) => Promise<void>): Promise<void> {
  const server = createHttp(listener)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  try {
    await work(parseEndpoint(`http://127.0.0.1:${String((server.address() as AddressInfo).port)}`))
  } finally {
    server.closeAllConnections()
    server.close()
  }
}

const job = (address: Address, more: Partial<Job>): Job => ({
  address, operation: 'GET', bucket: 'b', prefix: 'p', objects: 3, size: 5, connections: 2, warmUpMs: 0, measureMs: 100,
  ...more,
})

test('answers of every framing are read, in pieces of any size, one after the other', async () => {
  for (const piece of [1, 2, 3, 7, 1000]) {
    const answers = [
      'HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello',
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nt: v\r\n\r\n',
      'HTTP/1.1 204 No Content\r\n\r\n',
      'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n',
      'HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n',
      'HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nuntil the end',
      'HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok',
      'HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nnew',
    ]
    await withAnswers(answers, piece, async (address) => {
      const connection = new Connection(address)
      const bodies: [number, string][] = []
      for (let i = 0; i < 8; i++) {
        const answer = await connection.send(GET, undefined, { keep: true, headOnly: i === 4 })
        assert.equal(answer.bodyBytes, answer.body.length)
        bodies.push([answer.status, answer.body.toString()])
      }
      connection.close()
      assert.deepEqual(
        bodies,
        [
          [200, 'hello'],
          [200, 'abc0123456789'],
          [204, ''],
          [404, ''],
          [200, ''],
          [200, 'until the end'],
          [200, 'ok'],
          [200, 'new'],
        ],
        `pieces of ${String(piece)}`,
      )
    })
  }
})

test('what is not HTTP, or more than an answer, is an error', async () => {
  for (const answer of ['SSH-2.0-x\r\n\r\n', 'HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nab'.repeat(2)]) {
    await withAnswers([answer, ''], 1000, async (address) => {
      const connection = new Connection(address)
      await assert.rejects(async () => {
        await connection.send(GET)
        await connection.send(GET)
      })
      connection.close()
    })
  }
})

test('a window shorter than any request still gives a rate', async () => {
  const slow: RequestListener = (_, response) => { setTimeout(() => response.end('12345'), 400) }
  await withHttp(slow, async (address) => {
    const result = await runJob(job(address, { measureMs: 100 }))
    assert.equal(result.requests, 0)
    assert.ok(result.rate > 0)
    assert.ok(result.bytesPerSecond > 0)
    assert.ok(result.p50Ms >= 300)
  })
})

test('a filling job sends each key once, and a job counts what it moved', async () => {
  const seen: string[] = []
  const listener: RequestListener = (request, response) => {
    seen.push(`${request.method ?? ''} ${request.url ?? ''}`)
    request.resume().on('end', () => response.end())
  }
  await withHttp(listener, async (address) => {
    const result = await runGenerator(job(address, { operation: 'PUT', objects: 5, size: 100, measureMs: 0 }))
    assert.deepEqual([result.requests, result.used, result.errors], [5, 5, 0])
    assert.deepEqual(seen.sort(), [0, 1, 2, 3, 4].map((n) => `PUT /b/p/0000000${String(n)}`))
    assert.ok(Math.abs(result.bytesPerSecond * result.seconds - 500) < 1)
  })
})

test('5xx answers are errors that do not count, and any other surprise ends the job', async () => {
  let n = 0
  const sometimes: RequestListener = (_, response) => {
    response.statusCode = n++ % 2 === 0 ? 503 : 200
    response.end('12345')
  }
  await withHttp(sometimes, async (address) => {
    const result = await runJob(job(address, { measureMs: 0, objects: 10, connections: 1 }))
    assert.deepEqual([result.requests, result.errors], [5, 5])
    assert.match(result.firstError, /GET \/b\/p\/\d+ HTTP\/1\.1 was answered 503/)
  })
  await withHttp((_, response) => { response.end('1234') }, async (address) => {
    await assert.rejects(runJob(job(address, {})), /answered 200 with 4 bytes/)
  })
  await withHttp((_, response) => { response.writeHead(403).end() }, async (address) => {
    await assert.rejects(runGenerator(job(address, {})), /answered 403/)
  })
  await withHttp((_, response) => { response.writeHead(500).end() }, async (address) => {
    await assert.rejects(runJob(job(address, { measureMs: 60_000 })), /the server only fails/)
  })
})

test('an aborted job is gone at once', async () => {
  const controller = new AbortController()
  const never: RequestListener = () => { controller.abort() }
  await withHttp(never, async (address) => {
    await assert.rejects(runGenerator(job(address, { measureMs: 60_000 }), controller.signal), { name: 'AbortError' })
  })
})

test('a mix deletes only what it has put and was told of, and reads only what is there', () => {
  const address = parseEndpoint('http://127.0.0.1:1')
  const workload = new Workload(job(address, { operation: 'MIXED', objects: 4 }))
  const there = new Set<string>()
  const counts: Record<string, number> = {}
  for (let i = 0; i < 400; i++) {
    const request = workload.next()
    assert.ok(request !== undefined)
    counts[request.method] = (counts[request.method] ?? 0) + 1
    const path = request.head.split(' ')[1] ?? ''
    if (request.method === 'PUT') there.add(path)
    else if (request.method === 'DELETE') assert.ok(there.delete(path), path)
    else assert.match(path, /^\/b\/p\/0000000[0-3]$/)
    // Every third PUT is never answered.
    if (i % 3 !== 0) request.done?.()
  }
  assert.ok((counts['DELETE'] ?? 0) > 10)
  assert.deepEqual([counts['GET'], counts['HEAD']], [180, 120])
})

test('reads come to every object', () => {
  for (const objects of [1, 2, 7, 500, 7919, 7919 * 2]) {
    const workload = new Workload(job(parseEndpoint('http://127.0.0.1:1'), { objects }))
    const paths = new Set(Array.from({ length: objects }, () => workload.next()?.head.split(' ')[1]))
    assert.equal(paths.size, objects)
  }
})

test('each cell comes after the PUT that makes its objects', () => {
  const timing = { rounds: 1, warmUpMs: 0, windowMs: 1 }
  const operations = ['DELETE', 'GET', 'LIST', 'PUT'] as const
  const cells = allCells({ operations, sizes: [1, 2], clients: [3], listKeys: 9 }, timing)
  assert.deepEqual(cells.map(({ operation, size }) => `${operation} ${String(size)}`), [
    'PUT 1', 'GET 1', 'DELETE 1', 'PUT 2', 'GET 2', 'DELETE 2', 'LIST 9',
  ])
})
