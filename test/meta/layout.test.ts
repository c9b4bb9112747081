/**
 * The placement table as cluster state: what apply takes and refuses, and what outlives restarts, backups and damage.
 */
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { after, describe, it } from 'node:test'
import { planMovement } from '../../ts/layout/movement.js'
import type { Target } from '../../ts/layout/placement.js'
import { SlotsPlacement } from '../../ts/layout/slots.js'
import { applyBatch } from '../../ts/meta/apply/apply.js'
import { hashOfSlots, SLOTS_PER_RECORD } from '../../ts/meta/apply/layout.js'
import type { Command } from '../../ts/meta/command.js'
import { MetadataError } from '../../ts/meta/engine.js'
import type { MetadataEngine } from '../../ts/meta/engine.js'
import { slotsKey } from '../../ts/meta/keys.js'
import { LocalEngine } from '../../ts/meta/local_engine.js'
import type { LocalEngineOptions } from '../../ts/meta/local_engine.js'
import { restoreBackup } from '../../ts/meta/restore.js'
import type { DriveRecord, LayoutRecord, SetRecord } from '../../ts/meta/schema.js'
import { verifyView } from '../../ts/meta/verify.js'
import { layoutCommand, LayoutKeeper } from '../../ts/server/control/layout_keeper.js'
import { FileIo } from './file_io.js'
import { Machine } from './support.js'

const root = mkdtempSync(`${tmpdir()}/ostraka-layout-`)
after(() => {
  rmSync(root, { recursive: true, force: true })
})

function equal(count: number): Target[] {
  return Array.from({ length: count }, (_, set) => ({ set, weight: 4, state: 'active' }))
}

/** Sets of one drive each; `pools`: how many sets each pool has. */
function members(pools: readonly number[]): { sets: SetRecord[]; drives: DriveRecord[] } {
  const poolOf = pools.flatMap((count, pool) => Array.from({ length: count }, () => pool))
  return {
    sets: poolOf.map((pool, number) => ({ number, pool, k: 1, m: 0, drives: [number + 1] })),
    drives: poolOf.map((pool, set) => {
      const driveId = `drive ${String(set)}`
      return { number: set + 1, driveId, pool, set, position: 0, epoch: 1, state: 'member', healing: false }
    }),
  }
}

function initCluster(sets: number, featureLevel = 2): Command {
  const cluster = { clusterId: 'c', createdMs: 1, featureLevel, stripeSize: 1 << 20 }
  return { kind: 'initCluster', cluster, ...members([sets]) }
}

function machineOf(sets: number, featureLevel?: number): Machine {
  const machine = new Machine()
  machine.ok(initCluster(sets, featureLevel))
  return machine
}

type ChangeLayout = ReturnType<typeof layoutCommand>

/** The command that makes `next` of what the machine has. */
function commandFor(machine: Machine, next: SlotsPlacement): ChangeLayout {
  const layout = machine.reader.layout()
  return layoutCommand(layout && { layout, table: machine.reader.placementTable(layout) }, next)
}

function layoutOf(machine: Machine): LayoutRecord {
  const layout = machine.reader.layout()
  assert.ok(layout !== undefined)
  return layout
}

