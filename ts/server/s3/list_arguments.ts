/** Query arguments of listings: numbers, encoding, and texts that bound a scan. */
import { S3Error } from '../../store/errors.js'
import { MAX_KEY_BYTES } from '../../store/names.js'
import { uriEncodePath } from '../auth/target.js'
import type { Exchange } from './exchange.js'

/** An integer argument; above `max` counts as `max`, as S3 does. Throws InvalidArgument. */
export function integerArgument(
  exchange: Exchange, name: string, min: number, max: number, absent: number,
): number {
  const text = exchange.query(name)
  if (text === undefined || text === '') return absent
  const number = /^\d{1,10}$/.test(text) ? Number(text) : -1
  if (number < min || number > 2_147_483_647) {
    throw new S3Error('InvalidArgument', `Argument ${name} must be an integer between ${min} and 2147483647`, {
      ArgumentName: name, ArgumentValue: text,
    })
  }
  return Math.min(number, max)
}

/** How keys are written into the answer. */
export type Encoder = (text: string) => string

/** encoding-type=url, or nothing. Throws InvalidArgument. */
export function encoding(exchange: Exchange): { encode: Encoder; type: string | undefined } {
  const type = exchange.query('encoding-type')
  if (type === undefined || type === '') return { encode: (text) => text, type: undefined }
  if (type.toLowerCase() !== 'url') {
    throw new S3Error('InvalidArgument', 'Invalid Encoding Method specified in Request', {
      ArgumentName: 'encoding-type', ArgumentValue: type,
    })
  }
  return { encode: uriEncodePath, type: 'url' }
}

/** A text argument that takes part in a scan: no longer than a key can be. Throws KeyTooLongError. */
export function scanArgument(exchange: Exchange, name: string): string {
  const text = exchange.query(name) ?? ''
  const size = Buffer.byteLength(text)
  if (size > MAX_KEY_BYTES) {
    throw new S3Error('KeyTooLongError', '', { Size: String(size), MaxSizeAllowed: String(MAX_KEY_BYTES) })
  }
  return text
}

/** Where a scan starts. No key holds a NUL, so what follows one decides nothing. */
export function startArgument(exchange: Exchange, name: string): string {
  const text = scanArgument(exchange, name)
  const nul = text.indexOf('\0')
  return nul < 0 ? text : text.slice(0, nul)
}
