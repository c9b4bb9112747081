/**
 * The admin address: `GET /metrics`, `GET /health/live` and `GET /health/ready` for anyone who reaches it, and the
 * signed JSON API under /admin/v1/ (signature.ts) that `ostraka admin` speaks.
 *
 * Errors are `{ "error": "..." }` with a fitting status; no stack or path of the program leaves the server.
 */
import { createServer } from 'node:http'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

import type { HostPort } from '../config/units.js'
import { explain } from '../listen.js'
import type { Logger } from '../log.js'
import type { AdminVerifier } from './signature.js'

/** An answer of the JSON API. */
export interface AdminAnswer {
  status: number
  body: unknown
}

/** A call of the JSON API: `body` is the parsed JSON of a POST, undefined without one. */
export type AdminRoute = (body: unknown) => AdminAnswer | Promise<AdminAnswer>

export interface AdminOptions {
  address: HostPort
  verifier: AdminVerifier
  metrics(): Promise<{ contentType: string; text: string }>
  /** Empty when S3 requests can be served, else why not. */
  notReady(): string[]
  /** 'GET /admin/v1/status' -> route. */
  routes: ReadonlyMap<string, AdminRoute>
  log: Logger
}

/** A mistake of the caller; the message is sent. */
export class AdminError extends Error {
  readonly status: number
  constructor(status: number, message: string) {
    super(message)
    this.name = 'AdminError'
    this.status = status
  }
}

const MAX_BODY = 64 * 1024

export class AdminServer {
  readonly #options: AdminOptions
  readonly #server: Server

  constructor(options: AdminOptions) {
    this.#options = options
    this.#server = createServer(
      { maxHeaderSize: 16 * 1024, requestTimeout: 30_000, headersTimeout: 10_000 },
      (request, response) => {
        void this.#answer(request, response)
      },
    )
    this.#server.maxConnections = 256
    // None is left out for their number: `maxHeaderSize` bounds them.
    this.#server.maxHeadersCount = 0
  }

  listen(): Promise<HostPort> {
    const { address } = this.#options
    return new Promise((resolve, reject) => {
      this.#server.once('error', (error) => { reject(explain(address, error)) })
      this.#server.listen({ host: address.host, port: address.port }, () => {
        resolve({ host: address.host, port: (this.#server.address() as AddressInfo).port })
      })
    })
  }

  close(): void {
    this.#server.close()
    this.#server.closeAllConnections()
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      const body = await readBody(request)
      const open = await this.#openRoute(request, response)
      if (!open) send(response, await this.#signedRoute(request, body))
    } catch (error) {
      if (error instanceof AdminError) {
        send(response, { status: error.status, body: { error: error.message } })
        return
      }
      this.#options.log.error({ err: error, method: request.method, url: request.url }, 'an admin request failed')
      send(response, { status: 500, body: { error: 'internal error; the log of the server says more' } })
    }
  }

  /** True when the request was one of those that need no signature. */
  async #openRoute(request: IncomingMessage, response: ServerResponse): Promise<boolean> {
    if (request.method !== 'GET' && request.method !== 'HEAD') return false
    if (request.url === '/metrics') {
      const { contentType, text } = await this.#options.metrics()
      response.writeHead(200, { 'content-type': contentType }).end(text)
      return true
    }
    if (request.url === '/health/live') {
      send(response, { status: 200, body: { live: true } })
      return true
    }
    if (request.url === '/health/ready') {
      const reasons = this.#options.notReady()
      send(response, { status: reasons.length === 0 ? 200 : 503, body: { ready: reasons.length === 0, reasons } })
      return true
    }
    return false
  }

  async #signedRoute(request: IncomingMessage, body: string): Promise<AdminAnswer> {
    const [method, target] = [request.method ?? '', request.url ?? '']
    const wrong = this.#options.verifier.check({ method, target, body }, request.headers.authorization, Date.now())
    if (wrong !== '') throw new AdminError(403, wrong)
    const route = this.#options.routes.get(`${method} ${target}`)
    if (route === undefined) throw new AdminError(404, `there is no ${method} ${target.slice(0, 200)}`)
    return route(body === '' ? undefined : parseJson(body))
  }
}

function parseJson(body: string): unknown {
  try {
    return JSON.parse(body) as unknown
  } catch {
    throw new AdminError(400, 'the body is not JSON')
  }
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > MAX_BODY) throw new AdminError(413, 'the body is too large')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

function send(response: ServerResponse, answer: AdminAnswer): void {
  if (response.headersSent) {
    response.destroy()
    return
  }
  const text = `${JSON.stringify(answer.body)}\n`
  response.writeHead(answer.status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) })
  response.end(text)
}
