/** Multipart uploads through the AWS SDK, lib-storage included. */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import { after, before, test } from 'node:test'
import { crc32 } from 'node:zlib'
import {
  AbortMultipartUploadCommand, type ChecksumAlgorithm, type CompletedPart, CompleteMultipartUploadCommand,
  CreateBucketCommand, CreateMultipartUploadCommand, GetObjectCommand, HeadObjectCommand, ListMultipartUploadsCommand,
  ListPartsCommand, PutObjectCommand, type S3Client, S3ServiceException, UploadPartCommand, UploadPartCopyCommand,
} from '@aws-sdk/client-s3'
import { Upload } from '@aws-sdk/lib-storage'
import { S3TestServer } from './support/s3_server.js'

/** A thousandth of the real 5 MiB, so that tests are quick; the real rule has its own test. */
const MIN_PART = 5 * 1024
const Bucket = 'bucket'

let server: S3TestServer
let client: S3Client

before(async () => {
  server = await S3TestServer.start({ storeLimits: { minPartSize: MIN_PART } })
  client = server.sdk()
  await client.send(new CreateBucketCommand({ Bucket }))
})

after(async () => {
  assert.deepEqual(server.errors, [])
  assert.equal(server.pinned, false)
  await server.stop()
})

async function refusal(work: Promise<unknown>): Promise<string> {
  try {
    await work
  } catch (error) {
    assert.ok(error instanceof S3ServiceException, String(error))
    return error.name
  }
  return 'accepted'
}

async function create(Key: string, more: object = {}): Promise<string> {
  const { UploadId } = await client.send(new CreateMultipartUploadCommand({ Bucket, Key, ...more }))
  assert.ok(UploadId !== undefined)
  return UploadId
}

async function part(
  Key: string, UploadId: string, PartNumber: number, Body: Uint8Array, more: object = {},
): Promise<CompletedPart> {
  const { $metadata: _, ...sent } = await client.send(new UploadPartCommand({
    Bucket, Key, UploadId, PartNumber, Body, ...more,
  }))
  return { ...sent, PartNumber }
}

function complete(Key: string, UploadId: string, Parts: CompletedPart[], more: object = {}) {
  return client.send(new CompleteMultipartUploadCommand({ Bucket, Key, UploadId, MultipartUpload: { Parts }, ...more }))
}

async function get(Key: string, more: object = {}): Promise<Buffer> {
  const { Body } = await client.send(new GetObjectCommand({ Bucket, Key, ...more }))
  return Buffer.from(await Body?.transformToByteArray() ?? [])
}

function etagOf(parts: readonly Uint8Array[]): string {
  const sums = parts.map((data) => createHash('md5').update(data).digest())
  return `"${createHash('md5').update(Buffer.concat(sums)).digest('hex')}-${parts.length}"`
}

test('an upload becomes an object with composite ETag, readable whole, by range and by part', async () => {
  const pieces = [randomBytes(100_000), randomBytes(MIN_PART), randomBytes(3)]
  const whole = Buffer.concat(pieces)
  const id = await create('multi', { ContentType: 'video/x', Metadata: { a: 'b' } })
  // Out of order, and with part numbers that leave gaps.
  const parts: CompletedPart[] = []
  for (const [at, number] of [[2, 9], [0, 2], [1, 5]] as const) {
    parts.push(await part('multi', id, number, pieces[at] ?? Buffer.alloc(0)))
  }
  parts.sort((left, right) => (left.PartNumber ?? 0) - (right.PartNumber ?? 0))
  assert.equal(await refusal(get('multi')), 'NoSuchKey')
  const answer = await complete('multi', id, parts)
  assert.equal(answer.ETag, etagOf(pieces))
  assert.equal(answer.Bucket, Bucket)
  assert.equal(answer.Key, 'multi')
  assert.match(answer.Location ?? '', /\/bucket\/multi$/)
  assert.deepEqual(await get('multi'), whole)
  const head = await client.send(new HeadObjectCommand({ Bucket, Key: 'multi' }))
  assert.deepEqual([head.ContentType, head.Metadata, head.ContentLength], ['video/x', { a: 'b' }, whole.length])
  assert.deepEqual(await get('multi', { Range: 'bytes=99990-106000' }), whole.subarray(99_990, 106_001))
  for (const [index, data] of pieces.entries()) {
    const one = await client.send(new GetObjectCommand({ Bucket, Key: 'multi', PartNumber: index + 1 }))
    assert.equal(one.PartsCount, 3)
    assert.equal(one.$metadata.httpStatusCode, 206)
    assert.deepEqual(Buffer.from(await one.Body?.transformToByteArray() ?? []), data)
  }
  assert.equal(await refusal(get('multi', { PartNumber: 4 })), 'InvalidPartNumber')
  assert.equal(await refusal(get('multi', { PartNumber: 0 })), 'InvalidArgument')
  assert.equal(await refusal(get('multi', { PartNumber: 1, Range: 'bytes=0-1' })), 'InvalidRequest')
  // A retry of a completed upload is answered like the first time; the upload itself is gone.
  assert.equal((await complete('multi', id, parts)).ETag, etagOf(pieces))
  assert.equal(await refusal(client.send(new ListPartsCommand({ Bucket, Key: 'multi', UploadId: id }))), 'NoSuchUpload')
  assert.equal(await refusal(part('multi', id, 1, Buffer.from('x'))), 'NoSuchUpload')
})

