/** Clients that lie, stall, leave or attack: the right answer, and nothing left behind. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { after, before, beforeEach, test } from 'node:test'
import { CreateBucketCommand, GetObjectCommand, PutObjectCommand, type S3Client } from '@aws-sdk/client-s3'
import { getSignedUrl } from '@aws-sdk/s3-request-presigner'
import { SECRET_KEY, sha256, signChunks } from '../auth/support.js'
import { RawConnection, codeOf, rawRequest, signedHead } from './support/raw.js'
import { S3TestServer } from './support/s3_server.js'

const PUT_HEADERS = { 'content-length': '10' }
const UNSIGNED = 'UNSIGNED-PAYLOAD'

let server: S3TestServer
let client: S3Client
let shards = 0
/** A port where patience is short: only for clients that stall for ever. */
let hasty = 0

before(async () => {
  server = await S3TestServer.start({ limits: { drainBytes: 256 * 1024, maxUrlBytes: 4096 } })
  hasty = await server.listen({ bodyFirstByteMs: 100, idleMs: 100, drainMs: 100 })
  client = server.sdk()
  await client.send(new CreateBucketCommand({ Bucket: 'bucket' }))
  await client.send(new PutObjectCommand({ Bucket: 'bucket', Key: 'there', Body: 'something' }))
})

beforeEach(async () => { shards = await server.shardCount() })

after(async () => { await server.stop() })

async function nothingLeft(): Promise<void> {
  assert.equal(await server.shardCount(), shards, 'no shard is left behind')
  assert.equal(server.pinned, false, 'no read holds a pin')
}

test('a body that never starts, or stops, is RequestTimeout', async () => {
  for (const begun of ['', 'hello']) {
    const connection = await RawConnection.open(hasty)
    connection.send(signedHead('PUT', '/bucket/slow', { headers: PUT_HEADERS, payload: UNSIGNED }).text + begun)
    const answer = await connection.answer()
    assert.equal(answer.status, 400)
    assert.equal(codeOf(answer), 'RequestTimeout')
    assert.equal(answer.headers.get('connection'), 'close')
    await connection.closed()
  }
  await nothingLeft()
})

test('a client that half-closes before its body is complete gets IncompleteBody', async () => {
  const connection = await RawConnection.open(server.port)
  connection.send(signedHead('PUT', '/bucket/half', { headers: PUT_HEADERS, payload: UNSIGNED }).text + 'hello')
  connection.socket.end()
  const answer = await connection.answer()
  assert.equal(codeOf(answer), 'IncompleteBody')
  await connection.closed()
  await nothingLeft()
})

test('a client that leaves during a PUT leaves nothing behind', async () => {
  const connection = await RawConnection.open(server.port)
  const headers = { 'content-length': '1000000' }
  connection.send(signedHead('PUT', '/bucket/left', { headers, payload: UNSIGNED }).text)
  connection.send(randomBytes(400_000))
  await server.until(() => server.summaries.length > 0 || server.drives.slabs.stats.usedBytes > 0)
  const before = server.summaries.length
  connection.destroy()
  await server.until(() => server.summaries.length > before)
  await nothingLeft()
})

test('a client that leaves during a GET, or stops reading, holds nothing', async () => {
  await client.send(new PutObjectCommand({ Bucket: 'bucket', Key: 'large', Body: randomBytes(30_000_000) }))
  shards = await server.shardCount()
  for (const leaves of [true, false]) {
    const connection = await RawConnection.open(leaves ? server.port : hasty)
    const before = server.summaries.length
    connection.socket.pause()
    connection.send(signedHead('GET', '/bucket/large').text)
    await server.until(() => server.pinned)
    if (leaves) connection.destroy()
    await server.until(() => server.summaries.length > before)
    assert.equal(server.pinned, false)
    const summary = server.summaries.at(-1)
    assert.ok((summary?.bytesOut ?? 0) < 30_000_000)
    connection.destroy()
  }
  await nothingLeft()
})

