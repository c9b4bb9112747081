/**
 * Request bodies as `BodySource`: what the headers promise of the body (`planBody`, before any byte is asked
 * for), and the body itself (`RequestBody`), which fails before its end when a promise is not kept.
 *
 * Promises: length (Content-Length, or x-amz-decoded-content-length when aws-chunked), Content-MD5, one
 * x-amz-checksum-* as header or trailer, x-amz-content-sha256, chunk signatures.
 */
import type { ChecksumAlgorithm } from '../../meta/schema.js'
import {
  DEFAULT_CHECKSUM, type HasherOptions, MD5_SIZE, PartHasher, type PartDigests, digestsOf, fromBase64, sameBytes,
} from '../../store/digests.js'
import { S3Error } from '../../store/errors.js'
import type { BodyDigests, BodySource } from '../../store/object_store.js'
import type { HeaderTable } from '../auth/canonical.js'
import type { Verified } from '../auth/sigv4.js'
import { ChunkedDecoder } from './aws_chunked.js'
import { algorithmOfHeader, checksumHeader, decodeChecksum, parseAlgorithm } from './checksums.js'
import type { PieceSource } from './request_reader.js'

export interface BodyPlan {
  /** Decoded bytes. */
  size: number
  /** The checksum to compute; absent for bodies that get none. */
  algorithm?: ChecksumAlgorithm
  /** Whether the client chose it. */
  chosen: boolean
  /** Expected value, when it came as header. */
  expected?: Uint8Array
  /** Name of the trailing header that will bring it. */
  trailer?: string
  contentMd5?: Uint8Array
  /** Trailing headers announced. */
  trailers: readonly string[]
  verified: Verified
}

export interface PlanOptions {
  maxBytes: number
  /** Error for a longer body. */
  tooLarge: 'EntityTooLarge' | 'MaxMessageLengthExceeded'
  /** Refuse a request that does not say its length. */
  lengthRequired: boolean
  /** The multipart upload's algorithm: computed when the client sends none, and the only one it may send. */
  required?: ChecksumAlgorithm
  /** Compute CRC64NVME when the client chose nothing. */
  defaultChecksum: boolean
  /** Checksum headers speak of an object, not of this body (CompleteMultipartUpload). */
  objectChecksum?: boolean
}

/** The value of a header, several lines joined by ','. */
export function headerValue(headers: HeaderTable, name: string): string | undefined {
  const values = headers.get(name)
  return values === undefined ? undefined : values.length === 1 ? values[0] : values.join(',')
}

function parseLength(text: string, name: string): number {
  if (!/^\d{1,15}$/.test(text)) {
    throw new S3Error('InvalidArgument', `${name} is not a valid length.`, { ArgumentName: name, ArgumentValue: text })
  }
  return Number(text)
}

function bodySize(headers: HeaderTable, verified: Verified, lengthRequired: boolean): number {
  if (verified.payload.kind === 'streaming') {
    const decoded = headerValue(headers, 'x-amz-decoded-content-length')
    if (decoded === undefined) throw new S3Error('MissingContentLength')
    return parseLength(decoded.trim(), 'x-amz-decoded-content-length')
  }
  const length = headerValue(headers, 'content-length')
  if (length !== undefined) return parseLength(length.trim(), 'Content-Length')
  if (lengthRequired || headers.has('transfer-encoding')) throw new S3Error('MissingContentLength')
  return 0
}

interface ChecksumChoice {
  algorithm: ChecksumAlgorithm
  expected?: Uint8Array
  trailer?: string
}

const NOT_VALUES = new Set(['x-amz-checksum-mode', 'x-amz-checksum-algorithm', 'x-amz-checksum-type'])

function checksumInHeaders(headers: HeaderTable): ChecksumChoice | undefined {
  let choice: ChecksumChoice | undefined
  for (const name of headers.keys()) {
    if (!name.startsWith('x-amz-checksum-') || NOT_VALUES.has(name)) continue
    const algorithm = algorithmOfHeader(name)
    if (algorithm === undefined) throw new S3Error('NotImplemented', '', { Header: name })
    if (choice !== undefined) {
      throw new S3Error('InvalidRequest',
        'Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.')
    }
    const expected = decodeChecksum(algorithm, headerValue(headers, name)?.trim() ?? '')
    if (expected === undefined) throw new S3Error('InvalidRequest', `Value for ${name} header is invalid.`)
    choice = { algorithm, expected }
  }
  return choice
}