test('re-uploaded parts replace, left-out parts vanish', async () => {
  const id = await create('replaced')
  await part('replaced', id, 1, randomBytes(MIN_PART))
  const good = randomBytes(MIN_PART + 1)
  const one = await part('replaced', id, 1, good)
  await part('replaced', id, 2, randomBytes(MIN_PART))
  const last = await part('replaced', id, 3, Buffer.from('end'))
  await complete('replaced', id, [one, last])
  assert.deepEqual(await get('replaced'), Buffer.concat([good, Buffer.from('end')]))
})

test('wrong completions are refused and leave the upload as it was', async () => {
  const id = await create('wrong')
  const one = await part('wrong', id, 1, randomBytes(MIN_PART))
  const two = await part('wrong', id, 2, randomBytes(10))
  const three = await part('wrong', id, 3, randomBytes(10))
  const cases: [CompletedPart[], string][] = [
    [[two, one], 'InvalidPartOrder'], [[one, one], 'InvalidPartOrder'], [[one, two, three], 'EntityTooSmall'],
    [[one, { ...two, ETag: one.ETag ?? '' }], 'InvalidPart'], [[one, { ...two, PartNumber: 7 }], 'InvalidPart'],
    [[], 'MalformedXML'],
  ]
  for (const [parts, code] of cases) assert.equal(await refusal(complete('wrong', id, parts)), code)
  assert.equal(await refusal(complete('wrong', 'no-such-upload', [one])), 'NoSuchUpload')
  assert.equal(await refusal(complete('wrong', id, [one, two], { MpuObjectSize: 5 })), 'InvalidRequest')
  await complete('wrong', id, [one, two], { MpuObjectSize: MIN_PART + 10 })
})

test('part numbers are 1 to 10,000', async () => {
  const id = await create('numbers')
  for (const number of [0, 10_001, -1]) {
    assert.equal(await refusal(part('numbers', id, number, Buffer.from('x'))), 'InvalidArgument')
  }
  const last = await part('numbers', id, 10_000, Buffer.from('last'))
  await complete('numbers', id, [last])
  assert.equal((await get('numbers')).toString(), 'last')
})

test('conditions decide at completion', async () => {
  await client.send(new PutObjectCommand({ Bucket, Key: 'there', Body: 'x' }))
  const id = await create('there')
  const one = await part('there', id, 1, Buffer.from('y'))
  assert.equal(await refusal(complete('there', id, [one], { IfNoneMatch: '*' })), 'PreconditionFailed')
  await complete('there', id, [one])
  assert.equal((await get('there')).toString(), 'y')
})

