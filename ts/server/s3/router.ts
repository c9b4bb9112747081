/**
 * From host, path, method and query to an operation.
 *
 * Bucket: the label before a configured base domain in Host (virtual-host style), else the first segment of the
 * path (path style). Everything behind it is the key, as it is: `..`, empty segments and trailing slashes included.
 *
 * Sub-resources of S3 that this server does not have are answered NotImplemented, never taken for the plain
 * operation on the same path.
 */
import { S3Error } from '../../store/errors.js'
import { checkBucketName, checkKey } from '../../store/names.js'
import type { QueryParameter } from '../auth/target.js'
import {
  createBucket, deleteBucket, getBucketLocation, getBucketVersioning, headBucket, listBuckets,
} from './buckets.js'
import { copyObject, uploadPartCopy } from './copy.js'
import { deleteObject, deleteObjects } from './delete.js'
import type { Exchange } from './exchange.js'
import { listObjects, listObjectsV2 } from './list.js'
import {
  abortMultipartUpload, completeMultipartUpload, createMultipartUpload, listMultipartUploads, listParts, uploadPart,
} from './multipart.js'
import { getObject, headObject } from './objects_get.js'
import { putObject } from './objects_put.js'

export interface Operation {
  name: OperationName
  run(exchange: Exchange): Promise<void> | void
}

export interface Address {
  /** '' for the service itself. */
  bucket: string
  /** '' for the bucket itself. */
  key: string
}

/** S3's names. */
export type OperationName =
  | 'ListBuckets'
  | 'CreateBucket'
  | 'HeadBucket'
  | 'DeleteBucket'
  | 'GetBucketLocation'
  | 'GetBucketVersioning'
  | 'ListObjects'
  | 'ListObjectsV2'
  | 'ListMultipartUploads'
  | 'DeleteObjects'
  | 'GetObject'
  | 'HeadObject'
  | 'PutObject'
  | 'CopyObject'
  | 'DeleteObject'
  | 'CreateMultipartUpload'
  | 'UploadPart'
  | 'UploadPartCopy'
  | 'CompleteMultipartUpload'
  | 'AbortMultipartUpload'
  | 'ListParts'

const OPERATIONS: Readonly<Record<OperationName, Operation['run']>> = {
  ListBuckets: listBuckets,
  CreateBucket: createBucket,
  HeadBucket: headBucket,
  DeleteBucket: deleteBucket,
  GetBucketLocation: getBucketLocation,
  GetBucketVersioning: getBucketVersioning,
  ListObjects: listObjects,
  ListObjectsV2: listObjectsV2,
  ListMultipartUploads: listMultipartUploads,
  DeleteObjects: deleteObjects,
  GetObject: getObject,
  HeadObject: headObject,
  PutObject: putObject,
  CopyObject: copyObject,
  DeleteObject: deleteObject,
  CreateMultipartUpload: createMultipartUpload,
  UploadPart: uploadPart,
  UploadPartCopy: uploadPartCopy,
  CompleteMultipartUpload: completeMultipartUpload,
  AbortMultipartUpload: abortMultipartUpload,
  ListParts: listParts,
}

/** Names of all operations, for metrics. */
export const OPERATION_NAMES: readonly OperationName[] = Object.keys(OPERATIONS) as OperationName[]

/** Query names that ask for another resource than the bucket or object itself. */
const SUBRESOURCES = new Set([
  'accelerate', 'acl', 'analytics', 'annotation', 'append', 'attributes', 'abac', 'cors', 'delete', 'encryption',
  'intelligent-tiering', 'inventory', 'legal-hold', 'lifecycle', 'location', 'logging', 'metadataConfiguration',
  'metadataInventoryTable', 'metadataJournalTable', 'metadataTable', 'metrics', 'notification', 'object-lock',
  'ownershipControls', 'policy', 'policyStatus', 'publicAccessBlock', 'renameObject', 'replication', 'requestPayment',
  'restore', 'retention', 'select', 'session', 'tagging', 'torrent', 'uploadId', 'uploads', 'versioning', 'versions',
  'website',
])

/** `host`: value of the Host header. `domains`: lower case, without port. */
export function address(host: string, path: string, domains: readonly string[]): Address {
  if (domains.length > 0) {
    const name = host.replace(/:\d+$/, '').toLowerCase()
    for (const domain of domains) {
      if (!name.endsWith('.' + domain)) continue
      return { bucket: name.slice(0, -domain.length - 1), key: path.slice(1) }
    }
  }
  const slash = path.indexOf('/', 1)
  if (slash < 0) return { bucket: path.slice(1), key: '' }
  return { bucket: path.slice(1, slash), key: path.slice(slash + 1) }
}

/** Throws InvalidBucketName, KeyTooLongError, InvalidArgument for an address that nothing can have. */
export function checkAddress({ bucket, key }: Address): void {
  if (bucket === '' && key === '') return
  checkBucketName(bucket)
  if (key !== '') checkKey(key)
}

