/** Any byte of a signed request changed on the way: it is refused, or means exactly what was signed. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import fc from 'fast-check'
import { sha256 } from '../auth/support.js'
import { RawConnection, type RawAnswer, signedHead } from './support/raw.js'
import { S3TestServer } from './support/s3_server.js'

const BODY = 'the body that was signed'
const RUNS = process.env['OSTRAKA_TEST_LONG'] === undefined ? 250 : 5000
let server: S3TestServer

before(async () => {
  server = await S3TestServer.start()
  await server.store.createBucket('bucket', 'owner', 'us-east-1')
})

after(async () => {
  assert.deepEqual(server.errors, [])
  await server.stop()
})

/** Sends the bytes and half-closes, so that a request which claims more is told so instead of waiting. */
async function answerTo(bytes: Uint8Array): Promise<RawAnswer | undefined> {
  const connection = await RawConnection.open(server.port)
  try {
    connection.socket.end(bytes)
    return await connection.answer()
  } catch {
    // No HTTP answer at all: the connection was closed.
    return undefined
  } finally {
    connection.destroy()
  }
}

async function stored(): Promise<Map<string, string>> {
  const found = new Map<string, string>()
  const { entries } = server.store.listObjects('bucket', { prefix: '', delimiter: '', after: '', limit: 1000 })
  for (const entry of entries) {
    if (!('object' in entry)) continue
    const handle = server.store.openObject('bucket', entry.object.key)
    const pieces: Uint8Array[] = []
    for await (const piece of handle.read({ offset: 0, length: handle.object.size })) pieces.push(piece)
    handle.release()
    found.set(entry.object.key, Buffer.concat(pieces).toString())
  }
  return found
}

test('a changed byte never stores anything that was not signed', async () => {
  const change = fc.record({
    place: fc.nat(), byte: fc.integer({ min: 0, max: 255 }), kind: fc.constantFrom('replace', 'insert', 'remove'),
  })
  await fc.assert(fc.asyncProperty(change, async ({ place, byte, kind }) => {
    const head = signedHead('PUT', '/bucket/signed', {
      headers: { 'content-length': String(BODY.length), 'x-amz-meta-color': 'red', 'content-type': 'text/plain' },
      payload: sha256(BODY),
    })
    const bytes = Buffer.from(head.text + BODY)
    const at = place % bytes.length
    const changed = Buffer.concat([bytes.subarray(0, at), Buffer.from(kind === 'remove' ? [] : [byte]),
      bytes.subarray(kind === 'insert' ? at : at + 1)])
    const answer = await answerTo(changed)
    await server.idle()
    if (answer !== undefined) assert.ok(answer.status < 500 || answer.status === 501, `status ${answer.status}`)
    const objects = await stored()
    assert.ok(objects.size <= 1)
    for (const [key, body] of objects) {
      assert.deepEqual([key, body], ['signed', BODY])
      const handle = server.store.openObject('bucket', key)
      assert.equal(handle.object.attributes.userMetadata['color'], 'red')
      assert.equal(handle.object.attributes.headers['content-type'], 'text/plain')
      handle.release()
      await server.store.deleteObject('bucket', key)
    }
  }), { numRuns: RUNS })
})

test('bytes that are no request at all are answered or cut off, and the server goes on', async () => {
  await fc.assert(fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 300 }), async (bytes) => {
    const answer = await answerTo(bytes)
    if (answer !== undefined) assert.ok(answer.status >= 400 && answer.status < 500, `status ${answer.status}`)
  }), { numRuns: RUNS / 5 })
  const answer = await answerTo(Buffer.from(signedHead('GET', '/bucket').text))
  assert.equal(answer?.status, 200)
})
