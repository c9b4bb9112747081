import assert from 'node:assert/strict'
import { test } from 'node:test'
import { S3Error } from '../../ts/store/errors.js'
import { bucketNameProblem, checkKey, isKey } from '../../ts/store/names.js'

test('bucket names follow the rules of S3', () => {
  for (const good of ['abc', 'a-b', 'a.b.c', '0ab', 'a'.repeat(63), 'my-bucket.2024', '1.2.3']) {
    assert.equal(bucketNameProblem(good), undefined, good)
  }
  const bad = ['', 'ab', 'a'.repeat(64), 'Abc', 'a_b', '-ab', 'ab-', '.ab', 'ab.', 'a..b',
    '192.168.5.4',
    'xn--abc',
    'abc-s3alias', 'abc--ol-s3', 'sthree-x', 'a b', 'äbc', 'abc\n', 'a/b']
  for (const name of bad) assert.notEqual(bucketNameProblem(name), undefined, name)
})

test('keys are 1 to 1,024 bytes of characters that XML can carry', () => {
  const good = ['a', '/', '../x', 'a\tb\nc\rd', '😀', '\u{10ffff}', 'é'.repeat(512), 'a'.repeat(1024), '\u007f', '//']
  for (const key of good) {
    assert.ok(isKey(key))
    checkKey(key)
  }
  const bad: [string, string][] = [
    ['', 'InvalidArgument'],
    ['a'.repeat(1025), 'KeyTooLongError'],
    ['é'.repeat(513), 'KeyTooLongError'],
    ['a\u0000b', 'InvalidArgument'],
    ['\u0001', 'InvalidArgument'],
    ['\uffff', 'InvalidArgument'],
    ['\ud800', 'InvalidArgument'],
    ['x\udc00y', 'InvalidArgument'],
  ]
  for (const [key, code] of bad) {
    assert.equal(isKey(key), false)
    assert.throws(() => { checkKey(key) }, (error) => error instanceof S3Error && error.code === code)
  }
})
