/** What the server's threads select by, and the difference of tables that metadata carries. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Target } from '../../ts/layout/placement.js'
import { SlotsPlacement } from '../../ts/layout/slots.js'
import { placementFor, TablePlacement } from '../../ts/layout/table_placement.js'
import { applyMoves, encodeMoves } from '../../ts/layout/table_moves.js'

function targets(weights: readonly number[], out: readonly number[] = []): Target[] {
  return weights.map((weight, set) => ({ set, weight, state: out.includes(set) ? 'readOnly' : 'active' }))
}

test('a part goes to the set of its slot', () => {
  const slots = SlotsPlacement.first(targets([1, 2, 3]))
  const placement = placementFor(targets([1, 2, 3]), slots.table.memory)
  for (let i = 0; i < 1000; i++) {
    const id = randomBytes(16)
    assert.equal(placement.select(id), slots.select(id))
  }
})

test('a set that takes nothing now is passed over, its share spreads over the others, and nothing else changes', () => {
  // The newest set's slots lie together, so that a neighbouring slot is no way out.
  const slots = SlotsPlacement.first(targets([1, 1, 2])).change(targets([1, 1, 2, 4]))
  const placement = new TablePlacement(slots.table, targets([1, 1, 2, 4], [3]))
  const counts = [0, 0, 0, 0]
  for (let i = 0; i < 20_000; i++) {
    const id = randomBytes(16)
    const [normal, chosen] = [slots.select(id), placement.select(id)]
    assert.notEqual(chosen, 3)
    if (normal !== 3) assert.equal(chosen, normal)
    else counts[chosen] = (counts[chosen] ?? 0) + 1
    assert.equal(placement.select(id), chosen)
  }
  const spread = counts.slice(0, 3).map((count) => count / (counts[0] as number))
  assert.ok((spread[1] as number) > 0.8 && (spread[1] as number) < 1.25, String(spread))
  assert.ok((spread[2] as number) > 1.7 && (spread[2] as number) < 2.35, String(spread))
})

test('when no set with slots takes parts, the table decides as if all did', () => {
  const drained: Target[] = [...targets([1]), { set: 1, weight: 1, state: 'draining' }]
  const slots = SlotsPlacement.first(targets([1, 1])).change(drained)
  const nowhere = new TablePlacement(slots.table, targets([1, 1], [0]))
  for (let i = 0; i < 100; i++) assert.equal(nowhere.select(randomBytes(16)), 0)
})

test('one set needs no table', () => {
  const placement = placementFor([{ set: 7, weight: 1, state: 'readOnly' }])
  for (let i = 0; i < 10; i++) assert.equal(placement.select(randomBytes(16)), 7)
})

test('moves make the one table of the other', () => {
  const table = fc.array(fc.nat({ max: 5 }), { minLength: 700, maxLength: 700 })
  fc.assert(
    fc.property(
      table,
      fc.array(fc.tuple(fc.nat({ max: 699 }), fc.nat({ max: 0xffff })), { maxLength: 20 }),
      (sets, changes) => {
        const before = Uint16Array.from(sets)
        const after = before.slice()
        for (const [slot, set] of changes) after[slot] = set
        const moved = before.slice()
        applyMoves(moved, encodeMoves(before, after))
        assert.deepEqual(moved, after)
      },
    ),
  )
  assert.equal(encodeMoves(Uint16Array.of(1, 2), Uint16Array.of(1, 2)).length, 0)
})

test('moves that are cut short, or leave the table, are refused', () => {
  const before = new Uint16Array(300)
  const moves = encodeMoves(before, before.slice().fill(9, 299))
  for (let length = 1; length < moves.length; length++) {
    assert.throws(() => {
      applyMoves(before.slice(), moves.subarray(0, length))
    }, { code: 'badTable' })
  }
  assert.throws(() => {
    applyMoves(new Uint16Array(299), moves)
  }, { code: 'badTable' })
  assert.throws(() => {
    applyMoves(before.slice(), Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, 0))
  }, { code: 'badTable' })
})
