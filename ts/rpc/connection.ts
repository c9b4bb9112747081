/**
 * One connection to one node, on one lane: handshake, then messages both ways.
 *
 *   greeting ──(proofs hold)──> open ──(either side, an error, silence)──> closed
 *
 * - Nothing is handed over before the handshake is done; it has a time limit and short frames.
 * - What waits to be written is bounded. `send` says false when it does not fit, and never waits. Pings, pongs and
 *   goodbyes always fit.
 * - Silence: a ping goes out every `pingMs`; a connection on which nothing has come for `deadMs` is closed. A peer that
 *   is stopped, cut off or gone without a word is found this way. A node that was itself stopped looks at what has
 *   arrived before it judges.
 * - Messages of one turn to the same channel share a frame.
 */
import type { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'

import type { Environment } from './environment.js'
import { ProtocolError, Refusal } from './errors.js'
import { FrameReader, FrameWriter } from './frame.js'
import {
  MAX_HANDSHAKE_FRAME,
  checkHello,
  checkProof,
  commonVersion,
  decodeHello,
  decodeProof,
  deriveKeys,
  encodeHello,
  encodeProof,
  encodeRefusal,
} from './handshake.js'
import type { Hello, Lane, SessionKeys } from './handshake.js'
import { MAX_BATCH, decodeRpc, encodeRpc } from './message.js'
import type { RpcMessage } from './message.js'

export interface ConnectionLimits {
  handshakeMs: number
  pingMs: number
  deadMs: number
  /** Longest body of a frame. */
  frameBytes: number
  /** Bytes that may wait to be written. */
  queueBytes: number
}

export const DEFAULT_LIMITS: ConnectionLimits = {
  handshakeMs: 5_000,
  pingMs: 500,
  deadMs: 3_000,
  frameBytes: 16 << 20,
  queueBytes: 16 << 20,
}

export interface ConnectionOptions {
  role: 'dialer' | 'listener'
  /** What to say in the greeting; the lane is the dialer's. */
  hello: Hello
  secret: Uint8Array | undefined
  environment: Environment
  limits: ConnectionLimits
  /** Whether this node may be talked to; '' or why not. Called once its proof holds. */
  admit: (peer: Hello, certificate: readonly string[] | undefined) => string
}

export interface ConnectionEvents {
  open: (connection: Connection) => void
  message: (connection: Connection, message: RpcMessage) => void
  /**
   * Once, whatever happened. `error` is undefined after a goodbye or a close from this side; there is no connection
   * when not even a socket could be opened.
   */
  closed: (connection: Connection | undefined, error: Error | undefined) => void
}

/** Kept free for pings, pongs, goodbyes and answers beside a full queue of messages. */
const HEADROOM = 1 << 20
/** Time a goodbye has to leave. */
const LINGER_MS = 200

interface Greeting {
  hello: Hello
  bytes: Uint8Array
}

export class Connection {
  readonly role: 'dialer' | 'listener'
  readonly openedAt: number
  sentBytes = 0
  receivedBytes = 0
  /** Messages that did not fit. */
  dropped = 0
  /** Of the last ping that was answered; undefined before. */
  roundTripMs: number | undefined
  readonly #options: ConnectionOptions
  readonly #events: ConnectionEvents
  readonly #socket: Socket
  readonly #reader = new FrameReader(MAX_HANDSHAKE_FRAME)
  readonly #writer = new FrameWriter()
  readonly #mine: Greeting
  #peer: Greeting | undefined
  #keys: SessionKeys | undefined
  #state: 'greeting' | 'open' | 'closed' = 'greeting'
  #reading = false
  #lastHeard: number
  #pings = 0
  #pingSent: { number: number; at: number } | undefined
  #cancelTimer: () => void
  readonly #gathered = new Map<number, { payloads: Uint8Array[]; bytes: number }>()
  #gatheredBytes = 0

  constructor(socket: Socket, options: ConnectionOptions, events: ConnectionEvents) {
    const { clock } = options.environment
    this.role = options.role
    this.#options = options
    this.#events = events
    this.#socket = socket
    this.#mine = { hello: options.hello, bytes: encodeHello(options.hello) }
    this.openedAt = this.#lastHeard = clock.now()
    this.#cancelTimer = clock.after(options.limits.handshakeMs, () => {
      this.#end(new ProtocolError('the handshake took too long'))
    })
    socket.setNoDelay(true)
    socket.on('data', (chunk: Buffer) => {
      this.#receive(chunk)
    })
    socket.on('error', (error) => {
      this.#end(error)
    })
    socket.on('close', () => {
      this.#end(new ProtocolError('the peer closed the connection'))
    })
    if (options.role === 'dialer') this.#writeFrame(this.#mine.bytes)
  }

  get state(): 'greeting' | 'open' | 'closed' {
    return this.#state
  }

  /** What the peer said of itself, proved; only while or after being open. */
  get peer(): Hello {
    if (this.#peer === undefined) throw new Error('the peer has not greeted')
    return this.#peer.hello
  }

  get lane(): Lane {
    return this.role === 'dialer' ? this.#mine.hello.lane : this.peer.lane
  }

  /** Bytes that wait to be written. */
  get queuedBytes(): number {
    return this.#socket.writableLength + this.#gatheredBytes
  }

  get lastHeardAt(): number {
    return this.#lastHeard
  }

  /** False when it does not fit or the connection is not open; it is dropped then. */
  gather(channel: number, payload: Uint8Array): boolean {
    if (!this.#fits(payload.length)) {
      this.dropped += 1
      return false
    }
    if (this.#gathered.size === 0) {
      queueMicrotask(() => {
        this.#flush()
      })
    }
    let waiting = this.#gathered.get(channel)
    if (waiting === undefined) this.#gathered.set(channel, (waiting = { payloads: [], bytes: 0 }))
    waiting.payloads.push(payload)
    waiting.bytes += payload.length
    this.#gatheredBytes += payload.length
    const { frameBytes } = this.#options.limits
    if (waiting.payloads.length >= MAX_BATCH || waiting.bytes >= Math.min(1 << 20, frameBytes / 2)) this.#flush()
    return true
  }

  /** False when it does not fit or the connection is not open. */
  send(message: RpcMessage): boolean {
    const body = encodeRpc(message)
    const small = message.kind === 'ping' || message.kind === 'pong' || message.kind === 'answer'
    if (!this.#fits(body.length - (small ? HEADROOM : 0))) return false
    // What was gathered before goes before.
    this.#flush()
    this.#writeFrame(body)
    return true
  }

  /** Stops or goes on reading; what has arrived waits in the socket. */
  pause(): void {
    this.#socket.pause()
  }

  resume(): void {
    if (this.#state === 'open') this.#socket.resume()
  }

  /** Calls `room` once less than `bytes` wait to be written, or the connection has closed. */
  whenBelow(bytes: number, room: () => void): void {
    if (this.#state !== 'open' || this.#socket.writableLength < bytes) return room()
    this.#socket.once('drain', room)
    this.#socket.once('close', room)
  }

  /** Says goodbye and closes. */
  close(reason: string): void {
    if (this.#state === 'open') {
      this.#flush()
      this.#writeFrame(encodeRpc({ kind: 'goodbye', text: reason.slice(0, 500) }))
    }
    this.#end(undefined)
  }

  #fits(bytes: number): boolean {
    const { frameBytes, queueBytes } = this.#options.limits
    if (this.#state !== 'open' || bytes > frameBytes - 64) return false
    // An empty queue takes anything that a frame takes.
    return this.queuedBytes === 0 || this.queuedBytes + bytes <= queueBytes
  }

  #flush(): void {
    if (this.#gathered.size === 0) return
    const all = [...this.#gathered]
    this.#gathered.clear()
    this.#gatheredBytes = 0
    if (this.#state !== 'open') return
    for (const [channel, { payloads }] of all) this.#writeFrame(encodeRpc({ kind: 'messages', channel, payloads }))
  }

  #writeFrame(body: Uint8Array): void {
    if (this.#socket.destroyed) return
    this.#socket.cork()
    for (const piece of this.#writer.frame(body)) {
      this.sentBytes += piece.length
      this.#socket.write(piece)
    }
    this.#socket.uncork()
  }

  #receive(chunk: Buffer): void {
    if (this.#state === 'closed') return
    this.#lastHeard = this.#options.environment.clock.now()
    this.receivedBytes += chunk.length
    this.#reader.push(chunk)
    if (this.#reading) return
    this.#reading = true
    try {
      while (this.#stillOpen()) {
        const body = this.#reader.next()
        if (body === undefined) break
        this.#take(body)
      }
    } catch (error) {
      this.#refuse(error instanceof Error ? error : new Error(String(error)))
    } finally {
      this.#reading = false
    }
  }

  /** Handlers may close the connection between two frames. */
  #stillOpen(): boolean {
    return this.#state !== 'closed'
  }

  #take(body: Uint8Array): void {
    if (this.#state === 'open') this.#takeMessage(decodeRpc(body))
    else if (this.#peer === undefined) this.#takeHello(body)
    else this.#takeProof(body)
  }

  #takeHello(body: Uint8Array): void {
    const theirs: Greeting = { hello: decodeHello(body), bytes: Uint8Array.from(body) }
    checkHello(this.#mine.hello, theirs.hello)
    commonVersion(this.#mine.hello, theirs.hello)
    this.#peer = theirs
    const listening = this.role === 'listener'
    this.#keys = listening
      ? deriveKeys(this.#shared(), theirs, this.#mine)
      : deriveKeys(this.#shared(), this.#mine, theirs)
    this.#writeFrame(listening ? this.#mine.bytes : encodeProof(this.#keys.dialerProof))
  }

  #takeProof(body: Uint8Array): void {
    const keys = this.#keys!
    const listening = this.role === 'listener'
    const { tls } = this.#mine.hello
    checkProof(listening ? keys.dialerProof : keys.listenerProof, decodeProof(body), tls)
    const unwanted = this.#options.admit(this.peer, certificateNames(this.#socket))
    if (unwanted !== '') throw new Refusal('not-admitted', unwanted)
    if (listening) this.#writeFrame(encodeProof(keys.listenerProof))
    this.#writer.useKey(tls ? undefined : listening ? keys.fromListener : keys.fromDialer)
    const theirs = tls ? undefined : listening ? keys.fromDialer : keys.fromListener
    this.#reader.useKey(theirs, this.#options.limits.frameBytes)
    this.#state = 'open'
    this.#cancelTimer()
    this.#watch()
    this.#events.open(this)
  }

  /** What both sides know and nobody else does. */
  #shared(): Uint8Array {
    const secret = this.#options.secret ?? new Uint8Array(0)
    if (!(this.#socket instanceof TLSSocket)) return secret
    const exported = this.#socket.exportKeyingMaterial(32, 'EXPORTER-ostraka-rpc', Buffer.alloc(0))
    return Buffer.concat([secret, exported])
  }

  #takeMessage(message: RpcMessage): void {
    switch (message.kind) {
      case 'ping':
        this.send({ kind: 'pong', number: message.number })
        return
      case 'pong':
        if (this.#pingSent?.number === message.number) {
          this.roundTripMs = this.#options.environment.clock.now() - this.#pingSent.at
          this.#pingSent = undefined
        }
        return
      case 'goodbye':
        this.#events.message(this, message)
        this.#end(undefined)
        return
      default:
        this.#events.message(this, message)
    }
  }

  #watch(): void {
    const { pingMs, deadMs } = this.#options.limits
    const { clock } = this.#options.environment
    const asked = clock.now()
    this.#cancelTimer = clock.after(pingMs, () => {
      const now = clock.now()
      const silent = now - this.#lastHeard
      // This node slept itself: what came meanwhile is read before the next look.
      const slept = now - asked > 2 * pingMs
      if (silent > deadMs && !slept) {
        this.#end(new ProtocolError(`nothing was heard for ${String(Math.round(silent))} ms`))
        return
      }
      this.#pings += 1
      this.#pingSent ??= { number: this.#pings, at: now }
      this.send({ kind: 'ping', number: this.#pings })
      this.#watch()
    })
  }

  /** Tells the peer why, where it helps, and closes. */
  #refuse(error: Error): void {
    if (this.#state === 'greeting' && !(error instanceof Refusal && error.remote)) {
      const refusal = error instanceof Refusal ? error : new Refusal('protocol', error.message)
      this.#writeFrame(encodeRefusal(refusal))
    }
    this.#end(error)
  }

  #end(error: Error | undefined): void {
    if (this.#state === 'closed') return
    this.#state = 'closed'
    this.#cancelTimer()
    this.#gathered.clear()
    this.#gatheredBytes = 0
    const socket = this.#socket
    // A goodbye or a refusal gets a moment to leave.
    socket.end()
    const timer = setTimeout(() => socket.destroy(), LINGER_MS)
    timer.unref()
    socket.once('close', () => {
      clearTimeout(timer)
    })
    socket.resume()
    this.#events.closed(this, error)
  }
}

/** Names in the peer's certificate: its common name and DNS names. Undefined without TLS. */
function certificateNames(socket: Socket): readonly string[] | undefined {
  if (!(socket instanceof TLSSocket)) return undefined
  const certificate = socket.getPeerCertificate()
  const alternatives = (certificate.subjectaltname ?? '').split(', ').flatMap((entry) => {
    const match = /^DNS:(.+)$/.exec(entry)
    return match?.[1] === undefined ? [] : [match[1]]
  })
  const { CN } = (certificate.subject as { CN?: string | string[] } | undefined) ?? {}
  return [...(CN === undefined ? [] : [CN].flat()), ...alternatives]
}
