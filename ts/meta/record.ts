/**
 * Values of the metadata view.
 *
 *   0   checksum  8  XXH3-64 of the key, then of everything behind this field
 *   8   link      8  XXH3-64 of the next key of the whole view, zeros at its end (chain.ts)
 *   16  version   1  format of the payload, 1
 *   17  payload      msgpack without records; absent optionals are left out
 *
 * Link and payload are kept apart: commands change payloads, inserting or removing a neighbour changes the link.
 */
import { Packr } from 'msgpackr'
import { linkMatches, linkRecord, recordMatches, sealRecord } from '../native/hash.js'
import { MetadataError } from './engine.js'

const LINK_OFFSET = 8
const VERSION_OFFSET = 16
const PAYLOAD_OFFSET = 17
const VERSION = 1

const packr = new Packr({ useRecords: false, mapsAsObjects: true, moreTypes: false, int64AsType: 'number' })

/**
 * Msgpack of plain data: objects, arrays, strings, numbers, booleans, Uint8Array. A view of a pool; nobody else changes
 * these bytes.
 */
export function pack(value: unknown): Buffer {
  return packr.pack(withoutUndefined(value))
}

/** Throws MetadataError 'corrupt' when these are not the bytes of one value. */
export function unpack(bytes: Uint8Array): unknown {
  try {
    return packr.unpack(bytes)
  } catch (error) {
    throw new MetadataError('corrupt', 'a value cannot be decoded', { cause: error })
  }
}

/** Absent and undefined are the same, so the encoding has only the one. */
function withoutUndefined(value: unknown): unknown {
  return holdsUndefined(value) ? strip(value) : value
}

/** Most values hold none, and need not be copied. */
function holdsUndefined(value: unknown): boolean {
  if (typeof value !== 'object' || value === null || value instanceof Uint8Array) return false
  const plain = value as Readonly<Record<string, unknown>>
  for (const name in plain) {
    const inner = plain[name]
    if (inner === undefined || (typeof inner === 'object' && holdsUndefined(inner))) return true
  }
  return false
}

function strip(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || value instanceof Uint8Array) return value
  if (Array.isArray(value)) return value.map(strip)
  const out: Record<string, unknown> = {}
  for (const [name, inner] of Object.entries(value)) if (inner !== undefined) out[name] = strip(inner)
  return out
}

/** The value of a record that `next` follows in the view; undefined: it is the last. */
export function encodeValue(key: Uint8Array, payload: Uint8Array, next: Uint8Array | undefined): Buffer {
  const out = Buffer.allocUnsafe(PAYLOAD_OFFSET + payload.length)
  if (next === undefined) out.fill(0, LINK_OFFSET, VERSION_OFFSET)
  else linkRecord(out, LINK_OFFSET, next)
  return finish(out, key, payload)
}

/** The value of a record that takes the place of `old`: the same link. */
export function replaceValue(key: Uint8Array, payload: Uint8Array, old: Buffer): Buffer {
  const out = Buffer.allocUnsafe(PAYLOAD_OFFSET + payload.length)
  old.copy(out, LINK_OFFSET, LINK_OFFSET, VERSION_OFFSET)
  return finish(out, key, payload)
}

function finish(out: Buffer, key: Uint8Array, payload: Uint8Array): Buffer {
  out[VERSION_OFFSET] = VERSION
  out.set(payload, PAYLOAD_OFFSET)
  sealRecord(out, key)
  return out
}

/** Throws MetadataError 'corrupt' when the value does not belong to this key or was changed. */
export function checkValue(key: Uint8Array, value: Buffer): void {
  if (value.length < PAYLOAD_OFFSET || !recordMatches(value, key)) {
    throw new MetadataError('corrupt', 'the checksum of a record does not hold')
  }
  if (value[VERSION_OFFSET] !== VERSION) {
    throw new MetadataError(
      'corrupt',
      `a record has version ${String(value[VERSION_OFFSET])}, known is ${String(VERSION)}`,
    )
  }
}

/** The payload of a checked value, as a view of it. */
export function payloadOf(value: Buffer): Buffer {
  return value.subarray(PAYLOAD_OFFSET)
}

/** True when the link of a checked value names `key` (undefined: says that it is the last). */
export function linksTo(value: Buffer, key: Uint8Array | undefined): boolean {
  if (key === undefined) {
    for (let at = LINK_OFFSET; at < VERSION_OFFSET; at++) if (value[at] !== 0) return false
    return true
  }
  return linkMatches(value, LINK_OFFSET, key)
}
