/** Multipart uploads: create, upload a part, complete, abort, and their listings. UploadPartCopy is in copy.ts. */
import type { OutgoingHttpHeaders } from 'node:http'
import type { Checksum, ChecksumAlgorithm, UploadPartRecord, UploadRecord } from '../../meta/schema.js'
import { CHECKSUM_ALGORITHMS, toHex } from '../../store/digests.js'
import { S3Error } from '../../store/errors.js'
import type { CompleteUpload, PutResult } from '../../store/object_store.js'
import { ownerElement } from './buckets.js'
import { checksumHeader, checksumText, decodeChecksum } from './checksums.js'
import { checksumAlgorithm, checksumElements } from './copy.js'
import type { Exchange, XmlAnswer } from './exchange.js'
import { objectAttributes, quoted, writeCondition } from './headers.js'
import { type Encoder, encoding, integerArgument, scanArgument, startArgument } from './list_arguments.js'
import { partNumber } from './ranges.js'
import { type CompletePart, completeRequest } from './requests.js'
import { malformedXml } from './xml_read.js'
import { document, element, xmlDate } from './xml_write.js'

const MAX_PAGE = 1000

type ChecksumType = Checksum['type']

function checksumType(exchange: Exchange): ChecksumType | undefined {
  const text = exchange.header('x-amz-checksum-type')?.trim().toUpperCase()
  if (text === undefined || text === 'COMPOSITE' || text === 'FULL_OBJECT') return text
  throw new S3Error('InvalidRequest', 'Value for x-amz-checksum-type header is invalid.')
}

/** SHA checksums of parts cannot be joined to one of the object, CRC64NVME is never composite. */
function chosenType(algorithm: ChecksumAlgorithm, asked: ChecksumType | undefined): ChecksumType {
  const only: ChecksumType | undefined = algorithm === 'CRC64NVME' ? 'FULL_OBJECT'
    : algorithm === 'SHA1' || algorithm === 'SHA256' ? 'COMPOSITE' : undefined
  if (asked !== undefined && only !== undefined && asked !== only) {
    throw new S3Error('InvalidRequest', `The ${asked} checksum type cannot be used with the `
      + `${algorithm.toLowerCase()} checksum algorithm.`)
  }
  return asked ?? only ?? 'COMPOSITE'
}

export async function createMultipartUpload(exchange: Exchange): Promise<void> {
  const { options, bucket, key, ownerId } = exchange
  const attributes = objectAttributes(exchange)
  const algorithm = checksumAlgorithm(exchange)
  const asked = checksumType(exchange)
  if (asked !== undefined && algorithm === undefined) {
    throw new S3Error('InvalidRequest',
      'The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.')
  }
  const headers: OutgoingHttpHeaders = {}
  const checksums: { checksumAlgorithm?: ChecksumAlgorithm; checksumType?: ChecksumType } = {}
  if (algorithm !== undefined) {
    checksums.checksumAlgorithm = algorithm
    checksums.checksumType = chosenType(algorithm, asked)
    headers['x-amz-checksum-algorithm'] = algorithm
    headers['x-amz-checksum-type'] = checksums.checksumType
  }
  const upload = await options.store.createUpload({ bucket, key, ownerId, attributes, ...checksums })
  const inner = element('Bucket', bucket) + element('Key', key) + element('UploadId', upload.uploadId)
  exchange.sendXml({ xml: document('InitiateMultipartUploadResult', inner), headers })
}

function uploadId(exchange: Exchange): string {
  return exchange.query('uploadId') ?? ''
}

export async function uploadPart(exchange: Exchange): Promise<void> {
  const { options, bucket, key, signal } = exchange
  const number = partNumber(exchange.query('partNumber') ?? '')
  const upload = options.store.upload(bucket, key, uploadId(exchange))
  const plan = exchange.plan({
    maxBytes: options.limits.maxPutBytes, tooLarge: 'EntityTooLarge', lengthRequired: true, defaultChecksum: true,
    ...(upload.checksumAlgorithm === undefined ? {} : { required: upload.checksumAlgorithm }),
  })
  const body = exchange.openBody(plan)
  const part = await options.store.uploadPart({
    bucket, key, uploadId: upload.uploadId, partNumber: number, body, signal,
  })
  const headers: OutgoingHttpHeaders = { ETag: quoted(toHex(part.md5)) }
  if (part.checksum !== undefined) headers[checksumHeader(part.checksum.algorithm)] = checksumText(part.checksum, 1)
  exchange.sendEmpty(200, headers)
}

