/**
 * How admin requests are signed: HMAC-SHA256, keyed with the root secret key, over
 *
 *   method \n target \n time in ms \n nonce \n SHA-256 of the body (hex)
 *
 * sent as `Authorization: OSTRAKA-HMAC-SHA256 <access key>:<time>:<nonce>:<hex>`. The secret never travels; a request
 * is good for MAX_SKEW_MS and a nonce only once.
 */
import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto'

export interface AdminKeys {
  accessKey: string
  secretKey: string
}

export interface SignedRequest {
  method: string
  /** Path and query. */
  target: string
  body: string
}

const SCHEME = 'OSTRAKA-HMAC-SHA256'
const MAX_SKEW_MS = 5 * 60_000
const MAX_NONCES = 100_000

export function signAdmin(request: SignedRequest, keys: AdminKeys, nowMs: number): string {
  const nonce = randomBytes(12).toString('hex')
  return `${SCHEME} ${keys.accessKey}:${String(nowMs)}:${nonce}:${mac(request, keys.secretKey, String(nowMs), nonce)}`
}

/** Checks signatures and remembers nonces. */
export class AdminVerifier {
  readonly #keys: AdminKeys
  /** Nonce -> when it may be forgotten; in order of arrival. */
  readonly #nonces = new Map<string, number>()

  constructor(keys: AdminKeys) {
    this.#keys = keys
  }

  /** '' when the request is good, else what is wrong with it. */
  check(request: SignedRequest, authorization: string | undefined, nowMs: number): string {
    const fields = /^OSTRAKA-HMAC-SHA256 ([^:\s]{1,128}):(\d{1,15}):([0-9a-f]{8,64}):([0-9a-f]{64})$/.exec(
      authorization ?? '',
    )
    if (fields === null) return 'the request is not signed with the root credentials'
    const [, accessKey = '', time = '', nonce = '', given = ''] = fields
    const expected = Buffer.from(mac(request, this.#keys.secretKey, time, nonce), 'hex')
    const same = timingSafeEqual(expected, Buffer.from(given, 'hex'))
    if (!same || accessKey !== this.#keys.accessKey) return 'the signature does not match the root credentials'
    if (Math.abs(nowMs - Number(time)) > MAX_SKEW_MS)
      return 'the clocks of client and server differ by more than five minutes'
    return this.#useNonce(nonce, nowMs) ? '' : 'the request was sent before'
  }

  #useNonce(nonce: string, nowMs: number): boolean {
    for (const [old, until] of this.#nonces) {
      if (until > nowMs) break
      this.#nonces.delete(old)
    }
    if (this.#nonces.has(nonce) || this.#nonces.size >= MAX_NONCES) return false
    // A time stamp may lie ahead by the skew, so a nonce is remembered for twice that.
    this.#nonces.set(nonce, nowMs + 2 * MAX_SKEW_MS)
    return true
  }
}

function mac(request: SignedRequest, secretKey: string, time: string, nonce: string): string {
  const digest = createHash('sha256').update(request.body).digest('hex')
  return createHmac('sha256', secretKey)
    .update([request.method, request.target, time, nonce, digest].join('\n'))
    .digest('hex')
}
