/** Slow, hung and failing drives while a part is read. Time is the test's. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { ShardError } from '../../ts/drive/drive.js'
import type { PartLocation } from '../../ts/erasure/erasure_set.js'
import { SlabPool } from '../../ts/erasure/slab.js'
import type { MemoryDrive } from '../support/memory_drive.js'
import type { TestSet } from '../support/sets.js'
import { bytes, collect, memorySet, never, part, readBack, TestClock, turns } from '../support/sets.js'

function holder(fixture: TestSet, location: PartLocation, shard: number): MemoryDrive {
  const drive = fixture.drives.find((each) => each.number === location.drives[shard])
  assert.ok(drive)
  return drive
}

const reads = (fixture: TestSet): number =>
  fixture.drives.reduce((sum, drive) => sum + drive.calls.filter((call) => call === 'read').length, 0)

/** Progress of a read that is not awaited: 'pending', the bytes, or the code of the error. */
function watch(reading: Promise<Buffer>): () => Buffer | string {
  let seen: Buffer | string = 'pending'
  reading.then(
    (result) => (seen = result),
    (error: unknown) => (seen = (error as { code: string }).code),
  )
  return () => seen
}

test('a drive slower than its p95 is hedged with another shard, not before', async () => {
  const clock = new TestClock()
  const fixture = memorySet(2, 2, { clock, hedgeFloorMs: 10 })
  for (const drive of fixture.drives) drive.readP95Ms = 40
  const data = bytes(900)
  const location = await fixture.set.write(part(data))
  await clock.advance(1000)
  holder(fixture, location, 1).before = (step) => (step === 'read' ? never : undefined)
  const seen = watch(readBack(fixture.set, location))
  await clock.advance(38)
  assert.equal(seen(), 'pending')
  assert.equal(reads(fixture), 2, 'the two data shards')
  await clock.advance(3)
  assert.ok(data.equals(seen() as Buffer), 'reconstructed with parity')
  assert.deepEqual(fixture.damage, [], 'slow is not damaged')
})

test('later groups leave a slow drive alone', async () => {
  const clock = new TestClock()
  const fixture = memorySet(2, 2, { clock, hedgeFloorMs: 10, groupBytes: 1000 })
  const data = bytes(10_000)
  const location = await fixture.set.write(part(data))
  const slow = holder(fixture, location, 0)
  slow.before = (step) => (step === 'read' || step === 'open' ? never : undefined)
  const seen = watch(readBack(fixture.set, location))
  // The first group and the one read ahead are hedged; the others do not wait for it.
  await clock.advance(25)
  assert.ok(data.equals(seen() as Buffer))
  assert.ok(slow.calls.filter((call) => call === 'open' || call === 'read').length <= 2)
})

test('a drive known to be much slower than the others is not asked at all', async () => {
  const fixture = memorySet(2, 2, { hedgeFloorMs: 10 })
  const data = bytes(5000)
  const location = await fixture.set.write(part(data))
  const slow = holder(fixture, location, 0)
  slow.readP95Ms = 500
  fixture.set.update({ number: 1, k: 2, m: 2, drives: [1, 2, 3, 4] }, fixture.drives)
  slow.calls = []
  assert.ok(data.equals(await readBack(fixture.set, location)))
  assert.deepEqual(slow.calls, [])
})

test('when too many shards are gone to do without it, a slow drive is waited for', async () => {
  const clock = new TestClock()
  const fixture = memorySet(2, 2, { clock, hedgeFloorMs: 10 })
  const data = bytes(3000)
  const location = await fixture.set.write(part(data))
  holder(fixture, location, 2).state = 'offline'
  holder(fixture, location, 3).state = 'offline'
  let release: () => void = () => undefined
  const held = new Promise<void>((resolve) => (release = resolve))
  holder(fixture, location, 0).before = (step) => (step === 'read' ? held : undefined)
  const seen = watch(readBack(fixture.set, location))
  await clock.advance(1000)
  assert.equal(seen(), 'pending')
  release()
  await clock.advance(1)
  assert.ok(data.equals(seen() as Buffer))
})

test('a drive that never answers ends the read after the deadline when nothing can replace it', async () => {
  const clock = new TestClock()
  const fixture = memorySet(2, 1, { clock, readDeadlineMs: 700 })
  const location = await fixture.set.write(part(bytes(3000)))
  holder(fixture, location, 0).before = (step) => (step === 'open' ? never : undefined)
  holder(fixture, location, 1).state = 'offline'
  const seen = watch(readBack(fixture.set, location))
  await clock.advance(690)
  assert.equal(seen(), 'pending')
  await clock.advance(20)
  assert.equal(seen(), 'readQuorum')
})

test('drives that fail in the middle of a read are replaced while k are left, else the read breaks', async () => {
  const fixture = memorySet(2, 2, { groupBytes: 1000 })
  const data = bytes(8000)
  const location = await fixture.set.write(part(data))
  const got: Uint8Array[] = []
  let lost = 0
  const reading = (async () => {
    for await (const chunk of fixture.set.read({ location, offset: 0, length: 8000 })) {
      got.push(chunk)
      if (got.length % 4 === 0) holder(fixture, location, lost++).state = 'offline'
    }
  })()
  await assert.rejects(reading, { code: 'readQuorum' })
  const seen = Buffer.concat(got)
  assert.equal(lost, 3)
  assert.ok(seen.length >= 4000)
  assert.ok(data.subarray(0, seen.length).equals(seen), 'what came before is right')
  await fixture.set.settled(1000)
  assert.ok(fixture.drives.every((drive) => drive.openReaders === 0))
})

