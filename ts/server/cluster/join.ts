/**
 * A new node asks to join a cluster: before it has an id, a cluster id or numbered drives, with nothing but the
 * addresses of nodes, the secret and its name. It goes on asking until it is let in: an operator may name it later
 * than it starts.
 */
import { randomInt } from 'node:crypto'

import { Refusal, RpcError } from '../../rpc/errors.js'
import { Transport, parseAddress } from '../../rpc/transport.js'
import type { PeerAddress, Security } from '../../rpc/transport.js'
import type { Logger } from '../log.js'
import { JOIN, decodeJoinAnswer, encodeBody } from '../rpc/node_calls.js'
import type { JoinAnswer, JoinRequest } from '../rpc/node_calls.js'

export interface Joining {
  name: string
  addresses: readonly string[]
  security: Security
  log: Logger
  /** True once the process is asked to stop. */
  stopped: () => boolean
}

const CALL_MS = 15_000
const PAUSE_MS = 1_000
const CONNECT_MS = 5_000
/** Ids of members are small: this cannot be one. */
const STRANGER = 2 ** 44

export class JoinRefused extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'JoinRefused'
  }
}

/** The cluster to be found at the addresses. Rejects with JoinRefused when it will not have this node. */
export function findCluster(joining: Joining): Promise<string> {
  return insist(joining, async (transport, address) => {
    const { clusterId } = await transport.probe(address)
    if (clusterId === '') throw new RpcError('unreachable', 'that node belongs to no cluster yet')
    return clusterId
  })
}

/** Brings the drives. The same drives again get the same answer. */
export function joinCluster(joining: Joining, request: JoinRequest): Promise<JoinAnswer> {
  return insist(joining, async (transport, address) => {
    const { nodeId } = await transport.probe(address)
    transport.setPeer(nodeId, address)
    for (let waited = 0; !transport.isConnected(nodeId) && waited < CONNECT_MS; waited += 20) await pause(20)
    return decodeJoinAnswer(await transport.call(nodeId, JOIN, encodeBody(request), CALL_MS))
  })
}

/** Address after address, again and again, until one gives an answer. */
async function insist<T>(
  { name, addresses, security, log, stopped }: Joining,
  ask: (transport: Transport, address: PeerAddress) => Promise<T>,
): Promise<T> {
  const transport = await Transport.listen({
    listen: undefined,
    identity: { clusterId: '', nodeId: STRANGER + randomInt(2 ** 40), name, advertised: '' },
    security,
    handlers: {
      admit: () => '',
      messages: () => undefined,
      call: () => Promise.reject(new RpcError('refused', 'this node has not joined yet')),
      answer: () => {
        throw new Error('this node has not joined yet')
      },
      peer: () => undefined,
    },
  })
  let told = ''
  try {
    for (;;) {
      for (const text of addresses) {
        const address = parseAddress(text)
        if (address === undefined) continue
        try {
          return await ask(transport, address)
        } catch (error) {
          const why = error instanceof Error ? error.message : String(error)
          if (error instanceof Refusal && error.code !== 'closing') throw new JoinRefused(`${text}: ${why}`)
          if (told !== why) log.warn({ address: text, reason: why }, 'this node is not let in yet')
          told = why
        }
      }
      if (stopped()) throw new JoinRefused('stopped before it had joined')
      await pause(PAUSE_MS)
    }
  } finally {
    await transport.close()
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms)
  })
}
