import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { completeRequest, deleteRequest, locationConstraint } from '../../../ts/server/s3/requests.js'
import { type XmlElement, childText, readXml } from '../../../ts/server/s3/xml_read.js'
import { document, element, escapeXml } from '../../../ts/server/s3/xml_write.js'
import { isKey } from '../../../ts/store/names.js'
import { S3Error } from '../../../ts/store/errors.js'

async function* pieces(text: string | Uint8Array, size = 7): AsyncGenerator<Uint8Array> {
  const bytes = typeof text === 'string' ? Buffer.from(text) : text
  for (let at = 0; at < bytes.length; at += size) yield await Promise.resolve(bytes.subarray(at, at + size))
}

function parse(text: string | Uint8Array, size?: number): Promise<XmlElement> {
  return readXml(pieces(text, size))
}

async function code(work: Promise<unknown> | (() => unknown)): Promise<string> {
  try {
    await (typeof work === 'function' ? work() : work)
  } catch (error) {
    assert.ok(error instanceof S3Error, String(error))
    return error.code
  }
  return 'accepted'
}

const keys = fc.oneof(
  fc.string({ unit: 'binary', minLength: 1, maxLength: 50 }),
  fc.constantFrom('a\rb', '\r\n', ' lead trail ', '00123', '<&>"\'', ']]>', '\t\n', '\u0085\u2028', '&amp;', '&#13;'),
).filter(isKey)

test('every key that can be stored survives writing and reading', async () => {
  await fc.assert(fc.asyncProperty(keys, fc.integer({ min: 1, max: 9 }), async (key, size) => {
    const root = await parse(document('Delete', `<Object>${element('Key', key)}</Object>`), size)
    assert.deepEqual(deleteRequest(root), { quiet: false, objects: [{ key }] })
  }), { numRuns: 300 })
})

test('text that XML cannot carry is replaced, never written', () => {
  assert.equal(escapeXml('a\u0000b\u001f\ufffe\ud800c\u{1f600}'), 'a\ufffdb\ufffd\ufffd\ufffdc\u{1f600}')
  assert.equal(escapeXml('\r\n<&>"'), '&#13;\n&lt;&amp;&gt;&quot;')
})

test('hostile and malformed documents are refused', async () => {
  const lol = '<!DOCTYPE l [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;">]><Delete>&b;</Delete>'
  const cases: [string | Uint8Array, string][] = [
    [lol, 'MalformedXML'],
    ['<!DOCTYPE x SYSTEM "file:///etc/passwd"><Delete/>', 'MalformedXML'],
    ['<Delete>&nope;</Delete>', 'MalformedXML'],
    ['<Delete>&#1;</Delete>', 'MalformedXML'],
    ['<Delete>', 'MalformedXML'],
    ['<Delete></Other>', 'MalformedXML'],
    ['<Delete/>trailing', 'MalformedXML'],
    ['<Delete/><Delete/>', 'MalformedXML'],
    ['not xml', 'MalformedXML'],
    ['', 'MalformedXML'],
    ['{"a":1}', 'MalformedXML'],
    ['<x:Delete/>', 'MalformedXML'],
    ['<Delete xmlns="http://example.com/other"/>', 'MalformedXML'],
    ['<a>'.repeat(1000) + '</a>'.repeat(1000), 'MalformedXML'],
    ['<Delete>' + '<a/>'.repeat(70_000) + '</Delete>', 'MalformedXML'],
    [Buffer.from([0x3c, 0x61, 0x3e, 0xff, 0x3c, 0x2f, 0x61, 0x3e]), 'MalformedXML'],
    ['<Delete>' + ' '.repeat(2 * 1024 ** 2) + '</Delete>', 'MaxMessageLengthExceeded'],
  ]
  for (const [text, expected] of cases) {
    assert.equal(await code(parse(text, 5000)), expected, String(text).slice(0, 60))
  }
})

test('documents that do not fit their schema are refused', async () => {
  const part = '<Part><PartNumber>1</PartNumber><ETag>e</ETag></Part>'
  const deletes = ['<Delete/>', '<Delete><Object/></Delete>', '<Delete><Object><Key/></Object></Delete>',
    '<Delete><Object><Key>a</Key><Key>b</Key></Object></Delete>', '<Other/>',
    '<Delete><Quiet>maybe</Quiet><Object><Key>a</Key></Object></Delete>',
    '<Delete>' + '<Object><Key>a</Key></Object>'.repeat(1001) + '</Delete>']
  for (const text of deletes) {
    const root = await parse(text, 5000)
    assert.equal(await code(() => deleteRequest(root)), 'MalformedXML', text.slice(0, 80))
  }
  const completes = ['<CompleteMultipartUpload/>', '<Other/>', `<CompleteMultipartUpload>${
    part.replace('<PartNumber>1</PartNumber>', '')}</CompleteMultipartUpload>`,
  `<CompleteMultipartUpload>${part.replace('>1<', '>x<')}</CompleteMultipartUpload>`,
  `<CompleteMultipartUpload>${part.replace('</Part>', '<ChecksumCRC32>no</ChecksumCRC32></Part>')
  }</CompleteMultipartUpload>`,
  `<CompleteMultipartUpload>${part.repeat(10_001)}</CompleteMultipartUpload>`]
  for (const text of completes) {
    const root = await parse(text, 50_000)
    assert.equal(await code(() => completeRequest(root)), 'MalformedXML', text.slice(0, 80))
  }
})

test('ten thousand parts with ETags and checksums fit', async () => {
  const parts = Array.from({ length: 10_000 }, (_, index) => `<Part><PartNumber>${index + 1}</PartNumber><ETag>&quot;${
    'a'.repeat(32)}&quot;</ETag><ChecksumSHA256>${Buffer.alloc(32, index).toString('base64')}</ChecksumSHA256></Part>`)
  const read = completeRequest(await parse(document('CompleteMultipartUpload', parts.join('')), 65_536))
  assert.equal(read.length, 10_000)
  assert.equal(read[9999]?.partNumber, 10_000)
  assert.equal(read[0]?.etag, 'a'.repeat(32))
  assert.equal(read[7]?.checksum?.algorithm, 'SHA256')
})

test('the location constraint is found with and without namespace', async () => {
  for (const namespace of ['', ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"']) {
    const root = await parse(`<CreateBucketConfiguration${namespace}><LocationConstraint>eu-west-1</LocationConstraint>`
      + '</CreateBucketConfiguration>')
    assert.equal(locationConstraint(root), 'eu-west-1')
    assert.equal(childText(root, 'Other'), undefined)
  }
})
