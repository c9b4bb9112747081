/** Drives that fail, hang or fill up while a part is written, bodies that lie, writers that give up. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ShardError } from '../../ts/drive/drive.js'
import { SlabPool } from '../../ts/erasure/slab.js'
import type { MemoryDrive, Step } from '../support/memory_drive.js'
import { assertClean, bytes, chunked, memorySet, never, part, readBack, TestClock, turns } from '../support/sets.js'

const eio = (drive: MemoryDrive): ShardError => new ShardError('io', drive.number, 'injected')

/** Fails one step of a drive, the `nth` time it comes. */
function failAt(drive: MemoryDrive, step: Step, nth: number, how: () => Promise<void> | void): void {
  let seen = 0
  drive.before = (now) => (now === step && seen++ === nth ? how() : undefined)
}

const steps: [Step, number, number, packs?: true][] = [
  ['put', 0, 900],
  ['put', 0, 900, true],
  ['create', 0, 9000],
  ['append', 0, 9000],
  ['append', 1, 9000],
  ['append', 4, 9000],
  ['commit', 0, 9000],
]

for (const [step, nth, size, packs = false] of steps) {
  const at = `${step} ${String(nth)}${packs ? ', packed' : ''}`
  test(`a drive that fails at ${at} is left out, its shard is a heal intent, the rest is durable`, async () => {
    const { set, drives, slabs } = memorySet(2, 2, { slabs: new SlabPool(1_000_000), stripesInFlight: 1 })
    for (const drive of drives) drive.packs = packs
    const drive = drives[1] as MemoryDrive
    failAt(drive, step, nth, () => {
      throw eio(drive)
    })
    const data = bytes(size)
    const location = await set.write(part(data))
    assert.equal(location.drives.filter((number) => number === 0).length, 1)
    assert.ok(!location.drives.includes(2))
    await set.settled(1000)
    assert.equal(drive.shards.size, 0)
    assert.equal(drive.temporary, 0)
    assert.equal(slabs.stats.usedBytes, 0)
    // One more may go: m minus the one that is missing.
    ;(drives[0] as MemoryDrive).state = 'offline'
    assert.ok(data.equals(await readBack(set, location)))
  })

  test(`two of 2+2 drives that fail at ${at} fail the write, and nothing is left`, async () => {
    const fixture = memorySet(2, 2, { stripesInFlight: 1 })
    for (const drive of fixture.drives) drive.packs = packs
    for (const drive of fixture.drives.slice(0, 2)) {
      failAt(drive, step, nth, () => {
        throw eio(drive)
      })
    }
    await assert.rejects(fixture.set.write(part(bytes(size))), { code: 'writeQuorum' })
    await assertClean(fixture)
  })

  test(`a writer that gives up while a drive hangs at ${at} is answered at once`, async () => {
    const fixture = memorySet(2, 2, { stripesInFlight: 1, cleanWaitMs: 0 })
    for (const drive of fixture.drives) drive.packs = packs
    const drive = fixture.drives[3] as MemoryDrive
    let release: () => void = () => undefined
    failAt(drive, step, nth, () => new Promise<void>((resolve) => (release = resolve)))
    const controller = new AbortController()
    const writing = fixture.set.write(part(bytes(size), { signal: controller.signal }))
    const outcome = assert.rejects(writing, { code: 'aborted' })
    await turns()
    controller.abort()
    await outcome
    release()
    await assertClean(fixture)
  })

  test(`a drive that hangs at ${at} is left out after the write deadline`, async () => {
    const clock = new TestClock()
    const { set, drives, slabs } = memorySet(2, 2, { clock, writeDeadlineMs: 5000, stripesInFlight: 1 })
    for (const drive of drives) drive.packs = packs
    const drive = drives[2] as MemoryDrive
    let release: () => void = () => undefined
    failAt(drive, step, nth, () => new Promise<void>((resolve) => (release = resolve)))
    const data = bytes(size)
    const writing = set.write(part(data))
    await turns()
    await clock.advance(4999)
    let done = false
    void writing.then(() => (done = true))
    await turns()
    assert.equal(done, false, 'the deadline has not passed')
    await clock.advance(2)
    const location = await writing
    assert.ok(!location.drives.includes(3))
    assert.equal(slabs.stats.usedBytes, 0, 'the weight of a slab that a drive may still read is given back')
    const lost = slabs.stats.abandoned
    assert.equal(lost, step === 'append' || step === 'put' ? 1 : 0, 'but the slab itself is not used again')
    release()
    await turns()
    // Not deleted: the part may have an owner by now, and a heal may have put this very shard there.
    const named = step === 'put' || step === 'commit' ? 1 : 0
    assert.equal(drive.shards.size, named, 'a shard that got its name late stays')
    assert.equal(drive.temporary, 0)
    ;(drives[0] as MemoryDrive).state = 'offline'
    assert.ok(data.equals(await readBack(set, location)))
  })
}

