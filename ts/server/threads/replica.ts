/**
 * What the metadata thread of a replicated store opens: the transport to other nodes, and the replica on top of it.
 *
 * The transport is there before the engine: peers that call meanwhile are told to come again.
 */
import { ReplicatedEngine } from '../../meta/raft/replica/replicated_engine.js'
import type { MetaDrive } from '../../meta/drive_files.js'
import { RaftNetwork, groupOf } from '../../meta/raft/network.js'
import type { MetadataStatus } from '../../meta/engine.js'
import { GROUP_LEVEL } from '../../meta/command.js'
import { MetadataError } from '../../meta/engine.js'
import { RpcError } from '../../rpc/errors.js'
import { Transport, showAddress } from '../../rpc/transport.js'
import type { PeerIdentity, PeerState, Security } from '../../rpc/transport.js'
import type { Logger } from '../log.js'
import { DIGEST, MEMBERS, STATUS, answerCall, encodeBody } from '../rpc/node_calls.js'
import type { MemberAction } from '../rpc/node_calls.js'
import { answerDigest, compareReplicas } from './compare_replicas.js'
import type { Comparison } from './compare_replicas.js'
import type { Digest } from './digest.js'

export interface ReplicaData {
  nodeId: number
  clusterId: string
  name: string
  listen: { host: string; port: number }
  /** host:port, or '' for the address listened on. */
  advertise: string
  security: Security
  /** Joins a group that exists. */
  joins: boolean
  /** Known before the metadata names them. */
  peers: { id: number; address: string }[]
  /** Applied entries after which the log is released; absent: what the engine assumes. */
  logEntries?: number
}

/** The one group of all metadata; its number travels in commands, records and messages (docs/metadata.md). */
const GROUP = 0
const STATUS_MS = 5_000
const CHANGE_MS = 45_000
/** For the feature level of a store that has only just become replicated. */
const ADD_RETRY_MS = 500
const ADD_TRIES = 20

/** Hashing reads all records. */
const DIGEST_MS = 3_600_000

export interface Replica {
  engine: ReplicatedEngine
  transport: Transport
  address: string
  /** Of the replicas with each other, when this node last led one. */
  comparison?: Comparison
}

export async function openReplicaHere(
  data: ReplicaData,
  options: { drives: MetaDrive[]; deadlineMs: number },
  log: Logger,
): Promise<Replica> {
  const here: { engine?: ReplicatedEngine } = {}
  const needEngine = (): ReplicatedEngine => {
    if (here.engine === undefined) throw new RpcError('overloaded', 'the node is starting')
    return here.engine
  }
  const transport = await Transport.listen({
    listen: data.listen,
    identity: { clusterId: data.clusterId, nodeId: data.nodeId, name: data.name, advertised: data.advertise },
    security: data.security,
    handlers: {
      admit: (peer) => (here.engine === undefined ? '' : admit(here.engine, peer)),
      messages: (from, channel, payloads) => {
        if (channel === GROUP && here.engine !== undefined) network.receive(from, payloads)
      },
      call: async (_from, name, body) => {
        const engine = needEngine()
        if (name === DIGEST) return encodeBody((await answerDigest(engine, body)) ?? null)
        return answerCall(engine, name, body, (wish) => changeMembersHere(engine, wish))
      },
      answer: (from, question) => {
        if (groupOf(question) !== GROUP) throw new Error('no such group')
        return network.answer(from, question)
      },
      peer: (id, up, why) => {
        if (up) log.info({ node: id }, 'a node is connected')
        else log.warn({ node: id, reason: why }, 'the connection to a node is lost')
        network.peer(id, up)
      },
    },
  })
  const network = new RaftNetwork(data.nodeId, GROUP, transport)
  const address = data.advertise === '' ? showAddress(transport.address) : data.advertise
  try {
    here.engine = await ReplicatedEngine.open({
      drives: options.drives,
      deadlineMs: options.deadlineMs,
      network,
      self: { name: data.name, address },
      peers: data.peers,
      ...(data.logEntries !== undefined && {
        releaseEvery: data.logEntries,
        trailingEntries: data.logEntries >> 1,
      }),
      ...(data.joins ? { join: { id: data.nodeId } } : {}),
      note: (message) => {
        log.warn(message)
      },
    })
  } catch (error) {
    await transport.close()
    throw error
  }
  if (here.engine.id !== data.nodeId) {
    throw new MetadataError('corrupt', `the replica is of node ${String(here.engine.id)}, not ${String(data.nodeId)}`)
  }
  return { engine: here.engine, transport, address }
}

