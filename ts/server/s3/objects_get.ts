/**
 * GetObject and HeadObject.
 *
 * The object is pinned while it is read. What can fail is tried before the head is sent: the first piece of data is
 * read first, so an object that cannot be read is a clear error. Behind the head, pieces go to the socket one by one;
 * the next is read only when the client has taken enough of the last.
 */
import type { OutgoingHttpHeaders } from 'node:http'
import type { Checksum } from '../../meta/schema.js'
import { S3Error } from '../../store/errors.js'
import type { ByteRange, ObjectHandle } from '../../store/object_store.js'
import { checksumHeader, checksumText } from './checksums.js'
import { checkReadConditions, rangeStillWanted } from './conditions.js'
import type { Exchange } from './exchange.js'
import { applyOverrides, checkVersionId, objectHeaders } from './headers.js'
import { contentRange, partNumber, resolveRange } from './ranges.js'

interface Selection {
  range: ByteRange
  status: 200 | 206
  headers: OutgoingHttpHeaders
  /** Of exactly the bytes selected. */
  checksum?: { checksum: Checksum; text: string }
}

export async function getObject(exchange: Exchange): Promise<void> {
  checkVersionId(exchange)
  const handle = exchange.options.store.openObject(exchange.bucket, exchange.key)
  try {
    const { selection, headers } = answerHead(exchange, handle)
    const { range, status } = selection
    if (range.length === 0) {
      exchange.writeHead(status, headers)
      exchange.response.end()
      return
    }
    const bytes = handle.readNow(range)
    if (bytes !== undefined) {
      exchange.writeHead(status, headers)
      exchange.bytesOut += bytes.length
      exchange.response.end(bytes)
      return
    }
    const { signal } = exchange
    const pieces = handle.read(range, signal)[Symbol.asyncIterator]()
    try {
      await sendPieces(exchange, pieces, () => { exchange.writeHead(status, headers) })
    } finally {
      await pieces.return?.()
    }
  } finally {
    handle.release()
  }
}

export function headObject(exchange: Exchange): void {
  checkVersionId(exchange)
  const handle = exchange.options.store.openObject(exchange.bucket, exchange.key)
  try {
    const { selection, headers } = answerHead(exchange, handle)
    exchange.writeHead(selection.status, headers)
    exchange.response.end()
  } finally {
    handle.release()
  }
}

async function sendPieces(
  exchange: Exchange, pieces: AsyncIterator<Uint8Array>, writeHead: () => void,
): Promise<void> {
  const { response } = exchange
  let next = await pieces.next()
  if (exchange.gone) throw new S3Error('RequestTimeout')
  // Head and first piece leave in one write.
  response.cork()
  writeHead()
  let corked = true
  while (next.done !== true) {
    const piece = next.value
    exchange.bytesOut += piece.length
    const goOn = response.write(piece)
    if (corked) {
      corked = false
      response.uncork()
    }
    if (!goOn && response.writableNeedDrain) await exchange.drained()
    if (exchange.gone) throw new S3Error('RequestTimeout')
    next = await pieces.next()
  }
  response.end()
}

function answerHead(
  exchange: Exchange, handle: ObjectHandle,
): { selection: Selection; headers: OutgoingHttpHeaders } {
  const { object } = handle
  checkReadConditions(exchange, object)
  const selection = select(exchange, handle)
  const headers = { ...objectHeaders(object), ...selection.headers }
  applyOverrides(exchange, headers)
  headers['Content-Length'] = selection.range.length
  if (exchange.header('x-amz-checksum-mode')?.trim().toUpperCase() === 'ENABLED' && selection.checksum !== undefined) {
    const { checksum, text } = selection.checksum
    headers[checksumHeader(checksum.algorithm)] = text
    headers['x-amz-checksum-type'] = object.checksum?.type ?? checksum.type
  }
  return { selection, headers }
}

/** Which bytes: all, a range, or one part of a multipart object. */
function select(exchange: Exchange, handle: ObjectHandle): Selection {
  const { object } = handle
  const { size, checksum } = object
  const part = exchange.query('partNumber')
  const rangeHeader = exchange.header('range')
  if (part !== undefined) {
    if (rangeHeader !== undefined) {
      throw new S3Error('InvalidRequest', 'Cannot specify both Range header and partNumber query parameter')
    }
    return selectPart(handle, partNumber(part))
  }
  const range = rangeStillWanted(exchange, object) ? resolveRange(rangeHeader, size) : undefined
  if (range !== undefined) {
    return { range, status: 206, headers: { 'Content-Range': contentRange(range, size) } }
  }
  const whole: Selection = { range: { offset: 0, length: size }, status: 200, headers: {} }
  if (checksum !== undefined) whole.checksum = { checksum, text: checksumText(checksum, handle.partCount) }
  return whole
}

function selectPart(handle: ObjectHandle, number: number): Selection {
  const { object, partCount } = handle
  const found = handle.part(number - 1)
  if (found === undefined) {
    throw new S3Error('InvalidPartNumber', '', {
      ActualPartCount: String(partCount), PartNumberRequested: String(number),
    }, { 'Content-Range': `bytes */${object.size}` })
  }
  const headers: OutgoingHttpHeaders = {}
  if (object.body.kind === 'parts') headers['x-amz-mp-parts-count'] = partCount
  const { range, record } = found
  const selection: Selection = { range, status: range.length === 0 ? 200 : 206, headers }
  if (range.length > 0) headers['Content-Range'] = contentRange(range, object.size)
  if (record.checksum !== undefined) {
    selection.checksum = { checksum: record.checksum, text: checksumText(record.checksum, 1) }
  }
  return selection
}
