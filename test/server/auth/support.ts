/** A signer written apart from the verifier, for the forms that the SDK's signer does not make. */
import { createHash, createHmac } from 'node:crypto'

export const ACCESS_KEY = 'AKIAIOSFODNN7EXAMPLE'
export const SECRET_KEY = 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY'

export function sha256(data: string | Uint8Array): string {
  return createHash('sha256').update(data).digest('hex')
}

function mac(key: string | Uint8Array, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest()
}

export interface SigningContext {
  timestamp: string
  region: string
  service: string
  secretKey: string
}

export function scopeOf(context: SigningContext): string {
  return `${context.timestamp.slice(0, 8)}/${context.region}/${context.service}/aws4_request`
}

export function keyOf(context: SigningContext): Buffer {
  const day = context.timestamp.slice(0, 8)
  return mac(mac(mac(mac('AWS4' + context.secretKey, day), context.region), context.service), 'aws4_request')
}

/** Signs a canonical request that the caller wrote. */
export function signCanonical(canonical: string, context: SigningContext): string {
  const text = ['AWS4-HMAC-SHA256', context.timestamp, scopeOf(context), sha256(canonical)].join('\n')
  return mac(keyOf(context), text).toString('hex')
}

export interface SignedChunk {
  data: Uint8Array
  signature: string
}

/** Signatures of the chunks (an empty last one is added) and of the trailing headers. */
export function signChunks(
  pieces: readonly Uint8Array[], seed: string, context: SigningContext, canonicalTrailers = '',
): { chunks: SignedChunk[]; trailerSignature: string } {
  const key = keyOf(context)
  let previous = seed
  const chunks: SignedChunk[] = []
  for (const data of [...pieces, new Uint8Array(0)]) {
    previous = mac(key, ['AWS4-HMAC-SHA256-PAYLOAD', context.timestamp, scopeOf(context), previous, sha256(''),
      sha256(data)].join('\n')).toString('hex')
    chunks.push({ data, signature: previous })
  }
  const trailerSignature = mac(key, ['AWS4-HMAC-SHA256-TRAILER', context.timestamp, scopeOf(context), previous,
    sha256(canonicalTrailers)].join('\n')).toString('hex')
  return { chunks, trailerSignature }
}
