/** Balance, determinism and movement of the three strategies over random histories. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { JumpPlacement } from '../../ts/layout/jump.js'
import { MAGLEV_EXTRA, MaglevPlacement } from '../../ts/layout/maglev.js'
import type { Target } from '../../ts/layout/placement.js'
import { SlotsPlacement } from '../../ts/layout/slots.js'
import { activeWeight, canonical, quotas } from '../../ts/layout/targets.js'
import { seededRandom } from '../../ts/util/random.js'
import { randomHistory, shuffled } from '../support/layout_histories.js'

const long = process.env['OSTRAKA_TEST_LONG'] !== undefined
const seed = Number(process.env['OSTRAKA_TEST_SEED'] ?? Date.now() % 1_000_000)
const M = 65_537

function eachHistory(runs: number, work: (history: ReturnType<typeof randomHistory>, note: string) => void): void {
  for (let i = 0; i < runs; i++) {
    const most = [3, 10, 100, 1000][i % 4] as number
    work(randomHistory(seededRandom(seed + i), most, most > 100 ? 4 : 12), `seed ${String(seed + i)}`)
  }
}

/** Largest distance of a target's slots from its quota. */
function imbalance(counts: ReadonlyMap<number, number>, targets: readonly Target[]): number {
  const quota = quotas(targets, M)
  return targets.reduce((most, target, i) => {
    return Math.max(most, Math.abs((counts.get(target.set) ?? 0) - (quota[i] as number)))
  }, 0)
}

/** Slots that change hands, by donor and receiver, and the least that must. */
function movement(before: Uint16Array, after: Uint16Array): { moved: number; pairs: Set<string>; ideal: number } {
  const gains = new Map<number, number>()
  const pairs = new Set<string>()
  let moved = 0
  before.forEach((from, slot) => {
    const to = after[slot] as number
    gains.set(to, (gains.get(to) ?? 0) + 1)
    gains.set(from, (gains.get(from) ?? 0) - 1)
    if (from === to) return
    moved++
    pairs.add(`${String(from)}>${String(to)}`)
  })
  let ideal = 0
  for (const gain of gains.values()) ideal += Math.max(0, gain)
  return { moved, pairs, ideal }
}

/** Every pair of a donor and a receiver must have the changed target as one of its ends. */
function about(pairs: ReadonlySet<string>, set: number): boolean {
  return [...pairs].every((pair) => pair.split('>').includes(String(set)))
}

test('slots: movement is exactly the ideal, only from or to the target that changed, within one slot of balance', () => {
  let worst = 0
  eachHistory(long ? 2000 : 40, ({ first, changes }, note) => {
    let placement = SlotsPlacement.first(first)
    assert.ok(imbalance(placement.table.counts(), first) < 1, note)
    let before = canonical(first)
    for (const change of changes) {
      const next = placement.change(change.targets)
      const { moved, pairs, ideal } = movement(placement.table.sets, next.table.sets)
      assert.equal(moved, ideal, note)
      assert.ok(
        about(pairs, change.set),
        `${note} ${change.kind} ${String(change.set)}: ${[...pairs].join(' ')}`,
      )
      const quota = (targets: readonly Target[]): number => {
        return quotas(targets, M)[targets.findIndex((target) => target.set === change.set)] ?? 0
      }
      const after = canonical(change.targets)
      // No rounding makes it more than the difference of the quotas and one slot at either end.
      assert.ok(moved <= Math.abs(quota(after) - quota(before)) + 2, `${note}: ${String(moved)} moved`)
      worst = Math.max(worst, imbalance(next.table.counts(), after))
      assert.ok(imbalance(next.table.counts(), after) <= 1, `${note}: ${String(worst)} slots off`)
      before = after
      placement = next
    }
  })
})

test('slots: the same history gives the same table, in whatever order targets are named', () => {
  eachHistory(long ? 200 : 16, ({ first, changes }, note) => {
    const random = seededRandom(seed)
    let a = SlotsPlacement.first(first)
    let b = SlotsPlacement.first(shuffled(random, first))
    for (const change of changes) {
      a = a.change(change.targets)
      b = b.change(shuffled(random, change.targets))
    }
    assert.deepEqual(a.table.sets, b.table.sets, note)
    assert.equal(a.table.version, changes.length + 1)
  })
})

test('slots: all weights twice as large, or a change that changes nothing, move nothing', () => {
  eachHistory(16, ({ first, changes }, note) => {
    const placement = SlotsPlacement.first(first).change((changes[0] as (typeof changes)[0]).targets)
    const doubled = placement.targets.map((target) => ({ ...target, weight: target.weight * 2 }))
    assert.deepEqual(placement.change(doubled).table.sets, placement.table.sets, note)
    assert.deepEqual(placement.change(placement.targets).table.sets, placement.table.sets, note)
  })
})