/**
 * The checksum of the whole object that the client expects, from the headers. Its type is what the client says; a
 * number of parts behind the value says COMPOSITE; else it is of the upload's type.
 */
function expectedChecksum(exchange: Exchange, upload: UploadRecord | undefined): Checksum | undefined {
  let checksum: Checksum | undefined
  const asked = checksumType(exchange)
  for (const algorithm of CHECKSUM_ALGORITHMS) {
    const text = exchange.header(checksumHeader(algorithm))?.trim()
    if (text === undefined) continue
    const composite = /-\d{1,5}$/.exec(text)
    const value = decodeChecksum(algorithm, composite === null ? text : text.slice(0, composite.index))
    if (value === undefined || checksum !== undefined) {
      throw new S3Error('InvalidRequest', `Value for ${checksumHeader(algorithm)} header is invalid.`)
    }
    const type = asked ?? (composite === null ? upload?.checksumType ?? 'FULL_OBJECT' : 'COMPOSITE')
    checksum = { algorithm, type, value }
  }
  return checksum
}

/** The upload, also a completed one: a retry of its completion says the same. The store answers for an unknown one. */
function knownUpload(exchange: Exchange): UploadRecord | undefined {
  try {
    return exchange.options.store.upload(exchange.bucket, exchange.key, uploadId(exchange), true)
  } catch (error) {
    if (error instanceof S3Error && error.code === 'NoSuchUpload') return undefined
    throw error
  }
}

function checkPartChecksums(upload: UploadRecord, parts: readonly CompletePart[]): void {
  const algorithm = upload.checksumAlgorithm
  for (const { partNumber: number, checksum } of parts) {
    if (checksum === undefined) {
      if (upload.checksumType !== 'COMPOSITE' || algorithm === undefined) continue
      throw new S3Error('InvalidRequest', `The upload was created using a ${algorithm.toLowerCase()} checksum. The `
        + 'complete request must include the checksum for each part. It was missing for part '
        + `${number} in the request.`)
    }
    if (algorithm !== undefined && checksum.algorithm !== algorithm) {
      throw new S3Error('BadDigest', `The ${checksum.algorithm.toLowerCase()} you specified for part ${number} did `
        + 'not match what we received.')
    }
  }
}

function expectedSize(exchange: Exchange): number | undefined {
  const text = exchange.header('x-amz-mp-object-size')?.trim()
  if (text === undefined) return undefined
  if (!/^\d{1,15}$/.test(text)) {
    throw new S3Error('InvalidRequest', 'Value for x-amz-mp-object-size header is invalid.')
  }
  return Number(text)
}

export async function completeMultipartUpload(exchange: Exchange): Promise<void> {
  const { options, bucket, key } = exchange
  const condition = writeCondition(exchange)
  const upload = knownUpload(exchange)
  const checksum = expectedChecksum(exchange, upload)
  const size = expectedSize(exchange)
  const body = await exchange.readXmlBody(true)
  if (body === undefined) throw malformedXml()
  const parts = completeRequest(body.root)
  if (upload !== undefined) checkPartChecksums(upload, parts)
  const request: CompleteUpload = {
    bucket, key, uploadId: uploadId(exchange),
    parts: parts.map(({ partNumber: number, etag, checksum: given }) => (
      given === undefined ? { partNumber: number, etag } : { partNumber: number, etag, checksum: given.value })),
  }
  if (checksum !== undefined) request.checksum = checksum
  if (size !== undefined) request.expectedSize = size
  if (condition !== undefined) request.condition = condition
  const work = options.store.completeUpload(request)
  await exchange.sendXmlWhenDone(work.then((completed) => completeAnswer(exchange, completed)))
}

/** How many parts an ETag of a multipart object speaks of. */
export function partsOfEtag(etag: string): number {
  return Number(/-(\d+)$/.exec(etag)?.[1] ?? 1)
}

function completeAnswer(exchange: Exchange, completed: PutResult): XmlAnswer {
  const host = exchange.header('host') ?? ''
  const location = `http://${host}${exchange.target.rawPath}`
  const { checksum, etag } = completed
  return {
    xml: document('CompleteMultipartUploadResult', element('Location', location) + element('Bucket', exchange.bucket)
      + element('Key', exchange.key) + element('ETag', quoted(etag))
      + checksumElements(checksum, partsOfEtag(etag))
      + (checksum === undefined ? '' : element('ChecksumType', checksum.type))),
  }
}

