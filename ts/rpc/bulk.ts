/**
 * Long answers on the bulk lane: one question and its answer over a connection of its own, so that neither delays
 * heartbeats nor is delayed by them.
 *
 *   asker                                     answerer
 *   ask(question) ─────────────────────────>
 *          <────────────────────────────────  chunk(number, crc32, bytes)...    in order, at most CHUNK_BYTES each
 *   received(number) ──────────────────────>  one for each chunk that was used
 *          <────────────────────────────────  end(chunks), or goodbye with the reason
 *
 * At most WINDOW chunks are under way: an answerer that sends more, or anything out of order, is cut off. An answer
 * that was cut short is never taken for a whole one. To go on later is the question's business: it names what is held
 * already.
 */
import { crc32 } from 'node:zlib'

import type { Connection } from './connection.js'
import { ProtocolError, RpcError } from './errors.js'
import type { RpcMessage } from './message.js'

/** Chunks sent and not yet used by the asker. */
const WINDOW = 4

/** The asking side. */
export class BulkAsker {
  readonly #connection: Connection
  #waiting: Uint8Array[] = []
  #arrived = 0
  #used = 0
  #ended = false
  #error: Error | undefined
  #wake: () => void = () => undefined

  constructor(connection: Connection, question: Uint8Array) {
    this.#connection = connection
    connection.send({ kind: 'ask', body: question })
  }

  take(message: RpcMessage): void {
    switch (message.kind) {
      case 'chunk':
        if (this.#ended || message.number !== this.#arrived || this.#arrived - this.#used >= WINDOW) {
          return this.fail(new ProtocolError('a chunk that is out of order'))
        }
        if (crc32(message.body) !== message.crc) {
          return this.fail(new ProtocolError('a chunk whose checksum does not hold'))
        }
        this.#arrived += 1
        this.#waiting.push(message.body)
        return this.#wake()
      case 'end':
        if (message.chunks !== this.#arrived) return this.fail(new ProtocolError('an end before the last chunk'))
        this.#ended = true
        return this.#wake()
      case 'goodbye':
        return this.fail(new RpcError('refused', message.text))
      default:
        return this.fail(new ProtocolError(`${message.kind} in an answer`))
    }
  }

  /** Nothing more comes. */
  fail(error: Error): void {
    this.#error ??= error
    this.#wake()
  }

  /** The next chunk; undefined at the end of a whole answer. Rejects when it was cut short. */
  async next(): Promise<Uint8Array | undefined> {
    for (;;) {
      const chunk = this.#waiting.shift()
      if (chunk !== undefined) {
        this.#connection.send({ kind: 'received', number: this.#used })
        this.#used += 1
        return chunk
      }
      if (this.#ended) return undefined
      if (this.#error !== undefined) throw this.#error
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }
}

/** The answering side of one connection. */
export class BulkAnswerer {
  readonly #connection: Connection
  readonly #answer: (question: Uint8Array) => AsyncIterable<Uint8Array>
  #asked = false
  #sent = 0
  #used = 0
  #closed = false
  #wake: () => void = () => undefined

  constructor(connection: Connection, answer: (question: Uint8Array) => AsyncIterable<Uint8Array>) {
    this.#connection = connection
    this.#answer = answer
  }

  take(message: RpcMessage): void {
    if (this.#closed || message.kind === 'goodbye') return
    if (message.kind === 'ask' && !this.#asked) {
      this.#asked = true
      this.#send(message.body).catch((error: unknown) => {
        this.#refuse(error instanceof Error ? error.message : String(error))
      })
    } else if (message.kind === 'received' && message.number === this.#used && this.#used < this.#sent) {
      this.#used += 1
      this.#wake()
    } else {
      this.#refuse(`${message.kind} where it does not belong`)
    }
  }

  closed(): void {
    this.#closed = true
    this.#wake()
  }

  async #send(question: Uint8Array): Promise<void> {
    for await (const body of this.#answer(question)) {
      while (!this.#closed && this.#sent - this.#used >= WINDOW) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve
        })
      }
      // Leaving the loop ends the answer's iteration.
      if (this.#closed) return
      if (!this.#connection.send({ kind: 'chunk', number: this.#sent, crc: crc32(body), body })) {
        throw new Error('a chunk that does not fit')
      }
      this.#sent += 1
    }
    if (!this.#closed) this.#connection.send({ kind: 'end', chunks: this.#sent })
  }

  #refuse(why: string): void {
    if (this.#closed) return
    this.closed()
    this.#connection.close(why)
  }
}
