/** What clients send: heads, signatures and bodies of S3 requests. */
import assert from 'node:assert/strict'

import { headerTable } from '../../../ts/server/auth/canonical.js'
import { fixedCredentials } from '../../../ts/server/auth/credentials.js'
import { SigV4Verifier } from '../../../ts/server/auth/sigv4.js'
import { parseTarget } from '../../../ts/server/auth/target.js'
import { ChunkedDecoder } from '../../../ts/server/s3/aws_chunked.js'
import { decodeChecksum } from '../../../ts/server/s3/checksums.js'
import { dateMs, etagList } from '../../../ts/server/s3/conditions.js'
import { parseCopySource } from '../../../ts/server/s3/copy_source.js'
import { metadataValue } from '../../../ts/server/s3/headers.js'
import { readToken, writeToken } from '../../../ts/server/s3/list_tokens.js'
import { copyRange, partNumber, resolveRange } from '../../../ts/server/s3/ranges.js'
import { completeRequest, deleteRequest, locationConstraint } from '../../../ts/server/s3/requests.js'
import { readXml } from '../../../ts/server/s3/xml_read.js'
import { S3Error } from '../../../ts/store/errors.js'
import { type FuzzTarget, may, split } from '../target.js'

export const chunked: FuzzTarget = {
  name: 'aws-chunked',
  seeds: [
    Buffer.from('5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n'),
    Buffer.from('b\r\nhello world\r\n0\r\nx-amz-checksum-crc32c:yZRlqg==\r\n\r\n'),
    Buffer.from(`b;chunk-signature=${'a'.repeat(64)}\r\nhello world\r\n0;chunk-signature=${'b'.repeat(64)}\r\n\r\n`),
  ],
  async run(input) {
    const pieces = split(input)
    const source = {
      next: async (): Promise<Uint8Array | undefined> => (await pieces.next()).value ?? undefined,
    }
    const decoder = new ChunkedDecoder(source, { decodedLength: 11, trailers: ['x-amz-checksum-crc32c'] })
    await may([S3Error], async () => {
      let seen = 0
      for (let piece = await decoder.next(); piece !== undefined; piece = await decoder.next()) seen += piece.length
      assert.equal(seen, 11, 'a body that ends well has its length')
    })
  },
}

export const xml: FuzzTarget = {
  name: 'xml',
  seeds: [
    Buffer.from('<Delete><Quiet>true</Quiet><Object><Key>a&amp;b</Key></Object></Delete>'),
    Buffer.from('<?xml version="1.0" encoding="UTF-8"?><CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/' +
      '2006-03-01/"><Part><PartNumber>1</PartNumber><ETag>"x"</ETag></Part></CompleteMultipartUpload>'),
    Buffer.from('<CreateBucketConfiguration><LocationConstraint>eu-west-1</LocationConstraint>' +
      '</CreateBucketConfiguration>'),
  ],
  run: (input) => may([S3Error], async () => {
    const root = await readXml(split(input))
    await may([S3Error], () => locationConstraint(root))
    await may([S3Error], () => deleteRequest(root))
    await may([S3Error], () => completeRequest(root))
  }),
}

export const requestTarget: FuzzTarget = {
  name: 'request target',
  seeds: [Buffer.from('/bucket/a%20b?list-type=2&prefix=%C3%A9&x'), Buffer.from('bucket/key%2Fx?versionId=3')],
  async run(input) {
    const text = input.toString('latin1')
    await may([S3Error], () => parseTarget(text))
    await may([S3Error], () => parseCopySource(text))
  },
}

const NOW = Date.UTC(2026, 0, 2, 3, 4, 5)
const verifier = new SigV4Verifier({
  credentials: fixedCredentials([{ accessKey: 'AKIA', secretKey: 'secret', ownerId: 'owner' }]),
  region: 'us-east-1', service: 's3', nowMs: () => NOW,
})
const SCOPE = 'AKIA/20260102/us-east-1/s3/aws4_request'

/** The request line, then headers, one a line; the body is not looked at. */
export const signature: FuzzTarget = {
  name: 'signature',
  seeds: [
    Buffer.from(`GET /bucket/key?x=1\nhost: h\nx-amz-date: 20260102T030405Z\nx-amz-content-sha256: UNSIGNED-PAYLOAD\n` +
      `authorization: AWS4-HMAC-SHA256 Credential=${SCOPE}, SignedHeaders=host;x-amz-content-sha256;x-amz-date, ` +
      `Signature=${'0'.repeat(64)}`),
    Buffer.from(`GET /bucket/key?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=${encodeURIComponent(SCOPE)}` +
      `&X-Amz-Date=20260102T030405Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=${'0'.repeat(64)}\nhost: h`),
  ],
  run: (input) => may([S3Error], () => {
    const [first = '', ...lines] = input.toString('latin1').split('\n')
    const [method = '', url = ''] = first.split(' ')
    const raw = lines.flatMap((line) => {
      const colon = line.indexOf(':')
      return [line.slice(0, Math.max(0, colon)), line.slice(colon + 1).trim()]
    })
    verifier.verify({ method, target: parseTarget(url), headers: headerTable(raw) })
    assert.fail('nobody can guess a signature')
  }),
}

/** Header and query values, each on a line of its own. */
export const values: FuzzTarget = {
  name: 'header values',
  seeds: [
    Buffer.from('bytes=5-10\nbytes=5-10\n7\n"a", W/"b"\nWed, 21 Oct 2015 07:28:00 GMT\nyZRlqg==\n=?UTF-8?B?w6k=?='),
    Buffer.from(`bytes=-3\n\n10000\n*\n\n\n\n${writeToken('a/b')}`),
  ],
  async run(input) {
    const [range, copy, part = '', etags = '', date, sum = '', stored = '', token = ''] =
      input.toString('latin1').split('\n')
    await may([S3Error], () => {
      const found = resolveRange(range, 20)
      if (found !== undefined) assert.ok(found.offset >= 0 && found.length > 0 && found.offset + found.length <= 20)
    })
    await may([S3Error], () => {
      const found = copyRange(copy)
      if (found !== undefined) assert.ok(found.offset >= 0 && found.length > 0)
    })
    await may([S3Error], () => {
      const number = partNumber(part)
      assert.ok(Number.isInteger(number) && number >= 1 && number <= 10_000)
    })
    await may([S3Error], () => {
      assert.equal(writeToken(readToken(token, 'continuation-token')), token)
    })
    etagList(etags)
    dateMs(date)
    metadataValue(stored)
    const checksum = decodeChecksum('CRC32', sum)
    if (checksum !== undefined) assert.equal(checksum.length, 4)
  },
}
