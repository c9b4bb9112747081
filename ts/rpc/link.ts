/**
 * The way to one peer on the control lane: one connection, whoever made it, made again whenever it is lost.
 *
 * - Both sides may dial. The node with the higher id waits a little before its first attempt, so that most pairs need
 *   one attempt only.
 * - When both dialed at once, the node with the lower id decides: it keeps the connection that opened last and says
 *   goodbye to the other. The node with the higher id takes messages from both meanwhile, and sends on the newer one.
 *   A peer dials only when it has no connection, so a new one from it means that it has lost the old.
 * - Attempts are spaced by a pause that doubles from `backoffMinMs` to `backoffMaxMs`, of which a random half is
 *   waited; a connection that lasted starts from the beginning.
 * - A call is answered, or fails: as unreachable or overloaded when it was not sent, as unknown when the connection was
 *   lost or the time passed after that.
 */
import type { Connection } from './connection.js'
import type { Environment } from './environment.js'
import { Refusal, RpcError } from './errors.js'
import { MAX_NAME } from './message.js'
import type { RpcMessage } from './message.js'

export interface LinkLimits {
  backoffMinMs: number
  backoffMaxMs: number
  /** Calls without an answer, at most. */
  maxCalls: number
}

export const DEFAULT_LINK_LIMITS: LinkLimits = { backoffMinMs: 50, backoffMaxMs: 1_000, maxCalls: 4096 }

export interface PeerAddress {
  host: string
  port: number
}

export interface LinkOptions {
  peerId: number
  /** The id of this node. */
  nodeId: number
  address: PeerAddress | undefined
  environment: Environment
  limits: LinkLimits
  /** Starts an attempt; `settled` is called once when it is open or has failed. Returns what gives it up. */
  dial: (address: PeerAddress, settled: (error: Error | undefined) => void) => () => void
  /** There is a connection now, or there is none any more, or the peer refuses one for a new reason. */
  changed: (up: boolean, why: string) => void
}

interface Call {
  resolve: (body: Uint8Array) => void
  reject: (error: RpcError) => void
  cancelTimer: () => void
  connection: Connection
}

/** A connection that lasted so long ends the doubling of pauses. */
const LASTED_MS = 5_000
/** The node with the higher id waits this long before it dials first. */
const COURTESY_MS = 250

export class Link {
  readonly #options: LinkOptions
  #address: PeerAddress | undefined
  /** Oldest first; the last one is sent on. At most two. */
  #connections: Connection[] = []
  #giveUp: (() => void) | undefined
  #cancelPause: () => void = () => undefined
  #failures = 0
  #closed = false
  #lastError = ''
  readonly #calls = new Map<number, Call>()
  #nextCall = 1
  connects = 0
  unsent = 0

  constructor(options: LinkOptions) {
    this.#options = options
    this.#address = options.address
    this.#redialAfter(options.nodeId < options.peerId ? 0 : COURTESY_MS * (1 + options.environment.random()))
  }

  /** Open and sent on. */
  get connection(): Connection | undefined {
    return this.#connections.at(-1)
  }

  get address(): PeerAddress | undefined {
    return this.#address
  }

  /** Why there is no connection; '' while there is one. */
  get trouble(): string {
    return this.connection === undefined ? this.#lastError : ''
  }

  moveTo(address: PeerAddress | undefined): void {
    const same = address?.host === this.#address?.host && address?.port === this.#address?.port
    this.#address = address
    if (same || this.connection !== undefined) return
    this.#giveUp?.()
    this.#giveUp = undefined
    this.#failures = 0
    this.#redialAfter(0)
  }

  /** False when there is no way now or the queue is full: the message is dropped. */
  send(channel: number, payload: Uint8Array): boolean {
    const sent = this.connection?.gather(channel, payload) === true
    if (!sent) this.unsent += 1
    return sent
  }

