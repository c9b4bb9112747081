/** Listings: complete, in order, whatever the page size, delimiter, marker and encoding. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import {
  CreateBucketCommand, ListObjectsCommand, ListObjectsV2Command, PutObjectCommand, type S3Client, S3ServiceException,
  paginateListObjectsV2,
} from '@aws-sdk/client-s3'
import fc from 'fast-check'
import { readToken, writeToken } from '../../../ts/server/s3/list_tokens.js'
import { S3Error } from '../../../ts/store/errors.js'
import { OWNER, S3TestServer } from './support/s3_server.js'

const Bucket = 'bucket'
const keys = ['a', 'a/', 'a/1', 'a/2/x', 'a/2/y', 'a/3', 'a//', 'b', 'b c', 'b+c', 'b&<>"', 'b\r', 'b\n',
  'c/d/e/f', 'c/d/g',
  'c/e', '\u00fc/1', '\u00fc/2', '\u{1f600}', '\uffee', 'z/1', 'z/2', 'z/3', 'z0', '%2F', '%', 'A']

let server: S3TestServer
let client: S3Client

function inOrder(list: Iterable<string>): string[] {
  return [...list].sort((left, right) => Buffer.compare(Buffer.from(left), Buffer.from(right)))
}

before(async () => {
  server = await S3TestServer.start()
  client = server.sdk()
  await client.send(new CreateBucketCommand({ Bucket }))
  for (const Key of keys) await client.send(new PutObjectCommand({ Bucket, Key, Body: Key }))
})

after(async () => {
  assert.deepEqual(server.errors, [])
  await server.stop()
})

/** What a listing must give, by the definition. */
function expected(prefix: string, delimiter: string, after: string): { keys: string[]; prefixes: string[] } {
  const found: string[] = []
  const prefixes = new Set<string>()
  for (const key of inOrder(keys)) {
    if (!key.startsWith(prefix)) continue
    const cut = delimiter === '' ? -1 : key.indexOf(delimiter, prefix.length)
    const entry = cut < 0 ? key : key.slice(0, cut + delimiter.length)
    if (Buffer.compare(Buffer.from(entry), Buffer.from(after)) <= 0) continue
    if (cut < 0) found.push(key)
    else prefixes.add(entry)
  }
  return { keys: found, prefixes: inOrder(prefixes) }
}

const queries = fc.record({
  Prefix: fc.constantFrom('', 'a', 'a/', 'b', 'c/d/', '\u00fc', 'none', '%'),
  Delimiter: fc.constantFrom('', '/', '2/', 'c', '\u00fc', '\0'),
  MaxKeys: fc.integer({ min: 1, max: 7 }),
  EncodingType: fc.constantFrom('url' as const, undefined),
})

/** The SDK leaves encoded keys as they are. */
function decode(text: string, encodingType: string | undefined): string {
  return encodingType === 'url' ? decodeURIComponent(text) : text
}

test('every page size of version 2 gives the same complete listing', async () => {
  await fc.assert(fc.asyncProperty(queries, async (query) => {
    const listed = { keys: [] as string[], prefixes: [] as string[] }
    let ContinuationToken: string | undefined
    do {
      const page = await client.send(new ListObjectsV2Command({ Bucket, ...query, ContinuationToken }))
      const count = (page.Contents?.length ?? 0) + (page.CommonPrefixes?.length ?? 0)
      assert.equal(page.KeyCount, count)
      assert.ok(count <= query.MaxKeys)
      assert.equal(page.IsTruncated, page.NextContinuationToken !== undefined)
      for (const { Key = '' } of page.Contents ?? []) listed.keys.push(decode(Key, query.EncodingType))
      for (const { Prefix = '' } of page.CommonPrefixes ?? []) listed.prefixes.push(decode(Prefix, query.EncodingType))
      ContinuationToken = page.NextContinuationToken
    } while (ContinuationToken !== undefined)
    assert.deepEqual(listed, expected(query.Prefix, query.Delimiter, ''))
  }), { numRuns: 60 })
})

