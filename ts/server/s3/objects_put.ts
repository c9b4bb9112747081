/** PutObject. */
import type { OutgoingHttpHeaders } from 'node:http'
import type { Checksum } from '../../meta/schema.js'
import { WHOLE_BODY } from '../../store/object_store.js'
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
  const body = exchange.openBody(plan)
  // A body that is taken whole is written in one go: giving that up when the client leaves would save nothing.
  const signal = plan.size > WHOLE_BODY ? exchange.signal : undefined
  const result = await options.store.putObject({
    bucket, key, ownerId, body, attributes, ...(signal === undefined ? {} : { signal }),
    ...(condition === undefined ? {} : { condition }),
  })
  exchange.sendEmpty(200, { ETag: quoted(result.etag), ...checksumHeaders(result.checksum) })
}

/** The checksum of what was stored, and its type. */
export function checksumHeaders(checksum: Checksum | undefined, partCount = 1): OutgoingHttpHeaders {
  if (checksum === undefined) return {}
  return {
    [checksumHeader(checksum.algorithm)]: checksumText(checksum, partCount), 'x-amz-checksum-type': checksum.type,
  }
}
