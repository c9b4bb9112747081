import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { HmacKey } from '../../../ts/server/auth/hmac.js'
import { ChunkSignatures } from '../../../ts/server/auth/payload.js'
import { ChunkedDecoder } from '../../../ts/server/s3/aws_chunked.js'
import { S3Error } from '../../../ts/store/errors.js'
import { SECRET_KEY, keyOf, scopeOf, signChunks } from '../auth/support.js'
import { pieceSource, readAll } from './support/pieces.js'

const CONTEXT = { timestamp: '20130524T000000Z', region: 'us-east-1', service: 's3', secretKey: SECRET_KEY }
const SEED = '4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9'

function signatures(seed = SEED): ChunkSignatures {
  return new ChunkSignatures(new HmacKey(keyOf(CONTEXT)), CONTEXT.timestamp, scopeOf(CONTEXT), seed)
}

/** An encoded body; trailers as [name, value]. */
function encode(chunks: Uint8Array[], signed: boolean, trailers?: [string, string][]): Buffer {
  const canonical = (trailers ?? []).map(([name, value]) => `${name}:${value}\n`).sort().join('')
  const chain = signChunks(chunks, SEED, CONTEXT, canonical)
  const pieces: Uint8Array[] = []
  for (const { data, signature } of chain.chunks) {
    const line = data.length.toString(16) + (signed ? `;chunk-signature=${signature}` : '') + '\r\n'
    pieces.push(Buffer.from(line), data)
    if (data.length > 0) pieces.push(Buffer.from('\r\n'))
  }
  for (const [name, value] of trailers ?? []) pieces.push(Buffer.from(`${name}:${value}\r\n`))
  if (signed && trailers !== undefined) {
    pieces.push(Buffer.from(`x-amz-trailer-signature:${chain.trailerSignature}\r\n`))
  }
  return Buffer.concat([...pieces, Buffer.from('\r\n')])
}

interface Form {
  signed: boolean
  trailers: [string, string][] | undefined
}

function decoder(body: Uint8Array, sizes: number[], decodedLength: number, form: Form): ChunkedDecoder {
  return new ChunkedDecoder(pieceSource(body, sizes), {
    decodedLength,
    ...(form.signed ? { signatures: signatures() } : {}),
    ...(form.trailers === undefined ? {} : { trailers: form.trailers.map(([name]) => name) }),
  })
}

async function code(decoding: Promise<unknown>): Promise<string> {
  try {
    await decoding
  } catch (error) {
    assert.ok(error instanceof S3Error, String(error))
    return error.code
  }
  return 'accepted'
}

test('the signatures of the documented streaming example are accepted', () => {
  const chain = signatures()
  const { chunks } = signChunks([Buffer.alloc(65_536, 'a'), Buffer.alloc(1024, 'a')], SEED, CONTEXT)
  assert.deepEqual(chunks.map(({ signature }) => signature), [
    'ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648',
    '0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497',
    'b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9',
  ])
  assert.ok(chain.acceptsChunk('bf718b6f653bebc184e1479f1935b8da974d701b893afcf49e701f3e2f9f9c5a',
    'ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648'))
})

test('the documented trailing checksum example is accepted', async () => {
  const seed = '106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e'
  const body = Buffer.from('10000;chunk-signature=b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2\r\n'
    + 'a'.repeat(65_536)
    + '\r\n400;chunk-signature=1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7\r\n'
    + 'a'.repeat(1024)
    + '\r\n0;chunk-signature=2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992\r\n'
    + 'x-amz-checksum-crc32c:sOO8/Q==\n'
    + 'x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n')
  const decoding = new ChunkedDecoder(pieceSource(body, [1000]), {
    decodedLength: 66_560, signatures: signatures(seed), trailers: ['x-amz-checksum-crc32c'],
  })
  assert.equal((await readAll(decoding)).length, 66_560)
  assert.equal(decoding.trailers.get('x-amz-checksum-crc32c'), 'sOO8/Q==')
})

const bodies = fc.record({
  chunks: fc.array(fc.uint8Array({ minLength: 1, maxLength: 300 }), { maxLength: 6 }),
  sizes: fc.array(fc.integer({ min: 1, max: 400 }), { minLength: 1, maxLength: 5 }),
  signed: fc.boolean(),
  trailers: fc.option(fc.constant<[string, string][]>([['x-amz-checksum-crc32', 'AAAAAA==']]), { nil: undefined }),
})

test('any chunks arrive whole, however the bytes are cut', async () => {
  await fc.assert(fc.asyncProperty(bodies, async ({ chunks, sizes, ...form }) => {
    const data = Buffer.concat(chunks)
    const decoding = decoder(encode(chunks, form.signed, form.trailers), sizes, data.length, form)
    assert.deepEqual(await readAll(decoding), data)
    assert.deepEqual([...decoding.trailers], form.trailers ?? [])
    assert.equal(await decoding.next(), undefined)
  }))
})

test('a body cut short anywhere, or with bytes after its end, is refused', async () => {
  await fc.assert(fc.asyncProperty(bodies, fc.nat(), async ({ chunks, sizes, ...form }, cut) => {
    const body = encode(chunks, form.signed, form.trailers)
    const length = Buffer.concat(chunks).length
    // The empty line at the very end may be left out when nothing depends on it.
    const short = body.subarray(0, cut % (body.length - 2))
    assert.notEqual(await code(readAll(decoder(short, sizes, length, form))), 'accepted')
    const long = Buffer.concat([body, Buffer.from('x')])
    assert.notEqual(await code(readAll(decoder(long, sizes, length, form))), 'accepted')
    for (const lie of [length - 1, length + 1]) {
      if (lie < 0) continue
      assert.equal(await code(readAll(decoder(body, sizes, lie, form))), 'IncompleteBody')
    }
  }))
})

