/**
 * Frames: how a stream of bytes is cut into messages, and how each is authenticated.
 *
 *   length u32 LE   bytes that follow: body and tag; at least 1, at most the reader's limit
 *   body            during the handshake: fixed fields (handshake.ts); afterwards one msgpack array (message.ts)
 *   tag 16 B        only with a key: HMAC-SHA256(key, counter u64 LE, length u32 LE, body), its first 16 bytes
 *
 * Both directions have keys and counters of their own, which begin at 0 with each connection: a frame that is changed,
 * left out, repeated, moved to another place, sent back to its sender or kept from another connection fails its tag.
 * A reader that has seen one bad frame stays failed.
 */
import { createHmac, timingSafeEqual } from 'node:crypto'

import { ProtocolError } from './errors.js'

const HEAD = 4
export const TAG_BYTES = 16

/** Makes the tags of one direction. */
class Sealer {
  readonly #key: Uint8Array
  readonly #counter = Buffer.alloc(8)
  #next = 0

  constructor(key: Uint8Array) {
    this.#key = key
  }

  tag(head: Uint8Array, body: Uint8Array): Buffer {
    this.#counter.writeUInt32LE(this.#next >>> 0, 0)
    this.#counter.writeUInt32LE(Math.floor(this.#next / 2 ** 32), 4)
    this.#next += 1
    return createHmac('sha256', this.#key)
      .update(this.#counter)
      .update(head)
      .update(body)
      .digest()
      .subarray(0, TAG_BYTES)
  }
}

export class FrameWriter {
  #sealer: Sealer | undefined

  /** From now on frames are sealed with this key, or not at all. */
  useKey(key: Uint8Array | undefined): void {
    this.#sealer = key === undefined ? undefined : new Sealer(key)
  }

  /** The pieces of one frame, in order. */
  frame(body: Uint8Array): Uint8Array[] {
    const head = Buffer.allocUnsafe(HEAD)
    head.writeUInt32LE(body.length + (this.#sealer === undefined ? 0 : TAG_BYTES), 0)
    return this.#sealer === undefined ? [head, body] : [head, body, this.#sealer.tag(head, body)]
  }
}

/** Takes bytes as they come and gives whole frames. Holds at most one frame of the limit and what came with it. */
export class FrameReader {
  #limit: number
  #sealer: Sealer | undefined
  #chunks: Uint8Array[] = []
  #held = 0
  #failed = false

  /** `limit`: the longest body that is taken. */
  constructor(limit: number) {
    this.#limit = limit
  }

  useKey(key: Uint8Array | undefined, limit: number): void {
    this.#sealer = key === undefined ? undefined : new Sealer(key)
    this.#limit = limit
  }

  push(chunk: Uint8Array): void {
    if (chunk.length === 0) return
    this.#chunks.push(chunk)
    this.#held += chunk.length
  }

  /** Bytes that wait for the rest of their frame. */
  get held(): number {
    return this.#held
  }

  /** The body of the next frame, or undefined when more bytes are needed. Throws ProtocolError. */
  next(): Uint8Array | undefined {
    if (this.#failed) throw new ProtocolError('a frame before was bad')
    if (this.#held < HEAD) return undefined
    const tagged = this.#sealer === undefined ? 0 : TAG_BYTES
    const length = this.#peek(HEAD).readUInt32LE(0)
    if (length <= tagged || length - tagged > this.#limit) this.#fail(`a frame of ${String(length)} bytes`)
    if (this.#held < HEAD + length) return undefined
    const whole = this.#take(HEAD + length)
    const body = whole.subarray(HEAD, whole.length - tagged)
    if (this.#sealer !== undefined) {
      const tag = this.#sealer.tag(whole.subarray(0, HEAD), body)
      if (!timingSafeEqual(tag, whole.subarray(whole.length - TAG_BYTES))) {
        this.#fail('a frame that the peer did not make for this place')
      }
    }
    return body
  }

  #fail(what: string): never {
    this.#failed = true
    this.#chunks = []
    this.#held = 0
    throw new ProtocolError(what)
  }

  /** The first `count` bytes in one piece; they stay. */
  #peek(count: number): Buffer {
    const first = this.#chunks[0]
    if (first === undefined || first.length < count) {
      this.#chunks = [Buffer.concat(this.#chunks, this.#held)]
    }
    return asBuffer(this.#chunks[0] ?? Buffer.alloc(0)).subarray(0, count)
  }

  /** Chunks are joined once per frame, whatever pieces it came in. */
  #take(count: number): Buffer {
    const first = this.#chunks[0]
    if (first !== undefined && first.length >= count) {
      if (first.length === count) this.#chunks.shift()
      else this.#chunks[0] = first.subarray(count)
      this.#held -= count
      return asBuffer(first).subarray(0, count)
    }
    const all = Buffer.concat(this.#chunks, this.#held)
    this.#chunks = all.length === count ? [] : [all.subarray(count)]
    this.#held -= count
    return all.subarray(0, count)
  }
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
}
