/** The minio client: its own signer, region discovery, streaming and bulk calls. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import { after, before, test } from 'node:test'
import { HeadBucketCommand, S3ServiceException } from '@aws-sdk/client-s3'
import { Client, CopyDestinationOptions, CopySourceOptions } from 'minio'
import { ACCESS_KEY, SECRET_KEY } from '../auth/support.js'
import { S3TestServer } from './support/s3_server.js'

let server: S3TestServer
let client: Client

before(async () => {
  server = await S3TestServer.start()
  // No region is given: the client asks for the bucket's location.
  client = new Client({
    endPoint: '127.0.0.1', port: server.port, useSSL: false, accessKey: ACCESS_KEY, secretKey: SECRET_KEY })
  await client.makeBucket('bucket')
})

after(async () => {
  assert.deepEqual(server.errors, [])
  assert.equal(server.pinned, false)
  await server.stop()
})

async function read(key: string): Promise<Buffer> {
  const pieces: Buffer[] = []
  for await (const piece of await client.getObject('bucket', key)) pieces.push(piece as Buffer)
  return Buffer.concat(pieces)
}

test('buckets and small objects', async () => {
  assert.equal(await client.bucketExists('bucket'), true)
  assert.equal(await client.bucketExists('no-bucket'), false)
  assert.deepEqual((await client.listBuckets()).map(({ name }) => name), ['bucket'])
  await client.putObject('bucket', 'small', 'text', 4, { 'Content-Type': 'text/x', 'X-Amz-Meta-Color': 'red' })
  assert.equal((await read('small')).toString(), 'text')
  const stat = await client.statObject('bucket', 'small')
  assert.equal(stat.size, 4)
  assert.equal(stat.metaData['content-type'], 'text/x')
  assert.equal(stat.metaData['color'], 'red')
  const part = await client.getPartialObject('bucket', 'small', 1, 2)
  assert.equal(String((await part.toArray())[0]), 'ex')
})

test('a stream becomes a multipart upload', async () => {
  const data = randomBytes(11 * 1024 * 1024)
  const stream = new Client({
    endPoint: '127.0.0.1', port: server.port, useSSL: false, accessKey: ACCESS_KEY, secretKey: SECRET_KEY,
    partSize: 5 * 1024 * 1024,
  })
  const { etag } = await stream.putObject('bucket', 'large', Readable.from([data.subarray(0, 7_000_000),
    data.subarray(7_000_000)]))
  assert.match(etag, /-[2-9]$/)
  assert.deepEqual(await read('large'), data)
})

test('a client that does not know the region finds it', async () => {
  const elsewhere = await S3TestServer.start({ region: 'eu-central-1' })
  try {
    const lost = new Client({
      endPoint: '127.0.0.1', port: elsewhere.port, useSSL: false, accessKey: ACCESS_KEY, secretKey: SECRET_KEY })
    await lost.makeBucket('bucket', 'eu-central-1')
    await lost.putObject('bucket', 'key', 'found')
    assert.equal((await lost.statObject('bucket', 'key')).size, 5)
    const wrong = elsewhere.sdk({ region: 'us-west-2' })
    await assert.rejects(wrong.send(new HeadBucketCommand({ Bucket: 'bucket' })), (error) => (
      error instanceof S3ServiceException
      && error.$response?.headers['x-amz-bucket-region'] === 'eu-central-1'))
  } finally {
    await elsewhere.stop()
  }
})

test('listings, copies and bulk removal', async () => {
  const keys = ['l/1', 'l/2', 'l/a b+c', 'l/\u00fc', 'l/dir/x']
  for (const key of keys) await client.putObject('bucket', key, key)
  const all: string[] = []
  for await (const item of client.listObjectsV2('bucket', 'l/', true)) all.push((item as { name: string }).name)
  assert.deepEqual(all, ['l/1', 'l/2', 'l/a b+c', 'l/dir/x', 'l/\u00fc'])
  const flat: string[] = []
  for await (const item of client.listObjects('bucket', 'l/', false)) {
    const { name, prefix } = item as { name?: string; prefix?: string }
    flat.push(name ?? prefix ?? '')
  }
  assert.deepEqual(flat.sort(), ['l/1', 'l/2', 'l/a b+c', 'l/dir/', 'l/\u00fc'])
  await client.copyObject(new CopySourceOptions({ Bucket: 'bucket', Object: 'l/a b+c' }),
    new CopyDestinationOptions({ Bucket: 'bucket', Object: 'copied' }))
  assert.equal((await read('copied')).toString(), 'l/a b+c')
  await client.removeObjects('bucket', keys)
  await client.removeObject('bucket', 'copied')
  for (const key of keys) {
    await assert.rejects(client.statObject('bucket', key), (error) => (error as { code: string }).code === 'NotFound')
  }
})