const NONE: readonly string[] = []

/** Names in x-amz-trailer, lower case; only checksums may be announced. */
function announcedTrailers(headers: HeaderTable, verified: Verified): readonly string[] {
  if (verified.payload.kind !== 'streaming' || !verified.payload.trailer) return NONE
  const names = (headerValue(headers, 'x-amz-trailer') ?? '').split(',').map((name) => name.trim().toLowerCase())
    .filter((name) => name !== '')
  for (const name of names) {
    if (algorithmOfHeader(name) === undefined) {
      throw new S3Error('InvalidRequest', 'The value specified in the x-amz-trailer header is not supported')
    }
  }
  if (names.length > 1) {
    throw new S3Error('InvalidRequest',
      'Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.')
  }
  return names
}

function chosenChecksum(headers: HeaderTable, trailers: readonly string[]): ChecksumChoice | undefined {
  let choice = checksumInHeaders(headers)
  const [trailer] = trailers
  const trailing = trailer === undefined ? undefined : algorithmOfHeader(trailer)
  if (trailer !== undefined && trailing !== undefined) {
    if (choice !== undefined) {
      throw new S3Error('InvalidRequest',
        'Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.')
    }
    choice = { algorithm: trailing, trailer }
  }
  const sdk = headerValue(headers, 'x-amz-sdk-checksum-algorithm')?.trim()
  if (sdk === undefined) return choice
  const named = parseAlgorithm(sdk)
  if (named === undefined || (choice !== undefined && choice.algorithm !== named)) {
    throw new S3Error('InvalidRequest', 'Value for x-amz-sdk-checksum-algorithm header is invalid.')
  }
  if (choice === undefined) {
    throw new S3Error('InvalidRequest', 'x-amz-sdk-checksum-algorithm specified, but no corresponding '
      + 'x-amz-checksum-* or x-amz-trailer headers were found.')
  }
  return choice
}

function contentMd5(headers: HeaderTable): Uint8Array | undefined {
  const text = headerValue(headers, 'content-md5')
  if (text === undefined) return undefined
  const bytes = fromBase64(text.trim(), MD5_SIZE)
  if (bytes === undefined) throw new S3Error('InvalidDigest', 'The Content-MD5 you specified was invalid.')
  return bytes
}

/** Checks all that can be checked before the body comes. */
export function planBody(headers: HeaderTable, verified: Verified, options: PlanOptions): BodyPlan {
  const size = bodySize(headers, verified, options.lengthRequired)
  if (size > options.maxBytes) {
    throw new S3Error(options.tooLarge, '', {
      ProposedSize: String(size), MaxSizeAllowed: String(options.maxBytes),
    })
  }
  const trailers = announcedTrailers(headers, verified)
  const choice = options.objectChecksum === true ? undefined : chosenChecksum(headers, trailers)
  if (choice !== undefined && options.required !== undefined && choice.algorithm !== options.required) {
    throw new S3Error('InvalidRequest', 'Checksum Type mismatch occurred, expected checksum Type: '
      + `${options.required.toLowerCase()}, actual checksum Type: ${choice.algorithm.toLowerCase()}`)
  }
  const plan: BodyPlan = { size, chosen: choice !== undefined, trailers, verified }
  const algorithm = choice?.algorithm ?? options.required ?? (options.defaultChecksum ? DEFAULT_CHECKSUM : undefined)
  if (algorithm !== undefined) plan.algorithm = algorithm
  if (choice?.expected !== undefined) plan.expected = choice.expected
  if (choice?.trailer !== undefined) plan.trailer = choice.trailer
  const md5 = contentMd5(headers)
  if (md5 !== undefined) plan.contentMd5 = md5
  return plan
}

