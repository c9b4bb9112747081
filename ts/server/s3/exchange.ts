/**
 * One request and its answer, as the operations see it: parsed target, headers, identity, body on one side; the
 * ways to answer on the other. It owns the connection's fate:
 *
 * - An answer is sent once. An error after the head was sent destroys the connection, so that a client never takes
 *   a short body for a whole one.
 * - When an answer is sent before the request body was read, a bounded amount of the body is still read (clients that
 *   write before they read would see a reset otherwise), and the connection is closed.
 * - A client that goes away aborts `signal`; one that takes nothing of an answer for `idleMs` is cut off.
 */
import type { IncomingMessage, OutgoingHttpHeader, OutgoingHttpHeaders, ServerResponse } from 'node:http'
import { S3Error } from '../../store/errors.js'
import type { HeaderTable } from '../auth/canonical.js'
import type { Verified } from '../auth/sigv4.js'
import type { RequestTarget } from '../auth/target.js'
import { type BodyPlan, type PlanOptions, RequestBody, headerValue, planBody } from './body.js'
import { errorDocument, errorStatus, toS3Error } from './errors.js'
import type { S3Options } from './options.js'
import { RequestReader } from './request_reader.js'
import { type XmlElement, XML_LIMITS, readXml } from './xml_read.js'
import { XML_DECLARATION } from './xml_write.js'

/** A body that is at most this much is read to its end after an early error, and the connection kept. */
const SMALL_BODY_BYTES = 64 * 1024

const NO_TARGET: RequestTarget = { rawPath: '/', path: '/', query: [] }
const NO_HEADERS: HeaderTable = new Map()

function ignore(): void {}

/** What the exchanges of one worker share. */
export interface WorkerLoad {
  /** Requests being worked on. */
  requests: number
  /** Declared size of the XML bodies being read. */
  xmlBytes: number
}

export interface ExchangeParts {
  options: S3Options
  request: IncomingMessage
  response: ServerResponse
  requestId: string
  expectContinue: boolean
  load: WorkerLoad
}

/** What an operation that answers with XML has to say. */
export interface XmlAnswer {
  /** The whole document, with its declaration. */
  xml: string
  headers?: OutgoingHttpHeaders
}

export class Exchange {
  readonly options: S3Options
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly requestId: string
  readonly method: string
  readonly startMs: number = performance.now()
  /** Set by the handler before an operation runs. */
  target: RequestTarget = NO_TARGET
  headers: HeaderTable = NO_HEADERS
  bucket = ''
  key = ''
  operation = 'Unknown'
  bytesIn = 0
  bytesOut = 0
  firstByteMs = 0
  errorCode: string | undefined
  #verified: Verified | undefined
  #reader: RequestReader | undefined
  #body: RequestBody | undefined
  #abort: AbortController | undefined
  #continueWanted: boolean
  readonly #load: WorkerLoad
  #abandoned = false
  #onAbandoned: (() => void) | undefined

  constructor(parts: ExchangeParts) {
    this.options = parts.options
    this.request = parts.request
    this.response = parts.response
    this.requestId = parts.requestId
    this.method = parts.request.method ?? ''
    this.#continueWanted = parts.expectContinue
    this.#load = parts.load
    this.response.on('error', ignore)
  }

  get verified(): Verified {
    if (this.#verified === undefined) throw new Error('the request has not been authenticated')
    return this.#verified
  }

  set verified(verified: Verified) {
    this.#verified = verified
  }

  /** Owner id of the key that signed. */
  get ownerId(): string {
    return this.verified.credential.ownerId
  }

  /** Aborted when the client goes away before it was answered. */
  get signal(): AbortSignal {
    this.#abort ??= new AbortController()
    if (this.gone) this.#abort.abort()
    return this.#abort.signal
  }

  /** The client can no longer be answered. */
  get gone(): boolean {
    // Not response.socket: a response has none while the one before it on the connection is still being finished.
    return this.#abandoned || this.response.destroyed || this.request.socket.destroyed
  }

  /** The connection is closed: whoever works or waits for this client is told. */
  abandon(): void {
    this.#abandoned = true
    this.#abort?.abort()
    this.#onAbandoned?.()
  }

  header(name: string): string | undefined {
    return headerValue(this.headers, name)
  }

  /** First value of a query parameter; undefined when it was not sent. */
  query(name: string): string | undefined {
    return this.target.query.find((parameter) => parameter.name === name)?.value
  }

  plan(options: PlanOptions): BodyPlan {
    return planBody(this.headers, this.verified, options)
  }

  /** The body under a plan. 100 Continue is sent when its first byte is asked for. */
  openBody(plan: BodyPlan): RequestBody {
    const { limits } = this.options
    this.#reader = new RequestReader(this.request, {
      windowBytes: limits.bodyWindowBytes,
      firstByteMs: limits.bodyFirstByteMs,
      idleMs: limits.idleMs,
      minBytesPerSecond: limits.minBodyBytesPerSecond,
    }, () => {
      if (!this.#continueWanted) return
      this.#continueWanted = false
      this.response.writeContinue()
    })
    this.#body = new RequestBody(plan, this.#reader)
    return this.#body
  }

