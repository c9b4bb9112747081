import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { PinBoard, Pins, type Positions } from '../../ts/store/pins.js'

/** Published and snapshot positions under the test's control. */
class FakePositions implements Positions {
  published = 0
  position = 0
  /** Runs inside refresh, before the snapshot is taken: what other threads do in between. */
  before: () => void = () => undefined
  lag = 0
  get publishedPosition(): number {
    return this.published
  }
  refresh(): void {
    this.before()
    this.position = this.published - this.lag
  }
}

test('the board shows the oldest open handle of all threads', () => {
  const board = PinBoard.create(3)
  const shared = new PinBoard(board.memory)
  const reader = new FakePositions()
  const a = new Pins(board, 0)
  const b = new Pins(board, 2)
  assert.equal(shared.oldest(), Infinity)
  reader.published = 10
  const first = a.open(reader)!
  reader.published = 20
  const second = a.open(reader)!
  const third = b.open(reader)!
  assert.equal(shared.oldest(), 10)
  first.release()
  first.release()
  assert.equal(shared.oldest(), 20)
  second.release()
  assert.equal(shared.oldest(), 20)
  third.release()
  assert.equal(shared.oldest(), Infinity)
  assert.equal(a.openCount, 0)
})

test('a dead thread holds nothing once its slot is cleared', () => {
  const board = PinBoard.create(2)
  const reader = new FakePositions()
  reader.published = 5
  board.claim(1)
  board.setEpochs(1, 7, 6)
  new Pins(board, 1).open(reader)
  assert.equal(board.oldest(), 5)
  assert.deepEqual(board.epochs(), { current: new Set([7]), draining: new Set([6]) })
  board.clear(1)
  assert.equal(board.isLive(1), false)
  assert.equal(board.oldest(), Infinity)
  assert.deepEqual(board.epochs(), { current: new Set(), draining: new Set() })
})

test('a view that stays behind the published position is not read, and pins nothing', () => {
  const board = PinBoard.create(1)
  const reader = new FakePositions()
  reader.published = 5
  reader.lag = 1
  assert.equal(new Pins(board, 0).open(reader), undefined)
  assert.equal(board.oldest(), Infinity)
})

test('a snapshot that fails leaves no pin', () => {
  const board = PinBoard.create(1)
  const reader = new FakePositions()
  reader.before = () => { throw new Error('damaged') }
  assert.throws(() => new Pins(board, 0).open(reader), /damaged/)
  assert.equal(board.oldest(), Infinity)
})

test('in every interleaving of reader and collector nothing is collected that the reader can read', () => {
  // One part becomes garbage at a position in 1..9. Reader steps r1..r4 and collector steps c1..c3 interleave with
  // the publishing of positions in any order.
  const moves = fc.array(fc.constantFrom('publish', 'read', 'collect'), { minLength: 8, maxLength: 40 })
  fc.assert(
    fc.property(moves, fc.integer({ min: 1, max: 9 }), (schedule, garbageAt) => {
      let published = 0
      let pin = Infinity
      let p = 0
      let q = 0
      let snapshot: number | undefined
      let readerStep = 0
      let collectorPosition = 0
      let oldest = Infinity
      let collectorStep = 0
      let collected = false
      const reader = [
        () => { p = published },
        () => { pin = Math.min(pin, p) },
        () => { q = published },
        () => { snapshot = Math.max(q, published) },
      ]
      const collector = [
        () => { collectorPosition = published },
        () => { oldest = pin },
        () => { if (garbageAt <= collectorPosition && garbageAt <= oldest) collected = true },
      ]
      for (const move of schedule) {
        if (move === 'publish') published++
        else if (move === 'read' && readerStep < 4) reader[readerStep++]!()
        else if (move === 'collect') collector[collectorStep++ % 3]!()
        const readable = snapshot !== undefined && snapshot < garbageAt
        assert.ok(!(readable && collected))
      }
    }),
    { numRuns: 5000 },
  )
})
