/**
 * A bare node:http server for scale: takes PUT bodies and forgets them, answers GET with as many bytes as the key's
 * first part says (`/b/<size>/...`) and a listing with a page of the usual size. Prints its port, runs until its
 * input ends.
 */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

const listing = Buffer.alloc(Number(process.argv[2] ?? 300_000), 0x78)
const bodies = new Map<number, Buffer>()

function bodyOf(size: number): Buffer {
  let body = bodies.get(size)
  if (body === undefined) bodies.set(size, (body = Buffer.alloc(size, 0x5a)))
  return body
}

const server = createServer((request, response) => {
  request.on('data', () => undefined)
  request.on('end', () => {
    if (request.method === 'PUT') {
      response.writeHead(200, { 'content-length': 0 }).end()
      return
    }
    const size = /^\/[^/?]+\/(\d+)\//.exec(request.url ?? '')?.[1]
    const body = size === undefined ? listing : bodyOf(Math.min(Number(size), 1 << 26))
    response.writeHead(200, { 'content-length': body.length }).end(body)
  })
})
server.listen(0, '127.0.0.1', () => {
  process.stdout.write(`${String((server.address() as AddressInfo).port)}\n`)
})
process.stdin.resume()
process.stdin.on('end', () => {
  process.exit(0)
})