test('an object that cannot be read is an error or a broken connection, never a short success', async () => {
  const data = randomBytes(3_000_000)
  await client.send(new PutObjectCommand({ Bucket: 'bucket', Key: 'failing', Body: data }))
  shards = await server.shardCount()
  let reads = 0
  let failAfter = 0
  for (const drive of server.drives.drives) {
    drive.before = (step) => {
      if (step === 'read' && ++reads > failAfter) throw new Error('the drive is gone')
    }
  }
  const early = await rawRequest(server.port, signedHead('GET', '/bucket/failing').text)
  assert.ok(early.status === 500 || early.status === 503, String(early.status))
  assert.match(early.body, /<Code>/)
  reads = 0
  failAfter = 4
  const connection = await RawConnection.open(server.port)
  connection.send(signedHead('GET', '/bucket/failing').text)
  await connection.closed()
  assert.match(connection.received, /^HTTP\/1\.1 200 OK/)
  assert.ok(connection.received.length < data.length, 'the body is short, and the connection broken')
  for (const drive of server.drives.drives) drive.before = () => undefined
  await nothingLeft()
})

test('100 Continue comes only when the body is wanted', async () => {
  const headers = { ...PUT_HEADERS, expect: '100-continue' }
  const good = await RawConnection.open(server.port)
  good.send(signedHead('PUT', '/bucket/expected', { headers, payload: UNSIGNED }).text)
  assert.equal(await good.until((text) => text.includes('\r\n\r\n')), 'HTTP/1.1 100 Continue\r\n\r\n')
  good.send('0123456789')
  assert.equal((await good.answer()).status, 200)
  good.destroy()
  shards = await server.shardCount()
  const cases: [string, Record<string, string>, string][] = [
    ['/nowhere/key', {}, 'NoSuchBucket'], ['/bucket/there', { 'if-none-match': '*' }, 'PreconditionFailed'],
    ['/bucket/key', { 'content-length': '99999999999999' }, 'EntityTooLarge'],
    ['/bucket/key', { 'x-amz-tagging': 'a=b' }, 'NotImplemented'],
  ]
  for (const [target, more, code] of cases) {
    const connection = await RawConnection.open(server.port)
    connection.send(signedHead('PUT', target, { headers: { ...headers, ...more }, payload: UNSIGNED }).text)
    await connection.until((text) => text.includes('</Error>'))
    assert.ok(!connection.received.includes('100 Continue'), target)
    assert.equal(codeOf(await connection.answer()), code)
    connection.destroy()
  }
  const forged = signedHead('PUT', '/bucket/key', { headers, payload: UNSIGNED }).text
    .replace(/Signature=..../, 'Signature=0000')
  assert.equal(codeOf(await rawRequest(server.port, forged)), 'SignatureDoesNotMatch')
  await nothingLeft()
})

test('after an early error a small body is read and the connection kept, a large one is not', async () => {
  const connection = await RawConnection.open(server.port)
  connection.send(signedHead('PUT', '/nowhere/key', { headers: PUT_HEADERS, payload: UNSIGNED }).text)
  connection.send('0123456789')
  assert.equal(codeOf(await connection.answer()), 'NoSuchBucket')
  connection.send(signedHead('GET', '/bucket/there').text)
  assert.equal((await connection.answer()).body, 'something')
  connection.destroy()
  const large = await RawConnection.open(hasty)
  const headers = { 'content-length': '50000000' }
  large.send(signedHead('PUT', '/nowhere/key', { headers, payload: UNSIGNED }).text)
  large.send(Buffer.alloc(200_000))
  const answer = await large.answer()
  assert.equal(codeOf(answer), 'NoSuchBucket')
  assert.equal(answer.headers.get('connection'), 'close')
  await large.closed()
  await nothingLeft()
})

test('chunks that lie are refused and leave nothing', async () => {
  const streaming = 'STREAMING-UNSIGNED-PAYLOAD-TRAILER'
  const lies: [string, string, string][] = [
    ['5\r\nhello\r\n0\r\n\r\n', '6', 'IncompleteBody'], ['5\r\nhello\r\n0\r\n\r\n', '4', 'IncompleteBody'],
    ['7\r\nhello\r\n0\r\n\r\n', '5', 'IncompleteBody'], ['zz\r\nhello\r\n0\r\n\r\n', '5', 'InvalidRequest'],
    ['5\r\nhello\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n', '5', 'BadDigest'],
    ['5\r\nhello\r\n0\r\nx-amz-checksum-crc32:short\r\n\r\n', '5', 'InvalidRequest'],
    ['5\r\nhello\r\n0\r\nx-amz-meta-a:b\r\n\r\n', '5', 'MalformedTrailerError'],
    ['5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n', '5', 'MalformedTrailerError'],
  ]
  for (const [body, decoded, code] of lies) {
    const headers = {
      'content-length': String(body.length), 'x-amz-decoded-content-length': decoded,
      'content-encoding': 'aws-chunked', 'x-amz-trailer': 'x-amz-checksum-crc32',
    }
    const head = signedHead('PUT', '/bucket/lie', { headers, payload: streaming })
    assert.equal(codeOf(await rawRequest(server.port, head.text, body)), code, JSON.stringify(body))
  }
  await nothingLeft()
})

