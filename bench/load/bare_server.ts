/**
 * A bare node:http server for scale, with as many threads as the server beside it (`bare_server.js <threads>`), each
 * with a socket of its own on one port. It takes PUT bodies and forgets them, answers GET with as many bytes as the
 * key's first part says (`/b/<size>/...`) and a listing with a page of the usual size, and checks nothing. Prints its
 * port, runs until its input ends.
 */
import { createServer } from 'node:http'
import { Worker, isMainThread, workerData } from 'node:worker_threads'

import { bindReusePort } from '../../ts/native/socket.js'

const LISTING = Buffer.alloc(300_000, 0x78)
const bodies = new Map<number, Buffer>()

function bodyOf(size: number): Buffer {
  let body = bodies.get(size)
  if (body === undefined) bodies.set(size, (body = Buffer.alloc(size, 0x5a)))
  return body
}

function serve(fd: number, ready: () => void): void {
  const server = createServer((request, response) => {
    request.on('data', () => undefined)
    request.on('end', () => {
      if (request.method === 'PUT') {
        response.writeHead(200, { 'content-length': 0 }).end()
        return
      }
      if (request.method === 'DELETE') {
        response.writeHead(204).end()
        return
      }
      const size = /^\/[^/?]+\/(\d+)\//.exec(request.url ?? '')?.[1]
      const body = size === undefined ? LISTING : bodyOf(Math.min(Number(size), 1 << 26))
      response.writeHead(200, { 'content-length': body.length })
      response.end(request.method === 'HEAD' ? undefined : body)
    })
  })
  server.listen({ fd }, ready)
}

if (isMainThread) {
  const threads = Math.max(1, Number(process.argv[2] ?? 1))
  const first = bindReusePort('127.0.0.1', 0)
  for (let i = 1; i < threads; i++) {
    const { fd } = bindReusePort('127.0.0.1', first.port)
    const worker = new Worker(new URL(import.meta.url), { workerData: { fd } })
    await new Promise((resolve, reject) => {
      worker.once('message', resolve)
      worker.once('error', reject)
    })
  }
  serve(first.fd, () => process.stdout.write(`${String(first.port)}\n`))
  process.stdin.resume()
  process.stdin.on('end', () => { process.exit(0) })
} else {
  const { parentPort } = await import('node:worker_threads')
  serve((workerData as { fd: number }).fd, () => { parentPort?.postMessage('ready') })
}
