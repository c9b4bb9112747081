/** A network between engines of one process: messages travel as bytes, links can be cut, lossy and slow. */
import { decodeMessage, encodeMessage } from '../../../../ts/meta/raft/codec.js'
import type { Message, NodeId } from '../../../../ts/meta/raft/core/types.js'
import { MAX_LANE_CHUNK } from '../../../../ts/meta/raft/host/environment.js'
import type { Peer, PeerNetwork } from '../../../../ts/meta/raft/host/environment.js'

type Serve = (asker: NodeId, question: Uint8Array) => AsyncIterable<Uint8Array>

export class MemoryNetwork {
  readonly #doors = new Map<NodeId, Door>()
  readonly #cut = new Set<string>()
  /** Of 1000 messages. */
  loss = 0
  /** Snapshot chunks after which a stream breaks, and how often that happens. */
  breakAfter = Infinity
  breaks = 0
  chunks = 0
  messages = 0

  connect(id: NodeId): Door {
    const door = new Door(this, id)
    this.#doors.set(id, door)
    return door
  }

  door(id: NodeId): Door | undefined {
    return this.#doors.get(id)
  }

  isolate(id: NodeId, others: readonly NodeId[]): void {
    for (const other of others) {
      if (other === id) continue
      this.#cut.add(`${String(id)}-${String(other)}`)
      this.#cut.add(`${String(other)}-${String(id)}`)
    }
  }

  heal(): void {
    this.#cut.clear()
  }

  isCut(from: NodeId, to: NodeId): boolean {
    return this.#cut.has(`${String(from)}-${String(to)}`)
  }

  send(message: Message): void {
    this.messages++
    if (this.isCut(message.from, message.to) || Math.random() * 1000 < this.loss) return
    const bytes = encodeMessage(message)
    setImmediate(() => {
      if (!this.isCut(message.from, message.to)) this.#doors.get(message.to)?.deliver(decodeMessage(bytes))
    })
  }
}

export class Door implements PeerNetwork {
  readonly snapshots: PeerNetwork['snapshots']
  peers: readonly Peer[] = []
  #listener: ((messages: readonly Message[]) => void) | undefined
  #serve: Serve | undefined
  #closed = false
  readonly #network: MemoryNetwork

  constructor(network: MemoryNetwork, id: NodeId) {
    this.#network = network
    this.snapshots = {
      fetch: (peer, question) => this.#fetch(id, peer, question),
      serve: (answer) => {
        this.#serve = answer
      },
    }
  }

  send(message: Message): void {
    if (!this.#closed) this.#network.send(message)
  }

  onMessages(listener: (messages: readonly Message[]) => void): void {
    this.#listener = listener
  }

  onUnreachable(): void {
    // Links break without a word here.
  }

  setPeers(peers: readonly Peer[]): void {
    this.peers = peers
  }

  deliver(message: Message): void {
    if (!this.#closed) this.#listener?.([message])
  }

  close(): void {
    this.#closed = true
  }

  async *#fetch(id: NodeId, peer: NodeId, question: Uint8Array): AsyncGenerator<Uint8Array> {
    const network = this.#network
    const door = network.door(peer)
    const serve = door === undefined ? undefined : door.#serve
    if (serve === undefined || network.isCut(id, peer)) throw new Error('not connected')
    let count = 0
    for await (const chunk of serve(id, question)) {
      if (network.isCut(id, peer) || this.#closed) throw new Error('cut off')
      if (++count > network.breakAfter) {
        network.breaks++
        throw new Error('the stream broke')
      }
      if (chunk.length > MAX_LANE_CHUNK) throw new Error('the chunk is too long')
      network.chunks++
      yield Uint8Array.from(chunk)
    }
  }
}