test('with drives out at the start a part is encoded over the rest and keeps its full m', async () => {
  for (const [k, m, out] of [
    [4, 2, 2],
    [3, 2, 1],
    [2, 2, 1],
    [8, 4, 4],
    [4, 4, 3],
    [2, 1, 1],
  ] as const) {
    const { set, drives } = memorySet(k, m)
    for (const drive of drives.slice(0, out)) drive.state = 'readOnly'
    const data = bytes(7777)
    const location = await set.write(part(data))
    assert.equal(location.geometry.k, k - out)
    assert.equal(location.geometry.m, m)
    assert.ok(!location.drives.includes(0))
    // Any m of the drives that took it may go.
    for (let from = 0; from < location.drives.length; from++) {
      const gone = location.drives.map((_, i) => location.drives[(from + i) % location.drives.length]).slice(0, m)
      for (const drive of drives) drive.state = gone.includes(drive.number) ? 'offline' : 'online'
      assert.ok(data.equals(await readBack(set, location)))
    }
  }
})

test('below the write quorum a set is not writable: k drives, k + 1 when k = m', async () => {
  for (const [k, m, most] of [
    [2, 2, 1],
    [4, 2, 2],
    [1, 1, 0],
    [1, 0, 0],
    [2, 1, 1],
  ] as const) {
    const { set, drives } = memorySet(k, m)
    for (const drive of drives.slice(0, most)) drive.state = 'offline'
    assert.equal(set.writable, true)
    await set.write(part(bytes(10)))
    for (const drive of drives.slice(0, most + 1)) drive.state = 'offline'
    assert.equal(set.writable, false)
    await assert.rejects(set.write(part(bytes(10))), { code: 'writeQuorum' })
    for (const drive of drives.slice(0, most + 1)) drive.state = 'full'
    await assert.rejects(set.write(part(bytes(10))), { code: 'drivesFull' })
  }
})

test('drives that fill up during the write fail it as full', async () => {
  const fixture = memorySet(2, 2)
  for (const drive of fixture.drives) {
    failAt(drive, 'append', 1, () => {
      throw new ShardError('driveFull', drive.number, 'ENOSPC')
    })
  }
  await assert.rejects(fixture.set.write(part(bytes(20_000))), { code: 'drivesFull' })
  await assertClean(fixture)
})

for (const size of [0, 500, 1000, 1001, 5000]) {
  test(`a body of ${String(size)} bytes that throws at its end, is short, or is long, leaves nothing`, async () => {
    const fixture = memorySet(2, 2)
    const data = bytes(size)
    const bad = new Error('bad digest')
    const throwing = chunked(data, 100, () => {
      throw bad
    })
    await assert.rejects(fixture.set.write(part(data, { data: throwing })), bad)
    await assert.rejects(fixture.set.write(part(data, { size: size + 1 })), { code: 'sizeMismatch' })
    if (size > 0) await assert.rejects(fixture.set.write(part(data, { size: size - 1 })), { code: 'sizeMismatch' })
    await assertClean(fixture)
  })
}