/** A removed node is told so; one that is not known yet may be ahead of what this node has applied. */
function admit(engine: ReplicatedEngine, peer: PeerIdentity): string {
  try {
    engine.reader.refresh()
    const record = engine.reader.nodes().find((node) => node.id === peer.nodeId)
    return record?.state === 'removed' ? `node ${String(peer.nodeId)} was removed from the cluster` : ''
  } catch (error) {
    if (error instanceof MetadataError) return ''
    throw error
  }
}

/**
 * Carries out an operator's wish, by way of the leader. Rejects with MetadataError or RpcError. Answers with the id of
 * the node.
 */
export async function changeMembers({ engine, transport }: Replica, wish: MemberAction): Promise<number> {
  const { leader } = engine
  if (leader === 0) throw new MetadataError('unavailable', 'no leader is known')
  if (leader === engine.id) return changeMembersHere(engine, wish)
  const answer = await transport.call(leader, MEMBERS, encodeBody(wish), CHANGE_MS)
  return Number(JSON.parse(Buffer.from(answer).toString('utf8')))
}

/** As the leader, compares the replicas; undefined on other nodes. */
export async function compareWithOthers(replica: Replica): Promise<Comparison | undefined> {
  const { engine, transport } = replica
  const peers = (await engine.status()).replica?.peers ?? []
  const others = peers.flatMap(({ id }) => (id === engine.id ? [] : [id]))
  const found = await compareReplicas(engine, others, async (node, position) => {
    const answer = await transport.call(node, DIGEST, encodeBody({ position }), DIGEST_MS)
    return (JSON.parse(Buffer.from(answer).toString('utf8')) as Digest | null) ?? undefined
  })
  if (found === undefined) delete replica.comparison
  else replica.comparison = found
  return found
}

async function changeMembersHere(engine: ReplicatedEngine, wish: MemberAction): Promise<number> {
  if (wish.action === 'addNode') return addNode(engine, wish.name, wish.address)
  const { node } = wish
  if (wish.action === 'promote') await engine.promote(node)
  else if (wish.action === 'transferLeadership') await engine.transferLeadership(node)
  else {
    // Its drives first: a node that still holds data stays.
    const dropped = await engine.propose({ kind: 'dropNodeSets', node })
    if (!dropped.ok) throw new MetadataError('unavailable', dropped.detail)
    await engine.removeNode(node)
  }
  return node
}

async function addNode(engine: ReplicatedEngine, name: string, address: string): Promise<number> {
  for (let attempt = 1; ; attempt++) {
    const level = (await engine.status()).featureLevel
    if (level >= GROUP_LEVEL || attempt === ADD_TRIES) return engine.addNode(name, address)
    await new Promise((resolve) => setTimeout(resolve, ADD_RETRY_MS))
  }
}

/** As the leader sees the group, or as this node does when the leader cannot be asked. */
export async function groupStatus({ engine, transport }: Replica): Promise<MetadataStatus> {
  const own = await engine.status()
  const leader = own.replica?.leader ?? 0
  if (leader === 0 || leader === engine.id) return own
  try {
    const answer = await transport.call(leader, STATUS, encodeBody({}), STATUS_MS)
    // Made by the same program, and only shown.
    const theirs = JSON.parse(Buffer.from(answer).toString('utf8')) as MetadataStatus
    if (own.replica === undefined || theirs.replica === undefined) return own
    return { ...own, replica: { ...own.replica, peers: theirs.replica.peers } }
  } catch (error) {
    if (error instanceof RpcError) return own
    throw error
  }
}

export interface ClusterReport {
  nodeId: number
  name: string
  address: string
  status: MetadataStatus
  connections: PeerState[]
}
