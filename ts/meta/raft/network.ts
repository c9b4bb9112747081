/**
 * The way of one Raft group to its peers, over the node's transport: messages on the channel of the group, snapshots as
 * long answers on connections beside.
 *
 * What comes in is handed over only if it is well-formed, meant for this node, and from the node that has proved to be
 * its sender: a peer cannot speak for another.
 */
import { parseAddress } from '../../rpc/transport.js'
import type { PeerAddress, Transport } from '../../rpc/transport.js'
import { MessageFormatError, decodeMessage, encodeMessage } from './codec.js'
import type { Message, NodeId } from './core/types.js'
import type { Peer, PeerNetwork, SnapshotLane } from './host/environment.js'

/** The part of the transport that is needed here. */
export type Carrier = Pick<Transport, 'send' | 'setPeer' | 'removePeer' | 'ask'>

/** A question on the bulk lane begins with its group, u32 LE. */
const QUESTION_HEAD = 4

type Answer = (asker: NodeId, question: Uint8Array) => AsyncIterable<Uint8Array>

export class RaftNetwork implements PeerNetwork {
  readonly snapshots: SnapshotLane
  readonly #nodeId: NodeId
  readonly #group: number
  readonly #carrier: Carrier
  #listener: (messages: readonly Message[]) => void = () => undefined
  #unreachable: (peer: NodeId) => void = () => undefined
  #answer: Answer | undefined
  #peers: ReadonlySet<NodeId> = new Set()
  /** Sent and dropped messages, and those that came in a wrong form. */
  sent = 0
  dropped = 0
  malformed = 0

  constructor(nodeId: NodeId, group: number, carrier: Carrier) {
    this.#nodeId = nodeId
    this.#group = group
    this.#carrier = carrier
    const head = Buffer.alloc(QUESTION_HEAD)
    head.writeUInt32LE(group)
    this.snapshots = {
      fetch: (peer, question) => carrier.ask(peer, Buffer.concat([head, question])),
      serve: (answer) => {
        this.#answer = answer
      },
    }
  }

  onMessages(listener: (messages: readonly Message[]) => void): void {
    this.#listener = listener
  }

  onUnreachable(listener: (peer: NodeId) => void): void {
    this.#unreachable = listener
  }

  setPeers(peers: readonly Peer[]): void {
    const wanted = new Map<NodeId, PeerAddress | undefined>(
      peers.filter(({ id }) => id !== this.#nodeId).map(({ id, address }) => [id, parseAddress(address)]),
    )
    // Others may be here that are no members: they have come to join.
    for (const known of this.#peers) if (!wanted.has(known)) this.#carrier.removePeer(known)
    this.#peers = new Set(wanted.keys())
    for (const [id, address] of wanted) this.#carrier.setPeer(id, address)
  }

  send(message: Message): void {
    this.sent += 1
    if (!this.#carrier.send(message.to, this.#group, encodeMessage(message))) this.dropped += 1
  }

  /** From the transport: what came on the channel of this group. */
  receive(from: NodeId, payloads: readonly Uint8Array[]): void {
    const messages = payloads.flatMap((payload) => this.#decode(from, payload) ?? [])
    if (messages.length > 0) this.#listener(messages)
  }

  /** From the transport: a peer can be reached, or not any more. */
  peer(id: NodeId, up: boolean): void {
    if (!up) this.#unreachable(id)
  }

  /** From the transport: a question of this group. */
  answer(from: NodeId, question: Uint8Array): AsyncIterable<Uint8Array> {
    if (this.#answer === undefined) throw new Error('no snapshots are served yet')
    return this.#answer(from, question.subarray(QUESTION_HEAD))
  }

  #decode(from: NodeId, payload: Uint8Array): Message | undefined {
    try {
      const message = decodeMessage(payload)
      if (message.to === this.#nodeId && speaksFor(from, message)) return message
    } catch (error) {
      if (!(error instanceof MessageFormatError)) throw error
    }
    this.malformed += 1
    return undefined
  }
}

/** The group that a question on the bulk lane is about; undefined when it names none. */
export function groupOf(question: Uint8Array): number | undefined {
  if (question.length < QUESTION_HEAD) return undefined
  return new DataView(question.buffer, question.byteOffset).getUint32(0, true)
}

/** A forwarded request names its first sender; everything else comes from the sender itself. */
function speaksFor(from: NodeId, message: Message): boolean {
  const forwarded = ['MsgProp', 'MsgReadIndex', 'MsgTransferLeader'].includes(message.type)
  return forwarded || message.from === from
}