test('an abort while the body stalls, or while the slab pool is empty, is answered at once', async () => {
  for (const size of [900, 9000]) {
    const slabs = new SlabPool(100_000)
    const fixture = memorySet(2, 2, { slabs })
    const controller = new AbortController()
    const stalled = chunked(bytes(size), 300, () => never)
    const writing = fixture.set.write(part(bytes(size), { data: stalled, signal: controller.signal }))
    const outcome = assert.rejects(writing, { code: 'aborted' })
    await turns()
    controller.abort()
    await outcome
    await assertClean(fixture)

    const all = await slabs.acquire(100_000)
    const second = new AbortController()
    const waiting = fixture.set.write(part(bytes(size), { signal: second.signal }))
    const refused = assert.rejects(waiting, { code: 'aborted' })
    await turns()
    assert.equal(slabs.stats.waiting, 1)
    second.abort()
    await refused
    all.done(true)
    await turns()
    await assertClean(fixture)
  }
})

test('a signal that is aborted already writes nothing', async () => {
  const fixture = memorySet(2, 2)
  await assert.rejects(fixture.set.write(part(bytes(100), { signal: AbortSignal.abort() })), { code: 'aborted' })
  assert.ok(fixture.drives.every((drive) => drive.calls.every((call) => call === 'delete')))
  await assertClean(fixture)
})

test('a slow drive makes the body wait: at most stripesInFlight slabs of a part are out', async () => {
  const slabs = new SlabPool(10_000_000)
  const { set, drives } = memorySet(2, 2, { stripesInFlight: 2, slabs })
  let release: () => void = () => undefined
  const held = new Promise<void>((resolve) => (release = resolve))
  ;(drives[0] as MemoryDrive).before = (step) => (step === 'append' ? held : undefined)
  const data = bytes(50_000)
  let taken = 0
  const counted = chunked(data, 1000)
  const body = (async function* () {
    for await (const chunk of counted) {
      taken += chunk.length
      yield chunk
    }
  })()
  const writing = set.write(part(data, { data: body }))
  await turns(100)
  assert.equal(taken, 3000, 'two stripes are out, the chunk for a third waits')
  assert.equal(slabs.stats.usedBytes, 2 * 4096)
  release()
  const location = await writing
  assert.equal(slabs.stats.peakBytes, 2 * 4096)
  assert.ok(data.equals(await readBack(set, location)))
})

test('many uploads share the budget of the thread', async () => {
  const slabs = new SlabPool(10 * 4096)
  const { set } = memorySet(2, 2, { slabs })
  const data = bytes(30_000)
  const locations = await Promise.all(Array.from({ length: 64 }, () => set.write(part(data))))
  assert.ok(slabs.stats.peakBytes <= 10 * 4096)
  assert.equal(slabs.stats.usedBytes, 0)
  for (const location of locations) assert.ok(data.equals(await readBack(set, location)))
  assert.ok(slabs.stats.peakBytes <= 10 * 4096)
})

test('delete removes every shard, asks all drives when one was left out, and names those it could not reach', async () => {
  const { set, drives } = memorySet(2, 2)
  const location = await set.write(part(bytes(3000)))
  const drive = drives[0] as MemoryDrive
  drive.state = 'offline'
  assert.deepEqual(await set.delete(location), [1])
  drive.state = 'online'
  assert.deepEqual(await set.delete(location), [])
  assert.ok(drives.every((each) => each.shards.size === 0))
  const again = await set.write(part(bytes(3000)))
  const left = { ...again, drives: again.drives.map((number) => (number === 4 ? 0 : number)) }
  assert.deepEqual(await set.delete(left), [])
  assert.ok(drives.every((each) => each.shards.size === 0))
})
