import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'

import {
  AbortMultipartUploadCommand,
  CopyObjectCommand,
  CreateMultipartUploadCommand,
  DeleteBucketCommand,
  DeleteObjectCommand,
  DeleteObjectsCommand,
  GetObjectCommand,
  HeadBucketCommand,
  HeadObjectCommand,
  ListBucketsCommand,
  ListMultipartUploadsCommand,
  ListObjectsCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  UploadPartCommand,
} from '@aws-sdk/client-s3'
import type { ChecksumAlgorithm, S3Client } from '@aws-sdk/client-s3'
import { Upload } from '@aws-sdk/lib-storage'
import { getSignedUrl } from '@aws-sdk/s3-request-presigner'

import {
  get,
  makeBucket,
  minioClient,
  patternHash,
  patternStream,
  put,
  randomBody,
  sdkClient,
  sha256,
  streamHash,
} from './clients.js'
import { ServerProcess, makeDrives } from '../../bench/load/server_process.js'

const place = makeDrives(4)
let server: ServerProcess
let s3: S3Client

before(async () => {
  server = await ServerProcess.start({ drives: place.drives })
  s3 = sdkClient(server)
  await makeBucket(s3, 'sdk')
})
after(async () => {
  s3.destroy()
  const exit = await server.stop()
  place.remove()
  assert.deepEqual(exit, { code: 0, signal: null }, server.output)
})

test('objects of many sizes come back bit for bit', async () => {
  for (const size of [0, 1, 15, 4096, 65_537, 262_144, 1_048_575, 1_048_577, 3_500_000]) {
    const body = randomBody(size)
    await put(s3, 'sdk', `size-${String(size)}`, body)
    assert.equal(sha256(await get(s3, 'sdk', `size-${String(size)}`)), sha256(body), `size ${String(size)}`)
  }
})

test('keys with every kind of character are stored, listed and deleted under their own name', async () => {
  const keys = [
    'a/b/c',
    'with space',
    'plus+sign',
    'percent%41',
    'quote"and\'',
    '<&>',
    'ünï/ç∂é',
    '\u{1f3fa}ostrakon',
    'a\nb\rc\td',
    '..',
    './..//x',
    'k'.repeat(1024),
    'ends/',
    '~tilde!*()',
    'query?x=1#frag',
    'back\\slash',
  ].map((key) => `odd/${key}`.slice(0, 1024))
  for (const key of keys) await put(s3, 'sdk', key, Buffer.from(key))
  for (const key of keys) assert.equal(Buffer.from(await get(s3, 'sdk', key)).toString(), key)
  const page = await s3.send(new ListObjectsV2Command({ Bucket: 'sdk', Prefix: 'odd/' }))
  const sorted = [...keys].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
  assert.deepEqual(
    page.Contents?.map((object) => object.Key),
    sorted,
  )
  const { Deleted, Errors } = await s3.send(
    new DeleteObjectsCommand({ Bucket: 'sdk', Delete: { Objects: keys.map((Key) => ({ Key })) } }),
  )
  assert.equal(Deleted?.length, keys.length, JSON.stringify(Errors))
  assert.equal((await s3.send(new ListObjectsV2Command({ Bucket: 'sdk', Prefix: 'odd/' }))).KeyCount, 0)
})

test('user metadata, content headers and response overrides travel', async () => {
  await s3.send(
    new PutObjectCommand({
      Bucket: 'sdk',
      Key: 'headers',
      Body: 'x',
      ContentType: 'text/x-test',
      CacheControl: 'max-age=5',
      ContentLanguage: 'en',
      ContentDisposition: 'attachment; filename="a b"',
      Metadata: { one: '1', 'two-words': 'deux mots' },
    }),
  )
  const head = await s3.send(new HeadObjectCommand({ Bucket: 'sdk', Key: 'headers' }))
  assert.deepEqual(
    [head.ContentType, head.CacheControl, head.ContentLanguage],
    ['text/x-test', 'max-age=5', 'en'],
  )
  assert.deepEqual(head.Metadata, { one: '1', 'two-words': 'deux mots' })
  const got = await s3.send(
    new GetObjectCommand({ Bucket: 'sdk', Key: 'headers', ResponseContentType: 'application/other' }),
  )
  assert.equal(got.ContentType, 'application/other')
  await got.Body?.transformToByteArray()
})

test('every checksum algorithm of the SDK is verified, stored and returned', async () => {
  for (const algorithm of ['CRC32', 'CRC32C', 'CRC64NVME', 'SHA1', 'SHA256'] satisfies ChecksumAlgorithm[]) {
    const Key = `sum-${algorithm}`
    const sent = await s3.send(
      new PutObjectCommand({ Bucket: 'sdk', Key, Body: randomBody(70_000), ChecksumAlgorithm: algorithm }),
    )
    const head = await s3.send(new HeadObjectCommand({ Bucket: 'sdk', Key, ChecksumMode: 'ENABLED' }))
    const name = `Checksum${algorithm}` as const
    assert.ok(head[name] !== undefined && head[name] === sent[name], algorithm)
  }
})