test('every page size of version 1 gives the same complete listing', async () => {
  await fc.assert(fc.asyncProperty(queries, async (query) => {
    const listed = { keys: [] as string[], prefixes: [] as string[] }
    let Marker: string | undefined
    for (;;) {
      const page = await client.send(new ListObjectsCommand({ Bucket, ...query, Marker }))
      for (const { Key = '' } of page.Contents ?? []) listed.keys.push(decode(Key, query.EncodingType))
      for (const { Prefix = '' } of page.CommonPrefixes ?? []) listed.prefixes.push(decode(Prefix, query.EncodingType))
      if (page.IsTruncated !== true) break
      assert.equal(page.NextMarker === undefined, query.Delimiter === '', 'NextMarker comes with a delimiter only')
      Marker = page.NextMarker === undefined ? listed.keys.at(-1) : decode(page.NextMarker, query.EncodingType)
    }
    assert.deepEqual(listed, expected(query.Prefix, query.Delimiter, ''))
  }), { numRuns: 60 })
})

test('start-after and marker begin behind the given key, whether it exists or not', async () => {
  for (const after of [...keys, 'a/2', 'zzz', 'a\0x', '\0']) {
    const want = expected('', '', after.split('\0')[0] ?? '').keys
    const second = await client.send(new ListObjectsV2Command({ Bucket, StartAfter: after }))
    assert.deepEqual((second.Contents ?? []).map(({ Key }) => Key), want, JSON.stringify(after))
    const first = await client.send(new ListObjectsCommand({ Bucket, Marker: after }))
    assert.deepEqual((first.Contents ?? []).map(({ Key }) => Key), want, JSON.stringify(after))
  }
})

test('entries say what S3 says of objects', async () => {
  const { Contents = [], Name, MaxKeys } = await client.send(new ListObjectsV2Command({
    Bucket, Prefix: 'b c', FetchOwner: true }))
  assert.equal(Name, Bucket)
  assert.equal(MaxKeys, 1000)
  const [entry] = Contents
  assert.equal(entry?.Size, 3)
  assert.equal(entry?.StorageClass, 'STANDARD')
  assert.equal(entry?.Owner?.ID, OWNER)
  assert.match(entry?.ETag ?? '', /^"[0-9a-f]{32}"$/)
  assert.deepEqual(entry?.ChecksumAlgorithm?.length, 1)
  assert.ok(entry?.LastModified instanceof Date)
  const plain = await client.send(new ListObjectsV2Command({ Bucket, Prefix: 'b c' }))
  assert.equal(plain.Contents?.[0]?.Owner, undefined)
})

test('the paginator of the SDK finds everything', async () => {
  const found: string[] = []
  for await (const page of paginateListObjectsV2({ client, pageSize: 4 }, { Bucket })) {
    for (const { Key = '' } of page.Contents ?? []) found.push(Key)
  }
  assert.deepEqual(found, inOrder(keys))
})

test('max-keys of 0 gives an empty page, and arguments are checked', async () => {
  const empty = await client.send(new ListObjectsV2Command({ Bucket, MaxKeys: 0 }))
  assert.equal(empty.IsTruncated, false)
  assert.equal(empty.Contents, undefined)
  assert.equal((await client.send(new ListObjectsV2Command({ Bucket, MaxKeys: 5000 }))).MaxKeys, 1000)
  const cases: [object, string][] = [
    [{ MaxKeys: -1 }, 'InvalidArgument'], [{ EncodingType: 'base64' }, 'InvalidArgument'],
    [{ ContinuationToken: 'made up' }, 'InvalidArgument'], [{ ContinuationToken: '' }, 'InvalidArgument'],
    [{ Prefix: 'x'.repeat(2000) }, 'KeyTooLongError'], [{ Bucket: 'nowhere' }, 'NoSuchBucket'],
    [{ Bucket: 'nowhere', MaxKeys: 0 }, 'NoSuchBucket'],
  ]
  for (const [input, code] of cases) {
    await assert.rejects(client.send(new ListObjectsV2Command({ Bucket, ...input })),
      (error) => error instanceof S3ServiceException && error.name === code, JSON.stringify(input))
  }
})

test('tokens come back as they were made, and no other text is one', () => {
  fc.assert(fc.property(fc.string({ unit: 'binary', minLength: 1 }), (key) => {
    const token = writeToken(key)
    if (!/\p{Surrogate}/u.test(key)) assert.equal(readToken(token, 'x'), key)
    assert.match(token, /^[\w-]+$/)
  }))
  fc.assert(fc.property(fc.string(), fc.nat(), (text, at) => {
    assert.throws(() => readToken(text, 'x'), S3Error)
    const token = writeToken('some key')
    const place = at % (token.length - 1)
    const other = token[place] === 'A' ? 'B' : 'A'
    const changed = token.slice(0, place) + other + token.slice(place + 1)
    assert.throws(() => readToken(changed, 'x'), S3Error)
  }))
})
