/**
 * Decodes the aws-chunked encoding, without copying data.
 *
 *   <hex size>[;chunk-signature=<64 hex>]\r\n <data> \r\n     repeated
 *   0[;chunk-signature=<64 hex>]\r\n
 *   [<name>:<value>\r\n ... [x-amz-trailer-signature:<64 hex>\r\n]]
 *   \r\n
 *
 * minio-go ends a trailing header with a bare \n, and writes one \r\n more: in front of the trailer's signature, or,
 * where chunks are not signed, at the end. Both are accepted.
 *
 * Data is handed on before the signature of its chunk is known; the decoder fails before its end when any
 * signature, length or trailer is wrong, so nothing of a bad body is ever committed.
 *
 * Errors: IncompleteBody when lengths lie or the body stops early, InvalidRequest when the framing is broken,
 * SignatureDoesNotMatch, MalformedTrailerError.
 */
import { type Hash, createHash } from 'node:crypto'
import { S3Error } from '../../store/errors.js'
import type { ChunkSignatures } from '../auth/payload.js'
import type { PieceSource } from './request_reader.js'

export interface ChunkedOptions {
  /** x-amz-decoded-content-length. */
  decodedLength: number
  /** Present when chunks are signed. */
  signatures?: ChunkSignatures
  /** Trailing headers that may come, lower case; undefined when the mode has none. */
  trailers?: readonly string[]
}

const MAX_CHUNK_LINE = 256
const MAX_TRAILER_BYTES = 4096
const CR = 13
const LF = 10

const CHUNK_LINE = /^([0-9a-f]{1,16})(?:;chunk-signature=([0-9a-f]{64}))?$/i

function broken(): S3Error {
  return new S3Error('InvalidRequest', 'The aws-chunked encoding of the request body is malformed.')
}

export class ChunkedDecoder implements PieceSource {
  readonly #source: PieceSource
  readonly #options: ChunkedOptions
  #piece: Uint8Array = new Uint8Array(0)
  #at = 0
  #sourceEnded = false
  /** Data bytes still to come in this chunk. */
  #chunkLeft = 0
  #decoded = 0
  #inChunk = false
  #hash: Hash | undefined
  #signature = ''
  #done = false
  readonly #trailers = new Map<string, string>()

  constructor(source: PieceSource, options: ChunkedOptions) {
    this.#source = source
    this.#options = options
  }

  /** Trailing headers by lower-case name, complete once `next` gave undefined. */
  get trailers(): ReadonlyMap<string, string> {
    return this.#trailers
  }

