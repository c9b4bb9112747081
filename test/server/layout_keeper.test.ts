import assert from 'node:assert/strict'
import { test } from 'node:test'

import type { Target } from '../../ts/layout/placement.js'
import type { SetRecord } from '../../ts/meta/schema.js'
import { wantedTargets } from '../../ts/server/control/layout_keeper.js'
import type { Capacity } from '../../ts/server/control/layout_keeper.js'

const set = (number: number, pool = 0): SetRecord => ({ number, pool, k: 1, m: 0, drives: [number] })
const target = (number: number, weight: number): Target => ({ set: number, weight, state: 'active' })

/** Capacities by set number; negative: not every drive was asked. */
function capacities(weights: readonly number[]): Map<number, Capacity> {
  return new Map(weights.map((weight, number) => [number, { weight: Math.abs(weight), whole: weight > 0 }]))
}

test('one set has no layout, and a set of unknown size is waited for', () => {
  assert.deepEqual(wantedTargets(undefined, [set(0)], capacities([5])), [])
  assert.deepEqual(wantedTargets(undefined, [set(0), set(1)], capacities([5])), [])
})

test('the first layout is that of the lowest pool, changed pool by pool', () => {
  const sets = [set(0), set(1), set(3, 2), set(2, 1)]
  assert.deepEqual(wantedTargets(undefined, sets, capacities([1, 2, 3, 4])), [
    [target(0, 1), target(1, 2)],
    [target(0, 1), target(1, 2), target(2, 3)],
    [target(0, 1), target(1, 2), target(2, 3), target(3, 4)],
  ])
})

test('a layout is left alone while sets and capacities stay as they are', () => {
  const before = [target(0, 640), target(1, 640)]
  const sets = [set(0), set(1)]
  assert.deepEqual(wantedTargets(before, sets, capacities([640, 640])), [])
  assert.deepEqual(wantedTargets(before, sets, capacities([645, 640])), [], 'hardly larger')
  assert.deepEqual(wantedTargets(before, sets, capacities([-900, 640])), [], 'a drive is out')
  assert.deepEqual(wantedTargets(before, sets, new Map()), [], 'all drives are out')
  assert.deepEqual(wantedTargets(before, [...sets, set(2)], capacities([640, 640])), [], 'its size is not known yet')
})

test('a new set and a new capacity change it, and a state that was given stays', () => {
  const before: Target[] = [target(0, 640), { ...target(1, 640), state: 'draining' }]
  const sets = [set(0), set(1), set(2)]
  assert.deepEqual(wantedTargets(before, sets, capacities([640, 640, 100])), [[...before, target(2, 100)]])
  assert.deepEqual(wantedTargets(before, sets.slice(0, 2), capacities([640, 1280])), [
    [target(0, 640), { ...target(1, 1280), state: 'draining' }],
  ])
})

test('a node adds its own sets, and leaves those of others as they are', () => {
  const sets = [1, 1, 2, 2, 3].map((node, number) => ({ ...set(number), node }))
  const second = new Map([...capacities([0, 0, 30, 40])].slice(2))
  assert.deepEqual(wantedTargets(undefined, sets, second, 2), [[target(2, 30), target(3, 40)]])
  assert.deepEqual(wantedTargets(undefined, sets, new Map([[4, { weight: 1, whole: true }]]), 3), [])
  const before = [target(0, 10), target(1, 20)]
  assert.deepEqual(wantedTargets(before, sets, second, 2), [[...before, target(2, 30), target(3, 40)]])
  assert.deepEqual(wantedTargets([...before, target(9, 1)], sets.slice(0, 2), capacities([10, 20]), 1), [before])
})
