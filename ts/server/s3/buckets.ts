/** ListBuckets, CreateBucket, HeadBucket, DeleteBucket, GetBucketLocation, GetBucketVersioning. */
import { S3Error } from '../../store/errors.js'
import type { Exchange } from './exchange.js'
import { readToken, writeToken } from './list_tokens.js'
import { integerArgument } from './list_arguments.js'
import { locationConstraint } from './requests.js'
import { document, element, xmlDate } from './xml_write.js'

const DEFAULT_REGION = 'us-east-1'
const MAX_BUCKETS = 10_000

export function ownerElement(exchange: Exchange, id: string, name = 'Owner'): string {
  const { ownerId, ownerDisplayName } = exchange.options
  const display = id === ownerId ? ownerDisplayName : id
  return `<${name}>${element('ID', id)}${element('DisplayName', display)}</${name}>`
}

export function listBuckets(exchange: Exchange): void {
  const prefix = exchange.query('prefix') ?? ''
  const limit = integerArgument(exchange, 'max-buckets', 1, MAX_BUCKETS, MAX_BUCKETS)
  const region = exchange.query('bucket-region')
  const token = exchange.query('continuation-token')
  const after = token === undefined ? '' : readToken(token, 'continuation-token')
  const matching = exchange.options.store.buckets().filter((bucket) => bucket.name.startsWith(prefix)
    && bucket.name > after && (region === undefined || bucket.region === region))
  const page = matching.slice(0, limit)
  let inner = ownerElement(exchange, exchange.options.ownerId) + '<Buckets>'
  for (const bucket of page) {
    inner += `<Bucket>${element('Name', bucket.name)}${element('CreationDate', xmlDate(bucket.createdMs))
    }${element('BucketRegion', bucket.region)}</Bucket>`
  }
  inner += '</Buckets>'
  const last = page.at(-1)
  if (matching.length > page.length && last !== undefined) inner += element('ContinuationToken', writeToken(last.name))
  if (prefix !== '') inner += element('Prefix', prefix)
  exchange.sendXml({ xml: document('ListAllMyBucketsResult', inner) })
}

export async function createBucket(exchange: Exchange): Promise<void> {
  const { region, store } = exchange.options
  const body = await exchange.readXmlBody()
  const asked = body === undefined ? '' : locationConstraint(body.root)
  if (asked !== '' && asked !== region && !(asked === 'EU' && region === 'eu-west-1')) {
    throw new S3Error('IllegalLocationConstraintException',
      `The ${asked} location constraint is incompatible for the region specific endpoint this request was sent to.`)
  }
  await store.createBucket(exchange.bucket, exchange.ownerId, region)
  exchange.sendEmpty(200, { Location: '/' + exchange.bucket })
}

export function headBucket(exchange: Exchange): void {
  const { region } = exchange.options.store.bucket(exchange.bucket)
  exchange.writeHead(200, { 'x-amz-bucket-region': region, 'Content-Type': 'application/xml' })
  exchange.response.end()
}

export async function deleteBucket(exchange: Exchange): Promise<void> {
  await exchange.options.store.deleteBucket(exchange.bucket)
  exchange.sendEmpty(204)
}

export function getBucketLocation(exchange: Exchange): void {
  const { region } = exchange.options.store.bucket(exchange.bucket)
  exchange.sendXml({ xml: rootText('LocationConstraint', region === DEFAULT_REGION ? '' : region) })
}

/** No bucket has versions, and S3 says so with an empty document; clients ask before they purge. */
export function getBucketVersioning(exchange: Exchange): void {
  exchange.options.store.bucket(exchange.bucket)
  exchange.sendXml({ xml: document('VersioningConfiguration', '') })
}

/** A document whose root holds only text. */
function rootText(root: string, text: string): string {
  const escaped = element('x', text).slice(3, -4)
  return document(root, escaped)
}
