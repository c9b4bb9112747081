/** Heal, its proof, the cross-check, and verify. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Geometry } from '../../ts/drive/drive.js'
import { blockCount, blockSizeAt, CHECKSUM_SIZE, ShardError } from '../../ts/drive/drive.js'
import type { PartLocation } from '../../ts/erasure/erasure_set.js'
import { sealBlock } from '../../ts/native/erasure.js'
import { MemoryDrive } from '../support/memory_drive.js'
import type { TestSet } from '../support/sets.js'
import { bytes, memorySet, never, part, readBack, TestClock } from '../support/sets.js'

function holder(fixture: TestSet, location: PartLocation, shard: number): MemoryDrive {
  const drive = fixture.drives.find((each) => each.number === location.drives[shard])
  assert.ok(drive)
  return drive
}

const numbered = (count: number): number[] => Array.from({ length: count }, (_, i) => i)

function cellStart(geometry: Geometry, block: number): number {
  return block * (CHECKSUM_SIZE + blockSizeAt(geometry, 0))
}

/** Flips a bit of a block, in the cache and on the medium. */
function flip(fixture: TestSet, location: PartLocation, shard: number, block: number): void {
  const stored = holder(fixture, location, shard).shard(location.dataId)
  assert.ok(stored)
  const at = cellStart(location.geometry, block) + CHECKSUM_SIZE
  for (const where of [stored.cells, stored.medium]) where[at] = (where[at] ?? 0) ^ 0x10
}

/** Makes a block say something else, with a checksum that holds. */
function falsify(fixture: TestSet, location: PartLocation, shard: number, block: number): void {
  const stored = holder(fixture, location, shard).shard(location.dataId)
  assert.ok(stored)
  const start = cellStart(location.geometry, block)
  for (const where of [stored.cells, stored.medium]) {
    const cell = where.subarray(start, start + CHECKSUM_SIZE + blockSizeAt(location.geometry, block))
    cell[CHECKSUM_SIZE] = (cell[CHECKSUM_SIZE] ?? 0) ^ 1
    sealBlock(cell, location.dataId, shard, block)
  }
}

const shapes = fc.constantFrom<[number, number]>([1, 1], [2, 1], [2, 2], [4, 2], [3, 3], [8, 4])

test('any m shards, lost or with bad blocks anywhere, are rewritten as they were and proved', async () => {
  await fc.assert(
    fc.asyncProperty(
      shapes,
      fc.nat({ max: 9000 }),
      fc.nat(),
      fc.infiniteStream(fc.nat()),
      async ([k, m], size, seed, random) => {
        const fixture = memorySet(k, m, { groupBytes: 2500 })
        const data = bytes(size, seed)
        const location = await fixture.set.write(part(data))
        const draw = (limit: number): number => (random.next().value as number) % limit
        const original = location.drives.map((_, shard) =>
          Buffer.from(holder(fixture, location, shard).shard(location.dataId)?.cells ?? []),
        )
        const shards = numbered(k + m)
          .sort(() => draw(3) - 1)
          .slice(0, 1 + draw(m))
        const blocks = blockCount(location.geometry)
        for (const shard of shards) {
          if (draw(2) === 0 || blocks === 0) holder(fixture, location, shard).shards.clear()
          else flip(fixture, location, shard, draw(blocks))
        }
        const result = await fixture.set.heal(location, shards)
        assert.equal(result.lost, false)
        assert.deepEqual(result.left, [])
        assert.deepEqual(
          result.healed,
          shards.map((shard) => ({ shard, drive: location.drives[shard] })),
        )
        for (const [shard, cells] of original.entries()) {
          const stored = holder(fixture, location, shard).shard(location.dataId)
          assert.ok(stored)
          assert.ok(stored.cells.equals(cells) && stored.medium.equals(cells))
          assert.deepEqual(stored.header.salvage, { bucketId: 7, key: 'a key', uploadId: '', partNumber: 0 })
        }
        assert.equal(await fixture.set.verify(location, { medium: true }), undefined)
        await fixture.set.settled(1000)
        assert.ok(fixture.drives.every((drive) => drive.openReaders === 0 && drive.temporary === 0))
      },
    ),
    { numRuns: 100 },
  )
})