describe('apply: the layout', () => {
  it('keeps the table that was proposed, and moves exactly what a new set must take', () => {
    const machine = machineOf(4)
    const first = SlotsPlacement.first(equal(3))
    assert.equal(machine.ok(commandFor(machine, first)).count, 1)
    const before = machine.reader.placementTable(layoutOf(machine))
    assert.deepEqual(before.sets, first.table.sets)
    machine.ok(commandFor(machine, first.change(equal(4))))
    const layout = layoutOf(machine)
    assert.deepEqual([layout.version, layout.slots, layout.targets.length], [2, 65_537, 4])
    const { moves, share } = planMovement(before, machine.reader.placementTable(layout))
    assert.ok(moves.every(({ to }) => to === 3))
    assert.ok(Math.abs(share - 1 / 4) < 1 / 65_537)
    verifyView(machine.view)
  })

  it('writes only the records that a change touches', () => {
    const machine = machineOf(2)
    const slots = SlotsPlacement.first(equal(2))
    machine.ok(commandFor(machine, slots))
    const sets = slots.table.sets.slice()
    sets[3 * SLOTS_PER_RECORD] = 1 - (sets[3 * SLOTS_PER_RECORD] as number)
    slots.table.sets.set(sets)
    const command = commandFor(machine, slots)
    const batch = { timeMs: 1, requests: [{ command }] }
    const { writes } = applyBatch(machine.view, { index: machine.index + 1, term: 1 }, batch)
    const keys = Array.from({ length: 9 }, (_, record) => slotsKey(1, record))
    const touched = keys.flatMap((key, record) => (writes.some((write) => write.key.equals(key)) ? [record] : []))
    assert.deepEqual(touched, [3])
  })

  it('finds a record that is an older one of its own, which no checksum of a record tells', () => {
    const machine = machineOf(3)
    const first = SlotsPlacement.first(equal(2))
    machine.ok(commandFor(machine, first))
    const key = slotsKey(1, 0)
    const older = machine.view.get(key)
    machine.ok(commandFor(machine, first.change(equal(3))))
    machine.view.commit([{ key, value: older }])
    verifyView(machine.view)
    assert.throws(() => machine.reader.placementTable(layoutOf(machine)), { code: 'corrupt' })
    assert.equal(machine.reader.doubts, 1)
  })

  it('refuses what does not follow from what is there', () => {
    const machine = machineOf(3)
    const first = SlotsPlacement.first(equal(2))
    const good = commandFor(machine, first)
    assert.equal(machine.refused({ ...good, version: 1 }), 'Conflict')
    assert.equal(machine.refused({ ...good, hash: Buffer.alloc(8) }), 'Conflict')
    assert.equal(machine.refused({ ...good, moves: good.moves.subarray(1) }), 'InvalidRequest')
    assert.equal(machine.refused({ ...good, slots: 1000 }), 'InvalidRequest')
    assert.equal(machine.refused({ ...good, targets: equal(1) }), 'InvalidRequest')
    assert.equal(machine.refused({ ...good, targets: equal(4) }), 'InvalidRequest')
    assert.equal(machine.refused({ ...good, targets: [...equal(2), ...equal(1)] }), 'InvalidRequest')
    const draining = equal(2).map((target): Target => (target.set === 1 ? { ...target, state: 'draining' } : target))
    assert.equal(machine.refused({ ...good, targets: draining }), 'InvalidRequest')
    const odd = equal(2).map((target) => ({ ...target, state: 'asleep' })) as unknown as Target[]
    assert.equal(machine.refused({ ...good, targets: odd }), 'InvalidRequest')
    assert.equal(machine.refused({ kind: 'endGrowth', version: 0 }), 'Conflict')
    machine.ok(good)
    assert.equal(machine.refused(good), 'Conflict')
    const fewer = SlotsPlacement.first(equal(1))
    assert.equal(machine.refused(commandFor(machine, fewer)), 'InvalidRequest')
    assert.equal(layoutOf(machine).version, 1)
  })

  it('is refused until the cluster has the level that layouts came with', () => {
    const machine = machineOf(2, 1)
    const command = commandFor(machine, SlotsPlacement.first(equal(2)))
    assert.equal(machine.refused(command), 'FeatureLevel')
    assert.equal(machine.refused({ kind: 'raiseFeatureLevel', level: 999 }), 'FeatureLevel')
    machine.ok({ kind: 'raiseFeatureLevel', level: 2 })
    machine.ok({ kind: 'raiseFeatureLevel', level: 1 })
    assert.equal(machine.reader.cluster()?.featureLevel, 2)
    machine.ok(command)
  })

  it('lets go of sets that are no more, and of no others', () => {
    const machine = new Machine()
    machine.ok(initCluster(2))
    machine.ok({ kind: 'claimSets', node: 1 })
    machine.ok({ kind: 'addNodeSets', node: 2, driveIds: ['a', 'b'], setSize: 1, parity: 0 })
    const first = SlotsPlacement.first(equal(4))
    machine.ok(commandFor(machine, first))
    assert.equal(machine.refused(commandFor(machine, first.change(equal(2)))), 'InvalidRequest')
    machine.ok({ kind: 'dropNodeSets', node: 2 })
    const next = first.change(equal(2))
    machine.ok(commandFor(machine, next))
    assert.ok(next.table.sets.every((set, slot) => set === first.table.sets[slot] || (first.table.sets[slot] ?? 0) > 1))
    assert.deepEqual(layoutOf(machine).targets, equal(2))
  })

  it('says which numbers of slots there are', () => {
    const machine = machineOf(3)
    const command = commandFor(machine, SlotsPlacement.first(equal(3)))
    for (const slots of [6_553_577, 65_536]) {
      const result = machine.propose({ ...command, slots })
      assert.ok(!result.ok)
      assert.match(JSON.stringify(result), /InvalidRequest.* 65537 or 655373 slots, not /)
    }
  })

  it('keeps both tables while the number of slots grows, until the moves are done', () => {
    const machine = machineOf(3)
    const first = SlotsPlacement.first(equal(3))
    machine.ok(commandFor(machine, first))
    const grown = first.grow(655_373)
    machine.ok(commandFor(machine, grown))
    const layout = layoutOf(machine)
    assert.deepEqual([layout.table, layout.slots, layout.previous?.table], [2, 655_373, 1])
    assert.deepEqual(machine.reader.placementTable(layout).sets, grown.table.sets)
    const previous = { ...layout, ...layout.previous }
    assert.deepEqual(machine.reader.placementTable(previous).sets, first.table.sets)
    assert.equal(machine.refused(commandFor(machine, first)), 'InvalidRequest')
    // A set may change meanwhile; the growth goes on.
    const drained = equal(3).map((target): Target => (target.set === 1 ? { ...target, state: 'draining' } : target))
    machine.ok(commandFor(machine, grown.change(drained)))
    assert.equal(layoutOf(machine).previous?.table, 1)
    assert.equal(machine.refused({ kind: 'endGrowth', version: 1 }), 'Conflict')
    machine.ok({ kind: 'endGrowth', version: 3 })
    assert.equal(layoutOf(machine).previous, undefined)
    assert.throws(() => machine.reader.placementTable(previous), { code: 'corrupt' })
    verifyView(machine.view)
  })
})

