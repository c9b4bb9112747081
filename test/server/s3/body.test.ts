import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { crc32 } from 'node:zlib'
import fc from 'fast-check'
import { headerTable } from '../../../ts/server/auth/canonical.js'
import type { PayloadMode } from '../../../ts/server/auth/payload.js'
import { type PlanOptions, RequestBody, planBody } from '../../../ts/server/s3/body.js'
import { S3Error } from '../../../ts/store/errors.js'
import { pieceSource } from './support/pieces.js'

const OPTIONS: PlanOptions = { maxBytes: 1000, tooLarge: 'EntityTooLarge', lengthRequired: true, defaultChecksum: true }
const credential = { accessKey: 'a', secretKey: 's', ownerId: 'o' }

function bodyOf(
  headers: Record<string, string>, data: Uint8Array | string, payload: PayloadMode = { kind: 'unsigned' },
  options: Partial<PlanOptions> = {},
): RequestBody {
  const bytes = typeof data === 'string' ? Buffer.from(data) : data
  const all = { 'content-length': String(bytes.length), ...headers }
  const plan = planBody(headerTable(Object.entries(all).flat()), { credential, via: 'header', payload },
    { ...OPTIONS, ...options })
  return new RequestBody(plan, pieceSource(bytes, [3, 5]))
}

/** The outcome of a body, which is the same whether it is taken in pieces or whole. */
async function code(make: () => RequestBody): Promise<string> {
  let body: RequestBody | undefined
  const pieces = await outcome(async () => {
    body = make()
    for await (const piece of body) assert.ok(piece.length > 0)
  })
  if (body === undefined) return pieces
  const again = make()
  if (again === body) return pieces
  const whole = await outcome(async () => { assert.equal((await again.whole()).length, again.size) })
  assert.equal(whole, pieces)
  if (pieces === 'accepted') assert.deepEqual(again.digests(), body.digests())
  return pieces
}

async function outcome(take: () => Promise<void>): Promise<string> {
  try {
    await take()
  } catch (error) {
    assert.ok(error instanceof S3Error, String(error))
    return error.code
  }
  return 'accepted'
}

function base64(algorithm: string, data: string): string {
  return createHash(algorithm).update(data).digest('base64')
}

function crc32Base64(data: string): string {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(crc32(data))
  return bytes.toString('base64')
}

test('digests are those of the data, with CRC64NVME when nothing was chosen', async () => {
  const body = bodyOf({}, '123456789')
  assert.throws(() => body.digests())
  assert.equal(await code(() => body), 'accepted')
  assert.equal(Buffer.from(body.digests().md5).toString('hex'), '25f9e794323b453885f5181f1b624d0b')
  assert.equal(body.digests().checksum?.algorithm, 'CRC64NVME')
  assert.equal(Buffer.from(body.digests().checksum?.value ?? []).toString('hex'), 'ae8b14860a799888')
})

test('promises in headers are kept or refused', async () => {
  const text = 'hello world'
  const md5 = base64('md5', text)
  const cases: [Record<string, string>, string][] = [
    [{ 'content-md5': md5 }, 'accepted'],
    [{ 'content-md5': base64('md5', 'other') }, 'BadDigest'],
    [{ 'content-md5': 'nonsense' }, 'InvalidDigest'],
    [{ 'content-md5': '' }, 'InvalidDigest'],
    [{ 'x-amz-checksum-sha256': base64('sha256', text) }, 'accepted'],
    [{ 'x-amz-checksum-sha256': base64('sha256', 'x') }, 'BadDigest'],
    [{ 'x-amz-checksum-sha1': base64('sha1', text) }, 'accepted'],
    [{ 'x-amz-checksum-sha1': base64('sha1', 'x') }, 'BadDigest'],
    [{ 'x-amz-checksum-crc32': crc32Base64(text), 'x-amz-sdk-checksum-algorithm': 'CRC32' }, 'accepted'],
    [{ 'x-amz-checksum-crc32': crc32Base64('x') }, 'BadDigest'],
    [{ 'x-amz-checksum-crc32': crc32Base64(text).replace('==', '') }, 'InvalidRequest'],
    [{ 'x-amz-checksum-crc32': crc32Base64(text), 'x-amz-sdk-checksum-algorithm': 'SHA1' }, 'InvalidRequest'],
    [{ 'x-amz-checksum-crc32': crc32Base64(text), 'x-amz-checksum-sha1': base64('sha1', text) }, 'InvalidRequest'],
    [{ 'x-amz-sdk-checksum-algorithm': 'CRC32' }, 'InvalidRequest'],
    [{ 'x-amz-checksum-xxhash64': 'AAAAAAAAAAA=' }, 'NotImplemented'],
  ]
  for (const [headers, expected] of cases) {
    assert.equal(await code(() => bodyOf(headers, text)), expected, JSON.stringify(headers))
  }
})

