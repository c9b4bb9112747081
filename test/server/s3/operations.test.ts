/** Buckets and objects through the AWS SDK: what it sends is accepted, what it gets is what S3 would say. */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { after, before, test } from 'node:test'
import {
  CopyObjectCommand, CreateBucketCommand, DeleteBucketCommand, DeleteObjectCommand, DeleteObjectsCommand,
  GetBucketAclCommand, GetBucketLocationCommand, GetBucketVersioningCommand, GetObjectCommand, HeadBucketCommand,
  HeadObjectCommand,
  ListBucketsCommand, PutObjectCommand, type S3Client, S3ServiceException,
} from '@aws-sdk/client-s3'
import { OWNER, S3TestServer } from './support/s3_server.js'

let server: S3TestServer
let client: S3Client

before(async () => {
  server = await S3TestServer.start()
  client = server.sdk()
  await client.send(new CreateBucketCommand({ Bucket: 'bucket' }))
})

after(async () => {
  assert.deepEqual(server.errors, [])
  assert.equal(server.pinned, false, 'every handle was released')
  await server.stop()
})

async function refusal(work: Promise<unknown>): Promise<S3ServiceException> {
  try {
    await work
  } catch (error) {
    assert.ok(error instanceof S3ServiceException, String(error))
    return error
  }
  assert.fail('was accepted')
}

async function put(Key: string, Body: Uint8Array | string, more: object = {}): Promise<string> {
  const { ETag } = await client.send(new PutObjectCommand({ Bucket: 'bucket', Key, Body, ...more }))
  return ETag ?? ''
}

async function get(Key: string, more: object = {}): Promise<Buffer> {
  const { Body } = await client.send(new GetObjectCommand({ Bucket: 'bucket', Key, ...more }))
  return Buffer.from(await Body?.transformToByteArray() ?? [])
}

test('buckets: create, head, list, location, delete', async () => {
  await client.send(new CreateBucketCommand({ Bucket: 'other.bucket-1' }))
  const again = await refusal(client.send(new CreateBucketCommand({ Bucket: 'other.bucket-1' })))
  assert.equal(again.name, 'BucketAlreadyOwnedByYou')
  assert.match(again.message, /^Your previous request /)
  const head = await client.send(new HeadBucketCommand({ Bucket: 'other.bucket-1' }))
  assert.equal(head.BucketRegion, 'us-east-1')
  const { Buckets, Owner } = await client.send(new ListBucketsCommand({}))
  assert.deepEqual(Buckets?.map(({ Name }) => Name), ['bucket', 'other.bucket-1'])
  assert.ok(Math.abs((Buckets?.[0]?.CreationDate?.getTime() ?? 0) - Date.now()) < 600_000)
  assert.equal(Owner?.ID, OWNER)
  const first = await client.send(new ListBucketsCommand({ MaxBuckets: 1 }))
  assert.deepEqual(first.Buckets?.map(({ Name }) => Name), ['bucket'])
  const { ContinuationToken } = first
  const second = await client.send(new ListBucketsCommand({ MaxBuckets: 1, ContinuationToken }))
  assert.deepEqual(second.Buckets?.map(({ Name }) => Name), ['other.bucket-1'])
  assert.equal(second.ContinuationToken, undefined)
  const location = await client.send(new GetBucketLocationCommand({ Bucket: 'bucket' }))
  assert.equal(location.LocationConstraint, undefined)
  await client.send(new DeleteBucketCommand({ Bucket: 'other.bucket-1' }))
  const gone = await refusal(client.send(new HeadBucketCommand({ Bucket: 'other.bucket-1' })))
  assert.equal(gone.$metadata.httpStatusCode, 404)
  assert.equal((await refusal(client.send(new DeleteBucketCommand({ Bucket: 'other.bucket-1' })))).name, 'NoSuchBucket')
  assert.equal((await refusal(client.send(new CreateBucketCommand({ Bucket: 'Bad_Name' })))).name, 'InvalidBucketName')
  const versioning = await client.send(new GetBucketVersioningCommand({ Bucket: 'bucket' }))
  assert.equal(versioning.Status, undefined)
  const none = client.send(new GetBucketVersioningCommand({ Bucket: 'other.bucket-1' }))
  assert.equal((await refusal(none)).name, 'NoSuchBucket')
  const wrong = new CreateBucketCommand({
    Bucket: 'third', CreateBucketConfiguration: { LocationConstraint: 'eu-west-1' } })
  assert.equal((await refusal(client.send(wrong))).name, 'IllegalLocationConstraintException')
})