test('EIO on one block is damage, and only that read goes elsewhere', async () => {
  const fixture = memorySet(2, 1, { groupBytes: 1000 })
  const data = bytes(4000)
  const location = await fixture.set.write(part(data))
  let seen = 0
  const drive = holder(fixture, location, 1)
  drive.before = (step) => {
    if (step === 'read' && seen++ === 1) throw new ShardError('io', drive.number, 'EIO')
  }
  assert.ok(data.equals(await readBack(fixture.set, location)))
  assert.deepEqual(fixture.damage.map(({ shards, cause }) => ({ shards, cause })), [{ shards: [1], cause: 'corrupt' }])
})

test('missing and foreign shards are reported; shards that were never written, or whose drive is out, are not', async () => {
  const fixture = memorySet(2, 2)
  const data = bytes(2000)
  const location = await fixture.set.write(part(data))
  holder(fixture, location, 0).shards.clear()
  assert.ok(data.equals(await readBack(fixture.set, location)))
  assert.deepEqual(
    fixture.damage.map(({ shards, cause }) => ({ shards, cause })),
    [{ shards: [0], cause: 'missing' }],
  )
  fixture.damage.length = 0
  const stored = holder(fixture, location, 1).shard(location.dataId)
  assert.ok(stored)
  stored.header.shard = 3
  assert.ok(data.equals(await readBack(fixture.set, location)))
  assert.deepEqual(fixture.damage.map(({ shards }) => shards).sort(), [[0], [1]])
  stored.header.shard = 1
  fixture.damage.length = 0
  const partly = { ...location, drives: location.drives.map((drive, shard) => (shard === 0 ? 0 : drive)) }
  holder(fixture, location, 1).state = 'offline'
  assert.ok(data.equals(await readBack(fixture.set, partly)))
  assert.deepEqual(fixture.damage, [])
})

test('a reader that stops early, gives up, or never starts leaves no reader open and no budget taken', async () => {
  const slabs = new SlabPool(1_000_000)
  const fixture = memorySet(2, 2, { slabs, groupBytes: 2000 })
  const data = bytes(50_000)
  const location = await fixture.set.write(part(data))
  for await (const chunk of fixture.set.read({ location, offset: 100, length: 40_000 })) {
    assert.ok(chunk.length > 0)
    break
  }
  const controller = new AbortController()
  const aborted = (async () => {
    let count = 0
    for await (const chunk of fixture.set.read({ location, offset: 0, length: 50_000, signal: controller.signal })) {
      assert.ok(chunk.length > 0)
      if (++count === 3) controller.abort()
    }
  })()
  await assert.rejects(aborted, { code: 'aborted' })
  fixture.set.read({ location, offset: 0, length: 10 })
  await fixture.set.settled(1000)
  assert.equal(slabs.stats.usedBytes, 0)
  assert.ok(fixture.drives.every((drive) => drive.openReaders === 0))
})

test('an abort while drives hang is answered at once', async () => {
  const fixture = memorySet(2, 2)
  const location = await fixture.set.write(part(bytes(3000)))
  for (const drive of fixture.drives) drive.before = (step) => (step === 'read' ? never : undefined)
  const controller = new AbortController()
  const reading = collect(fixture.set.read({ location, offset: 0, length: 3000, signal: controller.signal }))
  const refused = assert.rejects(reading, { code: 'aborted' })
  await turns()
  controller.abort()
  await refused
})

test('reading ahead keeps to the budget of the thread, and reading goes on without any', async () => {
  const slabs = new SlabPool(10_000)
  const fixture = memorySet(2, 2, { slabs, groupBytes: 4000 })
  const data = bytes(40_000)
  const location = await fixture.set.write(part(data))
  const all = await Promise.all(Array.from({ length: 20 }, () => readBack(fixture.set, location)))
  for (const each of all) assert.ok(each.equals(data))
  assert.ok(slabs.stats.peakBytes <= 10_000)
  const taken = await slabs.acquire(10_000)
  assert.ok(data.equals(await readBack(fixture.set, location)))
  taken.done(true)
})

test('nothing can be read from a part without shards', async () => {
  const { set } = memorySet(2, 2)
  const geometry = { k: 1, m: 0, stripeSize: 1, partSize: 0 }
  const location = { dataId: new Uint8Array(16), set: 1, geometry, drives: [] }
  assert.equal((await readBack(set, location)).length, 0)
  assert.deepEqual(await set.delete(location), [])
  await assert.rejects(readBack(set, location, 0, 1), RangeError)
})

test('a long read keeps hold of nothing that it has yielded', async () => {
  setFlagsFromString('--expose-gc')
  const collectGarbage = runInNewContext('gc') as () => void
  const fixture = memorySet(2, 2, { groupBytes: 1000 })
  const location = await fixture.set.write(part(bytes(200_000)))
  const refs: WeakRef<ArrayBufferLike>[] = []
  let alive = 0
  for await (const chunk of fixture.set.read({ location, offset: 0, length: 200_000 })) {
    refs.push(new WeakRef(chunk.buffer))
    if (refs.length < 390) continue
    await turns(2)
    collectGarbage()
    alive = refs.filter((ref) => ref.deref() !== undefined).length
    break
  }
  assert.ok(alive < 40, `${String(alive)} of ${String(refs.length)} buffers are kept`)
})