  /** The XML body, undefined when there is none. `objectChecksum`: checksum headers speak of the object. */
  async readXmlBody(objectChecksum = false): Promise<{ root: XmlElement; plan: BodyPlan } | undefined> {
    const { maxXmlBytes: maxBytes, maxXmlBytesTogether } = this.options.limits
    const plan = this.plan({
      maxBytes, tooLarge: 'MaxMessageLengthExceeded', lengthRequired: false, defaultChecksum: false, objectChecksum,
    })
    if (plan.size === 0) return undefined
    if (this.#load.xmlBytes + plan.size > maxXmlBytesTogether) throw new S3Error('SlowDown')
    this.#load.xmlBytes += plan.size
    try {
      return { root: await readXml(this.openBody(plan), { ...XML_LIMITS, maxBytes }), plan }
    } finally {
      this.#load.xmlBytes -= plan.size
    }
  }

  /** Status and headers, with the ids that every answer has. `length`: of the body, where it is known. */
  writeHead(status: number, headers: OutgoingHttpHeaders, length?: number): void {
    this.firstByteMs = performance.now() - this.startMs
    const all: OutgoingHttpHeader[] = [
      'x-amz-request-id', this.requestId, 'x-amz-id-2', this.options.hostId, 'Server', 'Ostraka',
    ]
    if (length !== undefined) all.push('Content-Length', length)
    for (const name of Object.keys(headers)) {
      const value = headers[name]
      if (value !== undefined) all.push(name, value)
    }
    // A body that the operation does not want must not go on arriving after the answer.
    if (this.#reader === undefined && !this.request.complete && this.#hasBody && headers['Connection'] === undefined) {
      all.push('Connection', 'close')
    }
    this.response.writeHead(status, all)
  }

  get #hasBody(): boolean {
    return this.headers.has('transfer-encoding') || Number(this.header('content-length') ?? 0) > 0
  }

  /** An answer without body. */
  sendEmpty(status: number, headers: OutgoingHttpHeaders = {}): void {
    this.writeHead(status, headers, status === 204 || status === 304 ? undefined : 0)
    this.response.end()
  }

  sendXml(answer: XmlAnswer, status = 200): void {
    const body = Buffer.from(answer.xml)
    this.writeHead(status, { 'Content-Type': 'application/xml', ...answer.headers }, body.length)
    this.bytesOut += body.length
    this.response.end(body)
  }