test('objects of many sizes come back bit for bit', async () => {
  for (const size of [0, 1, 1000, 65_535, 65_536, 65_537, 300_000, 3_000_000]) {
    const data = randomBytes(size)
    const etag = await put('sizes', data)
    assert.equal(etag, `"${createHash('md5').update(data).digest('hex')}"`)
    assert.deepEqual(await get('sizes'), data)
  }
})

test('headers and metadata that were stored come back', async () => {
  const sent = {
    ContentType: 'text/plain; charset=utf-8', CacheControl: 'max-age=60', ContentDisposition: 'attachment; filename=x',
    ContentEncoding: 'gzip', ContentLanguage: 'de', Expires: new Date('2030-01-01T00:00:00Z'),
    Metadata: { one: '1', 'two-words': 'a  b' }, StorageClass: 'REDUCED_REDUNDANCY' as const,
  }
  await put('attributes', 'data', sent)
  for (const answer of [
    await client.send(new HeadObjectCommand({ Bucket: 'bucket', Key: 'attributes' })),
    await client.send(new GetObjectCommand({ Bucket: 'bucket', Key: 'attributes' })),
  ]) {
    assert.equal(answer.ContentType, sent.ContentType)
    assert.equal(answer.CacheControl, sent.CacheControl)
    assert.equal(answer.ContentDisposition, sent.ContentDisposition)
    assert.equal(answer.ContentEncoding, 'gzip')
    assert.equal(answer.ContentLanguage, 'de')
    assert.equal(answer.ExpiresString, 'Tue, 01 Jan 2030 00:00:00 GMT')
    assert.deepEqual(answer.Metadata, sent.Metadata)
    assert.equal(answer.StorageClass, 'REDUCED_REDUNDANCY')
    assert.equal(answer.AcceptRanges, 'bytes')
    assert.equal(answer.ContentLength, 4)
  }
  await put('plain', 'data')
  const plain = await client.send(new HeadObjectCommand({ Bucket: 'bucket', Key: 'plain' }))
  assert.equal(plain.StorageClass, undefined)
  assert.equal(plain.ContentType, 'application/octet-stream')
})

test('response headers can be chosen by a signed request', async () => {
  await put('override', 'data', { ContentType: 'text/plain' })
  const answer = await client.send(new GetObjectCommand({
    Bucket: 'bucket', Key: 'override', ResponseContentType: 'text/html',
    ResponseContentDisposition: 'attachment; filename="\u00fc.txt"', ResponseCacheControl: 'no-store',
  }))
  assert.equal(answer.ContentType, 'text/html')
  assert.equal(answer.CacheControl, 'no-store')
  await answer.Body?.transformToByteArray()
  const split = new GetObjectCommand({ Bucket: 'bucket', Key: 'override', ResponseContentType: 'a\r\nSet-Cookie: b' })
  assert.equal((await refusal(client.send(split))).name, 'InvalidArgument')
})

