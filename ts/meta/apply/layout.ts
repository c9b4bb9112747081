/**
 * The layout: the placement table as cluster state. A change carries the slots that move and the hash of the table that
 * must come of it, so the table is the same on every copy whatever computes tables in later versions.
 *
 * A table is records of SLOTS_PER_RECORD slots under its number; a change rewrites those that it touches. When the
 * number of slots grows, the new table gets the next number and the old one stays until `endGrowth`.
 */
import { PlacementError } from '../../layout/errors.js'
import type { Target } from '../../layout/placement.js'
import { NO_SET, TABLE_SIZES } from '../../layout/table.js'
import { applyMoves } from '../../layout/table_moves.js'
import { activeWeight, canonical } from '../../layout/targets.js'
import { checksum64 } from '../../native/hash.js'
import type { StateReader } from '../chain.js'
import { FEATURE_LEVEL, LAYOUT_LEVEL } from '../command.js'
import type { Command } from '../command.js'
import { MetadataError } from '../engine.js'
import { CLUSTER_KEY, LAYOUT_KEY, setKey, slotsKey } from '../keys.js'
import { unpack } from '../record.js'
import type { ClusterRecord, LayoutRecord } from '../schema.js'
import { refuse } from './context.js'
import type { Context, Handled } from './context.js'

export const SLOTS_PER_RECORD = 8192

/** Largest table whose change fits into one command. */
const MOST_SLOTS = 655_373

type Table = Pick<LayoutRecord, 'table' | 'slots' | 'hash'>

/** All slots of a table. MetadataError 'corrupt' when a record is missing or the whole is not what was put there. */
export function readSlots(state: StateReader, { table, slots, hash }: Table): Uint16Array {
  const bytes = new Uint8Array(2 * slots)
  for (let record = 0; record * SLOTS_PER_RECORD < slots; record++) {
    const payload = state.get(slotsKey(table, record))
    const piece = payload === undefined ? undefined : unpack(payload)
    const offset = 2 * record * SLOTS_PER_RECORD
    if (!(piece instanceof Uint8Array) || piece.length !== Math.min(2 * SLOTS_PER_RECORD, bytes.length - offset)) {
      throw new MetadataError('corrupt', `record ${String(record)} of placement table ${String(table)} is missing`)
    }
    bytes.set(piece, offset)
  }
  const sets = new Uint16Array(bytes.buffer)
  if (!sameBytes(hashOfSlots(sets), hash)) {
    throw new MetadataError('corrupt', `placement table ${String(table)} is not the one that was written`)
  }
  return sets
}

/** XXH3-64 over the slots as they are stored. */
export function hashOfSlots(sets: Uint16Array): Uint8Array {
  const out = new Uint8Array(8)
  checksum64(out, 0, [bytesOf(sets)])
  return out
}

export function raiseFeatureLevel(
  context: Context,
  command: Extract<Command, { kind: 'raiseFeatureLevel' }>,
): Handled {
  const cluster = context.tx.read<ClusterRecord>(CLUSTER_KEY) ?? refuse('InvalidRequest', 'there is no cluster')
  if (command.level > FEATURE_LEVEL) refuse('FeatureLevel', `level ${String(command.level)} is unknown here`)
  if (command.level > cluster.featureLevel) {
    context.tx.put(CLUSTER_KEY, { ...cluster, featureLevel: command.level })
  }
  return {}
}

export function changeLayout(context: Context, command: Extract<Command, { kind: 'changeLayout' }>): Handled {
  const before = layoutToChange(context, command.version)
  const targets = checkedTargets(context, before, command.targets)
  const { slots } = command
  const grows = before !== undefined && before.slots !== slots
  if (!TABLE_SIZES.includes(slots) || slots > MOST_SLOTS) refuse('InvalidRequest', unfitSlots(slots))
  if (grows && slots < before.slots) refuse('InvalidRequest', 'a table never shrinks')
  if (grows && before.previous !== undefined) refuse('Conflict', 'the table is growing already')
  const old = before === undefined || grows ? new Uint16Array(slots).fill(NO_SET) : readSlots(context.tx, before)
  const sets = old.slice()
  moveOrRefuse(sets, command.moves)
  const takers = new Set(targets.filter((target) => activeWeight(target) > 0).map((target) => target.set))
  for (const set of sets) if (!takers.has(set)) refuse('InvalidRequest', `slots of set ${String(set)}`)
  const hash = hashOfSlots(sets)
  if (!sameBytes(hash, command.hash)) refuse('Conflict', 'the table is not the one that was meant')
  const table = before === undefined ? 1 : grows ? before.table + 1 : before.table
  writeSlots(context, table, sets, before === undefined || grows ? undefined : old)
  const previous = grows ? { table: before.table, slots: before.slots, hash: before.hash } : before?.previous
  const record: LayoutRecord = { version: command.version + 1, table, slots, hash, targets }
  context.tx.put(LAYOUT_KEY, previous === undefined ? record : { ...record, previous })
  return { count: record.version }
}