test('a wrong checksum or Content-MD5 is refused and nothing is stored', async () => {
  const wrong = { Bucket: 'sdk', Key: 'wrong', Body: 'hello' }
  await assert.rejects(s3.send(new PutObjectCommand({ ...wrong, ChecksumCRC32: 'AAAAAA==' })), {
    name: 'BadDigest',
  })
  await assert.rejects(s3.send(new PutObjectCommand({ ...wrong, ContentMD5: '1B2M2Y8AsgTpgAmY7PhCfg==' })), {
    name: 'BadDigest',
  })
  await assert.rejects(s3.send(new HeadObjectCommand({ Bucket: 'sdk', Key: 'wrong' })), { name: 'NotFound' })
})

test('ranges and conditions are honoured', async () => {
  const body = randomBody(3 * 1024 * 1024 + 17)
  await put(s3, 'sdk', 'range', body)
  for (const [from, to] of [
    [0, 0],
    [1_048_570, 1_048_590],
    [3_145_700, 3_145_744],
    [5, 2_500_000],
  ] as const) {
    const part = await s3.send(
      new GetObjectCommand({ Bucket: 'sdk', Key: 'range', Range: `bytes=${String(from)}-${String(to)}` }),
    )
    assert.equal(part.ContentRange, `bytes ${String(from)}-${String(to)}/${String(body.length)}`)
    assert.equal(
      sha256(await (part.Body as NonNullable<typeof part.Body>).transformToByteArray()),
      sha256(body.subarray(from, to + 1)),
    )
  }
  await assert.rejects(
    s3.send(new GetObjectCommand({ Bucket: 'sdk', Key: 'range', Range: 'bytes=99999999-' })),
    { name: 'InvalidRange' },
  )
  const { ETag } = await s3.send(new HeadObjectCommand({ Bucket: 'sdk', Key: 'range' }))
  await assert.rejects(
    s3.send(new PutObjectCommand({ Bucket: 'sdk', Key: 'range', Body: 'x', IfNoneMatch: '*' })),
    { name: 'PreconditionFailed' },
  )
  await assert.rejects(
    s3.send(new PutObjectCommand({ Bucket: 'sdk', Key: 'range', Body: 'x', IfMatch: '"0000"' })),
    { name: 'PreconditionFailed' },
  )
  await s3.send(new PutObjectCommand({ Bucket: 'sdk', Key: 'range', Body: 'x', IfMatch: ETag }))
  assert.equal(Buffer.from(await get(s3, 'sdk', 'range')).toString(), 'x')
})

test('lib-storage uploads in parts, with an ETag and checksum of parts, and part reads', async () => {
  const size = 17 * 1024 * 1024 + 3
  const upload = new Upload({
    client: s3,
    params: { Bucket: 'sdk', Key: 'parts', Body: patternStream(size) },
    partSize: 5 * 1024 * 1024,
    queueSize: 4,
  })
  const done = await upload.done()
  assert.match(done.ETag ?? '', /^"[0-9a-f]{32}-4"$/)
  const got = await s3.send(new GetObjectCommand({ Bucket: 'sdk', Key: 'parts' }))
  assert.deepEqual(await streamHash(got.Body as AsyncIterable<Uint8Array>), { hash: patternHash(size), size })
  const second = await s3.send(new GetObjectCommand({ Bucket: 'sdk', Key: 'parts', PartNumber: 2 }))
  assert.equal(second.ContentLength, 5 * 1024 * 1024)
  assert.equal(second.PartsCount, 4)
  assert.equal((await second.Body?.transformToByteArray())?.length, 5 * 1024 * 1024)
})

test('an upload can be given up, and leaves nothing to list', async () => {
  const { UploadId } = await s3.send(new CreateMultipartUploadCommand({ Bucket: 'sdk', Key: 'given-up' }))
  await s3.send(
    new UploadPartCommand({
      Bucket: 'sdk',
      Key: 'given-up',
      UploadId,
      PartNumber: 1,
      Body: randomBody(1000),
    }),
  )
  assert.equal((await s3.send(new ListMultipartUploadsCommand({ Bucket: 'sdk' }))).Uploads?.length, 1)
  await s3.send(new AbortMultipartUploadCommand({ Bucket: 'sdk', Key: 'given-up', UploadId }))
  assert.equal((await s3.send(new ListMultipartUploadsCommand({ Bucket: 'sdk' }))).Uploads, undefined)
})

