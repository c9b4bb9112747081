/** What x-amz-content-sha256 says of the body, and the signature chain of signed streaming bodies. */
import { timingSafeEqual } from 'node:crypto'
import { S3Error } from '../../store/errors.js'
import { EMPTY_SHA256 } from './canonical.js'
import type { HmacKey } from './hmac.js'

/**
 * `unsigned`: nothing is promised of the body. `sha256`: the body must hash to `hex`. `streaming`: the body is
 * aws-chunked; `signed` has a signature on each chunk, `trailer` ends with trailing headers.
 */
export type PayloadMode =
  | { kind: 'unsigned' }
  | { kind: 'sha256'; hex: string }
  | { kind: 'streaming'; signed: boolean; trailer: boolean }

const MODES: Readonly<Record<string, PayloadMode>> = {
  'UNSIGNED-PAYLOAD': { kind: 'unsigned' },
  'STREAMING-UNSIGNED-PAYLOAD-TRAILER': { kind: 'streaming', signed: false, trailer: true },
  'STREAMING-AWS4-HMAC-SHA256-PAYLOAD': { kind: 'streaming', signed: true, trailer: false },
  'STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER': { kind: 'streaming', signed: true, trailer: true },
}

/** Throws InvalidArgument for a value that is no mode and no hash. */
export function payloadMode(value: string): PayloadMode {
  if (/^[0-9a-f]{64}$/i.test(value)) return { kind: 'sha256', hex: value.toLowerCase() }
  const mode = Object.hasOwn(MODES, value) ? MODES[value] : undefined
  if (mode !== undefined) return mode
  const expected = [...Object.keys(MODES), 'or a valid sha256 value'].join(', ')
  throw new S3Error('InvalidArgument', `x-amz-content-sha256 must be ${expected}.`, {
    ArgumentName: 'x-amz-content-sha256', ArgumentValue: value,
  })
}

const SIGNATURE_CHARACTERS = 64
const left = Buffer.alloc(SIGNATURE_CHARACTERS)
const right = Buffer.alloc(SIGNATURE_CHARACTERS)

/** Compares a signature in hex with one that was sent, in time that does not depend on where they differ. */
export function equalSignatures(expected: string, provided: string): boolean {
  if (expected.length !== SIGNATURE_CHARACTERS || provided.length !== SIGNATURE_CHARACTERS) return false
  left.write(expected, 'latin1')
  right.write(provided, 'latin1')
  return timingSafeEqual(left, right)
}

/**
 * The chain of a signed streaming body: every signature covers the one before it, the first one covers the
 * request's own. One object per body; calls in the order of the body.
 */
export class ChunkSignatures {
  readonly #key: HmacKey
  readonly #timestamp: string
  readonly #scope: string
  #previous: string

  constructor(key: HmacKey, timestamp: string, scope: string, seed: string) {
    this.#key = key
    this.#timestamp = timestamp
    this.#scope = scope
    this.#previous = seed
  }

  /** `sha256Hex` of the chunk's data. */
  acceptsChunk(sha256Hex: string, signature: string): boolean {
    return this.#accepts('AWS4-HMAC-SHA256-PAYLOAD', `${EMPTY_SHA256}\n${sha256Hex}`, signature)
  }

  /** `sha256Hex` of the canonical trailing headers, `name:value\n` each, sorted by name. */
  acceptsTrailer(sha256Hex: string, signature: string): boolean {
    return this.#accepts('AWS4-HMAC-SHA256-TRAILER', sha256Hex, signature)
  }

  #accepts(algorithm: string, rest: string, signature: string): boolean {
    const text = `${algorithm}\n${this.#timestamp}\n${this.#scope}\n${this.#previous}\n${rest}`
    const expected = this.#key.sign(text)
    this.#previous = expected
    return equalSignatures(expected, signature)
  }
}