function unfitSlots(slots: number): string {
  const allowed = TABLE_SIZES.filter((size) => size <= MOST_SLOTS).join(' or ')
  const why = TABLE_SIZES.includes(slots) ? '; the change of a larger one does not fit into one command' : ''
  return `a placement table has ${allowed} slots, not ${String(slots)}${why}`
}

export function endGrowth(context: Context, command: Extract<Command, { kind: 'endGrowth' }>): Handled {
  const before = layoutToChange(context, command.version)
  if (before?.previous === undefined) refuse('Conflict', 'the table is not growing')
  const { previous, ...rest } = before
  for (let record = 0; record * SLOTS_PER_RECORD < previous.slots; record++) {
    context.tx.remove(slotsKey(previous.table, record))
  }
  context.tx.put(LAYOUT_KEY, { ...rest, version: before.version + 1 })
  return { count: before.version + 1 }
}

function layoutToChange(context: Context, version: number): LayoutRecord | undefined {
  const cluster = context.tx.read<ClusterRecord>(CLUSTER_KEY) ?? refuse('InvalidRequest', 'there is no cluster')
  if (cluster.featureLevel < LAYOUT_LEVEL)
    refuse('FeatureLevel', 'layouts came with a later level than the cluster has')
  const layout = context.tx.read<LayoutRecord>(LAYOUT_KEY)
  if ((layout?.version ?? 0) !== version) refuse('Conflict', `the layout has version ${String(layout?.version ?? 0)}`)
  return layout
}

/** In canonical order. Each is a set, and of those that the layout knew only sets that are no more are left out. */
function checkedTargets(context: Context, before: LayoutRecord | undefined, given: readonly Target[]): Target[] {
  const targets = canonicalOrRefuse(given)
  const numbers = new Set(targets.map((target) => target.set))
  for (const set of numbers) {
    if (context.tx.get(setKey(set)) === undefined) refuse('InvalidRequest', `there is no set ${String(set)}`)
  }
  const left = before?.targets.filter((target) => !numbers.has(target.set))
  const lost = left?.find((target) => context.tx.get(setKey(target.set)) !== undefined)
  if (lost !== undefined) refuse('InvalidRequest', `set ${String(lost.set)} is left out`)
  return targets
}

function canonicalOrRefuse(targets: readonly Target[]): Target[] {
  try {
    return canonical(targets)
  } catch (error) {
    if (error instanceof PlacementError) refuse('InvalidRequest', error.message)
    throw error
  }
}

function moveOrRefuse(sets: Uint16Array, moves: Uint8Array): void {
  try {
    applyMoves(sets, moves)
  } catch (error) {
    if (error instanceof PlacementError) refuse('InvalidRequest', error.message)
    throw error
  }
}

/** Writes the records that differ from `old`; all of them when there is none. */
function writeSlots(context: Context, table: number, sets: Uint16Array, old: Uint16Array | undefined): void {
  for (let record = 0; record * SLOTS_PER_RECORD < sets.length; record++) {
    const range = [record * SLOTS_PER_RECORD, (record + 1) * SLOTS_PER_RECORD] as const
    const piece = bytesOf(sets.subarray(...range))
    if (old !== undefined && sameBytes(piece, bytesOf(old.subarray(...range)))) continue
    context.tx.put(slotsKey(table, record), piece)
  }
}

/** Little-endian, as every processor is that there are binaries for. */
function bytesOf(sets: Uint16Array): Uint8Array {
  return new Uint8Array(sets.buffer, sets.byteOffset, sets.byteLength)
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && Buffer.compare(a, b) === 0
}
