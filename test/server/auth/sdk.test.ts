/** What the SDKs really send is captured from the wire and verified. */
import assert from 'node:assert/strict'
import { type Server, createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, before, test } from 'node:test'
import { GetObjectCommand, ListObjectsV2Command, PutObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { getSignedUrl } from '@aws-sdk/s3-request-presigner'
import fc from 'fast-check'
import { Client as MinioClient } from 'minio'
import { headerTable } from '../../../ts/server/auth/canonical.js'
import { fixedCredentials } from '../../../ts/server/auth/credentials.js'
import { SigV4Verifier, type Verified } from '../../../ts/server/auth/sigv4.js'
import { type RequestTarget, parseTarget } from '../../../ts/server/auth/target.js'
import { ACCESS_KEY, SECRET_KEY } from './support.js'

const verifier = new SigV4Verifier({
  credentials: fixedCredentials([{ accessKey: ACCESS_KEY, secretKey: SECRET_KEY, ownerId: 'owner' }]),
  region: 'eu-central-1', service: 's3', nowMs: Date.now,
})

interface Seen {
  target: RequestTarget
  verified: Verified
}

let server: Server
let port = 0
let seen: Seen | undefined
let failure: unknown

before(async () => {
  server = createServer((request, response) => {
    request.resume()
    try {
      const target = parseTarget(request.url ?? '')
      const headers = headerTable(request.rawHeaders)
      seen = { target, verified: verifier.verify({ method: request.method ?? '', target, headers }) }
    } catch (error) {
      failure = error
    }
    request.on('end', () => { response.end() })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  port = (server.address() as AddressInfo).port
})

after(() => { server.closeAllConnections(); server.close() })

function take(): Seen {
  if (failure !== undefined) {
    const error = failure
    failure = undefined
    assert.ifError(error)
  }
  assert.ok(seen !== undefined)
  const taken = seen
  seen = undefined
  return taken
}

function sdk(): S3Client {
  return new S3Client({
    endpoint: `http://127.0.0.1:${port}`, region: 'eu-central-1', forcePathStyle: true, maxAttempts: 1,
    credentials: { accessKeyId: ACCESS_KEY, secretAccessKey: SECRET_KEY },
  })
}

const utf8 = fc.string({ unit: 'binary', minLength: 1, maxLength: 40 }).filter((text) => !/\p{Surrogate}/u.test(text))
const key = fc.oneof(utf8, fc.constantFrom('a//b', '/a', './a', 'a/../b', '..', 'a/', '%2F', '+', "it's (1)*!", '?#&=',
  '\u{1f600}/\u00e9', 'a b', '~', '%', '%zz'))

test('requests of the AWS SDK with any key and query verify', async () => {
  const client = sdk()
  await fc.assert(fc.asyncProperty(key, utf8, async (objectKey, prefix) => {
    await client.send(new GetObjectCommand({ Bucket: 'bucket', Key: objectKey, ResponseContentType: prefix }))
    assert.equal(take().target.path, `/bucket/${objectKey}`)
    await client.send(new ListObjectsV2Command({ Bucket: 'bucket', Prefix: prefix, Delimiter: objectKey }))
    const { target } = take()
    assert.equal(target.query.find(({ name }) => name === 'prefix')?.value, prefix)
    assert.equal(target.query.find(({ name }) => name === 'delimiter')?.value, objectKey)
  }), { numRuns: 60 })
})

test('uploads of the AWS SDK say their payload mode', async () => {
  const client = sdk()
  await client.send(new PutObjectCommand({
    Bucket: 'bucket', Key: 'k', Body: 'text', Metadata: { one: ' a  b ' }, ContentType: 'text/plain' }))
  assert.equal(take().verified.payload.kind, 'sha256')
})

test('URLs presigned by the AWS SDK verify for any key', async () => {
  const client = sdk()
  await fc.assert(fc.asyncProperty(key, utf8, async (objectKey, disposition) => {
    const url = await getSignedUrl(client, new GetObjectCommand({
      Bucket: 'bucket', Key: objectKey, ResponseContentDisposition: disposition,
    }), { expiresIn: 60 })
    const rest = url.slice(url.indexOf('/', 'http://'.length))
    const target = parseTarget(rest)
    const headers = headerTable(['Host', `127.0.0.1:${port}`])
    assert.equal(verifier.verify({ method: 'GET', target, headers }).via, 'presigned')
    assert.equal(target.path, `/bucket/${objectKey}`)
    assert.throws(() => verifier.verify({ method: 'PUT', target, headers }))
  }), { numRuns: 60 })
})

test('requests and presigned URLs of minio verify', async () => {
  const client = new MinioClient({
    endPoint: '127.0.0.1', port, useSSL: false, accessKey: ACCESS_KEY, secretKey: SECRET_KEY, region: 'eu-central-1',
  })
  for (const objectKey of ['plain', 'a b/c+d', "it's (1)*!", '\u00e9/\u{1f600}', 'a//b', '%2F&=?#']) {
    await client.statObject('bucket', objectKey)
    assert.equal(take().target.path, `/bucket/${objectKey}`)
    await client.putObject('bucket', objectKey, 'text')
    assert.equal(take().target.path, `/bucket/${objectKey}`)
    const url = await client.presignedUrl('GET', 'bucket', objectKey, 60)
    const target = parseTarget(url.slice(url.indexOf('/', 'http://'.length)))
    verifier.verify({ method: 'GET', target, headers: headerTable(['Host', `127.0.0.1:${port}`]) })
  }
})
