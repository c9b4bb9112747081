import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { EventEmitter } from 'node:events'
import { type IncomingMessage, createServer } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { test } from 'node:test'
import { RequestReader } from '../../../ts/server/s3/request_reader.js'
import { readAll } from './support/pieces.js'

const LIMITS = { windowBytes: 100_000, firstByteMs: 60_000, idleMs: 60_000, minBytesPerSecond: 100 }

/** What the reader uses of a request, under the test's control. */
class FakeRequest extends EventEmitter {
  complete = false
  destroyed = false
  paused = false

  pause(): this {
    this.paused = true
    return this
  }

  resume(): this {
    this.paused = false
    return this
  }

  get message(): IncomingMessage {
    return this as unknown as IncomingMessage
  }
}

test('a slow reader pauses the socket, and loses nothing', async () => {
  const sent = randomBytes(20_000_000)
  const work = new Promise<void>((resolve, reject) => {
    const server = createServer((request, response) => {
      const reader = new RequestReader(request, LIMITS)
      const check = async (): Promise<void> => {
        const first = await reader.next()
        let before = -1
        while (reader.receivedBytes !== before) {
          before = reader.receivedBytes
          await new Promise((settle) => setTimeout(settle, 50))
        }
        assert.ok(reader.receivedBytes < LIMITS.windowBytes + 1_000_000, `${reader.receivedBytes} bytes are kept`)
        const rest = await readAll(reader)
        assert.ok(Buffer.concat([first ?? Buffer.alloc(0), rest]).equals(sent))
        response.end()
      }
      check().then(resolve, reject).finally(() => { reader.release(); server.closeAllConnections(); server.close() })
    })
    server.listen(0, '127.0.0.1', () => {
      const socket = connect((server.address() as AddressInfo).port, '127.0.0.1')
      socket.on('error', () => undefined)
      socket.write(`PUT / HTTP/1.1\r\nhost: x\r\ncontent-length: ${sent.length}\r\n\r\n`)
      socket.write(sent)
    })
  })
  await work
})

test('pieces, end, departure and release reach whoever waits', async () => {
  const request = new FakeRequest()
  let begun = 0
  const reader = new RequestReader(request.message, LIMITS, () => { begun += 1 })
  assert.equal(begun, 0)
  const first = reader.next()
  assert.equal(begun, 1)
  request.emit('data', Buffer.from('one'))
  assert.equal(String(await first), 'one')
  request.emit('data', Buffer.from('two'))
  assert.equal(String(await reader.next()), 'two')
  const last = reader.next()
  request.emit('end')
  assert.equal(await last, undefined)
  assert.equal(await reader.next(), undefined)
  assert.equal(begun, 1)
  reader.release()

  const gone = new FakeRequest()
  const other = new RequestReader(gone.message, LIMITS)
  const waiting = other.next()
  gone.emit('close')
  await assert.rejects(waiting, { code: 'IncompleteBody' })
  await assert.rejects(other.next(), { code: 'IncompleteBody' })
  other.release()

  const released = new FakeRequest()
  const third = new RequestReader(released.message, LIMITS)
  const pending = third.next()
  third.release()
  await assert.rejects(pending, { code: 'IncompleteBody' })
  assert.equal(released.listenerCount('data'), 0)
  assert.equal(released.paused, true)
})

test('a trickle is cut off after its grace, a steady client is not', async () => {
  for (const [bytes, ends] of [[1, true], [2000, false]] as const) {
    const request = new FakeRequest()
    let now = 0
    const reader = new RequestReader(request.message, LIMITS, () => undefined, () => now)
    let failed = false
    for (let turn = 0; turn < 20 && !failed; turn++) {
      const next = reader.next().catch(() => { failed = true })
      now += 10_000
      request.emit('data', Buffer.alloc(bytes))
      await next
    }
    assert.equal(failed, ends, `${bytes} bytes every ten seconds`)
    assert.ok(now > 60_000, 'not before the grace')
    reader.release()
  }
})
