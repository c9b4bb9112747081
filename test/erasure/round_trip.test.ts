/** What is written reads back: sizes, ranges, geometries, losses, bad blocks. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { blockSizeAt, CHECKSUM_SIZE } from '../../ts/drive/drive.js'
import { bytes, memorySet, part, readBack } from '../support/sets.js'

const shapes: [number, number][] = [
  [1, 0],
  [1, 1],
  [2, 1],
  [2, 2],
  [3, 2],
  [4, 2],
  [4, 4],
  [5, 3],
  [8, 4],
  [12, 4],
]
const shape = fc.constantFrom(...shapes)
const stripeSize = fc.constantFrom(1, 7, 64, 1000, 4096)

/** Sizes around the borders of blocks and stripes, and any others. */
function sizes(k: number, stripe: number): fc.Arbitrary<number> {
  const borders = [0, 1, k - 1, k, k + 1, stripe - 1, stripe, stripe + 1, 2 * stripe, 3 * stripe + 1]
  const most = Math.min(20 * stripe, 60_000)
  return fc.oneof(fc.constantFrom(...borders.filter((size) => size >= 0)), fc.nat({ max: most }))
}

const cases = fc
  .tuple(shape, stripeSize)
  .chain(([[k, m], stripe]) =>
    fc.record({ k: fc.constant(k), m: fc.constant(m), stripe: fc.constant(stripe), size: sizes(k, stripe) }),
  )

test('any part reads back whole, from any k of its shards', async () => {
  await fc.assert(
    fc.asyncProperty(cases, fc.nat(), fc.nat(), async ({ k, m, stripe, size }, seed, pick) => {
      const { set, drives, slabs } = memorySet(k, m, { stripeSize: stripe })
      const data = bytes(size, seed)
      const location = await set.write(part(data))
      assert.deepEqual(location.geometry, { k, m, stripeSize: stripe, partSize: size })
      assert.deepEqual([...location.drives].sort((a, b) => a - b), drives.map((drive) => drive.number))
      assert.ok(data.equals(await readBack(set, location)))
      for (let i = 0; i < m; i++) (drives[(pick + i * 7) % drives.length] as (typeof drives)[0]).state = 'offline'
      assert.ok(data.equals(await readBack(set, location)))
      await set.settled(1000)
      assert.equal(slabs.stats.usedBytes, 0)
    }),
    { numRuns: 150 },
  )
})

test('any range of any part equals the same range of its data, with up to m shards gone', async () => {
  await fc.assert(
    fc.asyncProperty(cases, fc.nat(), fc.nat(), fc.nat(), fc.nat(), async (shaped, seed, from, count, lost) => {
      const { k, m, stripe, size } = shaped
      const { set, drives } = memorySet(k, m, { stripeSize: stripe, groupBytes: 3 * stripe })
      const data = bytes(size, seed)
      const location = await set.write(part(data))
      const offset = from % (size + 1)
      const length = count % (size - offset + 1)
      for (let i = 0; i < lost % (m + 1); i++) drives[(seed + i) % drives.length]?.shards.clear()
      const got = await readBack(set, location, offset, length)
      assert.ok(data.subarray(offset, offset + length).equals(got))
    }),
    { numRuns: 200 },
  )
})

test('bad blocks scattered over all shards, at most m per stripe, do no harm and are reported', async () => {
  await fc.assert(
    fc.asyncProperty(cases, fc.nat(), fc.array(fc.nat(), { maxLength: 40 }), async (shaped, seed, flips) => {
      const { k, m, stripe, size } = shaped
      const { set, drives, damage } = memorySet(k, m, { stripeSize: stripe, groupBytes: 4 * stripe })
      const data = bytes(size, seed)
      const location = await set.write(part(data))
      const stripes = Math.ceil(size / stripe)
      const bad = new Map<number, Set<number>>()
      for (const flip of flips) {
        if (stripes === 0) break
        const at = flip % stripes
        const shard = (flip >>> 8) % (k + m)
        const inStripe = bad.get(at) ?? new Set()
        if (inStripe.has(shard) || inStripe.size === m) continue
        bad.set(at, inStripe.add(shard))
        const drive = drives.find((each) => each.number === location.drives[shard])
        const cells = drive?.shard(location.dataId)?.cells
        assert.ok(cells)
        const start = at * (CHECKSUM_SIZE + blockSizeAt(location.geometry, 0))
        const inCell = flip % (CHECKSUM_SIZE + blockSizeAt(location.geometry, at))
        cells[start + inCell] = (cells[start + inCell] ?? 0) ^ (1 << flip % 8)
      }
      assert.ok(data.equals(await readBack(set, location)))
      const badShards = new Set([...bad.values()].flatMap((shards) => [...shards]))
      for (const found of damage) {
        assert.equal(found.cause, 'corrupt')
        for (const shard of found.shards) assert.ok(badShards.has(shard))
      }
      const seen = await set.verify(location, { medium: false })
      assert.deepEqual(seen?.shards ?? [], [...badShards].sort((a, b) => a - b))
    }),
    { numRuns: 150 },
  )
})