test('presigned URLs put and get without credentials; altered and unsigned ones are refused', async () => {
  const putUrl = await getSignedUrl(s3, new PutObjectCommand({ Bucket: 'sdk', Key: 'pre signed' }), {
    expiresIn: 60,
  })
  assert.equal((await fetch(putUrl, { method: 'PUT', body: 'by url' })).status, 200)
  const getUrl = await getSignedUrl(s3, new GetObjectCommand({ Bucket: 'sdk', Key: 'pre signed' }), {
    expiresIn: 60,
  })
  assert.equal(await (await fetch(getUrl)).text(), 'by url')
  assert.equal((await fetch(getUrl.replace('signed?', 'signee?'))).status, 403)
  assert.equal((await fetch(getUrl.split('?')[0] ?? '')).status, 403)
})

test('copies keep or replace what describes them', async () => {
  await s3.send(
    new PutObjectCommand({
      Bucket: 'sdk',
      Key: 'from',
      Body: 'copy me',
      Metadata: { a: '1' },
      ContentType: 'text/a',
    }),
  )
  await s3.send(new CopyObjectCommand({ Bucket: 'sdk', Key: 'kept', CopySource: 'sdk/from' }))
  await s3.send(
    new CopyObjectCommand({
      Bucket: 'sdk',
      Key: 'replaced',
      CopySource: 'sdk/from',
      MetadataDirective: 'REPLACE',
      Metadata: { b: '2' },
    }),
  )
  assert.equal(Buffer.from(await get(s3, 'sdk', 'replaced')).toString(), 'copy me')
  assert.deepEqual((await s3.send(new HeadObjectCommand({ Bucket: 'sdk', Key: 'kept' }))).Metadata, {
    a: '1',
  })
  assert.deepEqual((await s3.send(new HeadObjectCommand({ Bucket: 'sdk', Key: 'replaced' }))).Metadata, {
    b: '2',
  })
})

test('listings page, with delimiter and by both versions', async () => {
  await makeBucket(s3, 'pages')
  const keys = Array.from({ length: 57 }, (_, i) => `d${String(i % 3)}/k${String(i).padStart(3, '0')}`)
  await Promise.all(keys.map((key) => put(s3, 'pages', key, Buffer.from(key))))
  const first = await s3.send(new ListObjectsV2Command({ Bucket: 'pages', MaxKeys: 20 }))
  assert.equal(first.IsTruncated, true)
  const all: string[] = []
  for (let marker: string | undefined, more = true; more;) {
    const page = await s3.send(
      new ListObjectsCommand({
        Bucket: 'pages',
        MaxKeys: 20,
        ...(marker === undefined ? {} : { Marker: marker }),
      }),
    )
    for (const object of page.Contents ?? []) all.push(object.Key ?? '')
    more = page.IsTruncated ?? false
    marker = all.at(-1)
  }
  assert.deepEqual(all, [...keys].sort())
  const folders = await s3.send(new ListObjectsV2Command({ Bucket: 'pages', Delimiter: '/' }))
  assert.deepEqual(
    folders.CommonPrefixes?.map((p) => p.Prefix),
    ['d0/', 'd1/', 'd2/'],
  )
  await assert.rejects(s3.send(new DeleteBucketCommand({ Bucket: 'pages' })), { name: 'BucketNotEmpty' })
})

test('errors carry the codes of S3', async () => {
  await assert.rejects(get(s3, 'sdk', 'absent'), { name: 'NoSuchKey' })
  await assert.rejects(get(s3, 'no-such-bucket-here', 'x'), { name: 'NoSuchBucket' })
  await assert.rejects(s3.send(new HeadBucketCommand({ Bucket: 'no-such-bucket-here' })), {
    name: 'NotFound',
  })
  await assert.rejects(makeBucket(s3, 'sdk'), { name: 'BucketAlreadyOwnedByYou' })
  const stranger = sdkClient(server, {
    credentials: { accessKeyId: 'nobody', secretAccessKey: 'x'.repeat(20) },
  })
  await assert.rejects(stranger.send(new ListBucketsCommand({})), { name: 'InvalidAccessKeyId' })
  await s3.send(new DeleteObjectCommand({ Bucket: 'sdk', Key: 'absent' }))
})

test('the minio client stores, lists, reads and removes', async () => {
  const client = minioClient(server)
  await client.makeBucket('minio')
  const body = randomBody(100_000)
  await client.putObject('minio', 'a/b', body, body.length, { 'x-amz-meta-who': 'me' })
  const size = 11 * 1024 * 1024
  await client.putObject('minio', 'big', patternStream(size), size)
  assert.equal((await client.statObject('minio', 'big')).size, size)
  assert.deepEqual(await streamHash(await client.getObject('minio', 'big')), {
    hash: patternHash(size),
    size,
  })
  assert.equal((await streamHash(await client.getObject('minio', 'a/b'))).hash, sha256(body))
  const names: string[] = []
  for await (const item of client.listObjectsV2('minio', '', true))
    names.push((item as { name: string }).name)
  assert.deepEqual(names, ['a/b', 'big'])
  const url = await client.presignedGetObject('minio', 'a/b', 60)
  assert.equal((await fetch(url)).status, 200)
  await client.removeObjects('minio', names)
  await client.removeBucket('minio')
})