test('every checksum is verified, kept and given back', async () => {
  for (const algorithm of ['CRC32', 'CRC32C', 'CRC64NVME', 'SHA1', 'SHA256'] as const) {
    const name = `Checksum${algorithm}` as const
    const stored = await client.send(new PutObjectCommand({
      Bucket: 'bucket', Key: 'sum', Body: 'checksummed', ChecksumAlgorithm: algorithm,
    }))
    assert.ok(stored[name], algorithm)
    const head = await client.send(new HeadObjectCommand({ Bucket: 'bucket', Key: 'sum', ChecksumMode: 'ENABLED' }))
    assert.equal(head[name], stored[name])
    assert.equal(head.ChecksumType, 'FULL_OBJECT')
    assert.equal((await get('sum', { ChecksumMode: 'ENABLED' })).toString(), 'checksummed')
    const wrong = new PutObjectCommand({ Bucket: 'bucket', Key: 'wrong', Body: 'x', [name]: stored[name] })
    assert.equal((await refusal(client.send(wrong))).name, 'BadDigest')
  }
  const silent = server.sdk({ requestChecksumCalculation: 'WHEN_REQUIRED' })
  await silent.send(new PutObjectCommand({ Bucket: 'bucket', Key: 'sum', Body: 'x' }))
  const head = await client.send(new HeadObjectCommand({ Bucket: 'bucket', Key: 'sum', ChecksumMode: 'ENABLED' }))
  assert.ok(head.ChecksumCRC64NVME, 'CRC64NVME is computed when nothing was chosen')
  assert.equal((await refusal(client.send(new HeadObjectCommand({ Bucket: 'bucket', Key: 'wrong' })))).name, 'NotFound')
})

test('ranges are exact, and what is no range is ignored', async () => {
  const data = randomBytes(200_000)
  await put('ranged', data)
  const cases: [string, number, number][] = [
    ['bytes=0-0', 0, 1], ['bytes=0-', 0, 200_000], ['bytes=100-65535', 100, 65_536],
    ['bytes=65536-65536', 65_536, 65_537],
    ['bytes=199999-', 199_999, 200_000], ['bytes=-1', 199_999, 200_000], ['bytes=-999999999', 0, 200_000],
    ['bytes=150000-99999999999999999999', 150_000, 200_000],
  ]
  for (const [Range, from, to] of cases) {
    const answer = await client.send(new GetObjectCommand({ Bucket: 'bucket', Key: 'ranged', Range }))
    assert.equal(answer.$metadata.httpStatusCode, 206, Range)
    assert.equal(answer.ContentRange, `bytes ${from}-${to - 1}/200000`)
    assert.deepEqual(Buffer.from(await answer.Body?.transformToByteArray() ?? []), data.subarray(from, to), Range)
  }
  for (const Range of ['bytes=5-4', 'bytes=a-b', 'bytes=-', 'items=0-1', 'bytes=0-1,3-4', 'nonsense', 'bytes=1']) {
    const answer = await client.send(new GetObjectCommand({ Bucket: 'bucket', Key: 'ranged', Range }))
    assert.equal(answer.$metadata.httpStatusCode, 200, Range)
    assert.equal((await answer.Body?.transformToByteArray())?.length, 200_000)
  }
  for (const Range of ['bytes=200000-', 'bytes=200000-200001', 'bytes=-0', 'bytes=99999999999999999999-']) {
    const error = await refusal(client.send(new GetObjectCommand({ Bucket: 'bucket', Key: 'ranged', Range })))
    assert.equal(error.name, 'InvalidRange', Range)
    assert.equal(error.$metadata.httpStatusCode, 416)
    assert.equal(error.$response?.headers['content-range'], 'bytes */200000')
  }
  await put('empty', '')
  assert.equal((await refusal(get('empty', { Range: 'bytes=0-0' }))).name, 'InvalidRange')
})

