import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ERROR_TABLE, errorDocument, errorStatus, toS3Error } from '../../../ts/server/s3/errors.js'
import { childText, readXml } from '../../../ts/server/s3/xml_read.js'
import { S3Error, type S3ErrorCode } from '../../../ts/store/errors.js'

const CONTEXT = { resource: '/bucket/a<b>\r', requestId: '0123456789ABCDEF', hostId: 'host' }

test('every error document is well-formed and holds code, message, resource and ids', async () => {
  for (const code of Object.keys(ERROR_TABLE) as S3ErrorCode[]) {
    const text = errorDocument(new S3Error(code, '', { Extra: 'x&y' }), CONTEXT)
    const root = await readXml((async function* () { yield await Promise.resolve(Buffer.from(text)) })())
    assert.equal(root.name, 'Error')
    assert.equal(childText(root, 'Code'), code)
    assert.equal(childText(root, 'Message'), ERROR_TABLE[code].message)
    assert.equal(childText(root, 'Extra'), 'x&y')
    assert.equal(childText(root, 'Resource'), CONTEXT.resource)
    assert.equal(childText(root, 'RequestId'), CONTEXT.requestId)
    assert.equal(childText(root, 'HostId'), CONTEXT.hostId)
    assert.ok(errorStatus(code) >= 300 && errorStatus(code) < 600)
  }
})

test('an unexpected error says nothing of its cause', () => {
  const error = toS3Error(new Error('/secret/path failed'))
  assert.equal(error.code, 'InternalError')
  assert.ok(!errorDocument(error, CONTEXT).includes('secret'))
})
