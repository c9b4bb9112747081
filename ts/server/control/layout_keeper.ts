/**
 * Keeps the layout in metadata in step with the cluster's sets: the first table when there is more than one set, then a
 * change whenever a set was added or its capacity has changed. A cluster of one set has no layout and pays nothing.
 *
 * Outages change nothing here: a set that can take no parts now is passed over by the workers (table_placement.ts).
 *
 * In a store of several nodes each writes to its own sets only, and knows the size of those alone: it adds them to the
 * layout when it has more than one, leaves the others' targets as they are, and its workers pass over the sets of
 * others.
 */
import { PlacementError } from '../../layout/errors.js'
import type { Target, TargetState } from '../../layout/placement.js'
import { SlotsPlacement } from '../../layout/slots.js'
import { NO_SET } from '../../layout/table.js'
import type { PlacementTable } from '../../layout/table.js'
import { encodeMoves } from '../../layout/table_moves.js'
import { hashOfSlots } from '../../meta/apply/layout.js'
import { LAYOUT_LEVEL } from '../../meta/command.js'
import type { Command } from '../../meta/command.js'
import type { MetadataEngine } from '../../meta/engine.js'
import type { MetadataReader } from '../../meta/reader.js'
import type { LayoutRecord, SetRecord } from '../../meta/schema.js'

/** What is known of a set's size, in units of weight. */
export interface Capacity {
  weight: number
  /** Every drive of it was asked. */
  whole: boolean
}

/** What a worker needs of a layout. */
export interface SharedLayout {
  version: number
  table: SharedArrayBuffer
}

/** A layout and its table. */
export interface Current {
  layout: LayoutRecord
  table: PlacementTable
}

/** Capacities that differ by less than this part are the same. */
const SAME = 1 / 64
/** Attempts to be the next change, when another one came first. */
const ATTEMPTS = 3

export class LayoutKeeper {
  #table: Current | undefined

  /** The layout of the reader's snapshot; the table is read only when its version is new. */
  read(reader: MetadataReader): SharedLayout | undefined {
    const current = this.#current(reader)
    return current === undefined
      ? undefined
      : { version: current.layout.version, table: current.table.memory }
  }

  /**
   * Brings the layout up to date. Resolves with true when it was changed. Rejects with MetadataError when metadata
   * cannot be changed, with Error when the change was refused.
   */
  async keep(
    client: MetadataEngine,
    capacities: ReadonlyMap<number, Capacity>,
    node?: number,
  ): Promise<boolean> {
    return this.#change(client, (current) =>
      nextTable(current, wantedTargets(current?.layout.targets, client.reader.sets(), capacities, node)),
    )
  }

  /**
   * By the operator's wish. Rejects like `keep`, and with PlacementError 'badTarget' (the layout has no such set) or
   * 'noTarget' (no set would be left to take new parts).
   */
  async setState(client: MetadataEngine, set: number, state: TargetState): Promise<boolean> {
    return this.#change(client, (current) => {
      const old = current?.layout.targets.find((target) => target.set === set)
      if (current === undefined || old === undefined) throw new PlacementError('badTarget', `set ${String(set)}`)
      if (old.state === state) return undefined
      const targets = current.layout.targets.map((target) => (target === old ? { ...target, state } : target))
      return nextTable(current, [targets])
    })
  }

  /** Makes what `next` makes of the layout the next one; false when that is nothing. */
  async #change(client: MetadataEngine, nextOf: (current?: Current) => SlotsPlacement | undefined): Promise<boolean> {
    for (let attempt = 1; ; attempt++) {
      client.reader.refresh()
      const current = this.#current(client.reader)
      const next = nextOf(current)
      if (next === undefined) return false
      await raiseLevel(client)
      const command = layoutCommand(current, next)
      // The same change once, though its answer was lost; another version is another change.
      const name = `layout ${String(command.version)} ${Buffer.from(command.hash).toString('hex')}`
      const result = await client.propose(command, name)
      if (result.ok) return true
      if (result.refusal !== 'Conflict' || attempt === ATTEMPTS) throw new Error(`${result.refusal}: ${result.detail}`)
    }
  }

  /** State and share of each set, as of the last layout that was read. */
  report(): { states: Map<number, TargetState>; shares: Map<number, number> } | undefined {
    if (this.#table === undefined) return undefined
    const { layout, table } = this.#table
    const counts = table.counts()
    return {
      states: new Map(layout.targets.map(({ set, state }) => [set, state])),
      shares: new Map(layout.targets.map(({ set }) => [set, (counts.get(set) ?? 0) / table.slots])),
    }
  }

  #current(reader: MetadataReader): Current | undefined {
    const layout = reader.layout()
    if (layout === undefined) return undefined
    const known = this.#table
    if (known?.layout.version !== layout.version || !Buffer.from(known.layout.hash).equals(layout.hash)) {
      this.#table = { layout, table: reader.placementTable(layout) }
    }
    return this.#table
  }
}

