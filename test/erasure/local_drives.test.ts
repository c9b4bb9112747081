/** The erasure set over LocalDrives: power cuts, errors, full and hung drives, bytes flipped anywhere. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { PartLocation } from '../../ts/erasure/erasure_set.js'
import { randomInteger, seededRandom } from '../../ts/util/random.js'
import { bytes, newDataId, part, readBack } from '../support/sets.js'
import { SimulatedSet } from '../support/simulated_sets.js'

const long = process.env['OSTRAKA_TEST_LONG'] !== undefined

interface Written {
  location: PartLocation
  data: Buffer
}

/** Writes, deletes and heals concurrently until the power is cut at a random operation. */
async function workload(fixture: SimulatedSet, seed: number): Promise<{ acknowledged: Written[]; gone: Uint8Array[] }> {
  const random = seededRandom(seed)
  const acknowledged: Written[] = []
  const gone: Uint8Array[] = []
  let left = randomInteger(random, 600)
  const beforeOperation = (): void => {
    if (left-- === 0) fixture.powerCut()
  }
  for (const drive of fixture.simulated) drive.beforeOperation = beforeOperation
  const client = async (): Promise<void> => {
    while (left >= 0) {
      const kind = randomInteger(random, 6)
      const known = acknowledged[randomInteger(random, acknowledged.length + 1)]
      if (kind === 0 && known !== undefined) {
        acknowledged.splice(acknowledged.indexOf(known), 1)
        gone.push(known.location.dataId)
        await fixture.set.delete(known.location)
      } else if (kind === 1 && known !== undefined) {
        await fixture.set.heal(known.location, [randomInteger(random, fixture.k + fixture.m)])
      } else {
        const data = bytes(randomInteger(random, 30_000), seed + acknowledged.length)
        const location = await fixture.set.write(part(data))
        // After the cut there is nobody who could acknowledge.
        if (left >= 0) acknowledged.push({ location, data })
      }
    }
  }
  await Promise.allSettled(Array.from({ length: 4 }, client))
  if (left >= 0) fixture.powerCut()
  for (const drive of fixture.simulated) drive.beforeOperation = undefined
  await fixture.set.settled(0)
  return { acknowledged, gone }
}

for (const threshold of [0, 1500, 2 ** 18])
  test(`power cuts at random operations lose no acknowledged part, even with m drives gone; packed below ${String(threshold)}`, async () => {
    const runs = long ? 1000 : 30
    const first = Number(process.env['OSTRAKA_TEST_SEED'] ?? Date.now() % 1_000_000)
    let parts = 0
    for (let seed = first; seed < first + runs; seed++) {
      const fixture = await SimulatedSet.create(2, 2, seed, { threshold })
      const { acknowledged } = await workload(fixture, seed)
      await fixture.start()
      const known = new Set(acknowledged.map(({ location }) => Buffer.from(location.dataId).toString('hex')))
      parts += known.size
      for (const { location, data } of acknowledged) {
        assert.ok(!location.drives.includes(0), `seed ${String(seed)}`)
        assert.ok(data.equals(await readBack(fixture.set, location)), `seed ${String(seed)}`)
        assert.equal(await fixture.set.verify(location, { medium: true }), undefined, `seed ${String(seed)}`)
      }
      for (const drive of fixture.drives.slice(seed % 3, (seed % 3) + 2)) drive.row.set('offline', 'missing')
      for (const { location, data } of acknowledged) {
        assert.ok(data.equals(await readBack(fixture.set, location)), `seed ${String(seed)}`)
      }
      // What was not acknowledged may be there in part, and can be deleted.
      for (const drive of fixture.drives) drive.row.set('online', 'none')
      for (const drive of fixture.drives) {
        for (const { dataId } of await drive.listShards(undefined, 10_000)) {
          if (!known.has(Buffer.from(dataId).toString('hex'))) await drive.deleteShard(dataId)
        }
      }
      for (const position of fixture.drives.keys()) {
        assert.deepEqual(
          [...fixture.shards(position).keys()].sort(),
          [...known].sort(),
          `seed ${String(seed)}`,
        )
      }
    }
    assert.ok(parts > runs, `${String(parts)} parts in ${String(runs)} runs`)
  })

test('writes that fail because of one drive after another leave no file behind', async () => {
  const fixture = await SimulatedSet.create(2, 2, 11, { threshold: 0 })
  for (const op of ['open', 'write', 'sync', 'rename', 'syncDir'] as const) {
    for (const size of [3000, 20_000]) {
      for (const after of [0, 1]) {
        const remove = fixture.simulated
          .slice(0, 2)
          .map((drive) => drive.addFault({ op, after, fault: { error: 'EIO' } }))
        const outcome = await fixture.set.write(part(bytes(size))).then(
          (location) => fixture.set.delete(location),
          (error: unknown) => error,
        )
        for (const each of remove) each()
        await fixture.set.settled(1000)
        for (const drive of fixture.drives) drive.row.set('online', 'none')
        // A drive that is out cannot be cleaned at once: its temporary files go at the next start.
        for (const drive of fixture.drives) await drive.recover()
        for (const position of fixture.drives.keys()) {
          const left = fixture.files(position)
          for (const { dataId } of await fixture.drives[position]?.listShards(undefined, 9) ?? []) {
            assert.ok(position < 2, 'only a drive that failed may keep a shard')
            await fixture.drives[position]?.deleteShard(dataId)
          }
          assert.ok(left.length <= 1, `${op} ${String(after)} ${String(outcome)}`)
        }
      }
    }
  }
})

