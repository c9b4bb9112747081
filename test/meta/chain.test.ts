import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { CheckedView, emptyView, linkChanges } from '../../ts/meta/chain.js'
import { afterPrefix } from '../../ts/meta/keys.js'
import { pack } from '../../ts/meta/record.js'
import { SimulatedView, SimulatedViewMedium } from '../../ts/meta/simulated_view.js'
import { SnapshotReader } from '../../ts/meta/snapshot_reader.js'
import { SortedMap } from '../../ts/meta/sorted_map.js'
import type { ViewSnapshot } from '../../ts/meta/view_store.js'

function viewOf(keys: readonly string[]): SimulatedView {
  const view = new SimulatedView(new SimulatedViewMedium())
  view.commit(emptyView())
  const changes = new SortedMap<Buffer | undefined>()
  for (const key of keys) changes.set(key, pack({ key }))
  view.commit(linkChanges(view, changes))
  return view
}

/** The view as a damaged index page would show it: without one of its records. */
function without(view: SimulatedView, hidden: string): ViewSnapshot {
  const key = Buffer.from(hidden, 'latin1')
  const rest = [...view.ascend(Buffer.alloc(0))].filter((entry) => !entry.key.equals(key))
  const below = (bound: Buffer, equal: boolean): typeof rest =>
    rest.filter((entry) => entry.key.compare(bound) < (equal ? 1 : 0)).reverse()
  return {
    get: (wanted) => rest.find((entry) => entry.key.equals(wanted))?.value,
    ascend: (from) => rest.filter((entry) => entry.key.compare(from) >= 0),
    keyFrom: (from) => rest.find((entry) => entry.key.compare(from) >= 0)?.key,
    before: (bound) => below(bound, false)[0],
    lastTwo: (bound) => below(bound, true).slice(0, 2),
  }
}

const anyKey = fc.array(fc.constantFrom('a', 'b', '\x01', '\xff'), { minLength: 1, maxLength: 4 })
  .map((letters) => `m${letters.join('')}`)

describe('the first record under a prefix', () => {
  it('is the one that a scan finds first', () => {
    fc.assert(fc.property(fc.uniqueArray(anyKey, { maxLength: 12 }), anyKey, (keys, prefix) => {
      const checked = new CheckedView(viewOf(keys))
      const from = Buffer.from(prefix, 'latin1')
      const [expected] = checked.scan(from, afterPrefix(from))
      assert.deepEqual(checked.first(from), expected)
    }))
  })

  it('is never another one, nor none, when the view hides a record', () => {
    const keySets = fc.uniqueArray(anyKey, { minLength: 1, maxLength: 12 })
    fc.assert(fc.property(keySets, anyKey, fc.nat(), (keys, prefix, n) => {
      const hidden = keys[n % keys.length] as string
      const whole = viewOf(keys)
      const from = Buffer.from(prefix, 'latin1')
      const right = new CheckedView(whole).first(from)
      const damaged = new CheckedView(without(whole, hidden))
      let found
      try {
        found = damaged.first(from)
      } catch (error) {
        assert.equal((error as { code: string }).code, 'corrupt')
        return
      }
      assert.deepEqual(found, right)
    }))
  })
})

describe('a reader over snapshots', () => {
  class Reader extends SnapshotReader {
    taken = 0
    published = 0
    sameView = true
    readonly #view = viewOf([])
    get publishedPosition(): number {
      return this.published
    }
    protected override current(): boolean {
      return this.sameView
    }
    protected take(): ViewSnapshot & { release(): void } {
      this.taken++
      return this.#view.snapshot()
    }
    protected doubt(): void {
      this.release()
    }
  }

  it('keeps its snapshot while nothing newer was published and the view is the same', () => {
    const reader = new Reader()
    for (let i = 0; i < 3; i++) {
      reader.refresh()
      assert.equal(reader.position, 0)
    }
    assert.equal(reader.taken, 1)
    reader.published = 1
    reader.refresh()
    assert.equal(reader.position, 0)
    assert.equal(reader.taken, 2)
    reader.published = 0
    reader.sameView = false
    reader.refresh()
    assert.equal(reader.position, 0)
    assert.equal(reader.taken, 3)
    reader.release()
  })
})
