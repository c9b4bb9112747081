/** Nodes of the group, and leases of cluster-wide singletons. */
import type { Command, Fence } from '../command.js'
import { COUNTERS_KEY, leaseKey, nodeKey, SYSTEM, systemKey } from '../keys.js'
import { unpack } from '../record.js'
import type { LeaseRecord, NodeRecord } from '../schema.js'
import { refuse } from './context.js'
import type { Context, Handled } from './context.js'

const MAX_NAME = 256

function checkName(name: string, what: string): void {
  if (name === '' || Buffer.byteLength(name) > MAX_NAME) {
    refuse('InvalidRequest', `${what} has 1 to ${String(MAX_NAME)} bytes`)
  }
}

function byName(context: Context, name: string): NodeRecord | undefined {
  for (const entry of context.tx.scan(systemKey(SYSTEM.node), systemKey(SYSTEM.node + 1))) {
    const node = unpack(entry.payload) as NodeRecord
    if (node.name === name && node.state === 'member') return node
  }
  return undefined
}

export function registerNode(context: Context, command: Extract<Command, { kind: 'registerNode' }>): Handled {
  const { name, address } = command
  checkName(name, 'the name of a node')
  checkName(address, 'the address of a node')
  const known = byName(context, name)
  if (known !== undefined && command.id !== undefined && known.id !== command.id) {
    refuse('Conflict', `node ${name} has the id ${String(known.id)}`)
  }
  const counters = context.tx.counters()
  const next = counters.nextNode ?? 2
  const id = known?.id ?? command.id ?? next
  const record = context.tx.read<NodeRecord>(nodeKey(id))
  if (record?.state === 'removed') refuse('Conflict', `node ${String(id)} was removed, and its id is not given again`)
  if (!Number.isSafeInteger(id) || id < 1 || id > next)
    refuse('InvalidRequest', `${String(id)} is not the id of a node`)
  if (id === next) context.tx.put(COUNTERS_KEY, { ...counters, nextNode: next + 1 })
  const node: NodeRecord = { id, name, address, state: 'member' }
  context.tx.put(nodeKey(id), node)
  return { nodeId: id }
}

export function removeNode(context: Context, { id }: Extract<Command, { kind: 'removeNode' }>): Handled {
  const node = context.tx.read<NodeRecord>(nodeKey(id)) ?? refuse('Conflict', `there is no node ${String(id)}`)
  const removed: NodeRecord = { ...node, state: 'removed' }
  context.tx.put(nodeKey(id), removed)
  return { nodeId: id }
}

export function takeLease(context: Context, command: Extract<Command, { kind: 'takeLease' }>): Handled {
  const { name, holder, ifVersion } = command
  checkName(name, 'the name of a lease')
  checkName(holder, 'the holder of a lease')
  const old = context.tx.read<LeaseRecord>(leaseKey(name))
  if ((old?.version ?? 0) !== ifVersion) refuse('Conflict', `lease ${name} has changed`)
  return put(context, { name, holder, token: (old?.token ?? 0) + 1, version: ifVersion + 1 })
}

export function renewLease(context: Context, command: Extract<Command, { kind: 'renewLease' }>): Handled {
  const held = checkFence(context, { lease: command.name, token: command.token })
  return put(context, { ...held, version: held.version + 1 })
}

export function releaseLease(context: Context, command: Extract<Command, { kind: 'releaseLease' }>): Handled {
  const held = checkFence(context, { lease: command.name, token: command.token })
  return put(context, { ...held, holder: '', version: held.version + 1 })
}

/** Refuses unless the token is that of the lease's holder. */
export function checkFence(context: Context, { lease, token }: Fence): LeaseRecord {
  const record = context.tx.read<LeaseRecord>(leaseKey(lease))
  if (record === undefined || record.token !== token || record.holder === '') {
    refuse('LeaseLost', `lease ${lease} is not held with token ${String(token)}`)
  }
  return record
}

function put(context: Context, lease: LeaseRecord): Handled {
  context.tx.put(leaseKey(lease.name), lease)
  return { lease }
}
