/**
 * The door of the S3 API. One handler serves one worker; it is a plain `request` listener for node:http:
 *
 *   const server = createS3Server(options.limits, createS3Handler(options))
 *
 * A request goes through: admission, target, address, signature, operation. Whatever any of them throws becomes one
 * S3 error answer, and never leaves the handler.
 */
import { randomBytes } from 'node:crypto'
import { createServer } from 'node:http'
import type { IncomingMessage, Server, ServerOptions, ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import { S3Error } from '../../store/errors.js'
import { CONSISTENCY_HEADER } from './consistency.js'
import { headerTable } from '../auth/canonical.js'
import { SigV4Verifier } from '../auth/sigv4.js'
import { parseTarget } from '../auth/target.js'
import { Exchange, type WorkerLoad, rawError } from './exchange.js'
import { refuseUnsupportedHeaders } from './headers.js'
import type { S3Limits, S3Options } from './options.js'
import { address, checkAddress, refuseForm, route } from './router.js'

export type { S3Limits, S3Logger, S3Metrics, S3Options, RequestSummary } from './options.js'
export { DEFAULT_S3_LIMITS } from './options.js'
export { OPERATION_NAMES } from './router.js'

/** `expectContinue`: the client waits for 100 Continue before it sends its body. */
export type S3Handler = (request: IncomingMessage, response: ServerResponse, expectContinue?: boolean) => void

/** Status in logs and metrics of a request whose client went away before it was answered. */
export const CLIENT_GONE = 499

/** Exchanges that are under way, by their connection; more than one when a client does not wait for answers. */
const underWay = new WeakMap<Duplex, Exchange[]>()

function begin(exchange: Exchange): void {
  const { socket } = exchange.request
  const exchanges = underWay.get(socket)
  if (exchanges !== undefined) {
    exchanges.push(exchange)
    return
  }
  const made = [exchange]
  underWay.set(socket, made)
  socket.once('close', () => { for (const left of made) left.abandon() })
}

function end(exchange: Exchange): void {
  const exchanges = underWay.get(exchange.request.socket)
  exchanges?.splice(exchanges.indexOf(exchange), 1)
}

export function createS3Handler(options: S3Options): S3Handler {
  const verifier = new SigV4Verifier({
    credentials: options.credentials, region: options.region, service: 's3', nowMs: () => options.nowMs(),
  })
  const load: WorkerLoad = { requests: 0, xmlBytes: 0 }
  return (request, response, expectContinue = false) => {
    const exchange = new Exchange({ options, request, response, requestId: newRequestId(), expectContinue, load })
    begin(exchange)
    const admitted = load.requests < options.limits.maxRequests
    if (admitted) load.requests += 1
    options.metrics.requestStarted()
    void serve(exchange, verifier, admitted, load)
  }
}

const BYTES: readonly string[] = Array.from({ length: 256 }, (_, byte) => hexDigits(byte, 2))

function hexDigits(value: number, digits: number): string {
  return value.toString(16).padStart(digits, '0').toUpperCase()
}

const drawn = randomBytes(4).toString('hex').toUpperCase()
let counted = randomBytes(4).readUInt32BE()
let requestIdPrefix = ''

/** 16 hex digits, as S3's are: drawn once for the thread, then counted. */
function newRequestId(): string {
  counted = (counted + 1) >>> 0
  const last = counted & 0xff
  // The digits of a large number cost more than those of a byte that are at hand.
  if (last === 0 || requestIdPrefix === '') requestIdPrefix = drawn + hexDigits(counted >>> 8, 6)
  return requestIdPrefix + (BYTES[last] ?? '')
}

/** Never rejects. */
async function serve(
  exchange: Exchange, verifier: SigV4Verifier, admitted: boolean, load: WorkerLoad,
): Promise<void> {
  try {
    if (!admitted) throw new S3Error('SlowDown')
    const { options, request } = exchange
    const url = request.url ?? ''
    exchange.headers = headerTable(request.rawHeaders)
    if (url.length > options.limits.maxUrlBytes) throw new S3Error('InvalidURI', 'The request URI is too long.')
    exchange.target = parseTarget(url)
    const at = address(exchange.header('host') ?? '', exchange.target.path, options.domains)
    exchange.bucket = at.bucket
    exchange.key = at.key
    refuseForm(exchange.method, at, exchange.header('content-type'))
    exchange.verified = verifier.verify({
      method: exchange.method, target: exchange.target, headers: exchange.headers,
      // Clients that do not know the region ask for it in the one that all of S3 began in.
      alsoRegion: exchange.query('location') === undefined ? undefined : 'us-east-1',
    })
    checkAddress(at)
    const operation = route(exchange.method, at, exchange.target.query, exchange.headers.has('x-amz-copy-source'))
    exchange.operation = operation.name
    refuseUnsupportedHeaders(exchange)
    const settling = options.settled?.(exchange.header(CONSISTENCY_HEADER))
    if (settling !== undefined) await settling
    // Most are answered at once: an await would cost them a turn.
    const running = operation.run(exchange)
    if (running !== undefined) await running
  } catch (thrown) {
    await exchange.fail(thrown)
  } finally {
    exchange.finish()
    if (admitted) load.requests -= 1
    conclude(exchange)
  }
}

function conclude(exchange: Exchange): void {
  end(exchange)
  const { options, response, requestId, operation, bucket, key, bytesIn, bytesOut, firstByteMs } = exchange
  const durationMs = performance.now() - exchange.startMs
  const status = response.headersSent ? response.statusCode : CLIENT_GONE
  const code = exchange.errorCode
  options.metrics.requestEnded({ operation, status, code, bytesIn, bytesOut, durationMs, firstByteMs })
  if (options.log.skips?.(status) === true) return
  options.log.info({
    requestId, operation, bucket, key, status, code, bytesIn, bytesOut, durationMs: Math.round(durationMs * 10) / 10,
  }, 'request')
}

/** A server for this handler, which does not listen yet. `more` goes before what the S3 API asks for by itself. */
export function createS3Server(limits: S3Limits, handler: S3Handler, more: ServerOptions = {}): Server {
  const server = createServer({ ...s3ServerOptions(limits), ...more }, handler)
  // By default headers behind the 1,000th or so are left out without a word, a condition or a checksum among them.
  // `maxHeaderSize` bounds them all.
  server.maxHeadersCount = 0
  server.on('checkContinue', s3CheckContinue(handler))
  server.on('clientError', s3ClientError)
  return server
}

/** Listener for 'checkContinue': 100 Continue is sent only when the body is first wanted. */
function s3CheckContinue(handler: S3Handler): (request: IncomingMessage, response: ServerResponse) => void {
  return (request, response) => { handler(request, response, true) }
}

/** What node:http itself has to bound. Bodies have clocks of their own, so there is no limit on a whole request. */
function s3ServerOptions(limits: S3Limits): ServerOptions {
  return {
    maxHeaderSize: limits.maxHeaderBytes,
    headersTimeout: 60_000,
    requestTimeout: 0,
    keepAliveTimeout: 65_000,
    noDelay: true,
    insecureHTTPParser: false,
    // Header values are used as they were sent, from rawHeaders.
    joinDuplicateHeaders: true,
  }
}

/** Listener for 'clientError': what node could not parse, or a connection that broke in the middle of a request. */
function s3ClientError(error: NodeJS.ErrnoException, socket: Duplex): void {
  const exchanges = underWay.get(socket) ?? []
  const midAnswer = exchanges.some(({ response }) => response.headersSent)
  if (error.code === 'ECONNRESET' || !socket.writable || midAnswer) {
    socket.destroy()
    return
  }
  let answer: S3Error
  if (error.code === 'HPE_HEADER_OVERFLOW') answer = new S3Error('RequestHeaderSectionTooLarge')
  else if (error.code === 'ERR_HTTP_REQUEST_TIMEOUT') answer = new S3Error('RequestTimeout')
  else if (exchanges.length > 0) answer = new S3Error('IncompleteBody')
  else answer = new S3Error('InvalidRequest', 'The request is not valid HTTP.')
  socket.end(rawError(answer, newRequestId()), () => { socket.destroy() })
}