/** Three drives with two copies of the metadata on LMDB. */
function options(name: string): LocalEngineOptions & { notes: string[] } {
  const notes: string[] = []
  const drives = [1, 2, 3].map((number) => {
    const path = `${root}/${name}/${String(number)}`
    mkdirSync(path, { recursive: true })
    return { number, io: new FileIo(path), path }
  })
  return {
    drives,
    copies: 2,
    log: { fileSize: 1 << 20 },
    flushEveryMs: 10,
    replaceAfterMs: 0,
    notes,
    note: (text) => notes.push(text),
  }
}

const capacities = new Map([0, 1, 2, 3].map((set) => [set, { weight: 4, whole: true }]))

function table(engine: MetadataEngine): Uint16Array {
  engine.reader.refresh()
  const layout = engine.reader.layout()
  assert.ok(layout !== undefined)
  return engine.reader.placementTable(layout).sets
}

async function storeWithLayout(name: string): Promise<{ engine: LocalEngine; sets: Uint16Array }> {
  const engine = await LocalEngine.open(options(name))
  assert.ok((await engine.propose(initCluster(3))).ok)
  assert.equal(await new LayoutKeeper().keep(engine, capacities), true)
  return { engine, sets: table(engine) }
}

describe('the layout in the metadata of a store', () => {
  it('is the same after a restart, and nothing is changed for it', async () => {
    const { engine, sets } = await storeWithLayout('restart')
    const { version } = engine.reader.layout() as LayoutRecord
    await engine.close()
    const again = await LocalEngine.open(options('restart'))
    assert.deepEqual(table(again), sets)
    assert.equal(await new LayoutKeeper().keep(again, capacities), false)
    assert.equal(again.reader.layout()?.version, version)
    await again.close()
  })

  it('moves to an added pool what it must take and nothing else', async () => {
    const engine = await LocalEngine.open(options('pool'))
    const all = members([1, 3])
    assert.ok((await engine.propose(initCluster(1))).ok)
    assert.equal(await new LayoutKeeper().keep(engine, capacities), false)
    assert.equal(engine.reader.layout(), undefined)
    await engine.propose({ kind: 'addSets', sets: all.sets.slice(1), drives: all.drives.slice(1) })
    engine.reader.refresh()
    const keeper = new LayoutKeeper()
    assert.equal(await keeper.keep(engine, capacities), true)
    const counts = new Map<number, number>()
    for (const set of table(engine)) counts.set(set, (counts.get(set) ?? 0) + 1)
    assert.deepEqual([...counts.keys()].sort(), [0, 1, 2, 3])
    for (const count of counts.values()) assert.ok(Math.abs(count - 65_537 / 4) < 1)
    assert.equal(await keeper.keep(engine, capacities), false)
    const grown = new Map([...capacities, [3, { weight: 8, whole: true }]])
    const before = table(engine)
    assert.equal(await keeper.keep(engine, grown), true)
    const after = table(engine)
    assert.ok(before.every((set, slot) => set === after[slot] || after[slot] === 3))
    assert.equal(keeper.read(engine.reader)?.version, 2)
    await engine.close()
  })

  it('is in a backup, and restored from it', async () => {
    const { engine, sets } = await storeWithLayout('source')
    await engine.backup(`${root}/backup`)
    await engine.close()
    await restoreBackup(`${root}/backup`, options('target'))
    const restored = await LocalEngine.open(options('target'))
    assert.deepEqual(table(restored), sets)
    await restored.close()
  })

  it('is read from another copy when a record of one is damaged, and that copy is made anew', async () => {
    const { engine, sets } = await storeWithLayout('damage')
    const primary = (await engine.status()).copies.find((copy) => copy.primary)?.drive
    await engine.close()
    const folder = `${root}/damage/${String(primary)}/meta`
    const view = readdirSync(folder).find((name) => name.startsWith('view-'))
    const file = `${folder}/${String(view)}/data.mdb`
    const bytes = readFileSync(file)
    const piece = Buffer.from(sets.buffer, sets.byteOffset + 2 * SLOTS_PER_RECORD, 4096)
    let found = 0
    for (let at = bytes.indexOf(piece); at >= 0; at = bytes.indexOf(piece, at + 1)) {
      bytes[at + 2000] = (bytes[at + 2000] as number) ^ 1
      found++
    }
    assert.ok(found > 0)
    writeFileSync(file, bytes)

    const given = options('damage')
    const again = await LocalEngine.open(given)
    let refused = 0
    for (;;) {
      try {
        assert.deepEqual(table(again), sets)
        break
      } catch (error) {
        assert.ok(error instanceof MetadataError && error.code === 'corrupt', String(error))
        assert.ok(++refused < 100)
        await again.flush()
      }
    }
    const online = async (): Promise<number> =>
      (await again.status()).copies.filter(({ state }) => state === 'online').length
    for (let attempt = 0; attempt < 400 && (await online()) < 2; attempt++) {
      await again.remakeCopies()
      await new Promise((resolve) => setTimeout(resolve, 25))
    }
    assert.ok(refused > 0 || given.notes.length > 0, 'nobody noticed')
    assert.equal(await online(), 2, given.notes.join('\n'))
    assert.deepEqual((await again.compareCopies(() => Promise.resolve())).bad, [])
    assert.deepEqual(table(again), sets)
    await again.close()
  })
})

it('the hash of a table is that of its slots', () => {
  const sets = Uint16Array.of(1, 2, 3)
  assert.deepEqual(hashOfSlots(sets), hashOfSlots(Uint16Array.of(1, 2, 3)))
  assert.notDeepEqual(hashOfSlots(sets), hashOfSlots(Uint16Array.of(1, 3, 2)))
})
