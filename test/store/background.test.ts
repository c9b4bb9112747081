import assert from 'node:assert/strict'
import { test } from 'node:test'
import { blockCount } from '../../ts/drive/drive.js'
import { CursorFile } from '../../ts/store/background/cursor_file.js'
import { Throttle } from '../../ts/store/background/throttle.js'
import { randomBody, readAll, TestBody } from '../support/bodies.js'
import { PLAIN, SimulatedStore, type SimulatedStoreOptions } from '../support/simulated_store.js'
import type { BackgroundJob } from '../../ts/store/background/job.js'
import { VirtualClock } from '../support/virtual_clock.js'

const bucket = 'bucket'

interface Filled {
  sim: SimulatedStore
  bodies: Map<string, Buffer>
}

async function filled(count: number, options: Partial<SimulatedStoreOptions> = {}): Promise<Filled> {
  const sim = await SimulatedStore.create({ seed: 5, ...options })
  await sim.run(sim.store.createBucket(bucket, 'owner', 'eu'))
  const bodies = new Map<string, Buffer>()
  for (let i = 0; i < count; i++) {
    const body = randomBody(sim.random, 1 + Math.floor(sim.random() * 12_000))
    await put(sim, `key-${String(i)}`, body)
    bodies.set(`key-${String(i)}`, body)
  }
  return { sim, bodies }
}

async function put(sim: SimulatedStore, key: string, body: Buffer): Promise<void> {
  const request = { bucket, key, ownerId: 'o', body: new TestBody(body), attributes: PLAIN }
  await sim.run(sim.store.putObject(request))
}

async function assertReadable({ sim, bodies }: Filled): Promise<void> {
  for (const [key, body] of bodies) {
    const handle = sim.store.openObject(bucket, key)
    try {
      assert.deepEqual(await sim.run(readAll(handle.read({ offset: 0, length: body.length }))), body, key)
    } finally {
      handle.release()
    }
  }
}

/** Every shard that metadata places is there and good, and there is no other. */
async function assertFullyHealthy(sim: SimulatedStore): Promise<void> {
  const expected = new Map<number, Set<string>>()
  for (const location of sim.locations()) {
    for (const drive of location.drives) {
      assert.notEqual(drive, 0)
      const ids = expected.get(drive) ?? new Set<string>()
      expected.set(drive, ids.add(Buffer.from(location.dataId).toString('hex')))
    }
    const damage = await sim.run(sim.worker().sets.get(location.set)!.verify(location, { medium: true }))
    assert.equal(damage, undefined)
  }
  for (const { number } of sim.members()) {
    assert.deepEqual(new Set(sim.shards(number).keys()), expected.get(number) ?? new Set(), `drive ${String(number)}`)
  }
  assert.equal(sim.reader.counts().heals, 0)
}

function counter(job: BackgroundJob, name: string): number {
  return job.progress().counters[name] ?? 0
}

test('a shard lost during a write is a heal intent, and is healed when the drive is back', async () => {
  const { sim, bodies } = await filled(3)
  const remove = sim.drive(2).addFault({ op: 'sync', fault: { error: 'EIO' } })
  const body = randomBody(sim.random, 9000)
  await put(sim, 'short', body)
  bodies.set('short', body)
  assert.equal(sim.reader.counts().heals, 1)
  assert.ok(sim.locations().some((location) => location.drives.includes(0)))
  remove()
  sim.bringBack(2)
  await sim.runJob(sim.background.healer)
  assert.equal(sim.reader.counts().heals, 0)
  await assertFullyHealthy(sim)
  await assertReadable({ sim, bodies })
})

