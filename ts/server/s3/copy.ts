/** CopyObject and UploadPartCopy. */
import type { Checksum, ChecksumAlgorithm } from '../../meta/schema.js'
import { S3Error } from '../../store/errors.js'
import { checksumElement, checksumText, parseAlgorithm } from './checksums.js'
import { copySource } from './copy_source.js'
import type { Exchange, XmlAnswer } from './exchange.js'
import { objectAttributes, quoted, writeCondition } from './headers.js'
import { copyRange, partNumber } from './ranges.js'
import { document, element, xmlDate } from './xml_write.js'

/** x-amz-checksum-algorithm; undefined when absent. Throws InvalidRequest. */
export function checksumAlgorithm(exchange: Exchange): ChecksumAlgorithm | undefined {
  const text = exchange.header('x-amz-checksum-algorithm')?.trim()
  if (text === undefined) return undefined
  const algorithm = parseAlgorithm(text)
  if (algorithm === undefined) {
    throw new S3Error('InvalidRequest', 'Checksum algorithm provided is unsupported. Please try again with any of the '
      + 'valid types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]')
  }
  return algorithm
}

export function checksumElements(checksum: Checksum | undefined, partCount = 1): string {
  if (checksum === undefined) return ''
  return element(checksumElement(checksum.algorithm), checksumText(checksum, partCount))
}

interface Copied {
  etag: string
  modifiedMs: number
  checksum?: Checksum
}

function result(root: string, copied: Copied): XmlAnswer {
  return {
    xml: document(root, element('LastModified', xmlDate(copied.modifiedMs)) + element('ETag', quoted(copied.etag))
      + (copied.checksum === undefined ? '' : element('ChecksumType', copied.checksum.type))
      + checksumElements(copied.checksum)),
  }
}

function metadataDirective(exchange: Exchange): 'COPY' | 'REPLACE' {
  const directive = exchange.header('x-amz-metadata-directive')?.trim() ?? 'COPY'
  if (directive === 'COPY' || directive === 'REPLACE') return directive
  throw new S3Error('InvalidArgument', 'Unknown metadata directive.', {
    ArgumentName: 'x-amz-metadata-directive', ArgumentValue: directive,
  })
}

export async function copyObject(exchange: Exchange): Promise<void> {
  const { options, bucket, key, ownerId, signal } = exchange
  const source = copySource(exchange)
  const metadata = metadataDirective(exchange)
  const attributes = objectAttributes(exchange)
  const condition = writeCondition(exchange)
  const algorithm = checksumAlgorithm(exchange)
  const work = options.store.copyObject({
    source, bucket, key, ownerId, metadata, attributes, signal,
    ...(algorithm === undefined ? {} : { checksumAlgorithm: algorithm }),
    ...(condition === undefined ? {} : { condition }),
  })
  await exchange.sendXmlWhenDone(work.then((copied) => result('CopyObjectResult', copied)))
}

export async function uploadPartCopy(exchange: Exchange): Promise<void> {
  const { options, bucket, key, signal } = exchange
  const source = copySource(exchange)
  const range = copyRange(exchange.header('x-amz-copy-source-range'))
  const number = partNumber(exchange.query('partNumber') ?? '')
  const work = options.store.uploadPartCopy({
    bucket, key, uploadId: exchange.query('uploadId') ?? '', partNumber: number, source, signal,
    ...(range === undefined ? {} : { range }),
  })
  await exchange.sendXmlWhenDone(work.then((part) => result('CopyPartResult', {
    etag: Buffer.from(part.md5).toString('hex'), modifiedMs: part.modifiedMs,
    ...(part.checksum === undefined ? {} : { checksum: part.checksum }),
  })))
}
