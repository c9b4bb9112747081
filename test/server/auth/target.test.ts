import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { parseTarget, percentDecode, uriEncode, uriEncodePath } from '../../../ts/server/auth/target.js'
import { S3Error } from '../../../ts/store/errors.js'

const text = fc.string({ unit: 'binary' }).filter((value) => !/\p{Surrogate}/u.test(value))

test('what is encoded decodes to itself', () => {
  fc.assert(fc.property(text, (value) => {
    assert.equal(percentDecode(uriEncode(value)), value)
    assert.equal(percentDecode(uriEncodePath(value), true), value)
    assert.match(uriEncode(value), /^(?:[A-Za-z0-9._~-]|%[0-9A-F]{2})*$/)
  }))
})

test('raw bytes above 127 are UTF-8, with or without escapes', () => {
  fc.assert(fc.property(text, (value) => {
    const raw = Buffer.from(value.replace(/[%+?#]/g, '_')).toString('latin1')
    assert.equal(percentDecode(raw), value.replace(/[%+?#]/g, '_'))
  }))
})

test('bad escapes and bad UTF-8 are InvalidURI', () => {
  for (const bad of ['%', '%4', '%zz', '%+1', '%ff', '%c3', '%ed%a0%80', '%c0%af', '\u00ff', '\u0100']) {
    assert.throws(() => percentDecode(bad), (error) => error instanceof S3Error && error.code === 'InvalidURI', bad)
  }
})

test('targets keep the path as sent', () => {
  const target = parseTarget('/b/..//a%2F?x=1&x=2&y&=z&&p=%20+')
  assert.equal(target.rawPath, '/b/..//a%2F')
  assert.equal(target.path, '/b/..//a/')
  assert.deepEqual(target.query.map(({ name, value }) => [name, value]),
    [['x', '1'], ['x', '2'], ['y', ''], ['', 'z'], ['p', '  ']])
  assert.equal(parseTarget('http://host:9000/b/k?q').rawPath, '/b/k')
  assert.equal(parseTarget('http://host').rawPath, '/')
  assert.throws(() => parseTarget('*'), S3Error)
  assert.throws(() => parseTarget('host:443'), S3Error)
})