test('read conditions follow their order of precedence', async () => {
  const etag = await put('conditions', 'data')
  const head = await client.send(new HeadObjectCommand({ Bucket: 'bucket', Key: 'conditions' }))
  const { LastModified = new Date(0) } = head
  const before = new Date(LastModified.getTime() - 60_000)
  const later = new Date(LastModified.getTime() + 60_000)
  const cases: [object, number][] = [
    [{ IfMatch: etag }, 200], [{ IfMatch: etag.slice(1, -1) }, 200], [{ IfMatch: '*' }, 200], [{ IfMatch: '"x"' }, 412],
    [{ IfMatch: `"x", ${etag}` }, 200], [{ IfNoneMatch: etag }, 304], [{ IfNoneMatch: `W/${etag}` }, 304],
    [{ IfNoneMatch: '"x"' }, 200], [{ IfModifiedSince: before }, 200], [{ IfModifiedSince: LastModified }, 304],
    [{ IfModifiedSince: later }, 304], [{ IfUnmodifiedSince: before }, 412], [{ IfUnmodifiedSince: LastModified }, 200],
    [{ IfMatch: etag, IfUnmodifiedSince: before }, 200], [{ IfMatch: '"x"', IfUnmodifiedSince: later }, 412],
    [{ IfNoneMatch: '"x"', IfModifiedSince: later }, 200], [{ IfNoneMatch: etag, IfModifiedSince: before }, 304],
    [{ IfMatch: etag, IfNoneMatch: etag }, 304],
  ]
  for (const [conditions, status] of cases) {
    for (const Command of [GetObjectCommand, HeadObjectCommand]) {
      const work = client.send(new Command({ Bucket: 'bucket', Key: 'conditions', ...conditions }))
      if (status === 200) {
        assert.equal((await work).$metadata.httpStatusCode, 200, JSON.stringify(conditions))
      } else {
        const error = await refusal(work)
        assert.equal(error.$metadata.httpStatusCode, status, JSON.stringify(conditions))
        if (status === 304) assert.equal(error.$response?.headers['etag'], etag)
      }
    }
  }
})

test('write conditions decide, and other conditions are refused', async () => {
  const etag = await put('write', 'one', { IfNoneMatch: '*' })
  assert.equal((await refusal(put('write', 'two', { IfNoneMatch: '*' }))).name, 'PreconditionFailed')
  assert.equal((await refusal(put('write', 'two', { IfMatch: '"0"' }))).name, 'PreconditionFailed')
  const second = await put('write', 'two', { IfMatch: etag })
  assert.equal((await refusal(put('absent', 'x', { IfMatch: etag }))).name, 'NoSuchKey')
  assert.equal((await refusal(put('write', 'x', { IfNoneMatch: etag }))).name, 'NotImplemented')
  const remove = (IfMatch: string) => new DeleteObjectCommand({ Bucket: 'bucket', Key: 'write', IfMatch })
  assert.equal((await refusal(client.send(remove(etag)))).name, 'PreconditionFailed')
  await client.send(remove(second))
  assert.equal((await refusal(get('write'))).name, 'NoSuchKey')
})

test('of many writers with If-None-Match exactly one wins', async () => {
  const outcomes = await Promise.allSettled(Array.from({ length: 12 }, (_, index) => (
    put('race', `writer ${index}`, { IfNoneMatch: '*' }))))
  assert.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 1)
})

test('deletes: single, many, quiet, of what is not there', async () => {
  for (const key of ['d/1', 'd/2', 'd/ \r\n<&>', 'd/3']) await put(key, 'x')
  await client.send(new DeleteObjectCommand({ Bucket: 'bucket', Key: 'd/3' }))
  await client.send(new DeleteObjectCommand({ Bucket: 'bucket', Key: 'd/never' }))
  const answer = await client.send(new DeleteObjectsCommand({
    Bucket: 'bucket', Delete: { Objects: [{ Key: 'd/1' }, { Key: 'd/ \r\n<&>' }, { Key: 'd/never' },
      { Key: 'd/2', VersionId: 'abc' }] },
  }))
  assert.deepEqual(answer.Deleted?.map(({ Key }) => Key), ['d/1', 'd/ \r\n<&>', 'd/never'])
  assert.deepEqual(answer.Errors?.map(({ Key, Code }) => [Key, Code]), [['d/2', 'InvalidArgument']])
  assert.equal((await refusal(get('d/ \r\n<&>'))).name, 'NoSuchKey')
  const quiet = await client.send(new DeleteObjectsCommand({
    Bucket: 'bucket', Delete: { Quiet: true, Objects: [{ Key: 'd/2' }] } }))
  assert.equal(quiet.Deleted, undefined)
  assert.equal((await refusal(get('d/2'))).name, 'NoSuchKey')
  const elsewhere = new DeleteObjectsCommand({ Bucket: 'nowhere', Delete: { Objects: [{ Key: 'a' }] } })
  assert.equal((await refusal(client.send(elsewhere))).name, 'NoSuchBucket')
})

