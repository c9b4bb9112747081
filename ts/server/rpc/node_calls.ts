/**
 * The calls that nodes make of each other, beside Raft's own messages. Bodies are JSON, checked here.
 *
 *   join     a new node brings its drives: the operator has named it before (`add-node`)
 *   status   what this node's metadata engine says of itself: the leader's answer names everybody's progress
 *   members  an operator's wish concerning the group, for the leader, who alone can say why not
 *   digest   the hash over all records at a position, for the leader, who compares them (threads/compare_replicas.ts)
 */
import { z } from 'zod'

import { MetadataError } from '../../meta/engine.js'
import type { MetadataEngine } from '../../meta/engine.js'
import { RpcError } from '../../rpc/errors.js'

export const JOIN = 'join'
export const STATUS = 'status'
export const MEMBERS = 'members'
export const DIGEST = 'digest'

/** What an operator asks of the group. */
export type MemberAction =
  | { action: 'addNode'; name: string; address: string }
  | { action: 'removeNode' | 'promote' | 'transferLeadership'; node: number }

export const memberAction: z.ZodType<MemberAction> = z.discriminatedUnion('action', [
  z.strictObject({
    action: z.literal('addNode'),
    name: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/),
    address: z.string().max(255),
  }),
  z.strictObject({ action: z.enum(['removeNode', 'promote', 'transferLeadership']), node: z.int().min(1) }),
])

export interface JoinRequest {
  name: string
  driveIds: string[]
  setSize: number
  parity: number
}

const joinRequest: z.ZodType<JoinRequest> = z.strictObject({
  name: z.string().min(1).max(63),
  driveIds: z.array(z.string().min(1).max(64)).min(1).max(4096),
  setSize: z.int().min(1).max(16),
  parity: z.int().min(0).max(8),
})

export interface JoinAnswer {
  nodeId: number
  clusterId: string
  /** Number of the first drive; the others follow. */
  firstDrive: number
  peers: { id: number; address: string }[]
}

const joinAnswer: z.ZodType<JoinAnswer> = z.strictObject({
  nodeId: z.int().min(1),
  clusterId: z.string().min(1),
  firstDrive: z.int().min(1),
  peers: z.array(z.strictObject({ id: z.int().min(1), address: z.string() })),
})

export function encodeBody(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value), 'utf8')
}

export function decodeJoinAnswer(body: Uint8Array): JoinAnswer {
  return parse(joinAnswer, body)
}

/** Answers calls of other nodes. Rejects with RpcError. */
export async function answerCall(
  engine: MetadataEngine,
  name: string,
  body: Uint8Array,
  changeMembers: (wish: MemberAction) => Promise<number>,
): Promise<Uint8Array> {
  try {
    if (name === MEMBERS) return encodeBody(await changeMembers(parse(memberAction, body)))
    if (name === JOIN) return encodeBody(await join(engine, parse(joinRequest, body)))
    if (name === STATUS) return encodeBody(await engine.status())
  } catch (error) {
    if (!(error instanceof MetadataError)) throw error
    throw new RpcError(error.code === 'unknown' || error.code === 'overloaded' ? error.code : 'failed', error.message)
  }
  throw new RpcError('refused', `no such call: ${name.slice(0, 64)}`)
}

async function join(engine: MetadataEngine, request: JoinRequest): Promise<JoinAnswer> {
  const { name, driveIds, setSize, parity } = request
  await engine.settled('linearizable')
  engine.reader.refresh()
  const node = engine.reader.nodes().find((one) => one.name === name && one.state === 'member')
  if (node === undefined) {
    throw new RpcError(
      'refused',
      `no node ${name} is expected: run \`ostraka admin metadata add-node ${name} HOST:PORT\``,
    )
  }
  const result = await engine.propose({ kind: 'addNodeSets', node: node.id, driveIds, setSize, parity })
  if (!result.ok) throw new RpcError('refused', result.detail)
  engine.reader.refresh()
  const { reader } = engine
  const clusterId = reader.cluster()?.clusterId ?? ''
  const numbers = reader.drives().flatMap((drive) => (driveIds.includes(drive.driveId) ? [drive.number] : []))
  const peers = reader.nodes().flatMap(({ id, address, state }) =>
    state === 'member' && id !== node.id ? [{ id, address }] : [],
  )
  return { nodeId: node.id, clusterId, firstDrive: Math.min(...numbers), peers }
}

function parse<T>(schema: z.ZodType<T>, body: Uint8Array): T {
  try {
    return schema.parse(JSON.parse(Buffer.from(body).toString('utf8')))
  } catch (error) {
    throw new RpcError('refused', 'the body of the call is not as expected', { cause: error })
  }
}