test('ENOSPC on one drive leaves it out, on all drives it is told as full, and deletes still work', async () => {
  const fixture = await SimulatedSet.create(2, 2, 12, { threshold: 0 })
  const kept = await fixture.set.write(part(bytes(9000)))
  fixture.simulated[0]?.addFault({ op: 'write', fault: { error: 'ENOSPC' } })
  const data = bytes(20_000)
  const partly = await fixture.set.write(part(data))
  assert.equal(partly.drives.filter((drive) => drive === 0).length, 1)
  assert.equal(fixture.drives[0]?.health.state, 'full')
  const next = await fixture.set.write(part(data))
  assert.deepEqual({ k: next.geometry.k, m: next.geometry.m }, { k: 1, m: 2 })
  for (const drive of fixture.simulated.slice(1)) drive.addFault({ op: 'write', fault: { error: 'ENOSPC' } })
  await assert.rejects(fixture.set.write(part(data)), { code: 'drivesFull' })
  await assert.rejects(fixture.set.write(part(data)), { code: 'drivesFull' })
  assert.equal(fixture.set.writable, false)
  assert.ok(data.equals(await readBack(fixture.set, partly)))
  for (const location of [kept, partly, next]) assert.deepEqual(await fixture.set.delete(location), [])
  await fixture.set.settled(1000)
  for (const position of fixture.drives.keys()) assert.deepEqual(fixture.files(position), [])
})

test('a drive that hangs for ever is left out of writes and hedged in reads, and set down as slow', async () => {
  const fixture = await SimulatedSet.create(2, 2, 13)
  const data = bytes(50_000)
  const before = await fixture.set.write(part(data))
  fixture.simulated[1]?.addFault({ fault: { hang: true } })
  const reading = readBack(fixture.set, before)
  await fixture.clock.advance(2000, 300)
  assert.ok(data.equals(await reading))
  for (let i = 0; i < 2 && fixture.drives[1]?.writable === true; i++) {
    const writing = fixture.set.write(part(data))
    await fixture.clock.advance(60_000, 300)
    assert.ok(!(await writing).drives.includes(2))
  }
  assert.equal(fixture.drives[1]?.health.state, 'slow')
  const next = await fixture.set.write(part(data))
  assert.deepEqual(next.geometry, { k: 1, m: 2, stripeSize: 4096, partSize: 50_000 })
  assert.ok(data.equals(await readBack(fixture.set, next)))
})

for (const threshold of [0, 1500, 2 ** 18])
  test(`one flipped bit anywhere in any shard does no harm, is found by verify, and is healed; packed below ${String(threshold)}`, async () => {
    const seed = Date.now() % 1_000_000
    const random = seededRandom(seed)
    const fixture = await SimulatedSet.create(2, 2, seed, { threshold })
    const sizes = [0, 1, 700, 4096, 4097, 15_000, 30_000]
    const parts: Written[] = []
    for (const size of sizes) {
      const data = bytes(size, size)
      parts.push({ data, location: await fixture.set.write(part(data)) })
    }
    for (let i = 0; i < (long ? 5000 : 150); i++) {
      const position = randomInteger(random, 4)
      const disk = fixture.simulated[position]?.disk
      const [id, { path, offset, size }] = [...fixture.shards(position)][randomInteger(random, sizes.length)]!
      disk?.flip(path, offset + randomInteger(random, size), 1 << randomInteger(random, 8))
      const hit = parts.find(({ location }) => id === Buffer.from(location.dataId).toString('hex'))
      assert.ok(hit)
      const { location, data } = hit
      assert.ok(data.equals(await readBack(fixture.set, location)), `seed ${String(seed)}`)
      const shard = location.drives.indexOf(position + 1)
      const found = await fixture.set.verify(location, { medium: true })
      assert.deepEqual(found?.shards, [shard], `seed ${String(seed)} ${path}`)
      assert.deepEqual((await fixture.set.heal(location, [shard])).left, [], `seed ${String(seed)}`)
      assert.equal(await fixture.set.verify(location, { medium: true }), undefined)
    }
  })

test('a drive that shows in its cache what its medium does not hold is not taken at its word', async () => {
  for (const direct of [true, false]) {
    const fixture = await SimulatedSet.create(2, 2, 14, { threshold: 0 })
    const data = bytes(20_000)
    const location = await fixture.set.write(part(data))
    const [liar] = fixture.simulated
    assert.ok(liar)
    liar.refuseDirect = !direct
    const shard = location.drives.indexOf(1)
    await fixture.drives[0]?.deleteShard(location.dataId)
    // Between the sync and the rename, a byte on the medium turns.
    liar.beforeOperation = (op) => {
      if (op.op !== 'rename') return
      for (const { path, file } of liar.disk.files()) {
        if (path !== op.from) continue
        const medium = file.durable.view()
        medium[medium.length - 5] = (medium[medium.length - 5] ?? 0) ^ 4
      }
    }
    const result = await fixture.set.heal(location, [shard])
    assert.deepEqual(result.left, [shard])
    liar.beforeOperation = undefined
    assert.deepEqual((await fixture.set.heal(location, [shard])).left, [])
    assert.equal(await fixture.set.verify(location, { medium: true }), undefined)
  }
})

test('a part whose data id is written twice is one that can be read', async () => {
  const fixture = await SimulatedSet.create(2, 2, 15)
  const dataId = newDataId()
  const data = bytes(9000)
  await fixture.set.write(part(data, { dataId }))
  const location = await fixture.set.write(part(data, { dataId }))
  assert.ok(data.equals(await readBack(fixture.set, location)))
})