test('a shard that was never written goes to a drive of the set that holds none of the part', async () => {
  const fixture = memorySet(2, 2)
  const failing = fixture.drives[2] as MemoryDrive
  failing.before = (step) => {
    if (step === 'append') throw new ShardError('io', 3, 'injected')
  }
  const data = bytes(5000)
  const location = await fixture.set.write(part(data))
  const shard = location.drives.indexOf(0)
  assert.ok(shard >= 0)
  failing.state = 'offline'
  assert.deepEqual((await fixture.set.heal(location, [shard])).left, [shard], 'not while that drive is out')
  failing.state = 'online'
  failing.before = () => undefined
  const result = await fixture.set.heal(location, [shard])
  assert.deepEqual(result.healed, [{ shard, drive: 3 }])
  const healed = { ...location, drives: location.drives.map((drive) => (drive === 0 ? 3 : drive)) }
  assert.equal(await fixture.set.verify(healed, { medium: true }), undefined)
})

test('a replaced drive gets its shards back on its successor', async () => {
  const fixture = memorySet(2, 2, { successor: (old) => (old === 1 ? 9 : undefined) })
  const data = bytes(5000)
  const location = await fixture.set.write(part(data))
  const next = new MemoryDrive(9)
  fixture.drives[0] = next
  fixture.set.update({ number: 1, k: 2, m: 2, drives: [9, 2, 3, 4] }, fixture.drives)
  const shard = location.drives.indexOf(1)
  assert.ok(data.equals(await readBack(fixture.set, location)))
  assert.deepEqual(await fixture.set.verify(location, { medium: true }), {
    dataId: location.dataId,
    set: 1,
    shards: [shard],
    cause: 'missing',
  })
  assert.deepEqual((await fixture.set.heal(location, [shard])).healed, [{ shard, drive: 9 }])
  assert.ok(next.shard(location.dataId))
})

test('a drive whose cache is right and whose medium is wrong gets no proof', async () => {
  for (const named of [true, false]) {
    const fixture = memorySet(2, 2, { successor: () => 9 })
    const location = await fixture.set.write(part(bytes(5000)))
    const shard = location.drives.indexOf(1)
    const liar = named ? (fixture.drives[0] as MemoryDrive) : new MemoryDrive(9)
    liar.shards.clear()
    liar.lies = true
    if (!named) {
      fixture.drives[0] = liar
      fixture.set.update({ number: 1, k: 2, m: 2, drives: [9, 2, 3, 4] }, fixture.drives)
    }
    const result = await fixture.set.heal(location, [shard])
    assert.deepEqual(result.healed, [])
    assert.deepEqual(result.left, [shard])
    assert.equal(result.lost, false)
    // It stays, because a delete that is carried out late could take the next heal's shard away.
    assert.equal(liar.shards.size, 1)
    liar.lies = false
    assert.deepEqual((await fixture.set.heal(location, [shard])).left, [])
  }
})

test('a shard that is sound on the medium is proved without being written', async () => {
  const fixture = memorySet(2, 2)
  const location = await fixture.set.write(part(bytes(5000)))
  const drive = holder(fixture, location, 1)
  drive.calls = []
  assert.deepEqual((await fixture.set.heal(location, [1])).healed, [{ shard: 1, drive: drive.number }])
  assert.ok(!drive.calls.includes('create') && !drive.calls.includes('put') && !drive.calls.includes('delete'))
})

test('with fewer than k shards nothing is changed: lost, or left while drives that are out may help', async () => {
  const fixture = memorySet(2, 2)
  const location = await fixture.set.write(part(bytes(5000)))
  for (const shard of [0, 1]) holder(fixture, location, shard).shards.clear()
  holder(fixture, location, 2).state = 'offline'
  const out = await fixture.set.heal(location, [0, 1])
  assert.deepEqual({ ...out, dataId: 0 }, { dataId: 0, healed: [], left: [0, 1], lost: false })
  holder(fixture, location, 2).state = 'online'
  flip(fixture, location, 2, 3)
  const before = fixture.drives.map((drive) => [...drive.shards.keys()])
  const lost = await fixture.set.heal(location, [0, 1, 2])
  assert.deepEqual({ ...lost, dataId: 0 }, { dataId: 0, healed: [], left: [0, 1, 2], lost: true })
  assert.deepEqual(fixture.drives.map((drive) => [...drive.shards.keys()]), before)
  await fixture.set.settled(1000)
  assert.ok(fixture.drives.every((drive) => drive.temporary === 0))
})

test('shards with their only good blocks in each other are all rebuilt', async () => {
  const fixture = memorySet(2, 1)
  const data = bytes(6000)
  const location = await fixture.set.write(part(data))
  flip(fixture, location, 0, 0)
  flip(fixture, location, 1, 2)
  flip(fixture, location, 2, 4)
  assert.deepEqual((await fixture.set.heal(location, [0, 1, 2])).left, [])
  assert.equal(await fixture.set.verify(location, { medium: true }), undefined)
  assert.ok(data.equals(await readBack(fixture.set, location)))
})

