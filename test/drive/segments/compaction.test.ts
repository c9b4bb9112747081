import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { LocalDrive } from '../../../ts/drive/local_drive.js'
import { isDead, segmentOf, segmentPath } from '../../../ts/drive/segments/segment_file.js'
import { randomInteger } from '../../../ts/util/random.js'
import { hex, World, type WorldOptions } from './compaction_world.js'

const SEED = Number(process.env['OSTRAKA_SEED'] ?? Math.floor(Math.random() * 1e9))
const LONG = process.env['OSTRAKA_TEST_LONG'] !== undefined

/** 24 shards in three sealed segments, every other one deleted, the tombstones in a segment of their own. */
async function halfDead(seed: number, options: WorldOptions = {}): Promise<World> {
  const world = await World.create(seed, options)
  for (let i = 0; i < 24; i++) await world.put(0)
  await world.seal()
  for (const [i, id] of world.ids('live').entries()) if (i % 2 === 0) await world.delete(1, id)
  await world.seal()
  return world
}

function bytesOf(world: World): number {
  return world.threads[0]!.segments.segments().reduce((sum, { bytes }) => sum + bytes, 0)
}

describe('compaction', () => {
  it('drops what is dead, keeps what lives, and says what it did', async () => {
    const world = await halfDead(1)
    const before = bytesOf(world)
    await world.compact()
    await world.check()
    const { totals } = world.compactor
    assert.equal(totals.copiedRecords, 12)
    assert.ok(bytesOf(world) < before * 0.6, `${String(before)} -> ${String(bytesOf(world))}`)
    assert.ok(world.states().every((state) => state === 'sealed'))
    const numbers = world.threads[0]!.segments.segments().map(({ number }) => number)
    assert.deepEqual(world.files().filter((path) => path.endsWith('.seg')).sort(), numbers.map(segmentPath).sort())
    for (const how of ['clean', 'kill', 'powerCut'] as const) {
      await world.restart(how)
      await world.check(how)
    }
  })

  it('leaves alone what is dead to a smaller share than the threshold, unless the drive has little room', async () => {
    const world = await halfDead(2, { threshold: 0.9 })
    await world.compact()
    assert.equal(world.compactor.totals.segments, 0)
    world.threads[2]!.row.setSpace(2 ** 30, 2 ** 26)
    await world.compact()
    assert.ok(world.compactor.totals.segments >= 3)
    await world.check()
  })

  it('frees the space of deleted shards on a full drive, though no segment was full', async () => {
    const world = await World.create(3, { sealRecords: 10_000, threshold: 0.9 })
    for (let i = 0; i < 60; i++) await world.put(i % 2, 4000)
    for (const id of world.ids('live').slice(0, 57)) await world.delete(0, id)
    for (const { row } of world.threads) {
      row.setSpace(2 ** 30, 2 ** 25)
      row.set('full', 'reserve')
    }
    const before = bytesOf(world)
    for (let i = 0; i < 20; i++) {
      await world.compact()
      await world.tend()
    }
    assert.ok(bytesOf(world) < before / 5, `${String(before)} -> ${String(bytesOf(world))}`)
    await world.check()
    await world.restart('powerCut')
    await world.check()
  })

  it('lets tombstones go when nothing is left that they bury, and forgets their ids', async () => {
    const world = await World.create(4)
    for (let i = 0; i < 32; i++) await world.put(0)
    await world.seal()
    for (const id of world.ids('live')) await world.delete(1, id)
    await world.seal()
    await world.compact()
    assert.equal(world.compactor.totals.droppedTombstones, 32)
    assert.deepEqual(world.files(), [])
    assert.equal(world.threads[0]!.segments.index.length, 0)
    await world.restart('powerCut')
    await world.check()
  })

  it('keeps a tombstone as long as any segment has a record of its id: a shard that a heal replaced', async () => {
    const world = await World.create(5, { threshold: 0.5 })
    const ids: string[] = []
    for (let i = 0; i < 8; i++) ids.push(await world.put(0))
    await world.seal()
    // The first segment stays: only one of its records is dead. Its second record lies among others that all die.
    await world.heal(0, ids[0]!)
    for (let i = 0; i < 7; i++) ids.push(await world.put(0))
    await world.seal()
    for (const id of [ids[0]!, ...ids.slice(8)]) await world.delete(1, id)
    await world.seal()
    await world.compact()
    assert.ok(world.threads[0]!.segments.table.has(1), 'the first segment should have stayed')
    assert.ok(!world.threads[0]!.segments.table.has(2))
    for (const how of ['kill', 'powerCut'] as const) {
      await world.restart(how)
      await world.check(how)
      await world.compact()
      await world.check(how)
    }
  })

  it('keeps tombstones until appends have ended and segments are sealed that may hold what they bury', async () => {
    const world = await World.create(6, { settleMs: 1e6 })
    for (let i = 0; i < 16; i++) await world.put(0)
    await world.seal()
    for (const id of world.ids('live')) await world.delete(1, id)
    await world.seal()
    await world.compact()
    assert.equal(world.compactor.totals.droppedTombstones, 0)
    const kept = await world.put(0)
    world.now += 2e6
    await world.step()
    assert.equal(world.compactor.totals.droppedTombstones, 0)
    for (let i = 0; i < 10; i++) {
      await world.compact()
      await world.tend()
      world.now += 2e6
    }
    assert.equal(world.compactor.totals.droppedTombstones, 16)
    assert.ok((await world.read(1, kept)) !== undefined)
    await world.check()
  })

  it('comes to an end after a load that failed and was begun again, which leaves new segments alone', async () => {
    const world = await halfDead(13)
    for (let i = 0; i < 3; i++) await world.put(0)
    world.simulated.kill()
    await world.start(false)
    const [loader] = world.threads as [LocalDrive]
    const { segments } = loader
    const loading = loader.load()
    while (segments.table.progress.loaded < 2) await new Promise((resolve) => setImmediate(resolve))
    const putting = world.put(1)
    loader.row.set('offline', 'missing')
    await assert.rejects(loading)
    await putting
    const newest = segments.table.nextNumber - 1
    loader.row.set('online', 'none')
    await loader.load()
    const numbers = segments.segments().map(({ number }) => number)
    assert.deepEqual(numbers, [...new Set(numbers)])
    assert.equal(segments.table.info(newest)?.state, 'active')
    assert.equal(segments.segments().reduce((sum, { records }) => sum + records, 0), 24 + 3 + 1)
    await world.put(1)
    await world.compact()
    await world.check()
    await world.restart('kill')
    await world.check()
  })

  it('does not write tombstones again and again that must stay', async () => {
    const world = await World.create(12, { threshold: 0.5 })
    for (let i = 0; i < 24; i++) await world.put(0)
    await world.seal()
    for (const [i, id] of world.ids('live').entries()) if (i % 8 < 3) await world.delete(1, id)
    await world.seal()
    for (let i = 0; i < 5; i++) await world.compact()
    assert.equal(world.compactor.totals.droppedTombstones, 0)
    assert.ok(world.compactor.totals.carriedTombstones <= 9, String(world.compactor.totals.carriedTombstones))
    await world.restart('kill')
    await world.check()
  })

  it('never lets a copy win against a delete that came while it was written', async () => {
    let between = 0
    for (let turns = 0; turns < 24; turns++) {
      const world = await halfDead(13 + turns)
      const ids = world.ids('live')
      let over = false
      const work = world.compact().finally(() => { over = true })
      for (let i = 0; i < 3 * turns; i++) await new Promise((resolve) => setImmediate(resolve))
      if (!over) between++
      await Promise.all(ids.map((id, i) => world.delete(i % 2, id)))
      await work
      await world.check('in the same process')
      await world.restart('powerCut')
      await world.check('after a restart')
      await world.compact()
      await world.check('compacted again')
      await world.restart('kill')
      await world.check('restarted again')
    }
    assert.ok(between > 5, `only ${String(between)} deletes came in between`)
  })

  it('never copies a damaged record: reports it, keeps its segment, and drops that once it is healed', async () => {
    const world = await halfDead(7)
    const id = world.ids('live')[0]!
    const { index } = world.threads[0]!.segments
    const location = index.get(world.known.get(id)!.shard.header.dataId)
    const number = segmentOf(location)
    world.simulated.disk.flip(segmentPath(number), Math.floor((location % 2 ** 30) / 16) * 8 + 100, 4)
    await world.compact()
    assert.deepEqual(world.damaged.map((found) => found.id), [id])
    assert.equal(index.get(world.known.get(id)!.shard.header.dataId), location)
    await assert.rejects(world.read(0, id), { code: 'corrupt' })
    await world.heal(0, id)
    await world.compact()
    assert.ok(!world.threads[0]!.segments.table.has(number))
    await world.check()
    await world.restart('powerCut')
    await world.check()
  })

  it('reads a segment whose hint is damaged or gone', async () => {
    const world = await halfDead(8)
    for (const path of world.files().filter((name) => name.endsWith('.hint'))) world.simulated.disk.flip(path, 30, 1)
    await world.compact()
    assert.ok(world.compactor.totals.segments >= 3)
    await world.check()
    await world.restart('powerCut')
    await world.check()
  })

  it('is done by one at a time, and by another after a thread has died over it', async () => {
    const world = await halfDead(9)
    const first = world.compactor
    assert.equal(await first.step(), 'worked')
    const { SegmentCompactor } = await import('../../../ts/drive/segments/segment_compactor.js')
    const second = new SegmentCompactor(world.threads[1]!, {
      threshold: 0.05, sealBytes: 2 ** 20, settleMs: 0, now: () => world.now++, permit: () => Promise.resolve(),
      damaged: () => undefined,
    })
    assert.equal(await second.step(), 'taken')
    second.takeOver()
    while ((await second.step()) === 'worked');
    assert.ok(second.totals.segments >= 3)
    await world.check()
  })

  it('lets readers read on that had found a record before its segment was dropped', async () => {
    const world = await halfDead(10)
    const ids = world.ids('live')
    const readers = await Promise.all(ids.map((id, i) => {
      return world.threads[i % 2]!.openShard(world.known.get(id)!.shard.header.dataId)
    }))
    await world.compact()
    for (const [i, id] of ids.entries()) {
      const { bytes } = world.known.get(id)!
      const cells = await readers[i]!.readCells(0, world.known.get(id)!.shard.cells.length, { medium: true })
      assert.deepEqual(Buffer.from(cells), bytes)
    }
  })

  it('ends where the drive has no room, without loss, and goes on when there is', async () => {
    for (let room = 0; room < 2000; room += 100) {
      const world = await halfDead(11)
      const { disk } = world.simulated
      const before = bytesOf(world)
      disk.capacityBytes = disk.files().reduce((sum, { file }) => sum + file.live.size, 0) + room
      let full = 0
      for (let i = 0; i < 300; i++) {
        const step = await world.step().catch((error: unknown) => {
          assert.equal((error as { code?: string }).code, 'driveFull')
          full++
          return 'worked'
        })
        if (step !== 'worked') break
      }
      assert.ok(room > 500 || full > 0, `room ${String(room)}`)
      for (const { row } of world.threads) row.set('online', 'none')
      await world.check(`room ${String(room)}`)
      disk.capacityBytes = Infinity
      await world.restart('powerCut')
      await world.check(`room ${String(room)}`)
      await world.compact()
      await world.check()
      assert.ok(bytesOf(world) < before * 0.6, `${String(before)} -> ${String(bytesOf(world))}`)
    }
  })
})

