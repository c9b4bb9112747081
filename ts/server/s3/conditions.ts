/**
 * Read conditions, in the order of RFC 9110 section 13.2.2: If-Match, else If-Unmodified-Since; then If-None-Match,
 * else If-Modified-Since. Times compare at whole seconds, as HTTP carries them; a date that is not one is ignored.
 */
import type { ObjectRecord } from '../../meta/schema.js'
import { S3Error } from '../../store/errors.js'
import type { Exchange } from './exchange.js'
import { validatorHeaders } from './headers.js'
import { unquote } from './requests.js'

/** The ETags of a header, without quotes and weakness marks. */
export function etagList(text: string): string[] {
  return text.split(',').map((tag) => unquote(tag.trim().replace(/^W\//, ''))).filter((tag) => tag !== '')
}

export function dateMs(text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const ms = Date.parse(text)
  return Number.isNaN(ms) ? undefined : ms
}

function matches(etags: readonly string[], etag: string): boolean {
  return etags.includes('*') || etags.includes(etag)
}

/** Throws PreconditionFailed or NotModified. */
export function checkReadConditions(exchange: Exchange, object: ObjectRecord): void {
  const modifiedMs = Math.floor(object.modifiedMs / 1000) * 1000
  const ifMatch = exchange.header('if-match')
  const unmodifiedSince = dateMs(exchange.header('if-unmodified-since'))
  if (ifMatch !== undefined) {
    if (!matches(etagList(ifMatch), object.etag)) throw preconditionFailed('If-Match')
  } else if (unmodifiedSince !== undefined && modifiedMs > unmodifiedSince) {
    throw preconditionFailed('If-Unmodified-Since')
  }
  const ifNoneMatch = exchange.header('if-none-match')
  const modifiedSince = dateMs(exchange.header('if-modified-since'))
  if (ifNoneMatch !== undefined) {
    if (matches(etagList(ifNoneMatch), object.etag)) throw notModified(object)
  } else if (modifiedSince !== undefined && modifiedMs <= modifiedSince) {
    throw notModified(object)
  }
}

/** If-Range: the Range counts only while the object is the one the client knows. */
export function rangeStillWanted(exchange: Exchange, object: ObjectRecord): boolean {
  const ifRange = exchange.header('if-range')?.trim()
  if (ifRange === undefined) return true
  const ms = /^(W\/)?"/.test(ifRange) ? undefined : dateMs(ifRange)
  if (ms !== undefined) return Math.floor(object.modifiedMs / 1000) * 1000 === ms
  return !ifRange.startsWith('W/') && unquote(ifRange) === object.etag
}

function preconditionFailed(condition: string): S3Error {
  return new S3Error('PreconditionFailed', '', { Condition: condition })
}

function notModified(object: ObjectRecord): S3Error {
  const headers = validatorHeaders(object)
  for (const [name, title] of [['cache-control', 'Cache-Control'], ['expires', 'Expires']] as const) {
    const value = object.attributes.headers[name]
    if (value !== undefined) headers[title] = value
  }
  return new S3Error('NotModified', '', {}, headers)
}