test('what a healer says is left is in the queue, and gone with it', async () => {
  const { sim } = await filled(2)
  const { healer } = sim.background
  sim.lose(2)
  for (const { set, dataId, drives } of sim.locations()) {
    sim.worker().damage.report({ set, dataId, shards: [drives.indexOf(2)], cause: 'missing' })
  }
  await sim.run(sim.worker().damage.settled())
  for (let tries = 0; tries < 3; tries++) {
    healer.retryNow()
    await sim.runJob(healer)
    assert.equal(counter(healer, 'left'), sim.reader.counts().heals)
  }
  assert.equal(counter(healer, 'left'), 2)
  await sim.run(sim.store.deleteObject(bucket, 'key-0'))
  await sim.runJob(healer)
  assert.equal(counter(healer, 'left'), sim.reader.counts().heals)
  sim.bringBack(2)
  healer.retryNow()
  await sim.runJob(healer)
  assert.equal(sim.reader.counts().heals, 0)
  assert.equal(counter(healer, 'left'), 0)
})

test('with drives out new parts keep their full parity, and lose nothing with as many more drives gone', async () => {
  const { sim, bodies } = await filled(0, { k: 4, m: 2 })
  sim.lose(3)
  sim.lose(6)
  for (let i = 0; i < 5; i++) {
    bodies.set(`k${String(i)}`, randomBody(sim.random, 5000 + i))
    await put(sim, `k${String(i)}`, bodies.get(`k${String(i)}`)!)
  }
  assert.ok(sim.locations().every(({ geometry }) => geometry.k === 2 && geometry.m === 2))
  assert.equal(sim.reader.counts().heals, 0)
  sim.lose(1)
  sim.lose(2)
  await assertReadable({ sim, bodies })
})

test('a blank drive in the place of another is filled, proved, and only then called healed', async () => {
  const { sim, bodies } = await filled(40)
  const number = await sim.replace(3)
  const healing = (): boolean => sim.reader.drives().find((drive) => drive.number === number)!.healing
  assert.ok(healing())
  await assertReadable({ sim, bodies })
  // A drive that takes nothing keeps the state.
  const remove = sim.drive(number).addFault({ op: 'sync', path: /^segments/, fault: { error: 'EIO' } })
  await sim.runJob(sim.background.driveHealer)
  assert.ok(healing())
  assert.ok(counter(sim.background.driveHealer, 'left') > 0)
  remove()
  sim.bringBack(number)
  sim.background.driveHealer.retryNow()
  await sim.runJob(sim.background.driveHealer)
  assert.equal(healing(), false)
  assert.equal(counter(sim.background.driveHealer, 'drives'), 1)
  await sim.settleBackground(2)
  await assertFullyHealthy(sim)
  sim.lose(1)
  sim.lose(2)
  await assertReadable({ sim, bodies })
})

test('deletes and overwrites during a drive heal leave nothing behind and break nothing', async () => {
  const { sim, bodies } = await filled(30)
  await sim.replace(1)
  const job = sim.background.driveHealer
  let done = false
  const healing = (async (): Promise<void> => {
    for (let i = 0; i < 200 && counter(job, 'drives') === 0; i++) await job.runSlice(sim.clock.now())
    done = true
  })()
  let i = 0
  while (!done && i < 30) {
    const key = `key-${String(i++)}`
    if (i % 3 === 0) {
      await sim.run(sim.store.deleteObject(bucket, key))
      bodies.delete(key)
    } else if (i % 3 === 1) {
      bodies.set(key, randomBody(sim.random, 3000))
      await put(sim, key, bodies.get(key)!)
    }
    await sim.runJob(sim.background.collector)
  }
  await sim.run(healing)
  await sim.settleBackground(3)
  await assertFullyHealthy(sim)
  await assertReadable({ sim, bodies })
})