test('copies take bytes and metadata, or new metadata', async () => {
  const data = randomBytes(150_000)
  const etag = await put('from here+%/\u00fc', data, { ContentType: 'image/png', Metadata: { a: '1' } })
  const source = 'bucket/' + encodeURIComponent('from here+%/\u00fc')
  const copied = await client.send(new CopyObjectCommand({ Bucket: 'bucket', Key: 'to', CopySource: source }))
  assert.equal(copied.CopyObjectResult?.ETag, etag)
  assert.ok(copied.CopyObjectResult?.LastModified instanceof Date)
  assert.deepEqual(await get('to'), data)
  const head = await client.send(new HeadObjectCommand({ Bucket: 'bucket', Key: 'to' }))
  assert.deepEqual([head.ContentType, head.Metadata], ['image/png', { a: '1' }])
  await client.send(new CopyObjectCommand({
    Bucket: 'bucket', Key: 'to', CopySource: '/bucket/to', MetadataDirective: 'REPLACE', ContentType: 'text/x',
    Metadata: { b: '2' }, ChecksumAlgorithm: 'SHA256',
  }))
  const replaced = await client.send(new HeadObjectCommand({ Bucket: 'bucket', Key: 'to', ChecksumMode: 'ENABLED' }))
  assert.deepEqual([replaced.ContentType, replaced.Metadata], ['text/x', { b: '2' }])
  assert.equal(replaced.ChecksumSHA256, createHash('sha256').update(data).digest('base64'))
  const cases: [object, string][] = [
    [{ CopySource: '/bucket/to' }, 'InvalidRequest'], [{ CopySource: 'bucket/none' }, 'NoSuchKey'],
    [{ CopySource: 'nowhere/key' }, 'NoSuchBucket'], [{ CopySource: 'bucket' }, 'InvalidArgument'],
    [{ CopySource: 'bucket/to?versionId=7' }, 'InvalidArgument'],
    [{ CopySource: source, CopySourceIfMatch: '"x"' }, 'PreconditionFailed'],
    [{ CopySource: source, CopySourceIfNoneMatch: etag }, 'PreconditionFailed'],
    [{ CopySource: source, CopySourceIfModifiedSince: new Date(Date.now() + 60_000) }, 'PreconditionFailed'],
    [{ CopySource: source, MetadataDirective: 'OTHER' }, 'InvalidArgument'],
    [{ CopySource: source, IfNoneMatch: '*' }, 'PreconditionFailed'],
  ]
  for (const [input, code] of cases) {
    const command = new CopyObjectCommand({ Bucket: 'bucket', Key: 'to', CopySource: '', ...input })
    assert.equal((await refusal(client.send(command))).name, code, JSON.stringify(input))
  }
})

