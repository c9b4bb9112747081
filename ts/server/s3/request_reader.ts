/**
 * Pulls a request body from node's IncomingMessage, piece by piece, without copying.
 *
 * Pieces that arrive while nobody waits are kept up to `windowBytes`, then the socket is paused; taking pieces
 * resumes it. So a slow store slows the client, and memory stays at the window plus one socket read.
 *
 * The clock runs only while somebody waits for the client: `firstByteMs` until the first piece, `idleMs` between
 * pieces, and a slowest average over all waiting once it has lasted GRACE_MS, so that a byte now and then does not
 * hold a request for ever. A client that stops fails the read with RequestTimeout, one that leaves with IncompleteBody.
 */
import type { IncomingMessage } from 'node:http'
import { S3Error } from '../../store/errors.js'

/** undefined marks the end; it comes again on every further call. */
export interface PieceSource {
  next(): Promise<Uint8Array | undefined>
}

export interface ReaderLimits {
  windowBytes: number
  firstByteMs: number
  idleMs: number
  minBytesPerSecond: number
}

const GRACE_MS = 60_000

/** Readers that began to wait in this turn of the event loop, see `#armTimer`. */
let waiting: RequestReader[] = []

interface Waiter {
  resolve(piece: Uint8Array | undefined): void
  reject(error: S3Error): void
}

export class RequestReader implements PieceSource {
  readonly #request: IncomingMessage
  readonly #limits: ReaderLimits
  readonly #begin: () => void
  readonly #now: () => number
  readonly #queue: Uint8Array[] = []
  #queuedBytes = 0
  #receivedBytes = 0
  #started = false
  #paused = false
  #ended = false
  #failure: S3Error | undefined
  #waiter: Waiter | undefined
  #timer: NodeJS.Timeout | undefined
  #deadlineMs = 0
  #waitStartMs = 0
  #waitedMs = 0

  /** `begin` is called once, when the first piece is wanted: the time to send 100 Continue. */
  constructor(
    request: IncomingMessage, limits: ReaderLimits, begin: () => void = () => undefined,
    now: () => number = () => performance.now(),
  ) {
    this.#request = request
    this.#limits = limits
    this.#begin = begin
    this.#now = now
  }

  /** Encoded bytes that came from the client. */
  get receivedBytes(): number {
    return this.#receivedBytes
  }

  /** One call at a time. */
  next(): Promise<Uint8Array | undefined> {
    if (!this.#started) this.#start()
    const piece = this.#queue.shift()
    if (piece !== undefined) {
      this.#queuedBytes -= piece.length
      if (this.#paused && this.#queuedBytes * 2 < this.#limits.windowBytes) {
        this.#paused = false
        this.#request.resume()
      }
      return Promise.resolve(piece)
    }
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    if (this.#ended) return Promise.resolve(undefined)
    return new Promise((resolve, reject) => {
      this.#waiter = { resolve, reject }
      this.#armTimer()
    })
  }

  /** Stops listening. What was not taken is dropped; the request stays paused if it has not ended. */
  release(): void {
    if (this.#timer !== undefined) clearTimeout(this.#timer)
    this.#timer = undefined
    this.#queue.length = 0
    this.#queuedBytes = 0
    // A request that has ended has nothing more to say to its listeners.
    if (this.#ended) return
    this.#failure ??= new S3Error('IncompleteBody')
    if (!this.#started) return
    this.#request.off('data', this.#onData)
    this.#request.off('end', this.#onEnd)
    this.#request.off('close', this.#onClose)
    this.#request.pause()
    this.#fail(this.#failure)
  }

  #start(): void {
    this.#started = true
    if (this.#request.destroyed && !this.#request.complete) {
      this.#failure = new S3Error('IncompleteBody')
      return
    }
    this.#begin()
    this.#request.on('data', this.#onData)
    this.#request.on('end', this.#onEnd)
    this.#request.on('close', this.#onClose)
  }

  #onData = (piece: Buffer): void => {
    this.#receivedBytes += piece.length
    const waiter = this.#waiter
    if (waiter !== undefined) {
      this.#waitedMs += this.#now() - this.#waitStartMs
      if (this.#tooSlow()) {
        this.#fail(new S3Error('RequestTimeout'))
        return
      }
      this.#waiter = undefined
      waiter.resolve(piece)
      return
    }
    this.#queue.push(piece)
    this.#queuedBytes += piece.length
    if (!this.#paused && this.#queuedBytes >= this.#limits.windowBytes) {
      this.#paused = true
      this.#request.pause()
    }
  }

  #onEnd = (): void => {
    this.#ended = true
    const waiter = this.#waiter
    this.#waiter = undefined
    waiter?.resolve(undefined)
  }

  #onClose = (): void => {
    if (!this.#ended) this.#fail(new S3Error('IncompleteBody'))
  }

  #fail(error: S3Error): void {
    this.#failure ??= error
    const waiter = this.#waiter
    this.#waiter = undefined
    waiter?.reject(this.#failure)
  }

  #tooSlow(): boolean {
    return this.#waitedMs > GRACE_MS
      && this.#receivedBytes < this.#limits.minBytesPerSecond * this.#waitedMs / 1000
  }

  /** Only who still waits at the end of the turn gets a timer: a small body comes together with its head. */
  #armTimer(): void {
    this.#waitStartMs = this.#now()
    this.#deadlineMs = this.#waitStartMs + (this.#receivedBytes === 0 ? this.#limits.firstByteMs : this.#limits.idleMs)
    if (this.#timer === undefined && waiting.push(this) === 1) setImmediate(RequestReader.#endOfTurn)
  }

  static #endOfTurn(this: void): void {
    const readers = waiting
    waiting = []
    for (const reader of readers) if (reader.#timer === undefined) reader.#onTimer()
  }

  /** The timer is not moved at every piece; it looks at the deadline when it fires, and sleeps the rest. */
  #onTimer = (): void => {
    this.#timer = undefined
    if (this.#waiter === undefined) return
    const leftMs = this.#deadlineMs - this.#now()
    if (leftMs > 0) this.#timer = setTimeout(this.#onTimer, Math.ceil(leftMs))
    else this.#fail(new S3Error('RequestTimeout'))
  }
}
