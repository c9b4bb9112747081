/**
 * One keep-alive connection that sends a request and reads its answer, one after the other: as little work as can be
 * done, so that the generator is not what is measured. Understands answers with content-length and chunked ones.
 */
import { connect } from 'node:net'
import type { Socket } from 'node:net'

export interface Answer {
  status: number
  bodyBytes: number
}

const HEAD_END = Buffer.from('\r\n\r\n')
const LAST_CHUNK = Buffer.from('0\r\n\r\n')

export class Connection {
  readonly #socket: Socket
  #pending: { resolve(answer: Answer): void; reject(error: Error): void } | undefined
  #head: Buffer = Buffer.alloc(0)
  #status = 0
  #bodyBytes = 0
  /** Bytes of body still to come; -1 while the head is read, Infinity for a chunked body. */
  #left = -1
  #tail: Buffer = Buffer.alloc(0)

  private constructor(socket: Socket) {
    this.#socket = socket
    socket.on('data', (data: Buffer) => {
      this.#receive(data)
    })
    socket.on('error', (error) => {
      this.#fail(error)
    })
    socket.on('close', () => {
      this.#fail(new Error('the server closed the connection'))
    })
  }

  static open(host: string, port: number): Promise<Connection> {
    return new Promise((resolve, reject) => {
      const socket = connect({ host, port, noDelay: true })
      socket.once('error', reject)
      socket.once('connect', () => {
        socket.off('error', reject)
        resolve(new Connection(socket))
      })
    })
  }

  send(head: string, body: Uint8Array | undefined): Promise<Answer> {
    return new Promise((resolve, reject) => {
      this.#pending = { resolve, reject }
      this.#left = -1
      this.#bodyBytes = 0
      this.#socket.cork()
      this.#socket.write(head)
      if (body !== undefined) this.#socket.write(body)
      this.#socket.uncork()
    })
  }

  close(): void {
    this.#pending = undefined
    this.#socket.destroy()
  }

  #receive(data: Buffer): void {
    let rest = data
    if (this.#left === -1) {
      const all = this.#head.length === 0 ? rest : Buffer.concat([this.#head, rest])
      const end = all.indexOf(HEAD_END)
      if (end === -1) {
        this.#head = all
        return
      }
      this.#readHead(all.toString('latin1', 0, end))
      this.#head = Buffer.alloc(0)
      rest = all.subarray(end + HEAD_END.length)
    }
    this.#readBody(rest)
  }

  #readHead(head: string): void {
    this.#status = Number(head.slice(9, 12))
    const length = /\r\ncontent-length: *(\d+)/i.exec(head)?.[1]
    const chunked = /\r\ntransfer-encoding: *chunked/i.test(head)
    this.#left = chunked ? Infinity : Number(length ?? 0)
    this.#tail = Buffer.alloc(0)
  }

  #readBody(data: Buffer): void {
    this.#bodyBytes += data.length
    if (this.#left === Infinity) {
      this.#tail = Buffer.concat([this.#tail, data]).subarray(-LAST_CHUNK.length)
      if (this.#tail.equals(LAST_CHUNK)) this.#done()
      return
    }
    this.#left -= data.length
    if (this.#left <= 0) this.#done()
  }

  #done(): void {
    const pending = this.#pending
    this.#pending = undefined
    this.#left = -1
    pending?.resolve({ status: this.#status, bodyBytes: this.#bodyBytes })
  }

  #fail(error: Error): void {
    const pending = this.#pending
    this.#pending = undefined
    pending?.reject(error)
  }
}
