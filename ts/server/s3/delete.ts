/** DeleteObject and DeleteObjects. */
import { S3Error } from '../../store/errors.js'
import { CHECKSUM_ALGORITHMS } from '../../store/digests.js'
import { checksumHeader } from './checksums.js'
import { errorMessage } from './errors.js'
import type { Exchange } from './exchange.js'
import { checkVersionId, writeCondition } from './headers.js'
import { deleteRequest } from './requests.js'
import { malformedXml } from './xml_read.js'
import { document, element } from './xml_write.js'

export async function deleteObject(exchange: Exchange): Promise<void> {
  checkVersionId(exchange)
  await exchange.options.store.deleteObject(exchange.bucket, exchange.key, writeCondition(exchange))
  exchange.sendEmpty(204)
}

/** The body says what to destroy, so S3 wants it covered by a digest. */
function requireDigest(exchange: Exchange): void {
  if (exchange.headers.has('content-md5') || exchange.headers.has('x-amz-trailer')) return
  if (CHECKSUM_ALGORITHMS.some((algorithm) => exchange.headers.has(checksumHeader(algorithm)))) return
  throw new S3Error('InvalidRequest', 'Missing required header for this request: Content-MD5 OR x-amz-checksum-*')
}

function errorElement(key: string, code: string, message: string): string {
  return `<Error>${element('Key', key)}${element('Code', code)}${element('Message', message)}</Error>`
}

export async function deleteObjects(exchange: Exchange): Promise<void> {
  const { store } = exchange.options
  requireDigest(exchange)
  store.bucket(exchange.bucket)
  const body = await exchange.readXmlBody()
  if (body === undefined) throw malformedXml()
  const { quiet, objects } = deleteRequest(body.root)
  const current = objects.filter(({ versionId }) => versionId === undefined || versionId === 'null')
  const results = await store.deleteObjects(exchange.bucket, current.map(({ key, ifMatch }) => (
    ifMatch === undefined ? { key } : { key, ifMatch })))
  let inner = ''
  for (const { key, error } of results) {
    if (error === undefined) {
      if (!quiet) inner += `<Deleted>${element('Key', key)}</Deleted>`
      continue
    }
    const known = new S3Error(error.code as S3Error['code'], error.message)
    inner += errorElement(key, error.code, error.message === '' ? errorMessage(known) : error.message)
  }
  for (const { key, versionId } of objects) {
    if (versionId === undefined || versionId === 'null') continue
    inner += errorElement(key, 'InvalidArgument', 'Invalid version id specified')
  }
  exchange.sendXml({ xml: document('DeleteResult', inner) })
}