test('any changed byte of a signed body is refused, or changes nothing', async () => {
  await fc.assert(fc.asyncProperty(bodies, fc.nat(), fc.integer({ min: 1, max: 255 }),
    async ({ chunks, sizes, trailers }, position, flip) => {
      const body = encode(chunks, true, trailers)
      const data = Buffer.concat(chunks)
      const at = position % body.length
      body[at] = (body[at] ?? 0) ^ flip
      const decoding = decoder(body, sizes, data.length, { signed: true, trailers })
      const read = await readAll(decoding).catch((error: unknown) => {
        assert.ok(error instanceof S3Error, String(error))
        return undefined
      })
      if (read === undefined) return
      // Letter case of hex digits and of trailer names, and white space, carry nothing.
      assert.deepEqual(read, data)
      assert.deepEqual([...decoding.trailers], trailers ?? [])
    }), { numRuns: 400 })
})

test('framing lies get the right error', async () => {
  const unsigned: Form = { signed: false, trailers: [] }
  const withTrailer: Form = { signed: false, trailers: [['x-amz-checksum-crc32', 'AAAAAA==']] }
  const cases: [string, number, Form, string][] = [
    ['5\r\nhello\r\n0\r\n\r\n', 5, unsigned, 'accepted'],
    ['5\r\nhello\r\n0\r\n', 5, unsigned, 'accepted'],
    ['5\nhello\r\n0\r\n\r\n', 5, unsigned, 'InvalidRequest'],
    ['5\r\nhelloX\r\n0\r\n\r\n', 5, unsigned, 'InvalidRequest'],
    ['-5\r\nhello\r\n0\r\n\r\n', 5, unsigned, 'InvalidRequest'],
    ['0x5\r\nhello\r\n0\r\n\r\n', 5, unsigned, 'InvalidRequest'],
    ['5;evil=1\r\nhello\r\n0\r\n\r\n', 5, unsigned, 'InvalidRequest'],
    ['\r\nhello\r\n0\r\n\r\n', 5, unsigned, 'InvalidRequest'],
    ['ffffffffffffffff\r\nhello\r\n0\r\n\r\n', 5, unsigned, 'IncompleteBody'],
    ['0'.repeat(300) + '5\r\nhello\r\n0\r\n\r\n', 5, unsigned, 'InvalidRequest'],
    ['5\r\nhello\r\n', 5, unsigned, 'IncompleteBody'],
    ['0\r\n\r\n', 5, unsigned, 'IncompleteBody'],
    ['5\r\nhello\r\n0\r\nx-evil:1\r\n\r\n', 5, unsigned, 'MalformedTrailerError'],
    ['5\r\nhello\r\n0\r\n\r\n', 5, withTrailer, 'MalformedTrailerError'],
    ['5\r\nhello\r\n0\r\nx-amz-checksum-crc32:a\r\nx-amz-checksum-crc32:a\r\n\r\n', 5, withTrailer,
      'MalformedTrailerError'],
    ['5\r\nhello\r\n0\r\nx-amz-checksum-crc32\r\n\r\n', 5, withTrailer, 'MalformedTrailerError'],
    ['5\r\nhello\r\n0\r\nx-amz-checksum-crc32:' + 'a'.repeat(5000) + '\r\n\r\n', 5, withTrailer, 'InvalidRequest'],
  ]
  for (const [text, length, form, expected] of cases) {
    for (const size of [1, 1000]) {
      assert.equal(await code(readAll(decoder(Buffer.from(text), [size], length, form))), expected, text.slice(0, 60))
    }
  }
})

test('a signed body needs the signature of its trailers', async () => {
  const trailers: [string, string][] = [['x-amz-checksum-crc32', 'AAAAAA==']]
  const body = encode([Buffer.from('hello')], true, trailers)
  const without = Buffer.from(body.toString('latin1').replace(/x-amz-trailer-signature:.*\r\n/, ''), 'latin1')
  assert.equal(await code(readAll(decoder(without, [9], 5, { signed: true, trailers }))), 'MalformedTrailerError')
  const forged = Buffer.from(body.toString('latin1').replace('AAAAAA==', 'AAAAAB=='), 'latin1')
  assert.equal(await code(readAll(decoder(forged, [9], 5, { signed: true, trailers }))), 'SignatureDoesNotMatch')
})

test('a bare line feed behind a trailer and an empty line more, as minio-go writes them, are accepted', async () => {
  const trailers: [string, string][] = [['x-amz-checksum-crc32', 'AAAAAA==']]
  for (const signed of [true, false]) {
    const usual = encode([Buffer.from('hello')], signed, trailers).toString('latin1')
    const odd = signed ? usual.replace('A==\r\n', 'A==\n\r\n') : usual.replace('A==\r\n', 'A==\n') + '\r\n'
    for (const size of [1, 1000]) {
      const decoding = decoder(Buffer.from(odd, 'latin1'), [size], 5, { signed, trailers })
      assert.equal((await readAll(decoding)).toString(), 'hello')
      assert.deepEqual([...decoding.trailers], trailers)
      const twice = Buffer.from(odd + '\r\n\r\n', 'latin1')
      assert.equal(await code(readAll(decoder(twice, [size], 5, { signed, trailers }))), 'InvalidRequest')
    }
  }
})