test('any byte of any file of a drive may flip: reads are right, scrub finds it, heal repairs it', async () => {
  const { sim, bodies } = await filled(6)
  for (let round = 0; round < 40; round++) {
    const { number } = sim.members()[Math.floor(sim.random() * 4)]!
    const shards = [...sim.shards(number).values()]
    const { path, offset, size } = shards[Math.floor(sim.random() * shards.length)]!
    sim.drive(number).disk.flip(path, offset + Math.floor(sim.random() * size), 1 << Math.floor(sim.random() * 8))
    await assertReadable({ sim, bodies })
    await sim.scrub()
    await sim.settleBackground(1)
    await assertFullyHealthy(sim)
  }
  assert.ok(counter(sim.background.scrubber, 'damaged') + counter(sim.background.healer, 'parts') > 0)
})

test('what a read found bad is queued for healing', async () => {
  const { sim, bodies } = await filled(1)
  const location = sim.locations()[0]!
  const drive = location.drives[0]!
  const { path, offset, size } = [...sim.shards(drive).values()][0]!
  sim.drive(drive).disk.flip(path, offset + size - 1, 1)
  await assertReadable({ sim, bodies })
  await sim.run(sim.worker().damage.settled())
  assert.equal(sim.reader.counts().heals, 1)
  await sim.runJob(sim.background.healer)
  await assertFullyHealthy(sim)
})

test('packed shards that are gone at a start are found out by the presence check and healed', async () => {
  const { sim, bodies } = await filled(20)
  sim.cut('kill')
  const { disk } = sim.drive(4)
  const paths = disk.files().map(({ path }) => path).filter((path) => path.endsWith('.seg'))
  for (const path of paths.slice(1)) disk.unlink(path)
  disk.place(paths[0]!, disk.contents(paths[0]!).subarray(0, 9000))
  await sim.restart()
  const gone = 20 - sim.shards(4).size
  assert.ok(gone > 0)
  sim.background.presence.request(0)
  await sim.runJob(sim.background.presence)
  assert.equal(counter(sim.background.presence, 'missing'), gone)
  await sim.runJob(sim.background.healer)
  await assertFullyHealthy(sim)
  await assertReadable({ sim, bodies })
})

test('a drive that went back in time is found out by the presence check and healed', async () => {
  const { sim, bodies } = await filled(20, { threshold: 0 })
  for (const { path } of [...sim.shards(4).values()].slice(3, 12)) sim.drive(4).disk.unlink(path)
  sim.background.presence.request(0)
  await sim.runJob(sim.background.presence)
  assert.equal(counter(sim.background.presence, 'missing'), 9)
  await sim.runJob(sim.background.healer)
  await assertFullyHealthy(sim)
  await assertReadable({ sim, bodies })
})

test('garbage of a drive that is out waits for it, and other garbage does not wait', async () => {
  const { sim, bodies } = await filled(4)
  sim.lose(2)
  await sim.run(sim.store.deleteObject(bucket, 'key-0'))
  bodies.delete('key-0')
  const body = randomBody(sim.random, 100)
  await put(sim, 'new', body)
  await sim.run(sim.store.deleteObject(bucket, 'new'))
  await sim.runJob(sim.background.collector)
  assert.equal(sim.reader.counts().garbage, 1)
  assert.equal(counter(sim.background.collector, 'waiting'), 1)
  assert.equal(sim.shards(1).size, 3)
  sim.bringBack(2)
  await sim.runJob(sim.background.collector)
  assert.equal(sim.reader.counts().garbage, 0)
  assert.equal(sim.shards(2).size, 3)
})

test('garbage of a drive that was replaced does not wait for it', async () => {
  const { sim } = await filled(4)
  sim.lose(2)
  await sim.run(sim.store.deleteObject(bucket, 'key-0'))
  await sim.runJob(sim.background.collector)
  assert.equal(sim.reader.counts().garbage, 1)
  await sim.replace(2)
  await sim.runJob(sim.background.collector)
  assert.equal(sim.reader.counts().garbage, 0)
})