test('slots: a sum of weights that grows past every power of two moves nothing extra', () => {
  let placement = SlotsPlacement.first([{ set: 1, weight: 3, state: 'active' }])
  let targets = [...placement.targets]
  for (let set = 2; set < 40; set++) {
    targets = [...targets, { set, weight: 3 * 2 ** Math.floor(set / 2), state: 'active' as const }]
    const next = placement.change(targets)
    const { moved, ideal, pairs } = movement(placement.table.sets, next.table.sets)
    assert.equal(moved, ideal)
    assert.ok(about(pairs, set))
    const share = 3 * 2 ** Math.floor(set / 2) / targets.reduce((sum, target) => sum + target.weight, 0)
    assert.ok(Math.abs(moved - share * M) <= 1)
    placement = next
  }
})

test('maglev: stateless, independent of order and of the scale of weights, within one slot of balance', () => {
  eachHistory(long ? 200 : 24, ({ first, changes }, note) => {
    const targets = changes.at(-1)?.targets ?? first
    const placement = new MaglevPlacement(targets)
    assert.ok(imbalance(placement.table.counts(), canonical(targets)) < 1, note)
    const again = new MaglevPlacement(shuffled(seededRandom(seed), targets))
    assert.deepEqual(again.table.sets, placement.table.sets, note)
    const scaled = targets.map((target) => ({ ...target, weight: target.weight * 4 }))
    assert.deepEqual(new MaglevPlacement(scaled).table.sets, placement.table.sets, note)
  })
})

test('maglev: a change moves little more than the ideal', () => {
  let worst = 0
  eachHistory(long ? 400 : 12, ({ first, changes }, note) => {
    let placement = new MaglevPlacement(first)
    for (const change of changes) {
      const next = new MaglevPlacement(change.targets)
      const { moved, ideal } = movement(placement.table.sets, next.table.sets)
      worst = Math.max(worst, (moved - ideal) / M)
      assert.ok(moved - ideal <= MAGLEV_EXTRA * M, `${note}: ${String(moved)} moved, ${String(ideal)} had to`)
      placement = next
    }
  })
  if (process.env['OSTRAKA_TEST_VERBOSE'] !== undefined) console.log('maglev extra', worst)
})

test('jump: more weight moves keys to its target alone, less weight moves its keys alone', () => {
  const keys = Array.from({ length: 3000 }, () => new Uint8Array(randomBytes(16)))
  for (let i = 0; i < (long ? 200 : 12); i++) {
    const most = [3, 10, 100, 1000][i % 4] as number
    const note = `seed ${String(seed + i)}`
    const { first, changes } = randomHistory(seededRandom(seed + i), most, 4)
    const units = first.concat(changes.flatMap((change) => change.targets)).map((target) => target.weight)
    const placesPerUnit = 10 / Math.max(...units)
    let placement = orNoTarget(() => JumpPlacement.first(first, placesPerUnit))
    for (const change of changes) {
      const next = orNoTarget(() => placement?.change(change.targets))
      if (placement === undefined || next === undefined) break
      for (const key of keys) {
        const from = placement.select(key)
        const to = next.select(key)
        assert.ok(from === to || from === change.set || to === change.set, `${note}: ${String(from)} to ${String(to)}`)
      }
      placement = next
    }
  }
})

/** Nothing where every weight is so far below the greatest that all targets together get no place. */
function orNoTarget<T>(make: () => T): T | undefined {
  try {
    return make()
  } catch (error) {
    assert.equal((error as { code: string }).code, 'noTarget')
    return undefined
  }
}

test('jump: keys fall on targets by weight', () => {
  const targets = [1, 2, 3, 4].map((set): Target => ({ set, weight: set, state: 'active' }))
  const placement = JumpPlacement.first(targets, 5)
  const seen = new Map<number, number>()
  for (let i = 0; i < 50_000; i++) {
    const set = placement.select(new Uint8Array(randomBytes(16)))
    seen.set(set, (seen.get(set) ?? 0) + 1)
  }
  for (const { set } of targets) assert.ok(Math.abs((seen.get(set) ?? 0) / 50_000 - set / 10) < 0.01)
})

test('only active targets with a weight are ever chosen', () => {
  eachHistory(40, ({ changes }, note) => {
    const { targets } = changes.at(-1) as (typeof changes)[0]
    const active = new Set(targets.filter((target) => activeWeight(target) > 0).map((target) => target.set))
    const first = (changes[0] as (typeof changes)[0]).targets
    for (const placement of [new MaglevPlacement(targets), SlotsPlacement.first(first).change(targets)]) {
      for (const set of placement.table.counts().keys()) assert.ok(active.has(set), note)
    }
  })
})
