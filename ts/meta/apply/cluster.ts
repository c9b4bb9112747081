/** Cluster, sets, drives, writer epochs. */
import type { Command } from '../command.js'
import { CLUSTER_KEY, COUNTERS_KEY, driveKey, epochKey, setKey } from '../keys.js'
import type { DriveRecord, SetRecord, WriterEpochRecord } from '../schema.js'
import { refuse } from './context.js'
import type { Context, Handled } from './context.js'
import { hasSets } from './node_sets.js'

export function initCluster(context: Context, command: Extract<Command, { kind: 'initCluster' }>): Handled {
  if (context.tx.get(CLUSTER_KEY) !== undefined) refuse('Conflict', 'the cluster exists')
  context.tx.put(CLUSTER_KEY, command.cluster)
  putNew(context, command.sets, command.drives)
  return {}
}

export function addSets(context: Context, command: Extract<Command, { kind: 'addSets' }>): Handled {
  if (context.tx.get(CLUSTER_KEY) === undefined) refuse('InvalidRequest', 'there is no cluster')
  putNew(context, command.sets, command.drives)
  return {}
}

function putNew(context: Context, sets: readonly SetRecord[], drives: readonly DriveRecord[]): void {
  for (const drive of drives) {
    if (context.tx.get(driveKey(drive.number)) !== undefined) refuse('Conflict', `drive ${String(drive.number)} exists`)
    context.tx.put(driveKey(drive.number), drive)
  }
  for (const set of sets) {
    if (context.tx.get(setKey(set.number)) !== undefined) refuse('Conflict', `set ${String(set.number)} exists`)
    for (const drive of set.drives) {
      if (context.tx.get(driveKey(drive)) === undefined)
        refuse('InvalidRequest', `set ${String(set.number)} names no drive`)
    }
    context.tx.put(setKey(set.number), set)
  }
}

export function replaceDrive(context: Context, command: Extract<Command, { kind: 'replaceDrive' }>): Handled {
  const { drive } = command
  const old = context.tx.read<DriveRecord>(driveKey(command.old))
  if (old?.state !== 'member') refuse('Conflict', `drive ${String(command.old)} is not a member`)
  if (context.tx.get(driveKey(drive.number)) !== undefined) refuse('Conflict', `drive ${String(drive.number)} exists`)
  const set = context.tx.read<SetRecord>(setKey(old.set))
  if (set?.drives[old.position] !== old.number || drive.set !== old.set || drive.position !== old.position) {
    refuse('InvalidRequest', 'set or position of the new drive')
  }
  if (drive.epoch !== old.epoch + 1) refuse('InvalidRequest', `the new epoch is ${String(old.epoch + 1)}`)
  context.tx.put(driveKey(old.number), { ...old, state: 'replaced', healing: false })
  context.tx.put(driveKey(drive.number), { ...drive, state: 'member', healing: true })
  context.tx.put(setKey(set.number), { ...set, drives: set.drives.with(old.position, drive.number) })
  return {}
}

export function driveHealed(context: Context, command: Extract<Command, { kind: 'driveHealed' }>): Handled {
  const drive = context.tx.read<DriveRecord>(driveKey(command.number))
  if (drive?.state !== 'member') refuse('Conflict', `drive ${String(command.number)} is not a member`)
  context.tx.put(driveKey(drive.number), { ...drive, healing: false })
  return {}
}

export function openEpoch(context: Context, command: Extract<Command, { kind: 'openEpoch' }>): Handled {
  if (command.node !== undefined && !hasSets(context, command.node)) {
    refuse('Conflict', `node ${String(command.node)} has no drives in this store`)
  }
  const counters = context.tx.counters()
  const epoch: WriterEpochRecord = {
    epoch: counters.nextEpoch,
    openedMs: command.nowMs,
    fenced: false,
    ...(command.node !== undefined && { node: command.node }),
  }
  context.tx.put(epochKey(epoch.epoch), { ...epoch, worker: command.worker })
  context.tx.put(COUNTERS_KEY, { ...counters, nextEpoch: epoch.epoch + 1 })
  return { epoch: epoch.epoch }
}

export function fenceEpochs(context: Context, command: Extract<Command, { kind: 'fenceEpochs' }>): Handled {
  let count = 0
  for (const epoch of command.epochs) {
    const record = context.tx.read<WriterEpochRecord>(epochKey(epoch))
    if (record === undefined) refuse('InvalidRequest', `epoch ${String(epoch)} was never opened`)
    if (record.fenced) continue
    context.tx.put(epochKey(epoch), { ...record, fenced: true })
    count++
  }
  return { count }
}
