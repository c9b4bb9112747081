/** ListObjects, versions 1 and 2. */
import type { ListPage } from '../../meta/reader.js'
import type { ObjectRecord } from '../../meta/schema.js'
import { S3Error } from '../../store/errors.js'
import { ownerElement } from './buckets.js'
import type { Exchange } from './exchange.js'
import { quoted } from './headers.js'
import { type Encoder, encoding, integerArgument, scanArgument, startArgument } from './list_arguments.js'
import { readToken, writeToken } from './list_tokens.js'
import { document, element, xmlDate } from './xml_write.js'

const MAX_KEYS = 1000

interface Query {
  prefix: string
  delimiter: string
  maxKeys: number
  encode: Encoder
  encodingType: string | undefined
}

function commonQuery(exchange: Exchange): Query {
  const { encode, type } = encoding(exchange)
  return {
    prefix: scanArgument(exchange, 'prefix'),
    delimiter: scanArgument(exchange, 'delimiter'),
    maxKeys: integerArgument(exchange, 'max-keys', 0, MAX_KEYS, MAX_KEYS),
    encode,
    encodingType: type,
  }
}

function page(exchange: Exchange, query: Query, after: string): ListPage {
  const { store } = exchange.options
  // No key holds a NUL.
  if (query.maxKeys === 0 || query.prefix.includes('\0')) {
    store.bucket(exchange.bucket)
    return { entries: [], truncated: false, next: '' }
  }
  const delimiter = query.delimiter.includes('\0') ? '' : query.delimiter
  return store.listObjects(exchange.bucket, { prefix: query.prefix, delimiter, after, limit: query.maxKeys })
}

function contents(exchange: Exchange, object: ObjectRecord, encode: Encoder, withOwner: boolean): string {
  let inner = element('Key', encode(object.key)) + element('LastModified', xmlDate(object.modifiedMs))
    + element('ETag', quoted(object.etag))
  if (object.checksum !== undefined) {
    inner += element('ChecksumAlgorithm', object.checksum.algorithm) + element('ChecksumType', object.checksum.type)
  }
  inner += element('Size', object.size)
  if (withOwner) inner += ownerElement(exchange, object.ownerId)
  return `<Contents>${inner}${element('StorageClass', object.attributes.storageClass)}</Contents>`
}

/** Contents, then CommonPrefixes, each in order. */
function entries(exchange: Exchange, listed: ListPage, encode: Encoder, withOwner: boolean): string {
  let objects = ''
  let prefixes = ''
  for (const entry of listed.entries) {
    if ('object' in entry) objects += contents(exchange, entry.object, encode, withOwner)
    else prefixes += `<CommonPrefixes>${element('Prefix', encode(entry.prefix))}</CommonPrefixes>`
  }
  return objects + prefixes
}

function optional(name: string, value: string | undefined): string {
  return value === undefined || value === '' ? '' : element(name, value)
}

export function listObjects(exchange: Exchange): void {
  const query = commonQuery(exchange)
  const { encode } = query
  const listed = page(exchange, query, startArgument(exchange, 'marker'))
  const inner = element('Name', exchange.bucket) + element('Prefix', encode(query.prefix))
    + element('Marker', encode(exchange.query('marker') ?? ''))
    // Without a delimiter the last key is the next marker, and S3 says nothing.
    + (listed.truncated && query.delimiter !== '' ? element('NextMarker', encode(listed.next)) : '')
    + element('MaxKeys', query.maxKeys) + optional('Delimiter', encode(query.delimiter))
    + element('IsTruncated', listed.truncated) + optional('EncodingType', query.encodingType)
    + entries(exchange, listed, encode, true)
  exchange.sendXml({ xml: document('ListBucketResult', inner) })
}

export function listObjectsV2(exchange: Exchange): void {
  const query = commonQuery(exchange)
  const { encode } = query
  const token = exchange.query('continuation-token')
  if (token === '') {
    throw new S3Error('InvalidArgument', 'The continuation token provided is incorrect', {
      ArgumentName: 'continuation-token', ArgumentValue: '',
    })
  }
  const startAfter = startArgument(exchange, 'start-after')
  const listed = page(exchange, query, token === undefined ? startAfter : readToken(token, 'continuation-token'))
  const withOwner = exchange.query('fetch-owner')?.toLowerCase() === 'true'
  const inner = element('Name', exchange.bucket) + element('Prefix', encode(query.prefix))
    + (token === undefined ? '' : element('ContinuationToken', token))
    + (listed.truncated ? element('NextContinuationToken', writeToken(listed.next)) : '')
    + optional('StartAfter', encode(exchange.query('start-after') ?? ''))
    + element('KeyCount', listed.entries.length) + element('MaxKeys', query.maxKeys)
    + optional('Delimiter', encode(query.delimiter)) + element('IsTruncated', listed.truncated)
    + optional('EncodingType', query.encodingType) + entries(exchange, listed, encode, withOwner)
  exchange.sendXml({ xml: document('ListBucketResult', inner) })
}
