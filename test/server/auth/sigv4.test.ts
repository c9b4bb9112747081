import assert from 'node:assert/strict'
import { test } from 'node:test'
import { headerTable } from '../../../ts/server/auth/canonical.js'
import { fixedCredentials } from '../../../ts/server/auth/credentials.js'
import { SigV4Verifier, type Verified } from '../../../ts/server/auth/sigv4.js'
import { parseTarget } from '../../../ts/server/auth/target.js'
import { S3Error } from '../../../ts/store/errors.js'
import { ACCESS_KEY, SECRET_KEY, scopeOf, sha256, signCanonical } from './support.js'

const NOW = Date.parse('2013-05-24T00:00:00Z')
const EMPTY = sha256('')
const HOST = 'examplebucket.s3.amazonaws.com'
const CONTEXT = { timestamp: '20130524T000000Z', region: 'us-east-1', service: 's3', secretKey: SECRET_KEY }

function verifier(nowMs = NOW, region = 'us-east-1'): SigV4Verifier {
  return new SigV4Verifier({
    credentials: fixedCredentials([{ accessKey: ACCESS_KEY, secretKey: SECRET_KEY, ownerId: 'owner' }]),
    region, service: 's3', nowMs: () => nowMs,
  })
}

function verify(method: string, url: string, headers: string[], by: SigV4Verifier = verifier()): Verified {
  return by.verify({ method, target: parseTarget(url), headers: headerTable(headers) })
}

function authorization(signedHeaders: string, signature: string, scope = '20130524/us-east-1/s3/aws4_request'): string {
  return `AWS4-HMAC-SHA256 Credential=${ACCESS_KEY}/${scope},SignedHeaders=${signedHeaders},Signature=${signature}`
}

function refusal(action: () => unknown): S3Error {
  try {
    action()
  } catch (error) {
    assert.ok(error instanceof S3Error, String(error))
    return error
  }
  assert.fail('was accepted')
}

/** A rightly signed GET / with the given changes. */
function signedGet(headers: Record<string, string> = {}, rawPath = '/', path = rawPath, query = ''): string[] {
  const all: Record<string, string> = {
    host: HOST, 'x-amz-content-sha256': EMPTY, 'x-amz-date': CONTEXT.timestamp, ...headers,
  }
  const names = Object.keys(all).sort()
  const canonical = ['GET', path, query, ...names.map((name) => `${name}:${all[name] ?? ''}`), '', names.join(';'),
    all['x-amz-content-sha256'] ?? ''].join('\n')
  return [...Object.entries(all).flat(), 'Authorization',
    authorization(names.join(';'), signCanonical(canonical, CONTEXT))]
}

// The worked examples of the S3 documentation: requests and the signatures it gives for them.
test('accepts the documented example requests', () => {
  verify('GET', '/test.txt', ['Host', HOST, 'Range', 'bytes=0-9', 'x-amz-content-sha256', EMPTY,
    'x-amz-date', '20130524T000000Z', 'Authorization', authorization('host;range;x-amz-content-sha256;x-amz-date',
      'f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41')])
  const put = sha256('Welcome to Amazon S3.')
  const verified = verify('PUT', '/test$file.text', ['Host', HOST, 'Date', 'Fri, 24 May 2013 00:00:00 GMT',
    'x-amz-date', '20130524T000000Z', 'x-amz-storage-class', 'REDUCED_REDUNDANCY', 'x-amz-content-sha256', put,
    'Authorization', authorization('date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class',
      '98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd')])
  assert.deepEqual(verified.payload, { kind: 'sha256', hex: put })
  for (const [url, signature] of [
    ['/?lifecycle', 'fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543'],
    ['/?max-keys=2&prefix=J', '34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7'],
  ] as const) {
    verify('GET', url, ['Host', HOST, 'x-amz-date', '20130524T000000Z', 'x-amz-content-sha256', EMPTY,
      'Authorization', authorization('host;x-amz-content-sha256;x-amz-date', signature)])
  }
})

const PRESIGNED = `/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=${ACCESS_KEY}%2F20130524%2Fus-east-1`
  + '%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host'
const PRESIGNED_SIGNATURE = 'aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404'

