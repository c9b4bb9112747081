/**
 * SigV4's canonical request and string to sign.
 *
 *   method \n path \n query \n header:value\n ... \n signed-headers \n payload-hash
 *
 * Header values are held as latin1 text, one character per received byte, and hashed as those bytes.
 */
import { createHmac, hash } from 'node:crypto'
import { type QueryParameter, type RequestTarget, uriEncode, uriEncodePath } from './target.js'

export const ALGORITHM = 'AWS4-HMAC-SHA256'
export const EMPTY_SHA256 = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'

/** Header values by lower-case name, in the order received. */
export type HeaderTable = ReadonlyMap<string, readonly string[]>

/** From `IncomingMessage.rawHeaders`: [name, value, name, value, ...]. */
export function headerTable(rawHeaders: readonly string[]): HeaderTable {
  const table = new Map<string, string[]>()
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) {
    const name = (rawHeaders[at] ?? '').toLowerCase()
    const value = rawHeaders[at + 1] ?? ''
    const there = table.get(name)
    if (there === undefined) table.set(name, [value])
    else there.push(value)
  }
  return table
}

/** Trims, and folds runs of white space to one space. */
function foldValue(value: string): string {
  const trimmed = value.trim()
  return /[\t\r\n]| {2}/.test(trimmed) ? trimmed.replace(/[ \t\r\n]+/g, ' ') : trimmed
}

function compare(left: string, right: string): number {
  return left < right ? -1 : left > right ? 1 : 0
}

/** Sorted by encoded name, then by encoded value; the signature itself is left out. */
export function canonicalQuery(query: readonly QueryParameter[], asSent: boolean): string {
  const pairs: [string, string][] = []
  for (const parameter of query) {
    if (parameter.name === 'X-Amz-Signature') continue
    pairs.push(asSent
      ? [parameter.rawName, parameter.rawValue]
      : [uriEncode(parameter.name), uriEncode(parameter.value)])
  }
  pairs.sort((left, right) => compare(left[0], right[0]) || compare(left[1], right[1]))
  return pairs.map(([name, value]) => `${name}=${value}`).join('&')
}

const NOT_SENT: readonly string[] = ['']

/** Names in the client's order, lower case; `text` has them as they were sent, with ';' between. */
export interface SignedHeaders {
  names: readonly string[]
  text: string
}

/** A signed header that was not sent counts as empty. */
export function canonicalRequest(
  method: string, target: RequestTarget, headers: HeaderTable, signed: SignedHeaders, payloadHash: string,
  asSent: boolean,
): string {
  let lines = ''
  for (const name of signed.names) {
    const values = headers.get(name) ?? NOT_SENT
    const value = values.length === 1 ? foldValue(values[0] ?? '') : values.map(foldValue).join(',')
    lines += name + ':' + value + '\n'
  }
  const path = asSent ? target.rawPath : uriEncodePath(target.path)
  const query = target.query.length === 0 ? '' : canonicalQuery(target.query, asSent)
  return `${method}\n${path}\n${query}\n${lines}\n${signed.text}\n${payloadHash}`
}

export function stringToSign(timestamp: string, scope: string, request: string): string {
  const digest = hash('sha256', Buffer.from(request, 'latin1'), 'hex')
  return `${ALGORITHM}\n${timestamp}\n${scope}\n${digest}`
}

function hmac(key: Uint8Array, text: string): Buffer {
  return createHmac('sha256', key).update(text, 'latin1').digest()
}

/** HMAC chain over day (yyyymmdd), region and service. */
export function signingKey(secretKey: string, day: string, region: string, service: string): Buffer {
  const dayKey = hmac(Buffer.from('AWS4' + secretKey), day)
  return hmac(hmac(hmac(dayKey, region), service), 'aws4_request')
}
