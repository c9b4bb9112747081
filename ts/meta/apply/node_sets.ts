/**
 * Whose drives the erasure sets are made of, in a store of several nodes. A set lies on the drives of one node;
 * numbers of sets and drives are given here, in order, and drives are known again by their ids.
 */
import type { Command } from '../command.js'
import { CLUSTER_KEY, SYSTEM, afterPrefix, driveKey, epochKey, setKey, systemKey, u32 } from '../keys.js'
import { unpack } from '../record.js'
import type { DriveRecord, SetRecord, WriterEpochRecord } from '../schema.js'
import { refuse } from './context.js'
import type { Context, Handled } from './context.js'
import type { OwnerRecord } from './data_ids.js'

const MAX_DRIVES = 65_535
/** Records of deleted parts looked at before a removal is put off: one command must not hold up all others. */
const MAX_LOOKED = 100_000

export function claimSets(context: Context, { node }: Extract<Command, { kind: 'claimSets' }>): Handled {
  if (context.tx.get(CLUSTER_KEY) === undefined) refuse('InvalidRequest', 'there is no cluster')
  checkNode(node)
  const free = all<SetRecord>(context, SYSTEM.set).filter((set) => set.node === undefined)
  for (const set of free) context.tx.put(setKey(set.number), { ...set, node })
  return { count: free.length }
}

export function addNodeSets(context: Context, command: Extract<Command, { kind: 'addNodeSets' }>): Handled {
  const { node, driveIds, setSize, parity } = command
  checkNode(node)
  const drives = all<DriveRecord>(context, SYSTEM.drive)
  const sets = all<SetRecord>(context, SYSTEM.set)
  const own = new Set(sets.filter((set) => set.node === node).map((set) => set.number))
  if (own.size > 0) {
    const known = new Set(drives.filter((drive) => own.has(drive.set)).map((drive) => drive.driveId))
    if (driveIds.length > 0 && driveIds.every((id) => known.has(id))) return { count: 0 }
    refuse('Conflict', `node ${String(node)} has joined with other drives`)
  }
  const sound = setSize >= 1 && setSize <= 16 && parity >= 0 && parity * 2 <= setSize && driveIds.length > 0
  if (!sound || driveIds.length % setSize !== 0 || new Set(driveIds).size !== driveIds.length) {
    refuse('InvalidRequest', 'the sets of the new node')
  }
  if (drives.some(({ driveId }) => driveIds.includes(driveId)))
    refuse('Conflict', 'a drive belongs to the store already')
  const firstDrive = 1 + Math.max(0, ...drives.map(({ number }) => number))
  if (firstDrive + driveIds.length > MAX_DRIVES) refuse('Conflict', 'there are no drive numbers left')
  putSets(context, command, { firstDrive, firstSet: 1 + Math.max(-1, ...sets.map(({ number }) => number)) })
  return { count: driveIds.length / setSize }
}

function putSets(
  context: Context,
  { node, driveIds, setSize, parity }: Extract<Command, { kind: 'addNodeSets' }>,
  { firstDrive, firstSet }: { firstDrive: number; firstSet: number },
): void {
  for (let at = 0; at < driveIds.length; at += setSize) {
    const number = firstSet + at / setSize
    const drives = driveIds.slice(at, at + setSize).map((driveId, position): DriveRecord => ({
      number: firstDrive + at + position,
      driveId,
      pool: 0,
      set: number,
      position,
      epoch: 1,
      state: 'member',
      healing: false,
    }))
    for (const drive of drives) context.tx.put(driveKey(drive.number), drive)
    const members = drives.map((drive) => drive.number)
    const set: SetRecord = { number, pool: 0, k: setSize - parity, m: parity, drives: members, node }
    context.tx.put(setKey(number), set)
  }
}

export function dropNodeSets(context: Context, { node }: Extract<Command, { kind: 'dropNodeSets' }>): Handled {
  checkNode(node)
  const sets = all<SetRecord>(context, SYSTEM.set).filter((set) => set.node === node)
  let looked = 0
  for (const { number } of sets) {
    const prefix = systemKey(SYSTEM.owner, u32(number))
    for (const { payload } of context.tx.scan(prefix, afterPrefix(prefix))) {
      if ((unpack(payload) as OwnerRecord).garbage !== true) {
        refuse('Conflict', `objects are stored on drives of node ${String(node)} (erasure set ${String(number)})`)
      }
      looked += 1
      if (looked > MAX_LOOKED) refuse('Conflict', `node ${String(node)} has much to collect first`)
    }
  }
  const gone = new Set(sets.map((set) => set.number))
  for (const drive of all<DriveRecord>(context, SYSTEM.drive)) {
    if (gone.has(drive.set)) context.tx.remove(driveKey(drive.number))
  }
  for (const number of gone) context.tx.remove(setKey(number))
  // No writer of that node can commit to its drives any more.
  for (const epoch of all<WriterEpochRecord>(context, SYSTEM.epoch)) {
    if (epoch.node === node && !epoch.fenced) context.tx.put(epochKey(epoch.epoch), { ...epoch, fenced: true })
  }
  return { count: gone.size }
}

export function hasSets(context: Context, node: number): boolean {
  return all<SetRecord>(context, SYSTEM.set).some((set) => set.node === node)
}

function checkNode(node: number): void {
  if (!Number.isSafeInteger(node) || node < 1) refuse('InvalidRequest', `${String(node)} is not the id of a node`)
}

function all<T>(context: Context, kind: number): T[] {
  const prefix = systemKey(kind)
  return [...context.tx.scan(prefix, afterPrefix(prefix))].map(({ payload }) => unpack(payload) as T)
}
