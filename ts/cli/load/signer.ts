/**
 * Signature V4 by header, for the load generator: the signing key is derived once a day, the rest is a few hashes for
 * each request.
 */
import { createHash, createHmac } from 'node:crypto'

export interface SignerKeys {
  accessKey: string
  secretKey: string
  region: string
}

export function sha256Hex(data: Uint8Array | string): string {
  return createHash('sha256').update(data).digest('hex')
}

export class Signer {
  readonly #keys: SignerKeys
  #day = ''
  #key: Buffer = Buffer.alloc(0)

  constructor(keys: SignerKeys) {
    this.#keys = keys
  }

  /**
   * Header lines of a signed request, host to authorization, each ended by CRLF. `path` and `query` are already
   * encoded as the signature wants them (query sorted by name).
   */
  headers(method: string, host: string, path: string, query: string, payloadHash: string, now: Date): string {
    const time = now.toISOString().replace(/[-:]|\.\d{3}/g, '')
    const day = time.slice(0, 8)
    const scope = `${day}/${this.#keys.region}/s3/aws4_request`
    const names = 'host;x-amz-content-sha256;x-amz-date'
    const signed = `host:${host}\nx-amz-content-sha256:${payloadHash}\nx-amz-date:${time}\n`
    const canonical = `${method}\n${path}\n${query}\n${signed}\n${names}\n${payloadHash}`
    const toSign = `AWS4-HMAC-SHA256\n${time}\n${scope}\n${sha256Hex(canonical)}`
    const signature = createHmac('sha256', this.#keyOf(day)).update(toSign).digest('hex')
    const credential = `${this.#keys.accessKey}/${scope}`
    return (
      `host: ${host}\r\nx-amz-content-sha256: ${payloadHash}\r\nx-amz-date: ${time}\r\n` +
      `authorization: AWS4-HMAC-SHA256 Credential=${credential},SignedHeaders=${names},Signature=${signature}\r\n`
    )
  }

  #keyOf(day: string): Buffer {
    if (day !== this.#day) {
      const steps = [day, this.#keys.region, 's3', 'aws4_request']
      this.#key = steps.reduce<Buffer>(
        (key, step) => createHmac('sha256', key).update(step).digest(),
        Buffer.from(`AWS4${this.#keys.secretKey}`),
      )
      this.#day = day
    }
    return this.#key
  }
}