test('checksums: composite and full object, of every algorithm that has them', async () => {
  const pieces = [randomBytes(MIN_PART), randomBytes(100)]
  const whole = Buffer.concat(pieces)
  const cases: [ChecksumAlgorithm, 'COMPOSITE' | 'FULL_OBJECT'][] = [
    ['CRC32', 'COMPOSITE'], ['CRC32', 'FULL_OBJECT'], ['CRC32C', 'COMPOSITE'], ['CRC32C', 'FULL_OBJECT'],
    ['CRC64NVME', 'FULL_OBJECT'], ['SHA1', 'COMPOSITE'], ['SHA256', 'COMPOSITE'],
  ]
  for (const [algorithm, type] of cases) {
    const name = `Checksum${algorithm}` as 'ChecksumCRC32'
    const id = await create('sums', { ChecksumAlgorithm: algorithm, ChecksumType: type })
    const parts = [
      await part('sums', id, 1, pieces[0] ?? Buffer.alloc(0), { ChecksumAlgorithm: algorithm }),
      await part('sums', id, 2, pieces[1] ?? Buffer.alloc(0), { ChecksumAlgorithm: algorithm }),
    ]
    assert.ok(parts[0]?.[name], `${algorithm} of the part`)
    const completed = await complete('sums', id, parts, { ChecksumType: type })
    assert.equal(completed.ChecksumType, type)
    assert.equal(completed[name]?.endsWith('-2'), type === 'COMPOSITE', `${algorithm} ${type} ${completed[name]}`)
    const head = await client.send(new HeadObjectCommand({ Bucket, Key: 'sums', ChecksumMode: 'ENABLED' }))
    assert.equal(head[name], completed[name])
    assert.equal(head.ChecksumType, type)
    assert.deepEqual(await get('sums', { ChecksumMode: 'ENABLED' }), whole)
    assert.deepEqual(await get('sums', { ChecksumMode: 'ENABLED', PartNumber: 2 }), pieces[1])
    // A full-object checksum is the one a single PUT of the same bytes gets.
    if (type === 'COMPOSITE') continue
    const single = await client.send(new PutObjectCommand({
      Bucket, Key: 'single', Body: whole, ChecksumAlgorithm: algorithm,
    }))
    assert.equal(single[name], completed[name], algorithm)
  }
})

test('an upload begun without an algorithm gets CRC64NVME, or none when a part chose another', async () => {
  const plain = server.sdk({ requestChecksumCalculation: 'WHEN_REQUIRED' })
  for (const chosen of ['CRC64NVME', 'CRC32'] as const) {
    const at = { Bucket, Key: `undeclared ${chosen}` }
    const { UploadId } = await plain.send(new CreateMultipartUploadCommand(at))
    const Parts: CompletedPart[] = []
    for (const more of [{}, { ChecksumAlgorithm: chosen }]) {
      const request = { ...at, UploadId, PartNumber: Parts.length + 1, Body: randomBytes(MIN_PART), ...more }
      const { $metadata: _, ...sent } = await plain.send(new UploadPartCommand(request))
      Parts.push({ ...sent, PartNumber: request.PartNumber })
    }
    assert.ok(Parts[0]?.ChecksumCRC64NVME !== undefined && Parts[1]?.[`Checksum${chosen}`] !== undefined)
    await plain.send(new CompleteMultipartUploadCommand({ ...at, UploadId, MultipartUpload: { Parts } }))
    const head = await plain.send(new HeadObjectCommand({ ...at, ChecksumMode: 'ENABLED' }))
    assert.equal(head.ChecksumType, chosen === 'CRC32' ? undefined : 'FULL_OBJECT')
    assert.equal(head.ChecksumCRC64NVME === undefined, chosen === 'CRC32')
    assert.equal(head.ChecksumCRC32, undefined)
  }
})

test('checksums that lie or do not fit are refused', async () => {
  for (const [ChecksumAlgorithm, ChecksumType] of [['SHA256', 'FULL_OBJECT'], ['CRC64NVME', 'COMPOSITE']]) {
    assert.equal(await refusal(create('x', { ChecksumAlgorithm, ChecksumType })), 'InvalidRequest')
  }
  const id = await create('lies', { ChecksumAlgorithm: 'SHA256' })
  assert.equal(await refusal(part('lies', id, 1, Buffer.from('x'), { ChecksumAlgorithm: 'CRC32' })), 'InvalidRequest')
  const one = await part('lies', id, 1, Buffer.from('data'), { ChecksumAlgorithm: 'SHA256' })
  const other = createHash('sha256').update('other').digest('base64')
  assert.equal(await refusal(complete('lies', id, [{ ...one, ChecksumSHA256: other }])), 'InvalidPart')
  assert.equal(await refusal(complete('lies', id, [{ PartNumber: 1, ETag: one.ETag ?? '' }])), 'InvalidRequest')
  const full = await create('full', { ChecksumAlgorithm: 'CRC32', ChecksumType: 'FULL_OBJECT' })
  const only = await part('full', full, 1, Buffer.from('data'), { ChecksumAlgorithm: 'CRC32' })
  const lie = { ChecksumType: 'FULL_OBJECT', ChecksumCRC32: 'AAAAAA==' }
  assert.equal(await refusal(complete('full', full, [only], lie)), 'BadDigest')
  const truth = { ChecksumType: 'FULL_OBJECT', ChecksumCRC32: only.ChecksumCRC32 }
  await complete('full', full, [only], truth)
})

