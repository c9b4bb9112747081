/**
 * The transport of one node: listens on the cluster address, keeps one connection to each peer for messages and calls,
 * and makes connections of their own for long answers.
 *
 *   send      may be lost; says whether it was taken
 *   call      answered once, or an RpcError that says whether it may have happened
 *   ask       a question and a long answer, on a connection beside the others
 *
 * Everything that comes in is handed to `handlers` with the id that the sender has proved. What a stranger can take up
 * is bounded: handshakes at a time, their length and their duration. Runs in any thread; owns no other.
 */
import { createConnection, createServer } from 'node:net'
import type { Server, Socket } from 'node:net'
import { connect as connectTls, createServer as createTlsServer } from 'node:tls'

import { BulkAnswerer, BulkAsker } from './bulk.js'
import { Connection, DEFAULT_LIMITS } from './connection.js'
import type { ConnectionEvents, ConnectionLimits } from './connection.js'
import { systemEnvironment } from './environment.js'
import type { Environment } from './environment.js'
import { Refusal, RpcError } from './errors.js'
import { VERSIONS } from './handshake.js'
import type { Hello, Lane } from './handshake.js'
import { DEFAULT_LINK_LIMITS, Link } from './link.js'
import type { LinkLimits, PeerAddress } from './link.js'
export type { PeerAddress }
import type { AnswerCode, RpcMessage } from './message.js'

export interface Identity {
  /** '' before the node belongs to a cluster. */
  clusterId: string
  /** At least 1; of this node for life. */
  nodeId: number
  name: string
  /** host:port at which others reach this node; '' : the address listened on. */
  advertised: string
}

/** Mutual TLS: PEM. The certificate carries the node's name, and is signed by an authority in `ca`. */
export interface TlsFiles {
  cert: string
  key: string
  ca: string
}

/** At least one of both. */
export interface Security {
  secret: Uint8Array | undefined
  tls: TlsFiles | undefined
}

export interface PeerIdentity {
  nodeId: number
  name: string
  clusterId: string
  address: string
}

export interface TransportHandlers {
  /** '' when this node may be talked to, else why not; its identity is proved. */
  admit(peer: PeerIdentity): string
  /** Payloads of one channel, in order, some perhaps lost. */
  messages(from: number, channel: number, payloads: readonly Uint8Array[]): void
  /** Rejects with an RpcError to say more than 'failed'. */
  call(from: number, name: string, body: Uint8Array): Promise<Uint8Array>
  /** The long answer to a question; what it throws is told in words. It is ended when the asker is gone. */
  answer(from: number, question: Uint8Array): AsyncIterable<Uint8Array>
  /** A peer can be reached, or cannot any more. */
  peer(id: number, up: boolean, why: string): void
}

export interface TransportOptions {
  /** Absent: this node only makes connections. */
  listen: { host: string; port: number } | undefined
  identity: Identity
  security: Security
  handlers: TransportHandlers
  environment?: Environment
  limits?: Partial<ConnectionLimits & LinkLimits>
}

export interface PeerState {
  id: number
  name: string
  address: string
  connected: boolean
  /** Why it is not connected. */
  trouble: string
  roundTripMs: number | undefined
  /** Since something came from it. */
  silentMs: number | undefined
  queuedBytes: number
  sentBytes: number
  receivedBytes: number
  dropped: number
  connects: number
}

/** Connections that have not proved themselves, at most. */
const MAX_HANDSHAKES = 64
/** Questions of one peer that are answered at a time. */
const MAX_ANSWERS = 2
/** Calls of peers that are being worked on. */
const MAX_CALLS_IN = 4096

export class Transport {
  readonly #options: TransportOptions
  readonly #environment: Environment
  readonly #limits: ConnectionLimits & LinkLimits
  readonly #instance: Uint8Array
  readonly #links = new Map<number, Link>()
  /** Peers that were set, as against those that came by themselves. */
  readonly #kept = new Set<number>()
  readonly #greeting = new Set<Connection>()
  readonly #answerers = new Map<Connection, BulkAnswerer>()
  readonly #asking = new Set<Connection>()
  #identity: Identity
  #server: Server | undefined
  #address: PeerAddress = { host: '', port: 0 }
  #callsIn = 0
  #closed = false
  /** Handshakes that ended in a refusal, by code. */
  readonly refused: Map<string, number> = new Map()

  private constructor(options: TransportOptions) {
    const { security } = options
    if (security.secret === undefined && security.tls === undefined) throw new Error('no cluster secret and no TLS')
    this.#options = options
    this.#identity = options.identity
    this.#environment = options.environment ?? systemEnvironment
    this.#limits = { ...DEFAULT_LIMITS, ...DEFAULT_LINK_LIMITS, ...options.limits }
    this.#instance = this.#environment.secretBytes(16)
  }