test('any key that can be stored is found again', async () => {
  for (const key of ['..', '../x', './a', 'a//b', '/lead', 'trail/', 'a b', '%2F', '+', '?', '#', '&=', "it's (1)*!",
    '\u{1f600}', '\r\n\t', 'k'.repeat(1024), '\u00fc'.repeat(512), 'CON', '~', '\\', '"', '<>']) {
    await put(key, key)
    assert.equal((await get(key)).toString(), key)
  }
  assert.equal((await refusal(put('k'.repeat(1025), 'x'))).name, 'KeyTooLongError')
  assert.equal((await refusal(put('\u00fc'.repeat(513), 'x'))).name, 'KeyTooLongError')
  for (const key of ['\u0001', 'a\u0000b', '\uffff']) {
    assert.equal((await refusal(put(key, 'x'))).name, 'InvalidArgument')
  }
})

test('what this server does not do is refused, not ignored', async () => {
  const cases: [object, string][] = [
    [{ ServerSideEncryption: 'AES256' }, 'NotImplemented'], [{ Tagging: 'a=b' }, 'NotImplemented'],
    [{ ACL: 'public-read' }, 'NotImplemented'], [{ WebsiteRedirectLocation: '/x' }, 'NotImplemented'],
    [{ ObjectLockLegalHoldStatus: 'ON' }, 'NotImplemented'], [{ GrantRead: 'id=1' }, 'NotImplemented'],
    [{ StorageClass: 'GLACIER' }, 'InvalidStorageClass'], [{ Metadata: { a: 'x'.repeat(2048) } }, 'MetadataTooLarge'],
    [{ ExpectedBucketOwner: '123456789012' }, 'AccessDenied'],
  ]
  for (const [input, code] of cases) {
    assert.equal((await refusal(put('refused', 'x', input))).name, code, JSON.stringify(input))
  }
  assert.equal((await refusal(client.send(new GetBucketAclCommand({ Bucket: 'bucket' })))).name, 'NotImplemented')
  assert.equal((await refusal(get('refused'))).name, 'NoSuchKey')
  await put('accepted', 'x', { ACL: 'private', Metadata: { a: 'x'.repeat(2047) } })
  await put('accepted', 'x', { ACL: 'bucket-owner-full-control', ExpectedBucketOwner: OWNER })
  assert.equal((await refusal(get('accepted', { VersionId: 'other' }))).name, 'InvalidArgument')
  assert.equal((await get('accepted', { VersionId: 'null' })).toString(), 'x')
})

test('virtual-host style reaches the same objects', async () => {
  await put('virtual', 'host')
  const styled = server.sdk({ endpoint: `http://s3.test:${server.port}`, forcePathStyle: false })
  // No name resolution: the connection goes to this server, whatever the host name.
  styled.middlewareStack.add((next) => async (args) => {
    const request = args.request as { hostname: string; headers: Record<string, string> }
    assert.equal(request.hostname, 'bucket.s3.test')
    request.hostname = '127.0.0.1'
    return next(args)
  }, { step: 'finalizeRequest', priority: 'low' })
  const { Body } = await styled.send(new GetObjectCommand({ Bucket: 'bucket', Key: 'virtual' }))
  assert.equal(await Body?.transformToString(), 'host')
})

test('errors carry request ids and what S3 clients look for', async () => {
  const error = await refusal(get('no-such-key'))
  assert.equal(error.name, 'NoSuchKey')
  assert.match(error.$metadata.requestId ?? '', /^[0-9A-F]{16}$/)
  assert.equal(error.$metadata.extendedRequestId, 'test-host')
  const head = await refusal(client.send(new HeadObjectCommand({ Bucket: 'bucket', Key: 'no-such-key' })))
  assert.equal(head.$metadata.httpStatusCode, 404)
  const denied = server.sdk({ credentials: { accessKeyId: 'NOBODY', secretAccessKey: 'x' } })
  assert.equal((await refusal(denied.send(new ListBucketsCommand({})))).name, 'InvalidAccessKeyId')
  const elsewhere = server.sdk({ region: 'eu-west-1' })
  assert.equal((await refusal(elsewhere.send(new ListBucketsCommand({})))).name, 'AuthorizationHeaderMalformed')
})
