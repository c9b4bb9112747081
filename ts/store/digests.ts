/**
 * Digests of a part while it streams by: MD5 always (the ETag), at most one of S3's five checksums, and the
 * SHA-256 of the payload where the signature needs it (shared with the checksum when that is SHA256 too).
 *
 * Values are raw bytes in S3's byte order: CRCs big-endian. Text forms are base64 in S3's headers and
 * documents.
 */
import { createHash, hash, type Hash } from 'node:crypto'
import { crc32 } from 'node:zlib'
import type { Checksum, ChecksumAlgorithm } from '../meta/schema.js'
import { crc32c, crc64nvme } from '../native/hash.js'
import { GatheredMd5, WholeMd5 } from './gathered_md5.js'

export const CHECKSUM_ALGORITHMS: readonly ChecksumAlgorithm[] = ['CRC32', 'CRC32C', 'CRC64NVME', 'SHA1', 'SHA256']

/** What a body gets when its client chose nothing. */
export const DEFAULT_CHECKSUM: ChecksumAlgorithm = 'CRC64NVME'

/** Bytes of each digest. */
export const DIGEST_SIZE: Readonly<Record<ChecksumAlgorithm, number>> = {
  CRC32: 4,
  CRC32C: 4,
  CRC64NVME: 8,
  SHA1: 20,
  SHA256: 32,
}
export const MD5_SIZE = 16

export interface HasherOptions {
  /** The one checksum to compute; none when absent. */
  checksum?: ChecksumAlgorithm
  /** Also the SHA-256 of the payload (x-amz-content-sha256). */
  payloadSha256?: boolean
  /**
   * Hash the MD5 at the end of the turn, together with that of other parts. Only where nobody writes to a chunk after
   * it was given to `update`.
   */
  gatherMd5?: boolean
}

export interface PartDigests {
  readonly size: number
  /** Of a whole body (`digestsOf`) it is computed when it is first looked at. */
  readonly md5: Uint8Array
  /** Of the whole part, so its type is FULL_OBJECT. */
  readonly checksum?: Checksum | undefined
  /** In hexadecimal digits, as the header has it. */
  readonly payloadSha256?: string | undefined
}

/** Feed it the part in order, then call `digests` once or more; no update after that. */
export class PartHasher {
  readonly algorithm: ChecksumAlgorithm | undefined
  #size = 0
  readonly #md5: Hash | GatheredMd5
  #crc = 0
  #crc64 = 0n
  readonly #sha1: Hash | undefined
  readonly #sha256: Hash | undefined
  readonly #wantsSha256: boolean
  #done: PartDigests | undefined

