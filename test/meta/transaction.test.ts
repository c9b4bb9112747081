import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { Transaction } from '../../ts/meta/apply/transaction.js'
import { CheckedView, emptyView } from '../../ts/meta/chain.js'
import { unpack } from '../../ts/meta/record.js'
import { SimulatedView, SimulatedViewMedium } from '../../ts/meta/simulated_view.js'

const KEYS = ['ka', 'kb', 'kb1', 'kc']

/** One step of a command. */
const step = fc.oneof(
  fc.record({ do: fc.constantFrom('put', 'remove', 'flat', 'read', 'scan', 'first'), key: fc.constantFrom(...KEYS) }),
)
const command = fc.record({ steps: fc.array(step, { maxLength: 6 }), refused: fc.boolean() })

describe('the changes of a batch', () => {
  it('are those of its commands in order, without those that were taken back', () => {
    fc.assert(fc.property(fc.array(command, { maxLength: 8 }), (commands) => {
      const view = new SimulatedView(new SimulatedViewMedium())
      view.commit(emptyView())
      const tx = new Transaction(new CheckedView(view, true))
      let model = new Map<string, number>()
      let next = 0
      for (const { steps, refused } of commands) {
        tx.begin()
        const before = new Map(model)
        for (const { do: what, key } of steps) {
          const raw = Buffer.from(key)
          if (what === 'put') {
            tx.put(raw, { n: ++next })
            model.set(key, next)
          } else if (what === 'remove') {
            tx.remove(raw)
            model.delete(key)
          } else if (what === 'flat') {
            const found = tx.readFlat<{ n: number }>(raw)
            assert.equal(found?.n, model.get(key))
            tx.putFlat(raw, { ...found, n: ++next })
            model.set(key, next)
          } else if (what === 'read') {
            assert.equal(tx.read<{ n: number }>(raw)?.n, model.get(key))
          } else {
            const expected = [...model].filter(([name]) => name.startsWith(key)).sort().map(([name, n]) => [name, n])
            const entries = what === 'first' ? [tx.first(raw) ?? []].flat() : [...tx.scan(raw, Buffer.from(`${key}~`))]
            const found = entries.map((entry) => [entry.key.toString(), (unpack(entry.payload) as { n: number }).n])
            assert.deepEqual(found, what === 'first' ? expected.slice(0, 1) : expected)
          }
        }
        if (!refused) continue
        tx.undo()
        model = before
      }
      tx.settle()
      const changed = KEYS.flatMap((key) => {
        const payload = tx.changes.get(key)
        return payload === undefined ? [] : [[key, (unpack(payload) as { n: number }).n]]
      })
      assert.deepEqual(changed, [...model].sort().map(([key, n]) => [key, n]))
    }), { numRuns: 500 })
  })
})
