/** Requests written byte by byte on a socket, rightly signed, for what no well-behaved client sends. */
import { type Socket, connect } from 'node:net'
import { once } from 'node:events'
import { ACCESS_KEY, SECRET_KEY, scopeOf, sha256, signCanonical } from '../../auth/support.js'

export interface RawAnswer {
  status: number
  headers: Map<string, string>
  body: string
}

export interface SignOptions {
  headers?: Record<string, string>
  /** x-amz-content-sha256. */
  payload?: string
  /** Canonical path, when it is not the path as sent. */
  canonicalPath?: string
}

export interface SignedHead {
  text: string
  /** Seed of the chunk chain. */
  signature: string
  timestamp: string
}

/** The head of a request with its signature, ready to send. */
export function signedHead(method: string, target: string, options: SignOptions = {}): SignedHead {
  const timestamp = new Date().toISOString().replace(/[-:]|\.\d{3}/g, '')
  const context = { timestamp, region: 'us-east-1', service: 's3', secretKey: SECRET_KEY }
  const payload = options.payload ?? sha256('')
  const headers: Record<string, string> = {
    host: 'raw.test', 'x-amz-date': timestamp, 'x-amz-content-sha256': payload, ...options.headers,
  }
  const names = Object.keys(headers).sort()
  const [path = '', query = ''] = target.split('?')
  const canonicalQuery = query.split('&').filter((pair) => pair !== '')
    .map((pair) => (pair.includes('=') ? pair : pair + '=')).sort().join('&')
  const canonical = [method, options.canonicalPath ?? path, canonicalQuery,
    ...names.map((name) => `${name}:${(headers[name] ?? '').trim()}`), '', names.join(';'), payload].join('\n')
  const signature = signCanonical(canonical, context)
  const authorization = `AWS4-HMAC-SHA256 Credential=${ACCESS_KEY}/${scopeOf(context)}, `
    + `SignedHeaders=${names.join(';')}, Signature=${signature}`
  const lines = [`${method} ${target} HTTP/1.1`, ...names.map((name) => `${name}: ${headers[name] ?? ''}`),
    `Authorization: ${authorization}`]
  return { text: lines.join('\r\n') + '\r\n\r\n', signature, timestamp }
}

/** A connection that remembers everything it received. */
export class RawConnection {
  readonly socket: Socket
  #received = ''
  #ended = false

  private constructor(socket: Socket) {
    this.socket = socket
    socket.setEncoding('latin1')
    socket.on('data', (text: string) => { this.#received += text })
    socket.on('error', () => undefined)
    socket.on('end', () => { this.#ended = true })
    socket.on('close', () => { this.#ended = true })
  }

  static async open(port: number, allowHalfOpen = true): Promise<RawConnection> {
    const socket = connect({ port, host: '127.0.0.1', allowHalfOpen })
    await once(socket, 'connect')
    return new RawConnection(socket)
  }

  get received(): string {
    return this.#received
  }

  get ended(): boolean {
    return this.#ended
  }

  send(data: string | Uint8Array): void {
    this.socket.write(data)
  }

  /** Waits until the received text matches, or the connection is gone. */
  async until(holds: (received: string) => boolean): Promise<string> {
    while (!holds(this.#received) && !this.#ended) await new Promise((resolve) => setTimeout(resolve, 5))
    return this.#received
  }

  /** The next answer with Content-Length, taken off what was received; 100 Continue is skipped. */
  async answer(): Promise<RawAnswer> {
    const head = /^(?:HTTP\/1\.1 100 Continue\r\n\r\n)?(HTTP\/1\.1 (\d{3})[^\r\n]*\r\n[^]*?\r\n\r\n)/
    let length = 0
    await this.until((received) => {
      const found = head.exec(received)
      if (found === null) return false
      length = found[0].length + Number(/\r\ncontent-length: (\d+)/i.exec(found[1] ?? '')?.[1] ?? 0)
      return received.length >= length
    })
    const found = head.exec(this.#received)
    if (found === null) throw new Error(`no answer, but ${JSON.stringify(this.#received.slice(0, 200))}`)
    const [whole, text = '', status = ''] = found
    const headers = new Map(text.split('\r\n').slice(1).filter((line) => line !== '').map((line) => {
      const colon = line.indexOf(':')
      return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()] as const
    }))
    const body = this.#received.slice(whole.length, length)
    this.#received = this.#received.slice(length)
    return { status: Number(status), headers, body }
  }

  async closed(): Promise<void> {
    await this.until(() => false)
  }

  destroy(): void {
    this.socket.destroy()
  }
}

/** One request on its own connection. */
export async function rawRequest(port: number, ...pieces: (string | Uint8Array)[]): Promise<RawAnswer> {
  const connection = await RawConnection.open(port)
  try {
    for (const piece of pieces) connection.send(piece)
    return await connection.answer()
  } finally {
    connection.destroy()
  }
}

/** The code of an error document. */
export function codeOf(answer: RawAnswer): string {
  return /<Code>(\w+)<\/Code>/.exec(answer.body)?.[1] ?? `${answer.status}`
}