  constructor(options: HasherOptions = {}) {
    this.algorithm = options.checksum
    this.#md5 = options.gatherMd5 === true ? new GatheredMd5() : createHash('md5')
    this.#wantsSha256 = options.payloadSha256 === true
    if (options.checksum === 'SHA1') this.#sha1 = createHash('sha1')
    if (options.checksum === 'SHA256' || this.#wantsSha256) this.#sha256 = createHash('sha256')
  }

  /** Bytes seen so far. */
  get size(): number {
    return this.#size
  }

  update(chunk: Uint8Array): void {
    if (this.#done !== undefined) throw new Error('update after digests')
    this.#size += chunk.length
    this.#md5.update(chunk)
    this.#sha256?.update(chunk)
    switch (this.algorithm) {
      case 'CRC32':
        this.#crc = crc32(chunk, this.#crc)
        break
      case 'CRC32C':
        this.#crc = crc32c(chunk, this.#crc)
        break
      case 'CRC64NVME':
        this.#crc64 = crc64nvme(chunk, this.#crc64)
        break
      case 'SHA1':
        this.#sha1?.update(chunk)
        break
      case 'SHA256':
      case undefined:
        break
    }
  }

  digests(): PartDigests {
    if (this.#done !== undefined) return this.#done
    const sha256 = this.#sha256 === undefined ? undefined : plain(this.#sha256.digest())
    this.#done = {
      size: this.#size,
      md5: new Uint8Array(this.#md5.digest()),
      checksum: fullObject(this.algorithm, this.#checksumValue(sha256)),
      payloadSha256: this.#wantsSha256 && sha256 !== undefined ? toHex(sha256) : undefined,
    }
    return this.#done
  }

  #checksumValue(sha256: Uint8Array | undefined): Uint8Array | undefined {
    switch (this.algorithm) {
      case 'CRC32':
      case 'CRC32C':
        return crc32Bytes(this.#crc)
      case 'CRC64NVME':
        return crc64Bytes(this.#crc64)
      case 'SHA1':
        return this.#sha1 === undefined ? undefined : plain(this.#sha1.digest())
      case 'SHA256':
        return sha256
      case undefined:
        return undefined
    }
  }
}

/**
 * What a PartHasher says of one buffer, without its streams. Nobody may write to the buffer before its MD5 is known.
 */
export function digestsOf(bytes: Uint8Array, { checksum, payloadSha256 }: HasherOptions): PartDigests {
  const sha256 = payloadSha256 === true || checksum === 'SHA256' ? hash('sha256', bytes, 'hex') : ''
  const value = checksum === 'SHA256' ? plain(Buffer.from(sha256, 'hex')) : checksum && checksumOf(checksum, bytes)
  return new WholeDigests(bytes, fullObject(checksum, value), payloadSha256 === true ? sha256 : undefined)
}

class WholeDigests implements PartDigests {
  readonly size: number
  readonly checksum: Checksum | undefined
  readonly payloadSha256: string | undefined
  readonly #md5: WholeMd5

  constructor(bytes: Uint8Array, checksum: Checksum | undefined, payloadSha256: string | undefined) {
    this.size = bytes.length
    this.checksum = checksum
    this.payloadSha256 = payloadSha256
    this.#md5 = new WholeMd5(bytes)
  }

  get md5(): Uint8Array {
    return this.#md5.digest()
  }
}

function fullObject(algorithm: ChecksumAlgorithm | undefined, value: Uint8Array | undefined): Checksum | undefined {
  return algorithm === undefined || value === undefined ? undefined : { algorithm, type: 'FULL_OBJECT', value }
}

function checksumOf(algorithm: Exclude<ChecksumAlgorithm, 'SHA256'>, bytes: Uint8Array): Uint8Array {
  switch (algorithm) {
    case 'CRC32': return crc32Bytes(crc32(bytes))
    case 'CRC32C': return crc32Bytes(crc32c(bytes))
    case 'CRC64NVME': return crc64Bytes(crc64nvme(bytes))
    case 'SHA1': return plain(hash('sha1', bytes, 'buffer'))
  }
}

/** Where numbers become bytes: a small array that is never looked at as a buffer costs a fraction of one that is. */
const scratch = new DataView(new ArrayBuffer(8))
const scratchBytes = new Uint8Array(scratch.buffer)

/** Four bytes, big-endian. */
export function crc32Bytes(value: number): Uint8Array {
  scratch.setUint32(0, value)
  return scratchBytes.slice(0, 4)
}

/** Eight bytes, big-endian. */
export function crc64Bytes(value: bigint): Uint8Array {
  scratch.setBigUint64(0, value)
  return scratchBytes.slice()
}

export function toBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64')
}

export function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex')
}

/** Bytes of canonical base64 (padded, no stray characters) of exactly `size` bytes, else undefined. */
export function fromBase64(text: string, size: number): Uint8Array | undefined {
  if (text.length !== Math.ceil(size / 3) * 4) return undefined
  const bytes = Buffer.from(text, 'base64')
  if (bytes.length !== size || bytes.toString('base64') !== text) return undefined
  return plain(bytes)
}

export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0
}

/** A copy without Buffer's prototype and pool, so that it can be sent, stored and compared as it is. */
function plain(bytes: Buffer): Uint8Array {
  return new Uint8Array(bytes)
}
