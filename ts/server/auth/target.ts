/**
 * The request target: path and query as they were sent, and decoded. The path is never normalised: `..`, `//`
 * and empty segments are ordinary characters of an S3 key.
 *
 * Two spellings are kept, since signers disagree on one thing. Most sign the canonical spelling (every byte
 * outside A-Z a-z 0-9 - _ . ~ percent-encoded, upper-case hex); some sign the bytes they sent. Both decode to the
 * same path and query, so verification may accept either (sigv4.ts).
 */
import { S3Error } from '../../store/errors.js'

export interface QueryParameter {
  /** As sent, still encoded; `rawValue` is '' when there was no '='. */
  rawName: string
  rawValue: string
  name: string
  value: string
}

export interface RequestTarget {
  /** As sent, without query; begins with '/'. */
  rawPath: string
  /** rawPath decoded as UTF-8. */
  path: string
  /** In the order they were sent, repeated names included. */
  query: QueryParameter[]
}

const NOT_ASCII = /[^\x21-\x7e]/
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

function invalidUri(): S3Error {
  return new S3Error('InvalidURI')
}

function hexDigit(code: number): number {
  if (code >= 48 && code <= 57) return code - 48
  const lower = code | 32
  return lower >= 97 && lower <= 102 ? lower - 87 : -1
}

/**
 * Percent-decodes to UTF-8 text. `text` holds one character per received byte (latin1), as node gives it.
 * `plusIsSpace` for query strings and copy sources. Throws InvalidURI for bad escapes and bad UTF-8.
 */
export function percentDecode(text: string, plusIsSpace = false): string {
  const ascii = !NOT_ASCII.test(text)
  if (ascii && !text.includes('%')) return plusIsSpace ? text.replaceAll('+', ' ') : text
  const bytes = new Uint8Array(text.length)
  let length = 0
  for (let at = 0; at < text.length; at++) {
    let code = text.charCodeAt(at)
    if (code === 0x25) {
      const high = hexDigit(text.charCodeAt(at + 1))
      const low = hexDigit(text.charCodeAt(at + 2))
      if (high < 0 || low < 0) throw invalidUri()
      code = high * 16 + low
      at += 2
    } else if (code === 0x2b && plusIsSpace) {
      code = 0x20
    } else if (code > 0xff) {
      throw invalidUri()
    }
    bytes[length++] = code
  }
  try {
    return utf8.decode(bytes.subarray(0, length))
  } catch {
    throw invalidUri()
  }
}

const LEFT_ALONE = /[!'()*]/g

function encodeRest(character: string): string {
  return '%' + character.charCodeAt(0).toString(16).toUpperCase()
}

/** SigV4's encoding: all but A-Z a-z 0-9 - _ . ~ becomes %XX of its UTF-8 bytes. */
export function uriEncode(text: string): string {
  return encodeURIComponent(text).replace(LEFT_ALONE, encodeRest)
}

const PLAIN_PATH = /^[A-Za-z0-9\-_.~/]*$/

/** As `uriEncode`, with '/' kept. */
export function uriEncodePath(path: string): string {
  if (PLAIN_PATH.test(path)) return path
  return uriEncode(path).replaceAll('%2F', '/')
}

function parseQuery(raw: string): QueryParameter[] {
  const parameters: QueryParameter[] = []
  for (const piece of raw.split('&')) {
    if (piece === '') continue
    const equals = piece.indexOf('=')
    const rawName = equals < 0 ? piece : piece.slice(0, equals)
    const rawValue = equals < 0 ? '' : piece.slice(equals + 1)
    parameters.push({
      rawName, rawValue, name: percentDecode(rawName, true), value: percentDecode(rawValue, true),
    })
  }
  return parameters
}

/** Parses `IncomingMessage.url`, in origin form or absolute form. Throws InvalidURI. */
export function parseTarget(url: string): RequestTarget {
  let target = url
  if (!target.startsWith('/')) {
    const absolute = /^https?:\/\/[^/?]*/i.exec(target)
    if (absolute === null) throw invalidUri()
    target = target.slice(absolute[0].length)
    if (!target.startsWith('/')) target = '/' + target
  }
  const mark = target.indexOf('?')
  const rawPath = mark < 0 ? target : target.slice(0, mark)
  if (rawPath.includes('#')) throw invalidUri()
  return { rawPath, path: percentDecode(rawPath), query: mark < 0 ? [] : parseQuery(target.slice(mark + 1)) }
}