test('a signed stream is stored when its chain holds, and refused when a chunk is replaced', async () => {
  const data = [Buffer.alloc(70_000, 'a'), Buffer.alloc(500, 'b')]
  for (const forged of [false, true]) {
    const length = 70_500 + (70_000).toString(16).length + (500).toString(16).length + 1 + 3 * 81 + 5 * 2 + 2
    const head = signedHead('PUT', '/bucket/stream', {
      headers: { 'content-length': String(length), 'x-amz-decoded-content-length': '70500' },
      payload: 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD',
    })
    const context = { timestamp: head.timestamp, region: 'us-east-1', service: 's3', secretKey: SECRET_KEY }
    const { chunks } = signChunks(data, head.signature, context)
    const pieces = chunks.flatMap(({ data: chunk, signature }) => [
      `${chunk.length.toString(16)};chunk-signature=${signature}\r\n`, chunk, '\r\n'])
    const body = Buffer.concat(pieces.map((piece) => Buffer.from(piece)))
    assert.equal(body.length, length)
    if (forged) body[70_000] = 0x63
    const answer = await rawRequest(server.port, head.text, body)
    assert.equal(codeOf(answer), forged ? 'SignatureDoesNotMatch' : '200')
    if (!forged) shards = await server.shardCount()
  }
  const { Body } = await client.send(new GetObjectCommand({ Bucket: 'bucket', Key: 'stream' }))
  assert.deepEqual(Buffer.from(await Body?.transformToByteArray() ?? []), Buffer.concat(data))
  await nothingLeft()
})

test('paths that would climb are only keys', async () => {
  for (const path of ['/bucket/../../etc/passwd', '/bucket/%2e%2e/%2e%2e/etc/passwd', '/bucket//etc/passwd',
    '/bucket/..%2f..%2fetc%2fpasswd', '/bucket/./..']) {
    assert.equal(codeOf(await rawRequest(server.port, signedHead('GET', path).text)), 'NoSuchKey', path)
  }
  const bad: [string, string][] = [
    ['/../etc', 'InvalidBucketName'], ['/%2e%2e/x', 'InvalidBucketName'], ['/bucket/%ff', 'InvalidURI'],
    ['/bucket/%zz', 'InvalidURI'], ['/bucket/a%00b', 'InvalidArgument'], ['/bucket/' + 'x'.repeat(5000), 'InvalidURI'],
    ['/.bucket/x', 'InvalidBucketName'],
  ]
  for (const [path, code] of bad) {
    assert.equal(codeOf(await rawRequest(server.port, signedHead('GET', path).text)), code, path)
  }
})

test('what is not HTTP, or too much of it, is refused', async () => {
  const big = `GET / HTTP/1.1\r\nhost: x\r\nx-amz-meta-a: ${'x'.repeat(100_000)}\r\n\r\n`
  assert.equal(codeOf(await rawRequest(server.port, big)), 'RequestHeaderSectionTooLarge')
  assert.equal(codeOf(await rawRequest(server.port, 'nonsense\r\n\r\n')), 'InvalidRequest')
  const two = 'PUT /bucket/k HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n'
  assert.equal(codeOf(await rawRequest(server.port, two)), 'InvalidRequest')
  assert.equal(codeOf(await rawRequest(server.port, 'GET / HTTP/1.1\r\nhost: x\r\n\r\n')), 'AccessDenied')
  assert.equal(codeOf(await rawRequest(server.port, 'OPTIONS /bucket HTTP/1.1\r\nhost: x\r\n\r\n')), 'AccessDenied')
  const chunked = signedHead('PUT', '/bucket/k', { headers: { 'transfer-encoding': 'chunked' }, payload: UNSIGNED })
  assert.equal(codeOf(await rawRequest(server.port, chunked.text, '0\r\n\r\n')), 'MissingContentLength')
  const patch = signedHead('PATCH', '/bucket/k')
  assert.equal(codeOf(await rawRequest(server.port, patch.text)), 'MethodNotAllowed')
})