test('accepts the documented presigned URL until it expires', () => {
  const url = `${PRESIGNED}&X-Amz-Signature=${PRESIGNED_SIGNATURE}`
  const verified = verify('GET', url, ['Host', HOST])
  assert.equal(verified.via, 'presigned')
  assert.deepEqual(verified.payload, { kind: 'unsigned' })
  verify('GET', url, ['Host', HOST], verifier(NOW + 86_400_000))
  const late = refusal(() => verify('GET', url, ['Host', HOST], verifier(NOW + 86_401_000)))
  assert.equal(late.code, 'AccessDenied')
  assert.equal(late.message, 'Request has expired')
  assert.equal(late.fields['Expires'], '2013-05-25T00:00:00Z')
  assert.equal(refusal(() => verify('GET', url, ['Host', HOST], verifier(NOW - 16 * 60_000))).code, 'AccessDenied')
})

test('refuses a presigned URL when anything in it is changed or missing', () => {
  const signed = `&X-Amz-Signature=${PRESIGNED_SIGNATURE}`
  const cases: [string, string][] = [
    [PRESIGNED.replace('86400', '86401') + signed, 'SignatureDoesNotMatch'],
    [PRESIGNED + '&response-content-type=text%2Fhtml' + signed, 'SignatureDoesNotMatch'],
    [PRESIGNED.replace('86400', '604801') + signed, 'AuthorizationQueryParametersError'],
    [PRESIGNED.replace('86400', '0') + signed, 'AuthorizationQueryParametersError'],
    [PRESIGNED.replace('86400', '-5') + signed, 'AuthorizationQueryParametersError'],
    [PRESIGNED.replace('86400', 'day') + signed, 'AuthorizationQueryParametersError'],
    [PRESIGNED.replace('&X-Amz-Expires=86400', '') + signed, 'AuthorizationQueryParametersError'],
    [PRESIGNED + '&X-Amz-Expires=10' + signed, 'AuthorizationQueryParametersError'],
    [PRESIGNED.replace('us-east-1', 'eu-west-1') + signed, 'AuthorizationQueryParametersError'],
    [PRESIGNED.replace('20130524T000000Z', 'today') + signed, 'AuthorizationQueryParametersError'],
    [PRESIGNED, 'AuthorizationQueryParametersError'],
    [PRESIGNED.replace('AWS4-HMAC-SHA256', 'AWS4-HMAC-SHA1') + signed, 'AuthorizationQueryParametersError'],
  ]
  for (const [url, code] of cases) {
    assert.equal(refusal(() => verify('GET', url, ['Host', HOST])).code, code, url)
  }
  const url = PRESIGNED + signed
  const unsigned = refusal(() => verify('GET', url, ['Host', HOST, 'x-amz-acl', 'private']))
  assert.equal(unsigned.code, 'AccessDenied')
  assert.equal(unsigned.fields['HeadersNotSigned'], 'x-amz-acl')
})

test('says skew with the times that clients need', () => {
  for (const away of [-1, 1]) {
    verify('GET', '/', signedGet(), verifier(NOW + away * 15 * 60_000))
    const error = refusal(() => verify('GET', '/', signedGet(), verifier(NOW + away * (15 * 60_000 + 1000))))
    assert.equal(error.code, 'RequestTimeTooSkewed')
    assert.equal(error.fields['RequestTime'], '20130524T000000Z')
    assert.equal(error.fields['MaxAllowedSkewMilliseconds'], '900000')
    assert.match(error.fields['ServerTime'] ?? '', /^2013-05-2[34]T\d\d:\d\d:\d\dZ$/)
  }
})

test('names the right region when the scope has another', () => {
  const error = refusal(() => verify('GET', '/', signedGet(), verifier(NOW, 'eu-west-1')))
  assert.equal(error.code, 'AuthorizationHeaderMalformed')
  assert.equal(error.fields['Region'], 'eu-west-1')
})