for (const threshold of [0, 2 ** 18])
  test(`deletes and collection work on full drives; packed below ${String(threshold)}`, async () => {
    const { sim } = await filled(5, { threshold })
    for (const { number } of sim.members()) {
      const { disk } = sim.drive(number)
      disk.capacityBytes = disk.usedBytes
    }
    // A segment takes what fits into the room that it has written ahead.
    let refused: unknown
    for (let i = 0; i < 40 && refused === undefined; i++) {
      await put(sim, 'x', Buffer.alloc(200_000)).catch((error: unknown) => { refused = error })
    }
    assert.equal((refused as { code?: string } | undefined)?.code, 'ServiceUnavailable')
    await sim.run(sim.store.deleteObject(bucket, 'x'))
    for (let i = 0; i < 5; i++) await sim.run(sim.store.deleteObject(bucket, `key-${String(i)}`))
    await sim.runJob(sim.background.collector)
    for (const { number } of sim.members()) assert.equal(sim.shards(number).size, 0)
  })

test('neither collector nor orphan search delete anything while collection is off', async () => {
  const { sim } = await filled(2)
  const metadata = sim.worker().metadata
  await sim.run(metadata.propose({ kind: 'setCollection', enabled: false }))
  await sim.run(sim.store.deleteObject(bucket, 'key-0'))
  sim.metadata.loseAnswer = () => false
  await sim.settleBackground(2)
  assert.equal(sim.shards(1).size, 2)
  assert.equal(sim.background.collector.progress().state, 'disabled')
  await sim.run(metadata.propose({ kind: 'setCollection', enabled: true }))
  await sim.settleBackground(2)
  assert.equal(sim.shards(1).size, 1)
})

test('shards of epochs that nobody opened are doubts: kept and counted', async () => {
  const { sim } = await filled(1)
  const [id] = [...sim.shards(1).keys()]
  const drive = sim.localDrive(1)
  const reader = await sim.run(drive.openShard(Buffer.from(id!, 'hex')))
  const cells = await sim.run(reader.readCells(0, blockCount(reader.header.geometry)))
  const foreign = Buffer.from(`00ffffffffff${id!.slice(12)}`, 'hex')
  await sim.run(drive.putShard({ ...reader.header, dataId: foreign }, [cells]))
  await sim.settleBackground(2)
  assert.equal(counter(sim.background.orphanSearch, 'doubts'), 1)
  assert.equal(sim.shards(1).size, 2)
})

test('a drive that hangs is left out: writes go on, nothing waits for ever, and the shard heals later', async () => {
  const { sim, bodies } = await filled(2)
  const release = sim.drive(3).addFault({ op: 'sync', fault: { hang: true } })
  for (let i = 0; i < 3; i++) {
    bodies.set(`h${String(i)}`, randomBody(sim.random, 5000))
    await put(sim, `h${String(i)}`, bodies.get(`h${String(i)}`)!)
  }
  await assertReadable({ sim, bodies })
  release()
  sim.bringBack(3)
  await sim.settleBackground(3)
  await assertFullyHealthy(sim)
  await assertReadable({ sim, bodies })
})

for (const threshold of [0, 2 ** 18]) {
  const how = threshold === 0 ? 'a file' : 'packed'
  test(`a write that a drive finishes late does not take the healed shard away again: ${how}`, async () => {
    const { sim, bodies } = await filled(1, { threshold })
    const late = [
      sim.drive(3).addFault({ op: 'syncDir', path: /^shards/, times: 1, fault: { hang: true } }),
      sim.drive(3).addFault({ op: 'unlink', path: /^shards/, times: 1, fault: { hang: true } }),
      sim.drive(3).addFault({ op: 'sync', path: /^segments/, times: 1, fault: { hang: true } }),
    ]
    bodies.set('late', randomBody(sim.random, 9000))
    await put(sim, 'late', bodies.get('late')!)
    assert.equal(sim.reader.counts().heals, 1)
    // The drive serves again, and is healed, while a thread of it still hangs in the write.
    sim.bringBack(3)
    await sim.runJob(sim.background.healer)
    assert.equal(sim.reader.counts().heals, 0)
    await assertFullyHealthy(sim)
    for (const end of late) end()
    await sim.run(sim.worker().sets.get(0)!.settled(60_000))
    await assertFullyHealthy(sim)
    await sim.crash('kill')
    await sim.settleBackground(1)
    await assertFullyHealthy(sim)
    await assertReadable({ sim, bodies })
  })
}