function notAllowed(method: string, kind: 'SERVICE' | 'BUCKET' | 'OBJECT', allow: string): S3Error {
  return new S3Error('MethodNotAllowed', '', { Method: method, ResourceType: kind }, { Allow: allow })
}

function notImplemented(subresource: string): S3Error {
  return new S3Error('NotImplemented', '', { Resource_Parameter: subresource })
}

function serviceOperation(method: string): OperationName {
  if (method === 'GET') return 'ListBuckets'
  throw notAllowed(method, 'SERVICE', 'GET')
}

function bucketOperation(method: string, query: ReadonlyMap<string, string>, sub: string | undefined): OperationName {
  switch (method) {
    case 'GET': {
      if (sub === 'location') return 'GetBucketLocation'
      if (sub === 'versioning') return 'GetBucketVersioning'
      if (sub === 'uploads') return 'ListMultipartUploads'
      if (sub !== undefined) throw notImplemented(sub)
      const type = query.get('list-type')
      if (type === '2') return 'ListObjectsV2'
      if (type === undefined || type === '' || type === '1') return 'ListObjects'
      throw new S3Error('InvalidArgument', 'Invalid List Type specified in Query', {
        ArgumentName: 'list-type', ArgumentValue: type,
      })
    }
    case 'POST':
      if (sub === 'delete') return 'DeleteObjects'
      throw notImplemented(sub ?? 'POST form upload')
    case 'HEAD': case 'PUT': case 'DELETE':
      if (sub !== undefined) throw notImplemented(sub)
      return method === 'HEAD' ? 'HeadBucket' : method === 'PUT' ? 'CreateBucket' : 'DeleteBucket'
    default:
      throw notAllowed(method, 'BUCKET', 'GET, HEAD, PUT, POST, DELETE')
  }
}

function objectOperation(
  method: string, query: ReadonlyMap<string, string>, sub: string | undefined, copies: boolean,
): OperationName {
  if (sub === 'uploadId' && method !== 'HEAD') {
    switch (method) {
      case 'GET': return 'ListParts'
      case 'POST': return 'CompleteMultipartUpload'
      case 'DELETE': return 'AbortMultipartUpload'
      case 'PUT':
        if (query.has('partNumber')) return copies ? 'UploadPartCopy' : 'UploadPart'
        throw new S3Error('InvalidArgument', 'This operation does not accept a query-string.', {
          ArgumentName: 'uploadId', ArgumentValue: query.get('uploadId') ?? '',
        })
      default: throw notAllowed(method, 'OBJECT', 'GET, HEAD, PUT, POST, DELETE')
    }
  }
  if (sub === 'uploads' && method === 'POST') return 'CreateMultipartUpload'
  if (sub !== undefined) throw notImplemented(sub)
  switch (method) {
    case 'GET': return 'GetObject'
    case 'HEAD': return 'HeadObject'
    case 'DELETE': return 'DeleteObject'
    case 'PUT':
      if (query.has('partNumber')) {
        throw new S3Error('InvalidArgument', 'partNumber needs an uploadId.', {
          ArgumentName: 'partNumber', ArgumentValue: query.get('partNumber') ?? '',
        })
      }
      return copies ? 'CopyObject' : 'PutObject'
    // A POST of an object begins or completes an upload, and means nothing without its query.
    default: throw notAllowed(method, 'OBJECT', `GET, HEAD, PUT, ${method === 'POST' ? '' : 'POST, '}DELETE`)
  }
}

/**
 * A browser's form carries its signature among its fields, where nothing looks for it: without this it would be told
 * that access is denied. Throws NotImplemented.
 */
export function refuseForm(method: string, at: Address, contentType: string | undefined): void {
  if (method === 'POST' && at.key === '' && /^multipart\/form-data\b/i.test(contentType?.trim() ?? '')) {
    throw new S3Error('NotImplemented', 'Uploads by POST form are not implemented. Use a presigned URL for PUT.')
  }
}

/** `copies`: x-amz-copy-source was sent. Throws MethodNotAllowed, NotImplemented, InvalidArgument. */
export function route(
  method: string, at: Address, parameters: readonly QueryParameter[], copies: boolean,
): Operation {
  const query = new Map<string, string>()
  const subs: string[] = []
  for (const { name, value } of parameters) {
    if (!query.has(name)) query.set(name, value)
    if (SUBRESOURCES.has(name) && !subs.includes(name)) subs.push(name)
  }
  if (subs.length > 1) {
    throw new S3Error('InvalidArgument', 'Conflicting query string parameters: ' + subs.join(', '), {
      ArgumentName: 'ResourceType', ArgumentValue: subs[0] ?? '',
    })
  }
  const [sub] = subs
  let name: OperationName
  if (at.bucket === '') name = serviceOperation(method)
  else if (at.key === '') name = bucketOperation(method, query, sub)
  else name = objectOperation(method, query, sub, copies)
  return { name, run: OPERATIONS[name] }
}