test('a checksum of checksums given at completion without a number of parts is that of the upload', async () => {
  for (const ChecksumAlgorithm of ['CRC32', 'SHA256'] as const) {
    const id = await create('bare', { ChecksumAlgorithm })
    const first = await part('bare', id, 1, randomBytes(MIN_PART), { ChecksumAlgorithm })
    const last = await part('bare', id, 2, Buffer.from('last'), { ChecksumAlgorithm })
    const sums = [first, last].map((sum) => Buffer.from(sum[`Checksum${ChecksumAlgorithm}`] ?? '', 'base64'))
    const value = Buffer.alloc(ChecksumAlgorithm === 'CRC32' ? 4 : 32)
    if (ChecksumAlgorithm === 'CRC32') value.writeUInt32BE(crc32(Buffer.concat(sums)))
    else createHash('sha256').update(Buffer.concat(sums)).digest().copy(value)
    const given = { [`Checksum${ChecksumAlgorithm}`]: value.toString('base64') }
    const lie = { [`Checksum${ChecksumAlgorithm}`]: Buffer.alloc(value.length).toString('base64') }
    assert.equal(await refusal(complete('bare', id, [first, last], lie)), 'BadDigest')
    const completed = await complete('bare', id, [first, last], given)
    assert.equal(completed[`Checksum${ChecksumAlgorithm}`], `${value.toString('base64')}-2`)
    assert.equal((await complete('bare', id, [first, last], given)).ETag, completed.ETag)
  }
})

test('parts copied from other objects', async () => {
  const data = randomBytes(50_000)
  await client.send(new PutObjectCommand({ Bucket, Key: 'source', Body: data }))
  const id = await create('assembled')
  const copy = (PartNumber: number, more: object = {}) => client.send(new UploadPartCopyCommand({
    Bucket, Key: 'assembled', UploadId: id, PartNumber, CopySource: 'bucket/source', ...more }))
  const first = await copy(1, { CopySourceRange: 'bytes=10000-29999' })
  const second = await copy(2)
  const parts = [first, second].map(({ CopyPartResult }, index) => (
    { PartNumber: index + 1, ETag: CopyPartResult?.ETag ?? '' }))
  await complete('assembled', id, parts)
  assert.deepEqual(await get('assembled'), Buffer.concat([data.subarray(10_000, 30_000), data]))
  const again = await create('assembled')
  const bad = (more: object) => refusal(client.send(new UploadPartCopyCommand({
    Bucket, Key: 'assembled', UploadId: again, PartNumber: 1, CopySource: 'bucket/source', ...more })))
  assert.equal(await bad({ CopySourceRange: 'bytes=40000-50000' }), 'InvalidRange')
  assert.equal(await bad({ CopySourceRange: 'bytes=40000-' }), 'InvalidArgument')
  assert.equal(await bad({ CopySource: 'bucket/none' }), 'NoSuchKey')
  assert.equal(await bad({ CopySourceIfMatch: '"x"' }), 'PreconditionFailed')
})

test('listings of parts and uploads page through everything', async () => {
  const id = await create('paged')
  for (let number = 1; number <= 7; number++) await part('paged', id, number * 2, Buffer.alloc(number))
  const seen: number[] = []
  let marker: string | undefined
  do {
    const page = await client.send(new ListPartsCommand({
      Bucket, Key: 'paged', UploadId: id, MaxParts: 3, PartNumberMarker: marker }))
    for (const { PartNumber = 0, Size } of page.Parts ?? []) {
      seen.push(PartNumber)
      assert.equal(Size, PartNumber / 2)
    }
    assert.ok((page.Parts?.length ?? 0) <= 3)
    marker = page.IsTruncated === true ? page.NextPartNumberMarker : undefined
  } while (marker !== undefined)
  assert.deepEqual(seen, [2, 4, 6, 8, 10, 12, 14])
  await client.send(new AbortMultipartUploadCommand({ Bucket, Key: 'paged', UploadId: id }))

  const ids = new Map<string, string>()
  for (const key of ['u/a', 'u/a', 'u/b', 'u/dir/c', 'u/dir/d', 'u/e']) ids.set(await create(key), key)
  const found: string[] = []
  const prefixes: string[] = []
  let keyMarker: string | undefined
  let idMarker: string | undefined
  do {
    const page = await client.send(new ListMultipartUploadsCommand({
      Bucket, Prefix: 'u/', Delimiter: '/', MaxUploads: 2, KeyMarker: keyMarker, UploadIdMarker: idMarker }))
    for (const { Key, UploadId = '' } of page.Uploads ?? []) {
      assert.equal(ids.get(UploadId), Key)
      found.push(Key ?? '')
    }
    for (const { Prefix = '' } of page.CommonPrefixes ?? []) prefixes.push(Prefix)
    keyMarker = page.IsTruncated === true ? page.NextKeyMarker : undefined
    idMarker = page.NextUploadIdMarker
  } while (keyMarker !== undefined)
  assert.deepEqual(found, ['u/a', 'u/a', 'u/b', 'u/e'])
  assert.deepEqual(prefixes, ['u/dir/'])
  for (const [UploadId, Key] of ids) await client.send(new AbortMultipartUploadCommand({ Bucket, Key, UploadId }))
})