  call(name: string, body: Uint8Array, timeoutMs: number): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      const { connection } = this
      if (name.length > MAX_NAME) throw new RangeError(`a name of more than ${String(MAX_NAME)} characters`)
      if (connection === undefined) {
        return reject(new RpcError('unreachable', `node ${String(this.#options.peerId)}: ${this.#whyNot()}`))
      }
      if (this.#calls.size >= this.#options.limits.maxCalls) {
        return reject(new RpcError('overloaded', `${String(this.#calls.size)} calls wait for an answer`))
      }
      const id = this.#nextCall++
      if (!connection.send({ kind: 'call', id, name, body })) {
        return reject(new RpcError('overloaded', `the queue to node ${String(this.#options.peerId)} is full`))
      }
      const cancelTimer = this.#options.environment.clock.after(timeoutMs, () => {
        this.#calls.delete(id)
        reject(new RpcError('unknown', `${name}: no answer in ${String(timeoutMs)} ms`))
      })
      this.#calls.set(id, { resolve, reject, cancelTimer, connection })
    })
  }

  answered(message: Extract<RpcMessage, { kind: 'answer' }>): void {
    const call = this.#calls.get(message.id)
    if (call === undefined) return
    this.#calls.delete(message.id)
    call.cancelTimer()
    if (message.code === 'ok') call.resolve(message.body)
    else call.reject(new RpcError(message.code, message.text))
  }

  /** Takes over a connection that has opened, made by either side. */
  opened(connection: Connection): void {
    if (this.#closed) {
      connection.close('this node is stopping')
      return
    }
    this.connects += 1
    this.#giveUpDialing()
    const before = this.#connections
    this.#connections = [...before, connection]
    const decides = this.#options.nodeId < this.#options.peerId
    const tooMany = decides ? before : before.slice(0, -1)
    for (const old of tooMany) old.close('there is a newer connection')
    if (before.length === 0) this.#options.changed(true, '')
  }

  closed(connection: Connection, error: Error | undefined): void {
    const at = this.#connections.indexOf(connection)
    if (at < 0) return
    this.#connections.splice(at, 1)
    for (const [id, call] of this.#calls) {
      if (call.connection !== connection) continue
      this.#calls.delete(id)
      call.cancelTimer()
      call.reject(new RpcError('unknown', `the connection was lost: ${error?.message ?? 'closed'}`))
    }
    if (this.#connections.length > 0) return
    const { clock } = this.#options.environment
    if (clock.now() - connection.openedAt > LASTED_MS) this.#failures = 0
    this.#lastError = error?.message ?? 'the connection was closed'
    this.#options.changed(false, this.#lastError)
    this.#pause()
  }

  close(reason: string): void {
    this.#closed = true
    this.#giveUpDialing()
    for (const connection of [...this.#connections]) connection.close(reason)
  }

  #whyNot(): string {
    if (this.#address === undefined) return 'no address is known and it has not connected'
    return this.#lastError === '' ? 'not connected yet' : this.#lastError
  }

  #giveUpDialing(): void {
    this.#cancelPause()
    this.#giveUp?.()
    this.#giveUp = undefined
  }

  #pause(): void {
    const { backoffMinMs, backoffMaxMs } = this.#options.limits
    const pause = Math.min(backoffMaxMs, backoffMinMs * 2 ** Math.min(this.#failures, 16))
    this.#failures += 1
    this.#redialAfter(pause * (0.5 + 0.5 * this.#options.environment.random()))
  }

  #redialAfter(ms: number): void {
    this.#cancelPause()
    if (this.#closed) return
    this.#cancelPause = this.#options.environment.clock.after(ms, () => {
      this.#dial()
    })
  }

  #dial(): void {
    if (this.#closed || this.#address === undefined || this.#giveUp !== undefined) return
    if (this.connection !== undefined) return
    this.#giveUp = this.#options.dial(this.#address, (error) => {
      this.#giveUp = undefined
      if (error === undefined || this.#closed || this.connection !== undefined) return
      const news = error instanceof Refusal && error.message !== this.#lastError
      this.#lastError = error.message
      if (news) this.#options.changed(false, error.message)
      this.#pause()
    })
  }
}

