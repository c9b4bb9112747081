/**
 * Headers that go with an object: which are stored, which are given back, and which are refused because this server
 * does not do what they ask for. A header that would change the meaning of a request is never ignored.
 */
import type { OutgoingHttpHeaders } from 'node:http'
import type { WriteCondition } from '../../meta/command.js'
import type { ObjectAttributes, ObjectRecord } from '../../meta/schema.js'
import { S3Error } from '../../store/errors.js'
import type { Exchange } from './exchange.js'
import { unquote } from './requests.js'

export const MAX_METADATA_BYTES = 2048
const META_PREFIX = 'x-amz-meta-'
const STORED = [
  'content-type', 'cache-control', 'content-disposition', 'content-encoding', 'content-language', 'expires',
] as const

/** Header name to the values that ask for nothing; no value listed: the header is refused outright. */
const REFUSED: readonly (readonly [RegExp, readonly string[]])[] = [
  [/^x-amz-(copy-source-)?server-side-encryption/, []],
  [/^x-amz-object-lock-legal-hold$/, ['OFF']],
  [/^x-amz-object-lock-/, []],
  [/^x-amz-bucket-object-lock-enabled$/, ['false', 'FALSE', 'False']],
  [/^x-amz-bypass-governance-retention$/, ['false']],
  [/^x-amz-grant-/, []],
  [/^x-amz-tagging$/, ['']],
  [/^x-amz-tagging-directive$/, ['COPY']],
  [/^x-amz-website-redirect-location$/, ['']],
  [/^x-amz-acl$/, ['', 'private', 'bucket-owner-full-control', 'bucket-owner-read']],
  [/^x-amz-object-ownership$/, ['BucketOwnerEnforced']],
  [/^x-amz-write-offset-bytes$/, []],
  [/^x-amz-if-match-/, []],
  [/^x-amz-mfa$/, []],
  [/^x-amz-bucket-namespace$/, ['global']],
]

/** The rule of every x-amz- name met so far, null where there is none. Bounded: clients choose the names. */
const knownRules = new Map<string, (typeof REFUSED)[number] | null>()
const MAX_KNOWN_RULES = 256

function ruleOf(name: string): (typeof REFUSED)[number] | null {
  let rule = knownRules.get(name)
  if (rule === undefined) {
    rule = REFUSED.find(([pattern]) => pattern.test(name)) ?? null
    if (knownRules.size < MAX_KNOWN_RULES) knownRules.set(name, rule)
  }
  return rule
}

/** Throws NotImplemented, and AccessDenied when the caller expects another owner of the bucket. */
export function refuseUnsupportedHeaders(exchange: Exchange): void {
  for (const name of exchange.headers.keys()) {
    if (!name.startsWith('x-amz-')) continue
    const rule = ruleOf(name)
    if (rule !== null && !rule[1].includes(exchange.header(name)?.trim() ?? '')) {
      throw new S3Error('NotImplemented', 'A header you provided implies functionality that is not implemented', {
        Header: name,
      })
    }
  }
  for (const name of ['x-amz-expected-bucket-owner', 'x-amz-source-expected-bucket-owner']) {
    const owner = exchange.header(name)
    if (owner !== undefined && owner.trim() !== exchange.options.ownerId) throw new S3Error('AccessDenied')
  }
}

/** STANDARD when not given; InvalidStorageClass for what this server has no tier for. */
export function storageClass(exchange: Exchange): ObjectAttributes['storageClass'] {
  const value = exchange.header('x-amz-storage-class')?.trim() ?? 'STANDARD'
  if (value === 'STANDARD' || value === 'REDUCED_REDUNDANCY') return value
  throw new S3Error('InvalidStorageClass', '', { StorageClassRequested: value })
}

/** aws-chunked is a matter of the transfer, not of the object. */
function storedEncoding(value: string): string {
  return value.split(',').map((part) => part.trim()).filter((part) => part !== '' && part !== 'aws-chunked').join(',')
}

/** Attributes of the object that a request writes. Values are kept as they were sent, one character per byte. */
export function objectAttributes(exchange: Exchange): ObjectAttributes {
  const headers: Record<string, string> = {}
  for (const name of STORED) {
    const value = exchange.header(name)?.trim()
    if (value === undefined) continue
    const stored = name === 'content-encoding' ? storedEncoding(value) : value
    if (stored !== '') headers[name] = stored
  }
  return { headers, userMetadata: userMetadata(exchange), storageClass: storageClass(exchange) }
}