test('an aborted upload is gone', async () => {
  const id = await create('aborted')
  const one = await part('aborted', id, 1, Buffer.from('x'))
  await client.send(new AbortMultipartUploadCommand({ Bucket, Key: 'aborted', UploadId: id }))
  assert.equal(await refusal(complete('aborted', id, [one])), 'NoSuchUpload')
  assert.equal(await refusal(client.send(new AbortMultipartUploadCommand({
    Bucket, Key: 'aborted', UploadId: id }))), 'NoSuchUpload')
})

test('an object of many parts is read whole and from its last part', async () => {
  const count = 200
  const many = await S3TestServer.start({ storeLimits: { minPartSize: 1 } })
  try {
    const sdk = many.sdk()
    await sdk.send(new CreateBucketCommand({ Bucket }))
    const { UploadId = '' } = await sdk.send(new CreateMultipartUploadCommand({ Bucket, Key: 'many' }))
    const parts: CompletedPart[] = []
    for (let PartNumber = 1; PartNumber <= count; PartNumber++) {
      const Body = `${PartNumber};`
      const { ETag } = await sdk.send(new UploadPartCommand({ Bucket, Key: 'many', UploadId, PartNumber, Body }))
      parts.push({ PartNumber, ETag })
    }
    const { ETag } = await sdk.send(new CompleteMultipartUploadCommand({
      Bucket, Key: 'many', UploadId, MultipartUpload: { Parts: parts },
    }))
    assert.ok(ETag?.endsWith(`-${count}"`))
    const { Body } = await sdk.send(new GetObjectCommand({ Bucket, Key: 'many' }))
    assert.equal(await Body?.transformToString(), parts.map(({ PartNumber }) => `${PartNumber};`).join(''))
    const last = await sdk.send(new GetObjectCommand({ Bucket, Key: 'many', PartNumber: count }))
    assert.equal(await last.Body?.transformToString(), `${count};`)
  } finally {
    await many.stop()
  }
})

test('lib-storage uploads streams of unknown length with default checksums', async () => {
  const big = await S3TestServer.start()
  try {
    const sdk = big.sdk()
    await sdk.send(new CreateBucketCommand({ Bucket }))
    const data = randomBytes(12 * 1024 * 1024 + 17)
    const pieces = Array.from({ length: 100 }, (_, index) => (
      data.subarray(Math.floor(index * data.length / 100), Math.floor((index + 1) * data.length / 100))))
    const params = { Bucket, Key: 'stream', Body: Readable.from(pieces) }
    const upload = new Upload({ client: sdk, params, queueSize: 2 })
    const done = await upload.done()
    assert.match(done.ETag ?? '', /-3"$/)
    const { Body } = await sdk.send(new GetObjectCommand({ Bucket, Key: 'stream' }))
    assert.deepEqual(Buffer.from(await Body?.transformToByteArray() ?? []), data)
    // The real limit of 5 MiB, here at its own size.
    const { UploadId } = await sdk.send(new CreateMultipartUploadCommand({ Bucket, Key: 'small' }))
    const parts: CompletedPart[] = []
    for (const PartNumber of [1, 2]) {
      const Body = Buffer.alloc(5 * 1024 * 1024 - 1)
      const { ETag } = await sdk.send(new UploadPartCommand({ Bucket, Key: 'small', UploadId, PartNumber, Body }))
      parts.push({ PartNumber, ETag: ETag ?? '' })
    }
    const small = new CompleteMultipartUploadCommand({
      Bucket, Key: 'small', UploadId, MultipartUpload: { Parts: parts },
    })
    assert.equal(await refusal(sdk.send(small)), 'EntityTooSmall')
  } finally {
    await big.stop()
  }
})