export async function abortMultipartUpload(exchange: Exchange): Promise<void> {
  await exchange.options.store.abortUpload(exchange.bucket, exchange.key, uploadId(exchange))
  exchange.sendEmpty(204)
}

function checksumChoice(upload: UploadRecord): string {
  if (upload.checksumAlgorithm === undefined) return ''
  return element('ChecksumAlgorithm', upload.checksumAlgorithm)
    + (upload.checksumType === undefined ? '' : element('ChecksumType', upload.checksumType))
}

function partElement(part: UploadPartRecord): string {
  return '<Part>' + element('PartNumber', part.partNumber) + element('LastModified', xmlDate(part.modifiedMs))
    + element('ETag', quoted(Buffer.from(part.md5).toString('hex'))) + element('Size', part.size)
    + checksumElements(part.checksum) + '</Part>'
}

export function listParts(exchange: Exchange): void {
  const { options, bucket, key } = exchange
  const { encode, type } = encoding(exchange)
  const limit = integerArgument(exchange, 'max-parts', 0, MAX_PAGE, MAX_PAGE)
  const marker = integerArgument(exchange, 'part-number-marker', 0, 2_147_483_647, 0)
  const upload = options.store.upload(bucket, key, uploadId(exchange))
  // One more than asked tells whether there is a next page.
  const found = limit === 0 ? []
    : options.store.listParts(bucket, key, upload.uploadId, Math.min(marker, 10_000), limit + 1)
  const parts = found.slice(0, limit)
  const inner = element('Bucket', bucket) + element('Key', encode(key)) + element('UploadId', upload.uploadId)
    + ownerElement(exchange, upload.ownerId, 'Initiator') + ownerElement(exchange, upload.ownerId)
    + element('StorageClass', upload.attributes.storageClass) + element('PartNumberMarker', marker)
    + element('NextPartNumberMarker', parts.at(-1)?.partNumber ?? marker) + element('MaxParts', limit)
    + element('IsTruncated', found.length > parts.length)
    + (type === undefined ? '' : element('EncodingType', type)) + checksumChoice(upload)
    + parts.map(partElement).join('')
  exchange.sendXml({ xml: document('ListPartsResult', inner) })
}

function uploadElement(exchange: Exchange, upload: UploadRecord, encode: Encoder): string {
  return '<Upload>' + element('Key', encode(upload.key)) + element('UploadId', upload.uploadId)
    + ownerElement(exchange, upload.ownerId, 'Initiator') + ownerElement(exchange, upload.ownerId)
    + element('StorageClass', upload.attributes.storageClass) + element('Initiated', xmlDate(upload.initiatedMs))
    + checksumChoice(upload) + '</Upload>'
}

export function listMultipartUploads(exchange: Exchange): void {
  const { options, bucket } = exchange
  const { encode, type } = encoding(exchange)
  const prefix = scanArgument(exchange, 'prefix')
  const delimiter = scanArgument(exchange, 'delimiter')
  const keyMarker = startArgument(exchange, 'key-marker')
  // Without a key marker the upload id marker means nothing.
  const uploadIdMarker = keyMarker === '' ? '' : exchange.query('upload-id-marker') ?? ''
  const limit = integerArgument(exchange, 'max-uploads', 0, MAX_PAGE, MAX_PAGE)
  options.store.bucket(bucket)
  const page = limit === 0 || prefix.includes('\0')
    ? { entries: [], truncated: false, nextKeyMarker: '', nextUploadIdMarker: '' }
    : options.store.listUploads(bucket, { prefix, delimiter, keyMarker, uploadIdMarker, limit })
  let inner = element('Bucket', bucket) + element('KeyMarker', encode(exchange.query('key-marker') ?? ''))
    + element('UploadIdMarker', uploadIdMarker)
  if (page.truncated) {
    inner += element('NextKeyMarker', encode(page.nextKeyMarker))
      + element('NextUploadIdMarker', page.nextUploadIdMarker)
  }
  inner += element('Prefix', encode(prefix))
  if (delimiter !== '') inner += element('Delimiter', encode(delimiter))
  inner += element('MaxUploads', limit) + element('IsTruncated', page.truncated)
  if (type !== undefined) inner += element('EncodingType', type)
  let prefixes = ''
  for (const entry of page.entries) {
    if ('upload' in entry) inner += uploadElement(exchange, entry.upload, encode)
    else prefixes += `<CommonPrefixes>${element('Prefix', encode(entry.prefix))}</CommonPrefixes>`
  }
  exchange.sendXml({ xml: document('ListMultipartUploadsResult', inner + prefixes) })
}