describe('compaction and power cuts', () => {
  it('loses no live shard and brings no deleted one back, wherever the power is cut', async () => {
    console.log(`seed ${String(SEED)}`)
    let operations = 0
    for (let cut = 0; ; cut += LONG ? 1 : 1 + (SEED % 3)) {
      const world = await halfDead(SEED + (LONG ? cut : 0))
      let count = 0
      world.simulated.beforeOperation = () => {
        if (count++ === cut) world.simulated.powerCut()
      }
      const whole = await world.compact().then(() => true, () => false)
      world.simulated.beforeOperation = undefined
      operations = Math.max(operations, count)
      await world.restart('powerCut')
      await world.check(`cut at operation ${String(cut)}`)
      // What was left half done is no obstacle.
      await world.compact()
      await world.check(`compacted after the cut at ${String(cut)}`)
      await world.restart('kill')
      await world.check(`compacted after the cut at ${String(cut)}, and restarted`)
      if (whole) break
    }
    assert.ok(operations > 20, `only ${String(operations)} operations`)
  })

  it('holds for random puts, deletes, heals and reads of several threads beside it, over restarts', async () => {
    console.log(`seed ${String(SEED)}`)
    for (let run = 0; run < (LONG ? 200 : 12); run++) {
      const world = await World.create(SEED + run, { sealRecords: 6 })
      for (let round = 0; round < 6; round++) {
        const cut = world.random() < 0.7 ? randomInteger(world.random, 400) : Infinity
        const how = world.random() < 0.7 ? 'powerCut' : 'kill'
        let count = 0
        world.simulated.beforeOperation = () => {
          if (count++ !== cut) return
          if (how === 'powerCut') world.simulated.powerCut()
          else world.simulated.kill()
        }
        await Promise.all([busy(world, 0), busy(world, 1), compacting(world), reading(world)])
        world.simulated.beforeOperation = undefined
        if (count <= cut) await world.check(`run ${String(run)} round ${String(round)}, before the restart`)
        await world.restart(count > cut ? how : (['clean', 'kill', 'powerCut'] as const)[round % 3]!)
        await world.check(`run ${String(run)} round ${String(round)}`)
      }
      await world.seal()
      await world.compact()
      await world.check(`run ${String(run)} at the end`)
      for (const { id, location } of world.threads[0]!.segments.index.entries()) {
        assert.ok(world.threads[0]!.segments.table.has(segmentOf(location)), `${hex(id)} ${String(isDead(location))}`)
      }
    }
  })
})

async function busy(world: World, thread: number): Promise<void> {
  try {
    for (let i = 0; i < 25; i++) {
      const live = world.ids('live')
      const id = live[randomInteger(world.random, live.length)]
      const dice = world.random()
      if (id === undefined || dice < 0.45) await world.put(thread)
      else if (dice < 0.85) await world.delete(thread, id)
      else await world.heal(thread, id)
    }
  } catch {
    // The power was cut.
  }
}

async function compacting(world: World): Promise<void> {
  try {
    for (let i = 0; i < 60; i++) {
      await world.step()
      await world.threads[0]!.segments.tend()
      await new Promise((resolve) => setImmediate(resolve))
    }
  } catch {
    // The power was cut.
  }
}

/** Reads what lives, and must find it unless a delete came in between. */
async function reading(world: World): Promise<void> {
  for (let i = 0; i < 60; i++) {
    const live = world.ids('live')
    const id = live[randomInteger(world.random, live.length)]
    if (id === undefined) continue
    let found
    try {
      found = await world.read(randomInteger(world.random, 2), id)
    } catch (error) {
      if ((error as Error).name === 'AssertionError') throw error
      return
    }
    if (found === undefined) assert.notEqual(world.known.get(id)!.state, 'live', id)
  }
}