  /** Rejects with the listener's error. */
  static async listen(options: TransportOptions): Promise<Transport> {
    const transport = new Transport(options)
    if (options.listen !== undefined) await transport.#listen(options.listen)
    return transport
  }

  get address(): PeerAddress {
    return this.#address
  }

  get identity(): Identity {
    return this.#identity
  }

  /** From now on this node belongs to that cluster. */
  join(clusterId: string): void {
    this.#identity = { ...this.#identity, clusterId }
  }

  /** Keeps a connection to this peer from now on. Without an address it is waited for. */
  setPeer(id: number, address: PeerAddress | undefined): void {
    if (this.#closed || id === this.#identity.nodeId) return
    this.#kept.add(id)
    const link = this.#links.get(id)
    if (link === undefined) this.#links.set(id, this.#makeLink(id, address))
    else link.moveTo(address)
  }

  removePeer(id: number): void {
    this.#kept.delete(id)
    this.#links.get(id)?.close('this peer was removed')
    this.#links.delete(id)
  }

  get peers(): number[] {
    return [...this.#links.keys()]
  }

  isConnected(id: number): boolean {
    return this.#links.get(id)?.connection !== undefined
  }

  /** False when it was dropped: no connection, or a full queue. */
  send(to: number, channel: number, payload: Uint8Array): boolean {
    return this.#links.get(to)?.send(channel, payload) === true
  }

  call(to: number, name: string, body: Uint8Array, timeoutMs: number): Promise<Uint8Array> {
    const link = this.#links.get(to)
    if (link === undefined) return Promise.reject(new RpcError('unreachable', `node ${String(to)} is not known`))
    return link.call(name, body, timeoutMs)
  }

  /** Who answers at an address: a handshake and no more. Rejects with Refusal, or the error of the socket. */
  probe(address: PeerAddress): Promise<PeerIdentity> {
    return new Promise((resolve, reject) => {
      this.#dial({ address, lane: 'probe', wanted: 0 }, {
        open: (connection) => {
          resolve(identityOf(connection.peer))
          connection.close('only asked who is here')
        },
        message: () => undefined,
        closed: (_connection, error) => {
          reject(error ?? new RpcError('unreachable', 'the connection was closed'))
        },
      })
    })
  }

  /**
   * The chunks of a long answer. The question travels when the iteration starts; ending the iteration cancels. Throws
   * RpcError when the peer refuses or cannot be reached, and whatever else cut the answer short.
   */
  async *ask(to: number, question: Uint8Array): AsyncGenerator<Uint8Array, void, undefined> {
    const { connection, asker } = await this.#ask(to, question)
    try {
      for (let chunk = await asker.next(); chunk !== undefined; chunk = await asker.next()) yield chunk
    } finally {
      this.#asking.delete(connection)
      connection.close('done')
    }
  }

