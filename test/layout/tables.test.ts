/** Tables in shared memory, several targets at once, movement plans, growth, arrangement of drives. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { Worker } from 'node:worker_threads'
import fc from 'fast-check'
import { arrangeSets } from '../../ts/layout/arrangement.js'
import { MaglevPlacement } from '../../ts/layout/maglev.js'
import { DualTables, planMovement, staying } from '../../ts/layout/movement.js'
import type { Placement, Target } from '../../ts/layout/placement.js'
import { SlotsPlacement } from '../../ts/layout/slots.js'
import { NO_SET, PlacementTable, pointOf, POINTS } from '../../ts/layout/table.js'
import { seededRandom } from '../../ts/util/random.js'
import { randomHistory } from '../support/layout_histories.js'

const newId = (): Uint8Array => new Uint8Array(randomBytes(16))

function idAt(point: number): Uint8Array {
  const id = newId()
  new DataView(id.buffer).setUint32(12, point)
  return id
}

function equalTargets(count: number): Target[] {
  return Array.from({ length: count }, (_, i) => ({ set: i + 1, weight: 1, state: 'active' }))
}

test('slots divide the points evenly and in order, for every size of table', () => {
  for (const slots of [65_537, 655_373, 6_553_577]) {
    const table = PlacementTable.create(slots, 1)
    assert.equal(table.firstPoint(0), 0)
    assert.equal(table.firstPoint(slots), POINTS)
    assert.equal(table.slotOf(idAt(POINTS - 1)), slots - 1)
    for (let i = 0; i < 2000; i++) {
      const slot = Math.floor((i / 2000) * (slots - 1)) + 1
      const first = table.firstPoint(slot)
      assert.equal(table.slotOf(idAt(first)), slot)
      assert.equal(table.slotOf(idAt(first - 1)), slot - 1)
    }
  }
})

test('a table is read in another thread, and other memory is refused', async () => {
  const placement = SlotsPlacement.first(equalTargets(9))
  const source = `
    const { parentPort, workerData } = require('node:worker_threads')
    import(workerData.module).then(({ PlacementTable }) => {
      const table = PlacementTable.over(workerData.memory)
      parentPort.postMessage(workerData.ids.map((id) => table.select(id)))
    })`
  const ids = Array.from({ length: 100 }, newId)
  const module = new URL('../../ts/layout/table.js', import.meta.url).href
  const worker = new Worker(source, { eval: true, workerData: { module, memory: placement.table.memory, ids } })
  const seen = await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))
  await worker.terminate()
  assert.deepEqual(seen, ids.map((id) => placement.select(id)))
  for (const size of [0, 10, 16, 16 + 2 * 65_537]) {
    assert.throws(() => PlacementTable.over(new SharedArrayBuffer(size)), { code: 'badTable' })
  }
  assert.throws(() => PlacementTable.create(1000, 1), { code: 'badTable' })
  assert.throws(() => SlotsPlacement.over(equalTargets(8), placement.table.memory), { code: 'badTable' })
  const over = SlotsPlacement.over(equalTargets(9), placement.table.memory)
  assert.deepEqual(ids.map((id) => over.select(id)), seen)
})

test('selectMany gives distinct active targets, the selected one first, or says that there are too few', () => {
  for (let i = 0; i < 60; i++) {
    const history = randomHistory(seededRandom(i), [3, 20, 1000][i % 3] as number, 6)
    const { targets } = history.changes.at(-1) as (typeof history.changes)[0]
    const placement = new MaglevPlacement(targets)
    const active = new Set(targets.filter((target) => target.state === 'active').map((target) => target.set))
    for (const wanted of [0, 1, 3, Math.min(64, active.size), active.size + 1]) {
      const id = newId()
      const out = new Int32Array(wanted)
      if (wanted > active.size || wanted > 64) {
        assert.throws(() => {
          placement.selectMany(id, out)
        }, { code: 'tooFewTargets' })
        continue
      }
      placement.selectMany(id, out)
      assert.equal(new Set(out).size, wanted)
      assert.ok(out.every((set) => active.has(set)))
      if (wanted > 0) assert.equal(out[0], placement.select(id))
    }
  }
})

test('targets that cannot be are refused with a reason', () => {
  const make = (targets: Target[]): Placement => SlotsPlacement.first(targets)
  const target: Target = { set: 1, weight: 1, state: 'active' }
  assert.throws(() => make([]), { code: 'noTarget' })
  assert.throws(() => make([{ ...target, state: 'readOnly' }]), { code: 'noTarget' })
  assert.throws(() => make([{ ...target, weight: 0 }]), { code: 'noTarget' })
  assert.throws(() => make([target, target]), { code: 'badTarget' })
  for (const weight of [-1, NaN, Infinity]) assert.throws(() => make([{ ...target, weight }]), { code: 'badTarget' })
  for (const set of [-1, 0.5, NO_SET]) assert.throws(() => make([{ ...target, set }]), { code: 'badTarget' })
  assert.throws(() => new MaglevPlacement([]), { code: 'noTarget' })
})

test('a movement plan says where every point goes, in runs, and how much that is', () => {
  for (let i = 0; i < 6; i++) {
    const history = randomHistory(seededRandom(100 + i), 30, 1)
    const { targets } = history.changes[0] as (typeof history.changes)[0]
    const before = SlotsPlacement.first(history.first)
    const after = before.change(targets)
    const plan = planMovement(before.table, after.table)
    let moved = 0
    for (const { first, end, from, to } of plan.moves) {
      assert.ok(first < end && from !== to)
      moved += end - first
      for (const point of [first, end - 1, Math.floor((first + end) / 2)]) {
        assert.equal(before.select(idAt(point)), from)
        assert.equal(after.select(idAt(point)), to)
      }
    }
    assert.ok(Math.abs(moved / POINTS - plan.share) < 1e-12)
    for (let n = 0; n < 200; n++) {
      const id = newId()
      const move = plan.moves.find(({ first, end }) => pointOf(id) >= first && pointOf(id) < end)
      assert.equal(before.select(id) !== after.select(id), move !== undefined)
    }
  }
})

test('nothing is moved out of a target that became read-only, everything out of one that drains', () => {
  const before = SlotsPlacement.first(equalTargets(4))
  for (const [state, share] of [
    ['readOnly', 0],
    ['draining', 0.25],
  ] as const) {
    const after = before.change(equalTargets(4).map((target) => (target.set === 2 ? { ...target, state } : target)))
    const plan = planMovement(before.table, after.table, staying(after.targets))
    assert.ok(Math.abs(plan.share - share) < 0.001)
    assert.ok(!after.table.counts().has(2))
  }
})

test('a table grows with hardly any movement, and stays within one slot of balance', () => {
  for (let i = 0; i < 3; i++) {
    const history = randomHistory(seededRandom(200 + i), [5, 100, 1000][i] as number, 2)
    const before = SlotsPlacement.first(history.first).change((history.changes[1] as { targets: Target[] }).targets)
    const after = before.grow(655_373)
    assert.equal(after.table.slots, 655_373)
    const total = after.targets.reduce((sum, target) => sum + (target.state === 'active' ? target.weight : 0), 0)
    const counts = after.table.counts()
    for (const target of after.targets) {
      const quota = target.state === 'active' ? (target.weight / total) * 655_373 : 0
      assert.ok(Math.abs((counts.get(target.set) ?? 0) - quota) <= 1)
    }
    // What the coarse table rounded away comes back, and a slot that straddles two old ones: little of all.
    const { share } = planMovement(before.table, after.table)
    assert.ok(share < 0.08, String(share))
    assert.deepEqual(before.grow(655_373).table.sets, after.table.sets)
    assert.throws(() => after.grow(65_537), { code: 'badTable' })
  }
})

test('both tables live until the moves between them are done', () => {
  const before = SlotsPlacement.first(equalTargets(5))
  const after = before.grow(655_373)
  const dual = new DualTables(before.table, after.table)
  const ids = Array.from({ length: 2000 }, newId)
  let made = 0
  while (!dual.finished) {
    const moves = dual.next(3000)
    const done: number = moves.at(-1)?.end ?? 0
    dual.finish(moves.length)
    made += moves.length
    for (const id of ids) {
      assert.equal(dual.select(id), after.select(id))
      const passed: boolean = dual.finished || pointOf(id) < done
      assert.equal(dual.expected(id), passed ? after.select(id) : before.select(id))
    }
  }
  assert.equal(made, dual.plan.moves.length)
  assert.equal(new DualTables(before.table, before.table).finished, true)
  assert.ok(ids.every((id) => dual.expected(id) === after.select(id)))
})

test('drives are arranged so that a set holds as few drives of a domain as can be', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 16 }),
      fc.integer({ min: 1, max: 12 }),
      fc.infiniteStream(fc.nat({ max: 6 })),
      (setSize, sets, stream) => {
        const drives = Array.from({ length: setSize * sets }, (_, i) => {
          return { number: i + 1, domain: `node-${String(stream.next().value)}` }
        })
        const arranged = arrangeSets(drives, setSize)
        assert.equal(arranged.length, sets)
        const domainOf = new Map(drives.map((drive) => [drive.number, drive.domain]))
        const sizes = new Map<string, number>()
        for (const { domain } of drives) sizes.set(domain, (sizes.get(domain) ?? 0) + 1)
        for (const set of arranged) {
          assert.equal(set.length, setSize)
          const inSet = new Map<string, number>()
          for (const number of set) {
            const domain = domainOf.get(number) ?? ''
            inSet.set(domain, (inSet.get(domain) ?? 0) + 1)
          }
          for (const [domain, count] of inSet) assert.ok(count <= Math.ceil((sizes.get(domain) ?? 0) / sets))
        }
        assert.equal(new Set(arranged.flat()).size, drives.length)
        assert.deepEqual(arrangeSets([...drives].reverse(), setSize), arranged)
      },
    ),
  )
  const two = [1, 2, 3, 4].map((number) => ({ number, domain: number < 3 ? 'a' : 'b' }))
  assert.deepEqual(arrangeSets(two, 2, 1), [[1, 3], [2, 4]])
  assert.throws(() => arrangeSets(two, 4, 1), { code: 'domains' })
  assert.throws(() => arrangeSets(two, 3), { code: 'domains' })
})