  async next(): Promise<Uint8Array | undefined> {
    while (!this.#done) {
      if (!this.#inChunk) {
        await this.#beginChunk()
        continue
      }
      if (this.#chunkLeft === 0) {
        await this.#endChunk()
        continue
      }
      if (!await this.#fill()) throw new S3Error('IncompleteBody')
      const end = Math.min(this.#piece.length, this.#at + this.#chunkLeft)
      const data = this.#piece.subarray(this.#at, end)
      this.#at = end
      this.#chunkLeft -= data.length
      this.#decoded += data.length
      this.#hash?.update(data)
      return data
    }
    return undefined
  }

  /** Makes sure that a byte is at hand; false at the end of the source. */
  async #fill(): Promise<boolean> {
    while (this.#at >= this.#piece.length) {
      if (this.#sourceEnded) return false
      const piece = await this.#source.next()
      if (piece === undefined) {
        this.#sourceEnded = true
        return false
      }
      this.#piece = piece
      this.#at = 0
    }
    return true
  }

  /**
   * One line without its end, as latin1; undefined when the source ends before its first byte. Lines of trailers
   * may end in a bare \n, which some signers write; chunk lines must end in \r\n.
   */
  async #line(limit: number, bareLf: boolean): Promise<string | undefined> {
    let line = ''
    for (;;) {
      if (!await this.#fill()) {
        if (line === '') return undefined
        throw new S3Error('IncompleteBody')
      }
      const found = this.#piece.indexOf(LF, this.#at)
      const end = found < 0 ? this.#piece.length : found + 1
      if (line.length + end - this.#at > limit) throw broken()
      line += Buffer.from(this.#piece.buffer, this.#piece.byteOffset + this.#at, end - this.#at).toString('latin1')
      this.#at = end
      if (found < 0) continue
      if (line.charCodeAt(line.length - 2) === CR) return line.slice(0, -2)
      if (bareLf) return line.slice(0, -1)
      throw broken()
    }
  }

  async #beginChunk(): Promise<void> {
    const line = await this.#line(MAX_CHUNK_LINE, false)
    if (line === undefined) throw new S3Error('IncompleteBody')
    const fields = CHUNK_LINE.exec(line)
    if (fields === null) throw broken()
    const size = Number.parseInt(fields[1] ?? '', 16)
    if (size > this.#options.decodedLength - this.#decoded) throw new S3Error('IncompleteBody')
    if (this.#options.signatures !== undefined) {
      const signature = fields[2]
      if (signature === undefined) throw broken()
      this.#signature = signature
      this.#hash = createHash('sha256')
    }
    this.#chunkLeft = size
    this.#inChunk = true
    if (size === 0) await this.#finish()
  }

  async #endChunk(): Promise<void> {
    if (await this.#line(2, false) !== '') throw broken()
    this.#checkSignature()
    this.#inChunk = false
  }

  #checkSignature(): void {
    const { signatures } = this.#options
    if (signatures === undefined || this.#hash === undefined) return
    const accepted = signatures.acceptsChunk(this.#hash.digest('hex'), this.#signature)
    this.#hash = undefined
    if (!accepted) throw new S3Error('SignatureDoesNotMatch')
  }

  /** After the line of the chunk of size 0. */
  async #finish(): Promise<void> {
    this.#checkSignature()
    if (this.#decoded !== this.#options.decodedLength) throw new S3Error('IncompleteBody')
    if (this.#options.trailers === undefined) {
      const line = await this.#line(2, false)
      if (line !== undefined && line !== '') throw broken()
    } else {
      await this.#readTrailers(this.#options.trailers)
      if (await this.#fill() && await this.#line(2, false) !== '') throw broken()
    }
    if (await this.#fill()) throw broken()
    this.#done = true
  }

  async #readTrailers(announced: readonly string[]): Promise<void> {
    let left = MAX_TRAILER_BYTES
    let signature: string | undefined
    let blanks = this.#options.signatures === undefined ? 0 : 1
    for (;;) {
      const line = await this.#line(left, true)
      if (line === '' && signature === undefined && blanks > 0) {
        blanks -= 1
        continue
      }
      if (line === undefined || line === '') break
      left -= line.length + 1
      const colon = line.indexOf(':')
      const name = line.slice(0, Math.max(colon, 0)).trim().toLowerCase()
      const value = line.slice(colon + 1).trim()
      if (name === 'x-amz-trailer-signature' && signature === undefined) {
        signature = value
      } else if (signature === undefined && announced.includes(name) && !this.#trailers.has(name)) {
        this.#trailers.set(name, value)
      } else {
        throw new S3Error('MalformedTrailerError')
      }
    }
    if (announced.some((name) => !this.#trailers.has(name))) throw new S3Error('MalformedTrailerError')
    this.#checkTrailerSignature(signature)
  }

  #checkTrailerSignature(signature: string | undefined): void {
    const { signatures } = this.#options
    if (signatures === undefined) return
    if (signature === undefined) throw new S3Error('MalformedTrailerError')
    const names = [...this.#trailers.keys()].sort()
    const canonical = names.map((name) => `${name}:${this.#trailers.get(name) ?? ''}\n`).join('')
    const digest = createHash('sha256').update(canonical, 'latin1').digest('hex')
    if (!signatures.acceptsTrailer(digest, signature)) throw new S3Error('SignatureDoesNotMatch')
  }
}
