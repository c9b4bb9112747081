import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { parseTarget, uriEncodePath } from '../../../ts/server/auth/target.js'
import { parseCopySource } from '../../../ts/server/s3/copy_source.js'
import { copyRange, partNumber, resolveRange } from '../../../ts/server/s3/ranges.js'
import { address, route } from '../../../ts/server/s3/router.js'
import { S3Error } from '../../../ts/store/errors.js'

function routed(line: string, copies = false): string {
  const [method = '', url = ''] = line.split(' ')
  const target = parseTarget(url)
  try {
    return route(method, address('host:9000', target.path, []), target.query, copies).name
  } catch (error) {
    assert.ok(error instanceof S3Error, String(error))
    return error.code
  }
}

test('every request finds its operation', () => {
  const cases: [string, string][] = [
    ['GET /', 'ListBuckets'], ['GET /?x-id=ListBuckets', 'ListBuckets'], ['PUT /b', 'CreateBucket'],
    ['PUT /b/', 'CreateBucket'], ['HEAD /b', 'HeadBucket'], ['DELETE /b', 'DeleteBucket'],
    ['GET /b?location', 'GetBucketLocation'], ['GET /b?versioning', 'GetBucketVersioning'],
    ['GET /b', 'ListObjects'], ['GET /b?prefix=x', 'ListObjects'],
    ['GET /b/?list-type=2', 'ListObjectsV2'], ['GET /b?uploads', 'ListMultipartUploads'],
    ['POST /b?delete', 'DeleteObjects'], ['GET /b/k', 'GetObject'], ['GET /b/k?partNumber=1', 'GetObject'],
    ['GET /b//', 'GetObject'], ['HEAD /b/k/', 'HeadObject'], ['PUT /b/k', 'PutObject'], ['DELETE /b/k', 'DeleteObject'],
    ['POST /b/k?uploads', 'CreateMultipartUpload'], ['PUT /b/k?partNumber=1&uploadId=x', 'UploadPart'],
    ['POST /b/k?uploadId=x', 'CompleteMultipartUpload'], ['DELETE /b/k?uploadId=x', 'AbortMultipartUpload'],
    ['GET /b/k?uploadId=x', 'ListParts'], ['POST /', 'MethodNotAllowed'], ['PATCH /b', 'MethodNotAllowed'],
    ['POST /b/k', 'MethodNotAllowed'], ['GET /b?list-type=3', 'InvalidArgument'],
    ['PUT /b/k?uploadId=x', 'InvalidArgument'], ['PUT /b/k?partNumber=1', 'InvalidArgument'],
    ['GET /b?acl&policy', 'InvalidArgument'], ['POST /b', 'NotImplemented'],
  ]
  for (const [line, name] of cases) assert.equal(routed(line), name, line)
  for (const line of ['PUT /b?versioning', 'GET /b/k?versioning']) assert.equal(routed(line), 'NotImplemented', line)
  assert.equal(routed('PUT /b/k', true), 'CopyObject')
  assert.equal(routed('PUT /b/k?partNumber=1&uploadId=x', true), 'UploadPartCopy')
})

test('a method that is refused hears which ones there are', () => {
  const allowed = (method: string, url: string): string | undefined => {
    const { path, query } = parseTarget(url)
    try {
      route(method, address('host:9000', path, []), query, false)
      return undefined
    } catch (error) {
      assert.ok(error instanceof S3Error, String(error))
      return error.headers['Allow']
    }
  }
  assert.equal(allowed('PATCH', '/'), 'GET')
  for (const url of ['/b', '/b/k', '/b/k?uploadId=x']) {
    for (const method of ['TRACE', 'PATCH']) assert.equal(allowed(method, url), 'GET, HEAD, PUT, POST, DELETE', url)
  }
  assert.equal(allowed('POST', '/b/k'), 'GET, HEAD, PUT, DELETE')
})