test('the scrub cursor survives a restart, and a torn or foreign file is as if there were none', async () => {
  const { sim } = await filled(1)
  const ios = [sim.drive(1).connect(), sim.drive(2).connect()]
  const file = new CursorFile(() => ios)
  assert.equal(await sim.run(file.load()), undefined)
  await sim.run(file.save({ set: 0, after: 'ab', startedMs: 5 }))
  const first = sim.drive(1).addFault({ op: 'sync', fault: { error: 'EIO' } })
  await sim.run(file.save({ set: 1, after: 'cd', startedMs: 6 }))
  first()
  sim.drive(1).powerCut()
  sim.drive(2).powerCut()
  const again = [sim.drive(1).connect(), sim.drive(2).connect()]
  assert.deepEqual(await sim.run(new CursorFile(() => again).load()), { set: 1, after: 'cd', startedMs: 6 })
  sim.drive(2).disk.flip('scrub.json', 70, 1)
  assert.deepEqual(await sim.run(new CursorFile(() => again).load()), { set: 0, after: 'ab', startedMs: 5 })
})

test('a pass of the scrubber goes on where it was after a restart', async () => {
  let saved: unknown
  const cursor = {
    load: () => Promise.resolve(saved as undefined),
    save: (value: unknown) => {
      saved = structuredClone(value)
      return Promise.resolve()
    },
  }
  const { sim } = await filled(70, { background: { scrubber: { cursor, saveEvery: 1 } } })
  sim.background.scrubber.startNow()
  while (counter(sim.background.scrubber, 'parts') < 32) {
    await sim.run(sim.background.scrubber.runSlice(sim.clock.now()))
  }
  assert.equal(counter(sim.background.scrubber, 'parts'), 32)
  await sim.crash('kill')
  for (let i = 0; i < 20; i++) await sim.run(sim.background.scrubber.runSlice(sim.clock.now()))
  assert.equal(counter(sim.background.scrubber, 'parts'), 38)
  assert.equal(counter(sim.background.scrubber, 'passes'), 1)
})

test('the throttle lets its rate pass, and a change of the limit frees whoever waits', async () => {
  const clock = new VirtualClock()
  const throttle = new Throttle(clock, 1000)
  for (let i = 0; i < 10; i++) await clock.run(throttle.take(1000))
  assert.ok(Math.abs(clock.now() - 8000) <= 1000, String(clock.now()))
  const before = clock.now()
  await clock.run(throttle.take(1_000_000))
  const waiting = throttle.take(1)
  throttle.limit = 0
  await waiting
  assert.ok(clock.now() - before < 5000)
})

test('progress is plain JSON and names every job', async () => {
  const { sim } = await filled(1)
  sim.background.pause('orphanSearch')
  sim.background.start()
  await new Promise((resolve) => setImmediate(resolve))
  const progress = await sim.run(sim.background.progress())
  assert.deepEqual(JSON.parse(JSON.stringify(progress)), progress)
  assert.equal(progress.jobs.length, 9)
  const state = async (name: string): Promise<string | undefined> =>
    (await sim.background.progress()).jobs.find((job) => job.job === name)?.state
  assert.equal(await state('orphanSearch'), 'paused', 'a job paused before the start begins paused')
  sim.background.resume('orphanSearch')
  assert.notEqual(await state('orphanSearch'), 'paused')
  sim.background.pause('scrubber')
  assert.equal(await state('scrubber'), 'paused')
  await sim.run(sim.background.stop())
})
