import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import type { Target } from '../../ts/layout/placement.js'
import { WeightedPlacement } from '../../ts/layout/weighted_placement.js'

const target = (set: number, weight: number, state: Target['state'] = 'active'): Target => ({ set, weight, state })

test('shares follow the weights to within one slot, and only active targets are chosen', () => {
  const slots = 1000
  const placement = new WeightedPlacement([target(2, 3), target(0, 1), target(7, 5, 'readOnly'), target(1, 4)], slots)
  const counts = new Map<number, number>()
  for (let slot = 0; slot < slots; slot++) {
    const id = new Uint8Array(16)
    new DataView(id.buffer).setUint32(12, slot)
    const set = placement.select(id)
    counts.set(set, (counts.get(set) ?? 0) + 1)
  }
  assert.deepEqual([...counts.keys()].sort(), [0, 1, 2])
  for (const [set, weight] of [[0, 1], [1, 4], [2, 3]] as const) {
    assert.ok(Math.abs((counts.get(set) ?? 0) - (slots * weight) / 8) <= 1)
  }
})

test('the order of the targets does not matter', () => {
  const a = new WeightedPlacement([target(0, 1), target(1, 2), target(2, 3)])
  const b = new WeightedPlacement([target(2, 3), target(0, 1), target(1, 2)])
  for (let i = 0; i < 200; i++) {
    const id = randomBytes(16)
    assert.equal(a.select(id), b.select(id))
  }
})

test('a placement without an active target, or with one set twice, is refused', () => {
  assert.throws(() => new WeightedPlacement([target(0, 1, 'draining')]), RangeError)
  assert.throws(() => new WeightedPlacement([target(0, 1), target(0, 2)]), RangeError)
})