  /**
   * Answers with XML when `work` is done. Work that takes long gets its head early and blanks meanwhile; an error
   * then comes as error document after status 200, as S3 does it.
   */
  async sendXmlWhenDone(work: Promise<XmlAnswer>): Promise<void> {
    const begin = (): void => {
      if (this.gone) return
      if (!this.response.headersSent) {
        this.writeHead(200, { 'Content-Type': 'application/xml' })
        this.response.write(XML_DECLARATION)
      } else {
        this.response.write(' ')
      }
    }
    const keepAlive = setInterval(begin, this.options.limits.keepAliveMs)
    try {
      const answer = await work
      if (!this.response.headersSent) {
        this.sendXml(answer)
        return
      }
      this.response.end(answer.xml.slice(XML_DECLARATION.length))
    } catch (thrown) {
      if (!this.response.headersSent) throw thrown
      const error = this.#note(thrown)
      this.response.end(this.#document(error).slice(XML_DECLARATION.length))
    } finally {
      clearInterval(keepAlive)
    }
  }

  /** Resolves when the client has taken what was written. Throws when it goes away, or takes nothing for idleMs. */
  drained(): Promise<void> {
    const { response } = this
    return new Promise((resolve, reject) => {
      const done = (error?: S3Error): void => {
        clearTimeout(timer)
        response.off('drain', onDrain)
        this.#onAbandoned = undefined
        if (error === undefined) resolve()
        else reject(error)
      }
      const onDrain = (): void => { done() }
      const giveUp = (): void => { done(new S3Error('RequestTimeout')) }
      const timer = setTimeout(giveUp, this.options.limits.idleMs)
      response.once('drain', onDrain)
      this.#onAbandoned = giveUp
      if (this.gone) giveUp()
    })
  }

  /** Ends the exchange with an error. Never throws. */
  async fail(thrown: unknown): Promise<void> {
    const error = this.#note(thrown)
    this.#reader?.release()
    if (this.gone) return
    if (this.response.headersSent) {
      this.response.destroy()
      return
    }
    const small = await this.#drainSmallBody()
    if (this.gone) return
    const close = !small && !this.request.complete
    this.#sendError(error, close)
    if (close) await this.#drainThenClose()
  }

  /** Lets go of the body, once the exchange has been answered or has failed. */
  finish(): void {
    if (this.#body !== undefined) this.bytesIn = this.#body.seenBytes
    this.#reader?.release()
  }

  #note(thrown: unknown): S3Error {
    const error = toS3Error(thrown)
    this.errorCode = error.code
    const { requestId, operation } = this
    const fields = { requestId, operation, code: error.code, err: error.cause ?? error }
    if (error.code === 'InternalError') this.options.log.error(fields, 'request failed')
    else if (errorStatus(error.code) === 503) this.options.log.warn(fields, 'request could not be served')
    return error
  }

  #document(error: S3Error): string {
    return errorDocument(error, {
      resource: this.target.path, requestId: this.requestId, hostId: this.options.hostId,
    })
  }

  #sendError(error: S3Error, close: boolean): void {
    const status = errorStatus(error.code)
    const headers: OutgoingHttpHeaders = { ...error.headers }
    if (status === 503) headers['Retry-After'] = '1'
    if (close) headers['Connection'] = 'close'
    if (status === 304) {
      this.sendEmpty(status, headers)
      return
    }
    const body = Buffer.from(this.#document(error))
    headers['Content-Type'] = 'application/xml'
    // A HEAD answer has no body; the length of the one it would have had says nothing useful.
    if (this.method === 'HEAD') {
      this.writeHead(status, headers)
      this.response.end()
      return
    }
    this.writeHead(status, headers, body.length)
    this.bytesOut += body.length
    // When the connection will be cut, its end waits until the client has had time to read this.
    if (close) this.response.write(body)
    else this.response.end(body)
  }

  /** Reads a small rest of the body before answering, so that the connection can be kept. */
  async #drainSmallBody(): Promise<boolean> {
    if (this.request.complete) return true
    const length = Number(this.header('content-length') ?? Number.NaN)
    if (this.#continueWanted || !(length <= SMALL_BODY_BYTES)) return false
    return this.#discard(SMALL_BODY_BYTES)
  }

  async #drainThenClose(): Promise<void> {
    await this.#discard(this.options.limits.drainBytes)
    if (!this.response.writableEnded) this.response.end()
  }

  /** Reads and drops at most `maxBytes` for at most drainMs; true when the body ended. */
  #discard(maxBytes: number): Promise<boolean> {
    const { request } = this
    return new Promise((resolve) => {
      let left = maxBytes
      const done = (): void => {
        clearTimeout(timer)
        request.off('data', onData)
        request.off('end', done)
        request.off('close', done)
        if (!request.complete) request.pause()
        resolve(request.complete)
      }
      const onData = (piece: Buffer): void => {
        left -= piece.length
        if (left < 0) done()
      }
      const timer = setTimeout(done, this.options.limits.drainMs)
      request.on('data', onData)
      request.once('end', done)
      request.once('close', done)
      request.resume()
      if (request.complete && request.readableEnded || request.destroyed) done()
    })
  }
}

/** For answers written without a ServerResponse: a request that could not even be parsed. */
export function rawError(error: S3Error, requestId: string): string {
  const body = errorDocument(error, { resource: '', requestId, hostId: requestId })
  return `HTTP/1.1 ${errorStatus(error.code)} Bad Request\r\nConnection: close\r\nContent-Type: application/xml\r\n`
    + `x-amz-request-id: ${requestId}\r\nx-amz-id-2: ${requestId}\r\n`
    + `Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`
}
