/**
 * Continuation tokens: opaque to clients, and checked, so that a mangled one is an error and never a listing that
 * starts somewhere else.
 *
 *   base64url( version u8 = 1 | first 4 bytes of SHA-256 of the rest | UTF-8 of the key to go on after )
 */
import { createHash } from 'node:crypto'
import { S3Error } from '../../store/errors.js'
import { MAX_KEY_BYTES } from '../../store/names.js'

const VERSION = 1
const HEAD = 5

function digest(text: Uint8Array): Buffer {
  return createHash('sha256').update(text).digest().subarray(0, HEAD - 1)
}

export function writeToken(after: string): string {
  const text = Buffer.from(after)
  return Buffer.concat([Buffer.of(VERSION), digest(text), text]).toString('base64url')
}

/** Throws InvalidArgument. */
export function readToken(token: string, argument: string): string {
  const bytes = Buffer.from(token, 'base64url')
  const text = bytes.subarray(HEAD)
  const valid = token.length <= 2 * (HEAD + MAX_KEY_BYTES) && bytes.length > HEAD && bytes[0] === VERSION
    && bytes.toString('base64url') === token && digest(text).equals(bytes.subarray(1, HEAD))
  if (!valid) {
    throw new S3Error('InvalidArgument', 'The continuation token provided is incorrect', {
      ArgumentName: argument, ArgumentValue: token.slice(0, 4096),
    })
  }
  return text.toString()
}
