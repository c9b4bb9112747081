/**
 * One keep-alive HTTP/1.1 connection that sends a request and reads its answer, one after the other: as little work as
 * can be done, so that the load generator is not what is measured. Understands answers with content-length, chunked
 * ones, and those that end with the connection. A connection that the server closed between two requests is opened
 * again by the next one.
 */
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'

export interface Answer {
  status: number
  /** Bytes of body, without the framing of chunks. */
  bodyBytes: number
  /** The body when it was asked for, else empty. */
  body: Buffer
}

export interface Address {
  host: string
  port: number
  tls: boolean
  /** With tls: any certificate will do. */
  insecure: boolean
}

interface Pending {
  headOnly: boolean
  keep: boolean
  resolve(answer: Answer): void
  reject(error: Error): void
}

const HEAD_END = Buffer.from('\r\n\r\n')
const NOTHING = Buffer.alloc(0)
/** An answer's head, or one line of a chunked body, beyond this is no HTTP that we know. */
const MAX_HEAD = 64 * 1024

export class Connection {
  readonly #address: Address
  #socket: Socket | undefined
  #pending: Pending | undefined
  /** Bytes of a head or of a chunk's line that is not whole yet. */
  #partial: Buffer = NOTHING
  #status = 0
  #bodyBytes = 0
  #kept: Buffer[] = []
  #phase: 'head' | 'length' | 'chunkLine' | 'chunkData' | 'trailer' | 'untilClose' = 'head'
  /** Bytes to come of a body of known length, or of a chunk with its line end. */
  #left = 0
  #closes = false
  /** What was wrong with the server between two requests. */
  #problem: Error | undefined

  constructor(address: Address) {
    this.#address = address
  }

  /** Resolves when connected; rejects with the system's error. */
  async open(): Promise<void> {
    const { host, port, tls, insecure } = this.#address
    const socket = tls
      ? connectTls({ host, port, rejectUnauthorized: !insecure, ALPNProtocols: ['http/1.1'] })
      : connect({ host, port })
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject)
      socket.once(tls ? 'secureConnect' : 'connect', () => {
        socket.off('error', reject)
        resolve()
      })
    })
    socket.setNoDelay(true)
    socket.on('data', (data: Buffer) => { this.#receive(data) })
    socket.on('error', (error: Error) => { this.#ended(socket, error) })
    socket.on('close', () => { this.#ended(socket, new Error('the server closed the connection')) })
    this.#socket = socket
    this.#phase = 'head'
    this.#partial = NOTHING
  }

  /** `head` is the whole head of the request with its empty line. Rejects when the connection fails. */
  async send(head: string, body?: Uint8Array, options: { headOnly?: boolean; keep?: boolean } = {}): Promise<Answer> {
    if (this.#problem !== undefined) throw this.#problem
    if (this.#socket === undefined) await this.open()
    const socket = this.#socket
    if (socket === undefined) throw new Error('the server closed the connection')
    return new Promise((resolve, reject) => {
      this.#pending = { headOnly: options.headOnly === true, keep: options.keep === true, resolve, reject }
      socket.cork()
      socket.write(head, 'latin1')
      if (body !== undefined && body.length > 0) socket.write(body)
      socket.uncork()
    })
  }

  close(): void {
    this.#pending = undefined
    this.#socket?.destroy()
    this.#socket = undefined
  }

  #receive(data: Buffer): void {
    let rest = data
    try {
      while (rest.length > 0 && this.#pending !== undefined) rest = this.#step(rest)
      if (rest.length > 0) throw new Error('the server sent more than the answer')
    } catch (error) {
      const socket = this.#socket
      if (this.#pending === undefined) this.#problem = error as Error
      if (socket !== undefined) this.#ended(socket, error as Error)
      socket?.destroy()
    }
  }

  /** Takes some of `data`, and returns what is left of it. */
  #step(data: Buffer): Buffer {
    switch (this.#phase) {
      case 'head':
        return this.#line(data, HEAD_END, (head) => { this.#readHead(head) })
      case 'chunkLine':
        return this.#line(data, HEAD_END.subarray(0, 2), (line) => {
          const size = parseInt(line, 16)
          if (!(size >= 0)) throw new Error('a bad chunk in the answer')
          this.#left = size + 2
          this.#phase = size === 0 ? 'trailer' : 'chunkData'
        })
      case 'trailer':
        return this.#line(data, HEAD_END.subarray(0, 2), (line) => {
          if (line === '') this.#done()
        })
      case 'chunkData': {
        const taken = data.subarray(0, this.#left)
        this.#left -= taken.length
        // The line end after a chunk is no data.
        this.#take(taken.subarray(0, Math.max(0, taken.length - Math.max(0, 2 - this.#left))))
        if (this.#left === 0) this.#phase = 'chunkLine'
        return data.subarray(taken.length)
      }
      case 'length': {
        const taken = data.subarray(0, this.#left)
        this.#left -= taken.length
        this.#take(taken)
        if (this.#left === 0) this.#done()
        return data.subarray(taken.length)
      }
      case 'untilClose':
        this.#take(data)
        return NOTHING
    }
  }

  #line(data: Buffer, end: Buffer, use: (text: string) => void): Buffer {
    const all = this.#partial.length === 0 ? data : Buffer.concat([this.#partial, data])
    const at = all.indexOf(end)
    if (at === -1) {
      if (all.length > MAX_HEAD) throw new Error('the head of the answer is too long')
      this.#partial = all
      return NOTHING
    }
    this.#partial = NOTHING
    use(all.toString('latin1', 0, at))
    return all.subarray(at + end.length)
  }

  #readHead(head: string): void {
    this.#status = Number(head.slice(9, 12))
    if (!head.startsWith('HTTP/1.') || !(this.#status >= 100)) throw new Error('the answer is not HTTP')
    if (this.#status < 200) return
    this.#bodyBytes = 0
    this.#kept = []
    this.#closes = /\r\nconnection: *close/i.test(head)
    const length = /\r\ncontent-length: *(\d+)/i.exec(head)?.[1]
    if (this.#pending?.headOnly === true || this.#status === 204 || this.#status === 304) this.#done()
    else if (/\r\ntransfer-encoding: *chunked/i.test(head)) this.#phase = 'chunkLine'
    else if (length === undefined) this.#phase = 'untilClose'
    else if (Number(length) === 0) this.#done()
    else {
      this.#left = Number(length)
      this.#phase = 'length'
    }
  }

  #take(data: Buffer): void {
    this.#bodyBytes += data.length
    if (this.#pending?.keep === true) this.#kept.push(data)
  }

  #done(): void {
    const pending = this.#pending
    this.#pending = undefined
    this.#phase = 'head'
    if (this.#closes) {
      this.#socket?.destroy()
      this.#socket = undefined
    }
    pending?.resolve({ status: this.#status, bodyBytes: this.#bodyBytes, body: Buffer.concat(this.#kept) })
  }

  #ended(socket: Socket, error: Error): void {
    if (this.#socket !== socket) return
    this.#socket = undefined
    if (this.#phase === 'untilClose' && this.#pending !== undefined) {
      this.#done()
      return
    }
    const pending = this.#pending
    this.#pending = undefined
    pending?.reject(error)
  }
}