test('the signed hash of the payload is enforced', async () => {
  const hex = createHash('sha256').update('hello').digest('hex')
  assert.equal(await code(() => bodyOf({}, 'hello', { kind: 'sha256', hex })), 'accepted')
  assert.equal(await code(() => bodyOf({}, 'hellp', { kind: 'sha256', hex })), 'XAmzContentSHA256Mismatch')
  const empty = createHash('sha256').digest('hex')
  assert.equal(await code(() => bodyOf({}, '', { kind: 'sha256', hex: empty })), 'accepted')
})

test('lengths must be given, sane and true', async () => {
  const streaming: PayloadMode = { kind: 'streaming', signed: false, trailer: true }
  assert.equal(await code(() => bodyOf({ 'content-length': '1001' }, '')), 'EntityTooLarge')
  assert.equal(await code(() => bodyOf({ 'content-length': '6' }, 'hello')), 'IncompleteBody')
  assert.equal(await code(() => bodyOf({ 'content-length': '4' }, 'hello')), 'IncompleteBody')
  assert.equal(await code(() => bodyOf({ 'content-length': '1e2' }, 'hello')), 'InvalidArgument')
  assert.equal(await code(() => bodyOf({}, 'hello', streaming)), 'MissingContentLength')
  assert.equal(await code(() => bodyOf({ 'x-amz-decoded-content-length': '-1' }, '', streaming)), 'InvalidArgument')
  assert.equal(await code(() => bodyOf({ 'x-amz-decoded-content-length': '9999' }, '', streaming)), 'EntityTooLarge')
  const verified = { credential, via: 'header', payload: { kind: 'unsigned' } } as const
  assert.throws(() => planBody(headerTable([]), verified, OPTIONS), { code: 'MissingContentLength' })
  assert.equal(planBody(headerTable([]), verified, { ...OPTIONS, lengthRequired: false }).size, 0)
})

test('a trailing checksum is verified against the data', async () => {
  const streaming: PayloadMode = { kind: 'streaming', signed: false, trailer: true }
  const body = (checksum: string): string => `5\r\nhello\r\n0\r\nx-amz-checksum-crc32:${checksum}\r\n\r\n`
  const headers = { 'x-amz-decoded-content-length': '5', 'x-amz-trailer': 'x-amz-checksum-crc32' }
  assert.equal(await code(() => bodyOf(headers, body(crc32Base64('hello')), streaming)), 'accepted')
  assert.equal(await code(() => bodyOf(headers, body(crc32Base64('jello')), streaming)), 'BadDigest')
  assert.equal(await code(() => bodyOf(headers, body('x'), streaming)), 'InvalidRequest')
  const foreign = { ...headers, 'x-amz-trailer': 'x-amz-meta-a' }
  assert.equal(await code(() => bodyOf(foreign, body('x'), streaming)), 'InvalidRequest')
})

test('a part must use the checksum of its upload', async () => {
  const text = 'hello'
  const wrong = { 'x-amz-checksum-crc32': crc32Base64(text) }
  assert.equal(await code(() => bodyOf(wrong, text, { kind: 'unsigned' }, { required: 'SHA256' })), 'InvalidRequest')
  const body = bodyOf({}, text, { kind: 'unsigned' }, { required: 'SHA256' })
  assert.equal(await code(() => body), 'accepted')
  assert.equal(body.digests().checksum?.algorithm, 'SHA256')
})

test('the data comes through unchanged', async () => {
  await fc.assert(fc.asyncProperty(fc.uint8Array({ maxLength: 900 }), async (data) => {
    const seen: Uint8Array[] = []
    for await (const piece of bodyOf({}, data)) seen.push(Buffer.from(piece))
    assert.deepEqual(Buffer.concat(seen), Buffer.from(data))
  }))
})