test('no header is left out because there are many before it', async () => {
  const many = 'x-filler:1\r\n'.repeat(2100)
  const { text } = signedHead('PUT', '/bucket/there', { headers: PUT_HEADERS, payload: UNSIGNED })
  const condition = text.replace('host:', `${many}host:`).replace(/\r\n\r\n$/, '\r\nif-none-match: *\r\n\r\n')
  assert.equal(codeOf(await rawRequest(server.port, condition, '0123456789')), 'PreconditionFailed')
  await nothingLeft()
})

test('a POST form hears that there are none, and an empty ACL asks for nothing', async () => {
  const form = 'POST /bucket HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n'
    + 'content-type: multipart/form-data; boundary=x\r\n\r\n--x-'
  assert.equal(codeOf(await rawRequest(server.port, form)), 'NotImplemented')
  const acl = signedHead('PUT', '/empty-acl', { headers: { 'x-amz-acl': '', 'content-length': '0' } })
  assert.equal((await rawRequest(server.port, acl.text)).status, 200)
})

test('XML bodies are bounded and strict', async () => {
  const post = (body: string, headers: Record<string, string> = {}) => {
    const head = signedHead('POST', '/bucket?delete', {
      headers: { 'content-length': String(Buffer.byteLength(body)), 'x-amz-trailer': '', ...headers },
      payload: sha256(body),
    })
    return rawRequest(server.port, head.text, body)
  }
  const entities = Array.from({ length: 9 }, (_, i) => `<!ENTITY e${i + 1} "${`&e${i};`.repeat(10)}">`).join('')
  const bomb = `<!DOCTYPE d [<!ENTITY e0 "x">${entities}]><Delete><Object><Key>&e9;</Key></Object></Delete>`
  assert.equal(codeOf(await post(bomb)), 'MalformedXML')
  assert.equal(codeOf(await post('<Delete>' + ' '.repeat(3_000_000) + '</Delete>')), 'MaxMessageLengthExceeded')
  assert.equal(codeOf(await post('')), 'MalformedXML')
  const body = '<Delete><Object><Key>there</Key></Object></Delete>'
  const bare = { 'content-length': String(body.length) }
  const head = signedHead('POST', '/bucket?delete', { headers: bare, payload: sha256(body) })
  assert.equal(codeOf(await rawRequest(server.port, head.text, body)), 'InvalidRequest', 'no digest')
  assert.equal(codeOf(await post(body, { 'content-md5': 'AAAAAAAAAAAAAAAAAAAAAA==' })), 'BadDigest')
  assert.equal((await rawRequest(server.port, signedHead('GET', '/bucket/there').text)).body, 'something')
})

test('more requests than the worker takes are SlowDown', async () => {
  const narrow = await S3TestServer.start({ limits: { maxRequests: 2, bodyFirstByteMs: 60_000 } })
  try {
    await narrow.sdk().send(new CreateBucketCommand({ Bucket: 'bucket' }))
    const waiting = await Promise.all([1, 2].map(async (number) => {
      const connection = await RawConnection.open(narrow.port)
      connection.send(signedHead('PUT', `/bucket/${number}`, { headers: PUT_HEADERS, payload: UNSIGNED }).text)
      return connection
    }))
    let answer = await rawRequest(narrow.port, signedHead('GET', '/bucket').text)
    while (answer.status === 200) answer = await rawRequest(narrow.port, signedHead('GET', '/bucket').text)
    assert.equal(answer.status, 503)
    assert.equal(codeOf(answer), 'SlowDown')
    assert.equal(answer.headers.get('retry-after'), '1')
    for (const connection of waiting) {
      connection.send('0123456789')
      assert.equal((await connection.answer()).status, 200)
      connection.destroy()
    }
    assert.equal((await rawRequest(narrow.port, signedHead('GET', '/bucket').text)).status, 200)
  } finally {
    await narrow.stop()
  }
})

test('presigned URLs work for anyone who has them, and for nothing else', async () => {
  const upload = new PutObjectCommand({ Bucket: 'bucket', Key: 'presigned' })
  const put = await getSignedUrl(client, upload, { expiresIn: 60 })
  assert.equal((await fetch(put, { method: 'PUT', body: 'by url' })).status, 200)
  const get = await getSignedUrl(client, new GetObjectCommand({
    Bucket: 'bucket', Key: 'presigned', ResponseContentType: 'text/x-odd' }), { expiresIn: 60 })
  const answer = await fetch(get)
  assert.equal(await answer.text(), 'by url')
  assert.equal(answer.headers.get('content-type'), 'text/x-odd')
  assert.equal((await fetch(get, { method: 'DELETE' })).status, 403)
  assert.equal((await fetch(get.replace('presigned', 'there'))).status, 403)
})