/**
 * The targets wanted, as steps that are made one after the other: without a layout first the sets of the lowest pool,
 * then each further pool, so that a cluster that had one pool moves to the new ones what they must take and nothing
 * else. No step: nothing is to be changed. `sets` are all of the cluster, `capacities` those of this node's.
 */
export function wantedTargets(
  before: readonly Target[] | undefined,
  sets: readonly SetRecord[],
  capacities: ReadonlyMap<number, Capacity>,
  node?: number,
): Target[][] {
  const known = new Map(before?.map((target) => [target.set, target]))
  const wanted = [...sets]
    .sort((a, b) => a.number - b.number)
    .flatMap(({ number, pool }) => {
      const old = known.get(number)
      const capacity = capacities.get(number)
      if (old === undefined && capacity === undefined) return []
      return [{ pool, target: targetOf(number, old, capacity) }]
    })
  if (before !== undefined) {
    const targets = wanted.map(({ target }) => target)
    const same = targets.length === before.length && targets.every((target) => target === known.get(target.set))
    return same ? [] : [targets]
  }
  const own = sets.filter((set) => node === undefined || set.node === node)
  if (own.length < 2 || own.some((set) => !capacities.has(set.number))) return []
  const pools = [...new Set(wanted.map(({ pool }) => pool))].sort((a, b) => a - b)
  return pools.map((last) => wanted.filter(({ pool }) => pool <= last).map(({ target }) => target))
}

/** The same object when nothing has changed. */
function targetOf(set: number, old: Target | undefined, capacity: Capacity | undefined): Target {
  if (old === undefined) return { set, weight: capacity?.weight ?? 1, state: 'active' }
  if (capacity?.whole !== true || Math.abs(capacity.weight - old.weight) <= old.weight * SAME) return old
  return { ...old, weight: capacity.weight }
}

function nextTable(current: Current | undefined, steps: readonly Target[][]): SlotsPlacement | undefined {
  let placement = current && SlotsPlacement.over(current.layout.targets, current.table.memory)
  for (const targets of steps) {
    placement = placement === undefined ? SlotsPlacement.first(targets) : placement.change(targets)
  }
  return steps.length === 0 ? undefined : placement
}

/** The command that makes `next` the layout, from the current one. */
export function layoutCommand(
  current: Current | undefined,
  next: SlotsPlacement,
): Extract<Command, { kind: 'changeLayout' }> {
  const { sets, slots } = next.table
  const same = current !== undefined && current.table.slots === slots
  const before = same ? current.table.sets : new Uint16Array(slots).fill(NO_SET)
  return {
    kind: 'changeLayout',
    version: current?.layout.version ?? 0,
    slots,
    targets: [...next.targets],
    moves: encodeMoves(before, sets),
    hash: hashOfSlots(sets.slice()),
  }
}

/** Layouts came later than the first clusters. */
async function raiseLevel(client: MetadataEngine): Promise<void> {
  if ((client.reader.cluster()?.featureLevel ?? 0) >= LAYOUT_LEVEL) return
  const result = await client.propose({ kind: 'raiseFeatureLevel', level: LAYOUT_LEVEL })
  if (!result.ok) throw new Error(`${result.refusal}: ${result.detail}`)
}