test('an intact shard that disagrees with the others is found and left out, where the others can tell', async () => {
  const fixture = memorySet(3, 3)
  const data = bytes(6000)
  const location = await fixture.set.write(part(data))
  falsify(fixture, location, 1, 4)
  assert.deepEqual((await fixture.set.verify(location, { medium: true }))?.shards, [1])
  holder(fixture, location, 3).shards.clear()
  const result = await fixture.set.heal(location, [3])
  assert.deepEqual(result.left, [])
  assert.deepEqual(fixture.damage.flatMap((found) => found.shards).sort(), [1, 3])
  const again = await fixture.set.heal(location, [1])
  assert.deepEqual(again.left, [], 'and is rewritten although it was intact')
  assert.equal(await fixture.set.verify(location, { medium: true }), undefined)
  assert.ok(data.equals(await readBack(fixture.set, location)))
})

test('a drive that keeps an intact but wrong shard instead of the new one gets no proof', async () => {
  const fixture = memorySet(3, 3)
  const location = await fixture.set.write(part(bytes(6000)))
  falsify(fixture, location, 2, 1)
  holder(fixture, location, 2).forgets = true
  assert.deepEqual((await fixture.set.heal(location, [2])).left, [2])
  holder(fixture, location, 2).forgets = false
  assert.deepEqual((await fixture.set.heal(location, [2])).left, [])
})

test('intact shards that disagree without a majority stop heal and verify', async () => {
  const fixture = memorySet(2, 2)
  const location = await fixture.set.write(part(bytes(6000)))
  falsify(fixture, location, 1, 4)
  holder(fixture, location, 3).shards.clear()
  await assert.rejects(fixture.set.heal(location, [3]), { code: 'inconsistent' })
  await assert.rejects(fixture.set.verify(location, { medium: false }), { code: 'inconsistent' })
  await fixture.set.settled(1000)
  assert.equal(holder(fixture, location, 3).shards.size, 0)
  assert.ok(fixture.drives.every((drive) => drive.temporary === 0 && drive.openReaders === 0))
})

test('verify on the medium sees what the cache hides; a drive that is out is no damage', async () => {
  const fixture = memorySet(2, 2)
  const location = await fixture.set.write(part(bytes(6000)))
  const stored = holder(fixture, location, 2).shard(location.dataId)
  assert.ok(stored)
  stored.medium[100] = (stored.medium[100] ?? 0) ^ 1
  assert.equal(await fixture.set.verify(location, { medium: false }), undefined)
  assert.deepEqual((await fixture.set.verify(location, { medium: true }))?.shards, [2])
  holder(fixture, location, 2).state = 'offline'
  assert.equal(await fixture.set.verify(location, { medium: true }), undefined)
})

test('heal waits for its permits, reports progress, and stops when a permit is refused', async () => {
  let permitted = 0
  let refuseAfter = Infinity
  const progress: number[] = []
  const fixture = memorySet(2, 2, {
    groupBytes: 1000,
    permit: (count) => {
      permitted += count
      return permitted > refuseAfter ? Promise.reject(new Error('stop')) : Promise.resolve()
    },
    onHealProgress: (_, done, total) => {
      assert.equal(total, 9500)
      progress.push(done)
    },
  })
  const location = await fixture.set.write(part(bytes(9500)))
  holder(fixture, location, 0).shards.clear()
  await fixture.set.heal(location, [0])
  assert.deepEqual(progress, [1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000, 9000, 9500])
  assert.ok(permitted > 9500 * 2)
  holder(fixture, location, 0).shards.clear()
  permitted = 0
  refuseAfter = 8000
  await assert.rejects(fixture.set.heal(location, [0]), /stop/)
  await fixture.set.settled(1000)
  assert.ok(fixture.drives.every((drive) => drive.temporary === 0 && drive.openReaders === 0))
})

test('a drive that hangs while it is healed is left for later', async () => {
  for (const step of ['create', 'append', 'commit', 'open'] as const) {
    const clock = new TestClock()
    const fixture = memorySet(2, 2, { clock, writeDeadlineMs: 500, readDeadlineMs: 500 })
    const location = await fixture.set.write(part(bytes(5000)))
    const drive = holder(fixture, location, 1)
    drive.shards.clear()
    let opens = 0
    drive.before = (now) => {
      if (now !== step) return undefined
      // The first open is the comparison, the second one the proof.
      return step === 'open' && opens++ < 2 ? undefined : never
    }
    const healing = fixture.set.heal(location, [1])
    await clock.advance(10_000)
    assert.deepEqual((await healing).left, [1], step)
  }
})