test('a sub-resource is never taken for the plain operation', () => {
  const subs = ['acl', 'tagging', 'versions', 'policy', 'lifecycle', 'cors', 'encryption', 'retention',
    'legal-hold', 'object-lock', 'website', 'torrent', 'attributes', 'restore', 'select', 'replication', 'notification']
  for (const sub of subs) {
    for (const method of ['GET', 'PUT', 'DELETE', 'HEAD', 'POST']) {
      for (const path of ['/b', '/b/k']) {
        assert.equal(routed(`${method} ${path}?${sub}`), 'NotImplemented', `${method} ${path}?${sub}`)
      }
    }
  }
})

test('bucket and key come from path or host, and the key is never changed', () => {
  fc.assert(fc.property(fc.string({ minLength: 1 }).filter((key) => !key.includes('\0')), (key) => {
    const path = parseTarget('/bucket/' + uriEncodePath(key)).path
    assert.deepEqual(address('localhost:9000', path, ['s3.local']), { bucket: 'bucket', key })
    const virtual = parseTarget('/' + uriEncodePath(key)).path
    assert.deepEqual(address('My.Bucket.S3.local:80', virtual, ['x.y', 's3.local']), { bucket: 'my.bucket', key })
  }))
  assert.deepEqual(address('s3.local', '/bucket', ['s3.local']), { bucket: 'bucket', key: '' })
  assert.deepEqual(address('bucket.s3.local', '/', ['s3.local']), { bucket: 'bucket', key: '' })
  assert.deepEqual(address('evils3.local', '/a/b', ['s3.local']), { bucket: 'a', key: 'b' })
  assert.deepEqual(address('', '/', []), { bucket: '', key: '' })
})

test('ranges are inside the object or refused', () => {
  const numbers = fc.oneof(fc.nat(2000), fc.constant(''), fc.bigInt({ min: 0n, max: 10n ** 30n }))
  fc.assert(fc.property(numbers, numbers, fc.nat(1000), (first, last, size) => {
    let range
    try {
      range = resolveRange(`bytes=${first}-${last}`, size)
    } catch (error) {
      assert.ok(error instanceof S3Error && error.code === 'InvalidRange')
      assert.ok(first === '' ? Number(last) === 0 || size === 0 : Number(first) >= size)
      return
    }
    if (range === undefined) {
      assert.ok((first === '' && last === '') || Number(first) > Number(last))
      return
    }
    assert.ok(range.length >= 1 && range.offset >= 0 && range.offset + range.length <= size)
    if (first !== '') assert.equal(range.offset, Number(first))
  }), { numRuns: 500 })
})

test('copy ranges and part numbers are exact', () => {
  assert.deepEqual(copyRange('bytes=0-9'), { offset: 0, length: 10 })
  assert.equal(copyRange(undefined), undefined)
  for (const bad of ['bytes=0-', 'bytes=-9', '0-9', 'bytes=9-0', 'bytes=0-9,11-12', '']) {
    assert.throws(() => copyRange(bad), S3Error, bad)
  }
  assert.equal(partNumber('10000'), 10_000)
  for (const bad of ['0', '10001', '-1', '1.0', '', 'one', '1e3']) assert.throws(() => partNumber(bad), S3Error, bad)
})

test('copy sources are decoded once', () => {
  assert.deepEqual(parseCopySource('b/a+b', false), { bucket: 'b', key: 'a+b' })
  const cases: [string, string, string][] = [
    ['b/k', 'b', 'k'], ['/b/k', 'b', 'k'], ['b/a%20b', 'b', 'a b'], ['b/a+b', 'b', 'a b'], ['b/a%2Bb', 'b', 'a+b'],
    ['b/a%252Fb', 'b', 'a%2Fb'], ['b%2Fk%2Fl', 'b', 'k/l'], ['b//k', 'b', '/k'], ['b/what?', 'b', 'what?'],
    ['b/k?versionId=null', 'b', 'k'], ['b/%C3%BC', 'b', '\u00fc'],
  ]
  for (const [header, bucket, key] of cases) assert.deepEqual(parseCopySource(header), { bucket, key }, header)
  for (const bad of ['', 'b', 'b/', '/', '/b/', 'b/%zz', 'arn:aws:s3:x/k', 'b/k?versionId=1']) {
    assert.throws(() => parseCopySource(bad), { code: 'InvalidArgument' }, bad)
  }
})