function userMetadata(exchange: Exchange): ObjectAttributes['userMetadata'] {
  const pairs: [string, string][] = []
  let bytes = 0
  for (const name of exchange.headers.keys()) {
    if (!name.startsWith(META_PREFIX)) continue
    const short = name.slice(META_PREFIX.length)
    const value = exchange.header(name)?.trim() ?? ''
    if (short === '') throw new S3Error('InvalidArgument', 'Your metadata headers must have a name.')
    bytes += short.length + value.length
    pairs.push([short, value])
  }
  if (bytes > MAX_METADATA_BYTES) {
    throw new S3Error('MetadataTooLarge', '', { Size: String(bytes), MaxSizeAllowed: String(MAX_METADATA_BYTES) })
  }
  // Not by assignment, which would take `__proto__` for something else than a name.
  return Object.fromEntries(pairs)
}

/** User metadata with bytes above 127 travels as an RFC 2047 word, which S3's clients decode. */
export function metadataValue(stored: string): string {
  if (/^[\t\x20-\x7e]*$/.test(stored)) return stored
  const bytes = Buffer.from(stored, 'latin1')
  let charset = 'UTF-8'
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    charset = 'ISO-8859-1'
  }
  return `=?${charset}?B?${bytes.toString('base64')}?=`
}

const RESPONSE_NAMES: Readonly<Record<(typeof STORED)[number], string>> = {
  'content-type': 'Content-Type', 'cache-control': 'Cache-Control', 'content-disposition': 'Content-Disposition',
  'content-encoding': 'Content-Encoding', 'content-language': 'Content-Language', expires: 'Expires',
}

export function quoted(etag: string): string {
  return `"${etag}"`
}

export function httpDate(ms: number): string {
  return new Date(ms).toUTCString()
}

/** ETag and dates: what 200, 206, 304 and 412 answers about an object have in common. */
export function validatorHeaders(object: ObjectRecord): Record<string, string> {
  return { ETag: quoted(object.etag), 'Last-Modified': httpDate(object.modifiedMs) }
}

/** Headers of GET and HEAD answers, without those that speak of ranges and lengths. */
export function objectHeaders(object: ObjectRecord): OutgoingHttpHeaders {
  const headers: OutgoingHttpHeaders = validatorHeaders(object)
  headers['Accept-Ranges'] = 'bytes'
  headers['Content-Type'] = 'binary/octet-stream'
  for (const name of STORED) {
    const value = object.attributes.headers[name]
    if (value !== undefined) headers[RESPONSE_NAMES[name]] = value
  }
  for (const [name, value] of Object.entries(object.attributes.userMetadata)) {
    headers[META_PREFIX + name] = metadataValue(value)
  }
  if (object.attributes.storageClass !== 'STANDARD') headers['x-amz-storage-class'] = object.attributes.storageClass
  return headers
}

/** response-content-type and its kin. Only signed requests may use them, and there are no others. */
export function applyOverrides(exchange: Exchange, headers: OutgoingHttpHeaders): void {
  for (const name of STORED) {
    const parameter = 'response-' + name
    const value = exchange.query(parameter)
    if (value === undefined) continue
    const bytes = Buffer.from(value).toString('latin1')
    if (/[\x00-\x08\x0a-\x1f\x7f]/.test(bytes)) {
      throw new S3Error('InvalidArgument', 'The header value cannot be sent.', {
        ArgumentName: parameter, ArgumentValue: value,
      })
    }
    headers[RESPONSE_NAMES[name]] = bytes
  }
}

/** If-Match and If-None-Match of a write. Other conditions mean nothing on a write and are refused. */
export function writeCondition(exchange: Exchange): WriteCondition | undefined {
  const ifMatch = exchange.header('if-match')?.trim()
  const ifNoneMatch = exchange.header('if-none-match')?.trim()
  const refused = ['if-modified-since', 'if-unmodified-since'].find((name) => exchange.headers.has(name))
  if (refused !== undefined || (ifNoneMatch !== undefined && ifNoneMatch !== '*')
    || (ifMatch !== undefined && ifNoneMatch !== undefined) || ifMatch?.includes(',') === true) {
    throw new S3Error('NotImplemented', 'A header you provided implies functionality that is not implemented', {
      Header: refused ?? (ifNoneMatch === undefined ? 'If-Match' : 'If-None-Match'),
    })
  }
  if (ifMatch !== undefined) return { ifMatch: unquote(ifMatch) }
  return ifNoneMatch === undefined ? undefined : { ifNoneMatch: '*' }
}

/** Only the current version exists: 'null' names it, anything else is no version of anything. */
export function checkVersionId(exchange: Exchange): void {
  const versionId = exchange.query('versionId')
  if (versionId === undefined || versionId === 'null') return
  throw new S3Error('InvalidArgument', 'Invalid version id specified', {
    ArgumentName: 'versionId', ArgumentValue: versionId,
  })
}
