/** Bodies of parts: random ones, and how to send, read and name them. */
import { createHash } from 'node:crypto'
import { PartHasher } from '../../ts/store/digests.js'
import type { BodyDigests, BodySource } from '../../ts/store/object_store.js'
import type { Random } from '../../ts/util/random.js'

/** A body of these bytes in pieces, digested as the front end does it. */
export class TestBody implements BodySource {
  readonly size: number
  readonly #bytes: Uint8Array
  readonly #pieceSize: number
  readonly #hasher = new PartHasher({ checksum: 'CRC64NVME' })
  /** Called before each piece and at the end; may throw or wait. */
  before: (at: number) => Promise<void> | void = () => undefined

  constructor(bytes: Uint8Array, pieceSize = 1500, size: number = bytes.length) {
    this.#bytes = bytes
    this.#pieceSize = pieceSize
    this.size = size
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < this.#bytes.length; at += this.#pieceSize) {
      await this.before(at)
      const piece = this.#bytes.subarray(at, at + this.#pieceSize)
      this.#hasher.update(piece)
      yield piece
    }
    await this.before(this.#bytes.length)
  }

  digests(): BodyDigests {
    const { md5, checksum } = this.#hasher.digests()
    return checksum === undefined ? { md5 } : { md5, checksum }
  }
}

export async function readAll(data: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  for await (const chunk of data) chunks.push(chunk)
  return Buffer.concat(chunks)
}

export function md5Hex(bytes: Uint8Array): string {
  return createHash('md5').update(bytes).digest('hex')
}

export function randomBody(random: Random, size: number): Buffer {
  const out = Buffer.alloc(size)
  for (let i = 0; i < size; i += 4) {
    const word = Math.floor(random() * 0x100000000)
    for (let j = i; j < Math.min(i + 4, size); j++) out[j] = (word >>> (8 * (j - i))) & 255
  }
  return out
}
