/** PutObject. */
import type { OutgoingHttpHeaders } from 'node:http'
import { WHOLE_BODY, type PutObject } from '../../store/object_store.js'
import { checksumHeader, checksumText } from './checksums.js'
import type { Exchange } from './exchange.js'
import { objectAttributes, quoted, writeCondition } from './headers.js'

export async function putObject(exchange: Exchange): Promise<void> {
  const { options, bucket, key, ownerId } = exchange
  const attributes = objectAttributes(exchange)
  const condition = writeCondition(exchange)
  const plan = exchange.plan({
    maxBytes: options.limits.maxPutBytes, tooLarge: 'EntityTooLarge', lengthRequired: true, defaultChecksum: true,
  })
  const put: PutObject = { bucket, key, ownerId, body: exchange.openBody(plan), attributes }
  if (condition !== undefined) put.condition = condition
  // A body that is taken whole is written in one go: giving that up when the client leaves would save nothing.
  if (plan.size > WHOLE_BODY) put.signal = exchange.signal
  const { etag, checksum } = await options.store.putObject(put)
  const headers: OutgoingHttpHeaders = { ETag: quoted(etag) }
  if (checksum !== undefined) {
    headers[checksumHeader(checksum.algorithm)] = checksumText(checksum, 1)
    headers['x-amz-checksum-type'] = checksum.type
  }
  exchange.sendEmpty(200, headers)
}
