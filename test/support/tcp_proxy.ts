/**
 * A TCP proxy that stands between two nodes and misbehaves on demand: cuts connections, refuses new ones, swallows
 * bytes without a word, holds them back, changes them, and remembers what went through.
 */
import { connect, createServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'

export type Direction = 'there' | 'back'

interface Pair {
  near: Socket
  far: Socket
  /** The node that made the connection, as its greeting says; 0 before. */
  from: number
}

/** Where the id of a node stands in what it sends first: frame length, type, magic, versions, lane, flags. */
const NODE_AT = 4 + 13

/** Pieces remembered of one connection. */
const MOST_RECORDED = 1000

export class TcpProxy {
  readonly #server: Server
  readonly #pairs = new Set<Pair>()
  /** Nothing passes, in a direction, on connections that this node has made, old or new. */
  readonly blocked: Record<Direction, Set<number>> = { there: new Set<number>(), back: new Set<number>() }
  /** New connections are closed at once. */
  refusing = false
  /** Bytes of these directions vanish; connections stay. */
  readonly swallowed = new Set<Direction>()
  /** Changes what goes through. */
  change: (bytes: Buffer, direction: Direction) => Buffer = (bytes) => bytes
  /** What went towards the target on each connection, in order of connections. */
  readonly recorded: Buffer[][] = []
  accepted = 0

  private constructor(server: Server) {
    this.#server = server
  }

  static async to(target: () => { host: string; port: number }): Promise<TcpProxy> {
    const server = createServer()
    const proxy = new TcpProxy(server)
    server.on('connection', (near) => {
      proxy.#join(near, target())
    })
    await new Promise<void>((resolve) => server.listen({ host: '127.0.0.1', port: 0 }, resolve))
    return proxy
  }

  get address(): { host: string; port: number } {
    return { host: '127.0.0.1', port: (this.#server.address() as AddressInfo).port }
  }

  get open(): number {
    return this.#pairs.size
  }

  /** Resets every connection. */
  cut(): void {
    for (const { near, far } of this.#pairs) {
      near.destroy()
      far.destroy()
    }
  }

  /** Stops reading from either side, as a peer that does not read. */
  hold(): void {
    for (const { near, far } of this.#pairs) {
      near.pause()
      far.pause()
    }
  }

  release(): void {
    for (const { near, far } of this.#pairs) {
      near.resume()
      far.resume()
    }
  }

  async close(): Promise<void> {
    this.refusing = true
    this.cut()
    await new Promise<void>((resolve) => {
      this.#server.close(() => {
        resolve()
      })
    })
  }

  #join(near: Socket, target: { host: string; port: number }): void {
    this.accepted += 1
    if (this.refusing) {
      near.destroy()
      return
    }
    const far = connect(target)
    const pair: Pair = { near, far, from: 0 }
    const record: Buffer[] = []
    this.recorded.push(record)
    this.#pairs.add(pair)
    const end = (): void => {
      this.#pairs.delete(pair)
      near.destroy()
      far.destroy()
    }
    for (const socket of [near, far]) {
      socket.setNoDelay(true)
      socket.on('error', end)
      socket.on('close', end)
    }
    near.on('data', (bytes: Buffer) => {
      if (record.length === 0 && bytes.length >= NODE_AT + 8) pair.from = Number(bytes.readBigUInt64LE(NODE_AT))
      if (record.length < MOST_RECORDED) record.push(bytes)
      if (!this.swallowed.has('there') && !this.blocked.there.has(pair.from)) far.write(this.change(bytes, 'there'))
    })
    far.on('data', (bytes: Buffer) => {
      if (!this.swallowed.has('back') && !this.blocked.back.has(pair.from)) near.write(this.change(bytes, 'back'))
    })
  }
}