/** Decoded body of one request; iterate once. */
export class RequestBody implements BodySource {
  readonly size: number
  readonly #plan: BodyPlan
  readonly #source: PieceSource
  readonly #decoder: ChunkedDecoder | undefined
  readonly #hashing: HasherOptions
  #digests: PartDigests | undefined
  #seen = 0

  constructor(plan: BodyPlan, source: PieceSource) {
    this.size = plan.size
    this.#plan = plan
    const { payload, chunks } = plan.verified
    if (payload.kind === 'streaming') {
      this.#decoder = new ChunkedDecoder(source, {
        decodedLength: plan.size,
        ...(chunks === undefined ? {} : { signatures: chunks }),
        ...(payload.trailer ? { trailers: plan.trailers } : {}),
      })
    }
    this.#source = this.#decoder ?? source
    this.#hashing = { payloadSha256: payload.kind === 'sha256', gatherMd5: true }
    if (plan.algorithm !== undefined) this.#hashing.checksum = plan.algorithm
  }

  /** Decoded bytes that came so far. */
  get seenBytes(): number {
    return this.#seen
  }

  digests(): BodyDigests {
    if (this.#digests === undefined) throw new Error('the body has not been read to its end')
    const { md5, checksum } = this.#digests
    return checksum === undefined ? { md5 } : { md5, checksum }
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, undefined> {
    const hasher = new PartHasher(this.#hashing)
    for (;;) {
      const piece = await this.#next()
      if (piece === undefined) break
      hasher.update(piece)
      yield piece
    }
    this.#end(hasher.digests())
  }

  async whole(): Promise<Uint8Array> {
    let all: Uint8Array | undefined
    let more: Uint8Array[] | undefined
    for (;;) {
      const piece = await this.#source.next()
      if (piece === undefined) break
      this.#count(piece)
      if (all === undefined) all = piece
      else (more ??= [all]).push(piece)
    }
    const bytes = more === undefined ? (all ?? new Uint8Array(0)) : Buffer.concat(more)
    this.#end(digestsOf(bytes, this.#hashing))
    return bytes
  }

  async #next(): Promise<Uint8Array | undefined> {
    const piece = await this.#source.next()
    if (piece !== undefined) this.#count(piece)
    return piece
  }

  #count(piece: Uint8Array): void {
    this.#seen += piece.length
    if (this.#seen > this.size) throw new S3Error('IncompleteBody')
  }

  /** All bytes came. */
  #end(digests: PartDigests): void {
    if (this.#seen !== this.size) throw new S3Error('IncompleteBody')
    this.#check(digests)
    this.#digests = digests
  }

  #check(digests: PartDigests): void {
    const { payload } = this.#plan.verified
    if (payload.kind === 'sha256' && digests.payloadSha256 !== payload.hex) {
      throw new S3Error('XAmzContentSHA256Mismatch', '', {
        ClientComputedContentSHA256: payload.hex,
        S3ComputedContentSHA256: digests.payloadSha256 ?? '',
      })
    }
    const { contentMd5: md5, algorithm } = this.#plan
    if (md5 !== undefined && !sameBytes(md5, digests.md5)) {
      throw new S3Error('BadDigest', 'The Content-MD5 you specified did not match what we received.', {
        ExpectedDigest: Buffer.from(md5).toString('base64'),
        CalculatedDigest: Buffer.from(digests.md5).toString('base64'),
      })
    }
    const expected = this.#expectedChecksum()
    if (expected === undefined || algorithm === undefined) return
    if (digests.checksum === undefined || !sameBytes(expected, digests.checksum.value)) {
      throw new S3Error('BadDigest', `The ${algorithm} you specified did not match the calculated checksum.`)
    }
  }

  #expectedChecksum(): Uint8Array | undefined {
    const { trailer, algorithm, expected } = this.#plan
    if (trailer === undefined || algorithm === undefined) return expected
    const value = decodeChecksum(algorithm, this.#decoder?.trailers.get(trailer) ?? '')
    if (value === undefined) {
      throw new S3Error('InvalidRequest', `Value for ${checksumHeader(algorithm)} trailing header is invalid.`)
    }
    return value
  }
}