  state(): PeerState[] {
    const now = this.#environment.clock.now()
    return [...this.#links].map(([id, link]) => {
      const { connection } = link
      return {
        id,
        name: connection?.peer.name ?? '',
        address: link.address === undefined ? '' : showAddress(link.address),
        connected: connection !== undefined,
        trouble: link.trouble,
        roundTripMs: connection?.roundTripMs,
        silentMs: connection === undefined ? undefined : now - connection.lastHeardAt,
        queuedBytes: connection?.queuedBytes ?? 0,
        sentBytes: connection?.sentBytes ?? 0,
        receivedBytes: connection?.receivedBytes ?? 0,
        dropped: link.unsent,
        connects: link.connects,
      }
    })
  }

  close(): Promise<void> {
    this.#closed = true
    for (const link of this.#links.values()) link.close('this node is stopping')
    for (const connection of [...this.#greeting, ...this.#asking, ...this.#answerers.keys()]) {
      connection.close('this node is stopping')
    }
    return new Promise((resolve) => {
      if (this.#server === undefined) return resolve()
      this.#server.close(() => {
        resolve()
      })
    })
  }

  // ---- connections

  #listen(listen: { host: string; port: number }): Promise<void> {
    const { security } = this.#options
    const take = (socket: Socket): void => {
      this.#accept(socket)
    }
    const server =
      security.tls === undefined
        ? createServer({ noDelay: true }, take)
        : createTlsServer(
            { ...security.tls, requestCert: true, rejectUnauthorized: true, minVersion: 'TLSv1.3' },
            take,
          )
    server.on('tlsClientError', () => {
      this.#countRefusal('security')
    })
    this.#server = server
    return new Promise((resolve, reject) => {
      server.once('error', reject)
      server.listen({ host: listen.host, port: listen.port }, () => {
        const bound = server.address()
        if (bound !== null && typeof bound === 'object') this.#address = { host: listen.host, port: bound.port }
        resolve()
      })
    })
  }

  #accept(socket: Socket): void {
    if (this.#closed || this.#greeting.size >= MAX_HANDSHAKES) {
      socket.destroy()
      return
    }
    const connection = this.#connection(socket, 'listener', 'control', 0, {
      open: (opened) => {
        this.#greeting.delete(opened)
        if (opened.lane === 'bulk') this.#acceptBulk(opened)
        else if (opened.lane === 'control') this.#adopt(opened)
      },
      message: (from, message) => {
        this.#take(from, message)
      },
      closed: (from, error) => {
        if (error instanceof Refusal) this.#countRefusal(error.code)
        if (from === undefined) return
        this.#greeting.delete(from)
        this.#gone(from, error)
      },
    })
    this.#greeting.add(connection)
  }

  #countRefusal(code: string): void {
    this.refused.set(code, (this.refused.get(code) ?? 0) + 1)
  }

  #connection(
    socket: Socket,
    role: 'dialer' | 'listener',
    lane: Lane,
    wanted: number,
    events: ConnectionEvents,
  ): Connection {
    const { security } = this.#options
    const options = {
      role,
      hello: this.#hello(lane, wanted),
      secret: security.secret,
      environment: this.#environment,
      limits: this.#limits,
      admit: (peer: Hello, certificate: readonly string[] | undefined): string => {
        if (certificate !== undefined && !certificate.includes(peer.name)) {
          return `the certificate of node ${String(peer.nodeId)} is not made out to ${peer.name}`
        }
        return this.#options.handlers.admit(identityOf(peer))
      },
    }
    return new Connection(socket, options, events)
  }

  #hello(lane: Lane, wanted: number): Hello {
    const { clusterId, nodeId, name, advertised } = this.#identity
    const { secret, tls } = this.#options.security
    return {
      ...VERSIONS,
      lane,
      wanted,
      clusterId,
      nodeId,
      name,
      tls: tls !== undefined,
      secret: secret !== undefined,
      address: advertised === '' && this.#server !== undefined ? showAddress(this.#address) : advertised,
      instance: this.#instance,
      nonce: this.#environment.secretBytes(32),
    }
  }

  /** Returns what gives the attempt up; `closed` is then not called any more. */
  #dial(to: { address: PeerAddress; lane: Lane; wanted: number }, events: ConnectionEvents): () => void {
    const { tls } = this.#options.security
    const { host, port } = to.address
    let connection: Connection | undefined
    let given = false
    const socket =
      tls === undefined
        ? createConnection({ host, port })
        : // The node's name in the certificate is checked in `admit`, whatever address it answers at.
          connectTls({ host, port, ...tls, minVersion: 'TLSv1.3', checkServerIdentity: () => undefined })
    const fail = (error: Error): void => {
      if (given || connection !== undefined) return
      given = true
      cancel()
      socket.destroy()
      events.closed(undefined, error)
    }
    const cancel = this.#environment.clock.after(this.#limits.handshakeMs, () => {
      fail(new RpcError('unreachable', 'no connection in time'))
    })
    socket.on('error', fail)
    socket.once('close', () => {
      fail(new RpcError('unreachable', 'the connection was closed'))
    })
    socket.once(tls === undefined ? 'connect' : 'secureConnect', () => {
      cancel()
      if (!given) connection = this.#connection(socket, 'dialer', to.lane, to.wanted, events)
    })
    return () => {
      if (given || (connection !== undefined && connection.state !== 'greeting')) return
      given = true
      cancel()
      socket.destroy()
    }
  }

  #makeLink(id: number, address: PeerAddress | undefined): Link {
    return new Link({
      peerId: id,
      nodeId: this.#identity.nodeId,
      address,
      environment: this.#environment,
      limits: this.#limits,
      dial: (to, settled) => this.#dialPeer(id, to, settled),
      changed: (up, why) => {
        this.#options.handlers.peer(id, up, why)
      },
    })
  }

  #dialPeer(id: number, address: PeerAddress, settled: (error: Error | undefined) => void): () => void {
    let done = false
    const settle = (error: Error | undefined): void => {
      if (done) return
      done = true
      settled(error)
    }
    const giveUp = this.#dial({ address, lane: 'control', wanted: id }, {
      open: (connection) => {
        settle(undefined)
        this.#adopt(connection)
      },
      message: (from, message) => {
        this.#take(from, message)
      },
      closed: (connection, error) => {
        settle(error ?? new RpcError('unreachable', 'the connection was closed'))
        if (connection !== undefined) this.#gone(connection, error)
      },
    })
    return () => {
      done = true
      giveUp()
    }
  }

  /** A control connection is open. */
  #adopt(connection: Connection): void {
    const { nodeId } = connection.peer
    if (this.#closed) return connection.close('this node is stopping')
    let link = this.#links.get(nodeId)
    if (link === undefined) this.#links.set(nodeId, (link = this.#makeLink(nodeId, undefined)))
    link.opened(connection)
  }

  #gone(connection: Connection, error: Error | undefined): void {
    this.#answerers.get(connection)?.closed()
    this.#answerers.delete(connection)
    for (const [id, link] of this.#links) {
      link.closed(connection, error)
      // It came by itself, and is not kept.
      if (!this.#kept.has(id) && link.connection === undefined) this.#links.delete(id)
    }
  }

  // ---- messages

  #take(connection: Connection, message: RpcMessage): void {
    const answerer = this.#answerers.get(connection)
    if (answerer !== undefined) {
      answerer.take(message)
      return
    }
    const from = connection.peer.nodeId
    switch (message.kind) {
      case 'messages':
        this.#options.handlers.messages(from, message.channel, message.payloads)
        return
      case 'call':
        void this.#serve(connection, message)
        return
      case 'answer':
        this.#links.get(from)?.answered(message)
        return
      case 'goodbye':
        return
      default:
        connection.close(`${message.kind} on the control lane`)
    }
  }

  async #serve(connection: Connection, { id, name, body }: Extract<RpcMessage, { kind: 'call' }>): Promise<void> {
    const answer = (code: AnswerCode, text: string, bytes: Uint8Array): boolean =>
      connection.send({ kind: 'answer', id, code, text: text.slice(0, 1000), body: bytes })
    if (this.#callsIn >= MAX_CALLS_IN) {
      answer('overloaded', 'too many calls at a time', NOTHING)
      return
    }
    this.#callsIn += 1
    try {
      const result = await this.#options.handlers.call(connection.peer.nodeId, name, body)
      if (!answer('ok', '', result)) answer('unknown', 'the answer did not fit', NOTHING)
    } catch (error) {
      const code = error instanceof RpcError && error.code !== 'unreachable' ? error.code : 'failed'
      answer(code, error instanceof Error ? error.message : String(error), NOTHING)
    } finally {
      this.#callsIn -= 1
    }
  }

  // ---- long answers

  #acceptBulk(connection: Connection): void {
    const { nodeId } = connection.peer
    const same = [...this.#answerers.keys()].filter((other) => other.peer.nodeId === nodeId)
    // Who asks again has given the earlier answer up.
    if (same.length >= MAX_ANSWERS) same[0]?.close('a newer question was asked')
    const answerer = new BulkAnswerer(connection, (question) => this.#options.handlers.answer(nodeId, question))
    this.#answerers.set(connection, answerer)
  }

  #ask(to: number, question: Uint8Array): Promise<{ connection: Connection; asker: BulkAsker }> {
    const link = this.#links.get(to)
    const address = link?.address ?? parseAddress(link?.connection?.peer.address ?? '')
    if (address === undefined || this.#closed) {
      return Promise.reject(new RpcError('unreachable', `no address of node ${String(to)} is known`))
    }
    return new Promise((resolve, reject) => {
      let asker: BulkAsker | undefined
      this.#dial({ address, lane: 'bulk', wanted: to }, {
        open: (connection) => {
          this.#asking.add(connection)
          asker = new BulkAsker(connection, question)
          resolve({ connection, asker })
        },
        message: (_connection, message) => {
          asker?.take(message)
        },
        closed: (connection, error) => {
          const why = error ?? new RpcError('unreachable', 'the connection was closed')
          if (connection !== undefined) this.#asking.delete(connection)
          if (asker === undefined) reject(why)
          else asker.fail(why)
        },
      })
    })
  }
}

const NOTHING = new Uint8Array(0)

function identityOf({ nodeId, name, clusterId, address }: Hello): PeerIdentity {
  return { nodeId, name, clusterId, address }
}

export function showAddress({ host, port }: PeerAddress): string {
  return `${host.includes(':') ? `[${host}]` : host}:${String(port)}`
}

/** Undefined when it is not host:port. */
export function parseAddress(text: string): PeerAddress | undefined {
  const match = /^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})$/.exec(text)
  const port = Number(match?.[2])
  if (match === null || port < 1 || port > 65535) return undefined
  return { host: (match[1] ?? '').replaceAll(/[[\]]/g, ''), port }
}