test('refuses malformed, foreign and ambiguous authorization', () => {
  const base = ['Host', HOST, 'x-amz-date', '20130524T000000Z', 'x-amz-content-sha256', EMPTY]
  const good = authorization('host;x-amz-content-sha256;x-amz-date', '0'.repeat(64))
  const cases: [string, string][] = [
    ['AWS AKID:signature', 'InvalidRequest'],
    ['Basic dXNlcjpwYXNz', 'InvalidArgument'],
    ['AWS4-ECDSA-P256-SHA256 Credential=x', 'UnsupportedSignature'],
    ['AWS4-HMAC-SHA256 nonsense', 'AuthorizationHeaderMalformed'],
    ['AWS4-HMAC-SHA256 Credential=a/b/c,SignedHeaders=host,Signature=0', 'AuthorizationHeaderMalformed'],
    [good.replace('SignedHeaders=', 'Headers='), 'AuthorizationHeaderMalformed'],
    [good + ',Signature=1', 'AuthorizationHeaderMalformed'],
    [good.replace('/s3/', '/ec2/'), 'AuthorizationHeaderMalformed'],
    [good.replace('aws4_request', 'aws5_request'), 'AuthorizationHeaderMalformed'],
    [good.replace('/20130524/', '/20130523/'), 'AuthorizationHeaderMalformed'],
    [good.replace(ACCESS_KEY, 'NOBODY'), 'InvalidAccessKeyId'],
    [good.replace('host;', ''), 'AccessDenied'],
    [good.replace(';x-amz-date', ''), 'AccessDenied'],
    [good, 'SignatureDoesNotMatch'],
  ]
  for (const [value, code] of cases) {
    assert.equal(refusal(() => verify('GET', '/', [...base, 'Authorization', value])).code, code, value)
  }
  assert.equal(refusal(() => verify('GET', '/', base)).code, 'AccessDenied', 'anonymous')
  assert.equal(refusal(() => verify('GET', '/?AWSAccessKeyId=a&Signature=b&Expires=1', base)).code, 'InvalidRequest')
  assert.equal(refusal(() => verify('GET', PRESIGNED, [...base, 'Authorization', good])).code, 'InvalidArgument')
  assert.equal(refusal(() => verify('GET', '/', [...base, 'Authorization', good, 'Authorization', good])).code,
    'InvalidArgument')
  const noHash = base.slice(0, 4)
  assert.equal(refusal(() => verify('GET', '/', [...noHash, 'Authorization', good])).code, 'InvalidRequest')
  const badHash = [...noHash, 'x-amz-content-sha256', 'toString']
  assert.equal(refusal(() => verify('GET', '/', [...badHash, 'Authorization', good])).code, 'InvalidArgument')
})

test('a wrong signature is answered with what was signed', () => {
  const headers = signedGet()
  headers[headers.length - 1] = (headers.at(-1) ?? '').replace(/.{4}$/, 'ffff')
  const error = refusal(() => verify('GET', '/', headers))
  assert.equal(error.code, 'SignatureDoesNotMatch')
  assert.match(error.fields['CanonicalRequest'] ?? '', /^GET\n\/\n/)
  assert.equal(error.fields['AWSAccessKeyId'], ACCESS_KEY)
  assert.equal((error.fields['StringToSign'] ?? '').split('\n')[2], scopeOf(CONTEXT))
})

test('folds white space, joins repeated headers, and never normalises the path', () => {
  const folded = signedGet({ 'x-amz-meta-a': 'one two', 'x-amz-meta-b': '1,2' })
  const at = folded.indexOf('x-amz-meta-a')
  folded[at + 1] = '  one   two '
  const repeated = folded.indexOf('x-amz-meta-b')
  folded.splice(repeated, 2, 'X-Amz-Meta-B', '1', 'x-amz-meta-b', '2')
  verify('GET', '/', folded)
  for (const path of ['/a/../b', '/a//b', '/./a', '//', '/a/', '/a/%2E%2E/b']) {
    verify('GET', path, signedGet({}, path, path.replaceAll('%2E', '.')))
    verify('GET', path, signedGet({}, path, path))
    if (path !== '/a/..') {
      assert.equal(refusal(() => verify('GET', '/b', signedGet({}, path, path))).code, 'SignatureDoesNotMatch')
    }
  }
})

test('accepts a path and query signed as sent or in canonical spelling, and no other', () => {
  verify('GET', "/it's%20(1)+*!", signedGet({}, '/', '/it%27s%20%281%29%2B%2A%21'))
  verify('GET', "/it's%20(1)+*!", signedGet({}, '/', "/it's%20(1)+*!"))
  verify('GET', '/a%2fb', signedGet({}, '/', '/a%2fb'))
  verify('GET', '/?prefix=a+b&x', signedGet({}, '/', '/', 'prefix=a%20b&x='))
  verify('GET', '/?b=2&a=2&a=1&a%2D=0', signedGet({}, '/', '/', 'a=1&a=2&a-=0&b=2'))
  const wrong = refusal(() => verify('GET', '/a%252Fb', signedGet({}, '/', '/a%2Fb')))
  assert.equal(wrong.code, 'SignatureDoesNotMatch')
})

test('a session token that nobody issued is refused', () => {
  const error = refusal(() => verify('GET', '/', signedGet({ 'x-amz-security-token': 'made-up' })))
  assert.equal(error.code, 'InvalidToken')
})