test('with more than m shards gone a read fails before its first byte', async () => {
  const { set, drives } = memorySet(2, 2)
  const location = await set.write(part(bytes(5000)))
  for (const drive of drives.slice(0, 3)) drive.shards.clear()
  await assert.rejects(readBack(set, location), { name: 'ErasureError', code: 'readQuorum' })
  await set.settled(1000)
  for (const drive of drives) assert.equal(drive.openReaders, 0)
})

test('the healthy path reads k shards, and only the shards that a small range touches', async () => {
  const { set, drives } = memorySet(4, 2, { stripeSize: 4000 })
  const location = await set.write(part(bytes(8000)))
  const reads = (): number =>
    drives.reduce((sum, drive) => sum + drive.calls.filter((call) => call === 'read').length, 0)
  await readBack(set, location)
  assert.equal(reads(), 8)
  await readBack(set, location, 4000 + 1500, 100)
  assert.equal(reads(), 9)
})

test('shards that lie on each other\'s drives are not taken for one another', async () => {
  const { set, drives, damage } = memorySet(2, 2)
  const data = bytes(5000)
  const location = await set.write(part(data))
  const first = drives.find((drive) => drive.number === location.drives[0])?.shards
  const second = drives.find((drive) => drive.number === location.drives[1])?.shards
  assert.ok(first && second)
  const key = Buffer.from(location.dataId).toString('hex')
  const [a, b] = [first.get(key), second.get(key)]
  assert.ok(a && b)
  first.set(key, b)
  second.set(key, a)
  assert.ok(data.equals(await readBack(set, location)))
  assert.deepEqual(damage.flatMap((found) => found.shards).sort(), [0, 1])
})

test('what an earlier part left in a slab never reaches a drive', async () => {
  const { set, drives } = memorySet(3, 1, { stripeSize: 3000 })
  await set.write(part(Buffer.alloc(9000, 0xff)))
  for (const drive of drives) drive.shards.clear()
  for (const size of [1, 2, 1000, 3001, 7002]) await set.write(part(Buffer.alloc(size)))
  for (const drive of drives) {
    for (const { header, cells } of drive.shards.values()) {
      for (let at = 0, block = 0; at < cells.length; block++) {
        const end = at + CHECKSUM_SIZE + blockSizeAt(header.geometry, block)
        assert.ok(cells.subarray(at + CHECKSUM_SIZE, end).every((byte) => byte === 0))
        at = end
      }
    }
  }
})

test('parts spread evenly over the drives, data and parity alike', async () => {
  const { set } = memorySet(2, 2)
  const parity = new Map<number, number>()
  for (let i = 0; i < 400; i++) {
    const location = await set.write(part(bytes(100, i)))
    for (const drive of location.drives.slice(2)) parity.set(drive, (parity.get(drive) ?? 0) + 1)
  }
  for (const count of parity.values()) assert.ok(count > 140 && count < 260, `${String(count)} of 800`)
})

test('a smaller parity can be asked for, a larger one is refused', async () => {
  const { set } = memorySet(4, 4)
  const location = await set.write(part(bytes(9999), { parity: 2 }))
  assert.equal(location.geometry.k, 6)
  assert.equal(location.geometry.m, 2)
  assert.ok(bytes(9999).equals(await readBack(set, location)))
  await assert.rejects(set.write(part(bytes(1), { parity: 5 })), RangeError)
})

test('ranges outside of the part and impossible locations are refused', async () => {
  const { set } = memorySet(2, 2)
  const location = await set.write(part(bytes(100)))
  await assert.rejects(readBack(set, location, 50, 51), RangeError)
  await assert.rejects(readBack(set, { ...location, drives: [1, 2, 3] }, 0, 1), RangeError)
  const geometry = { ...location.geometry, k: 0 }
  await assert.rejects(readBack(set, { ...location, geometry }, 0, 1), RangeError)
})
