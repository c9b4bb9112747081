/** Answers of operations that take long, and the shared bound on XML bodies. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { after, before, test } from 'node:test'
import {
  CompleteMultipartUploadCommand, CopyObjectCommand, CreateBucketCommand, CreateMultipartUploadCommand,
  PutObjectCommand, type S3Client, S3ServiceException, UploadPartCommand,
} from '@aws-sdk/client-s3'
import { sha256 } from '../auth/support.js'
import { RawConnection, codeOf, rawRequest, signedHead } from './support/raw.js'
import { S3TestServer } from './support/s3_server.js'

const Bucket = 'bucket'
let server: S3TestServer
let client: S3Client

before(async () => {
  server = await S3TestServer.start({ limits: { keepAliveMs: 5, maxXmlBytesTogether: 1000 } })
  client = server.sdk()
  await client.send(new CreateBucketCommand({ Bucket }))
  await client.send(new PutObjectCommand({ Bucket, Key: 'source', Body: 'x'.repeat(200_000) }))
})

after(async () => { await server.stop() })

/** Drives that take their time, until the test lets go. */
function hold(): () => void {
  let letGo = (): void => undefined
  const held = new Promise<void>((resolve) => { letGo = resolve })
  for (const drive of server.drives.drives) drive.before = () => held
  return () => {
    for (const drive of server.drives.drives) drive.before = () => undefined
    letGo()
  }
}

test('a copy that takes long is kept alive, and its answer is a document', async () => {
  const letGo = hold()
  const connection = await RawConnection.open(server.port)
  connection.send(signedHead('PUT', '/bucket/copy', { headers: { 'x-amz-copy-source': '/bucket/source' } }).text)
  const early = await connection.until((text) => text.includes('?>'))
  assert.match(early, /^HTTP\/1\.1 200 OK/)
  letGo()
  const whole = await connection.until((text) => text.includes('</CopyObjectResult>'))
  assert.equal(whole.match(/<\?xml/g)?.length, 1)
  connection.destroy()
  const release = hold()
  const copying = client.send(new CopyObjectCommand({ Bucket, Key: 'again', CopySource: 'bucket/source' }))
  setTimeout(release, 50)
  assert.match((await copying).CopyObjectResult?.ETag ?? '', /^"[0-9a-f]{32}"$/)
})

test('an error after the early head comes as error document', async () => {
  const letGo = hold()
  const connection = await RawConnection.open(server.port)
  connection.send(signedHead('PUT', '/bucket/copy', { headers: { 'x-amz-copy-source': '/bucket/source' } }).text)
  await connection.until((text) => text.includes('?>'))
  for (const drive of server.drives.drives) drive.state = 'offline'
  letGo()
  const whole = await connection.until((text) => text.includes('</Error>'))
  assert.match(whole, /<Code>(ServiceUnavailable|InternalError)<\/Code>/)
  connection.destroy()
  for (const drive of server.drives.drives) drive.state = 'online'
  await server.idle()
})

test('a completion that is refused at once has its own status', async () => {
  const { UploadId } = await client.send(new CreateMultipartUploadCommand({ Bucket, Key: 'multi' }))
  const part = { Bucket, Key: 'multi', UploadId, PartNumber: 1, Body: 'x' }
  const { ETag } = await client.send(new UploadPartCommand(part))
  const MultipartUpload = { Parts: [{ PartNumber: 2, ETag }] }
  const work = client.send(new CompleteMultipartUploadCommand({ Bucket, Key: 'multi', UploadId, MultipartUpload }))
  await assert.rejects(work, (error) => (
    error instanceof S3ServiceException && error.name === 'InvalidPart' && error.$metadata.httpStatusCode === 400))
})

test('XML bodies of a worker are bounded together', async () => {
  const body = '<Delete>' + '<Object><Key>none</Key></Object>'.repeat(20) + '</Delete>'
  const post = (): string => signedHead('POST', '/bucket?delete', {
    headers: { 'content-length': String(body.length), 'content-md5': md5(body) }, payload: sha256(body),
  }).text
  const slow = await RawConnection.open(server.port)
  slow.send(post())
  let answer = await rawRequest(server.port, post(), body)
  while (answer.status === 200) answer = await rawRequest(server.port, post(), body)
  assert.equal(codeOf(answer), 'SlowDown')
  slow.send(body)
  assert.equal((await slow.answer()).status, 200)
  slow.destroy()
  assert.equal((await rawRequest(server.port, post(), body)).status, 200)
})

test('a body that nobody asked for ends the connection with the answer', async () => {
  const connection = await RawConnection.open(server.port)
  connection.send(signedHead('GET', '/bucket/none?location', { headers: { 'content-length': '1000000' } }).text)
  assert.equal((await connection.answer()).headers.get('connection'), 'close')
  const list = await RawConnection.open(server.port)
  list.send(signedHead('GET', '/bucket', { headers: { 'content-length': '1000000' } }).text)
  const answer = await list.answer()
  assert.equal(answer.status, 200)
  assert.equal(answer.headers.get('connection'), 'close')
  await list.closed()
  connection.destroy()
})

function md5(text: string): string {
  return createHash('md5').update(text).digest('base64')
}

test('requests that come before the last answer has left are all answered, in order', async () => {
  const connection = await RawConnection.open(server.port)
  const many = 20
  connection.send(Array.from({ length: many }, () => (
    signedHead('GET', '/bucket/source', { headers: { range: 'bytes=0-0' } }).text)).join(''))
  for (let turn = 0; turn < many; turn++) {
    const answer = await connection.answer()
    assert.deepEqual([answer.status, answer.body], [206, 'x'])
  }
  // A large answer that is not taken yet, and another request behind it whose client then leaves.
  connection.socket.pause()
  await client.send(new PutObjectCommand({ Bucket, Key: 'large', Body: Buffer.alloc(20_000_000) }))
  connection.send(signedHead('GET', '/bucket/large').text + signedHead('GET', '/bucket/source').text)
  await server.until(() => server.pinned)
  connection.destroy()
  await server.until(() => !server.pinned)
})
