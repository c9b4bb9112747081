import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { cellOf, fillSlab, padSlab, SlabPool, slabClass, strideFor } from '../../ts/erasure/slab.js'
import { bytes, turns } from '../support/sets.js'

test('a size class is at least the size and wastes at most an eighth of it', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 2 ** 40 }), (size) => {
      const given = slabClass(size)
      assert.ok(given >= size)
      assert.ok(given === 4096 || given <= size * 1.126 + 1)
      assert.equal(slabClass(given), given)
    }),
  )
})

test('data blocks get the bytes of the stripe in order, zeros after them, in chunks of any size', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 8 }),
      fc.integer({ min: 1, max: 300 }),
      fc.array(fc.integer({ min: 1, max: 100 })),
      (k, size, cuts) => {
        const blockSize = Math.ceil(size / k)
        const stride = strideFor(blockSize)
        const slab = Buffer.alloc(k * stride, 0xee)
        const data = bytes(size)
        let at = 0
        for (const cut of [...cuts, size]) {
          const chunk = data.subarray(at, Math.min(size, at + cut))
          fillSlab(slab, stride, blockSize, at, chunk)
          at += chunk.length
        }
        padSlab(slab, stride, blockSize, k, size)
        const blocks = Array.from({ length: k }, (_, i) => cellOf(slab, stride, blockSize, i).subarray(16))
        const padded = Buffer.concat([data, Buffer.alloc(k * blockSize - size)])
        assert.ok(padded.equals(Buffer.concat(blocks)))
      },
    ),
  )
})

test('slabs that are out never weigh more than the limit, and requests are served in order', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 60_000 }), { minLength: 1, maxLength: 60 }), async (sizes) => {
      const pool = new SlabPool(100_000)
      const order: number[] = []
      const work = sizes.map(async (size, i) => {
        const slab = await pool.acquire(size)
        order.push(i)
        assert.ok(slab.bytes.length >= size)
        assert.ok(pool.stats.usedBytes <= 100_000)
        assert.ok(pool.stats.usedBytes + pool.stats.idleBytes <= 100_000)
        await turns(size % 3)
        slab.done(size % 5 !== 0)
      })
      await Promise.all(work)
      assert.deepEqual(order, sizes.map((_, i) => i))
      assert.equal(pool.stats.usedBytes, 0)
      assert.ok(pool.stats.idleBytes <= 100_000)
      assert.equal(pool.stats.abandoned, sizes.filter((size) => size % 5 === 0).length)
    }),
    { numRuns: 50 },
  )
})

test('a slab larger than the limit goes out alone', async () => {
  const pool = new SlabPool(10_000)
  const large = await pool.acquire(50_000)
  let second = false
  const waiting = pool.acquire(100).then((slab) => {
    second = true
    slab.done(true)
  })
  await turns(2)
  assert.equal(second, false)
  large.done(true)
  await waiting
})

test('a slab is used again after all its users were done well, never after a failed I/O', async () => {
  const pool = new SlabPool(1_000_000)
  const first = await pool.acquire(5000)
  first.retain()
  first.done(true)
  const other = await pool.acquire(5000)
  assert.notEqual(other.bytes, first.bytes, 'one user is left')
  first.done(true)
  const again = await pool.acquire(5000)
  assert.equal(again.bytes, first.bytes)
  again.retain()
  again.done(false)
  again.done(true)
  const fresh = await pool.acquire(5000)
  assert.notEqual(fresh.bytes, first.bytes)
  assert.throws(() => {
    again.done(true)
  })
})

test('read-ahead takes what nobody waits for, and never so much that it could stop the writers', async () => {
  const pool = new SlabPool(40_000)
  assert.equal(pool.tryTakeBytes(6000), true)
  assert.equal(pool.tryTakeBytes(6000), false, 'a quarter of the budget')
  assert.equal(pool.tryTakeBytes(4000), true)
  const large = await pool.acquire(40_000)
  const waiting = pool.acquire(20_000)
  pool.giveBytes(6000)
  assert.equal(pool.tryTakeBytes(100), false, 'somebody waits')
  large.done(true)
  ;(await waiting).done(true)
  assert.equal(pool.stats.usedBytes, 4000)
  pool.giveBytes(4000)
  assert.equal(pool.stats.usedBytes, 0)
})
