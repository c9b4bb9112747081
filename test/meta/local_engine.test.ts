import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { after, describe, it } from 'node:test'
import { MessageChannel } from 'node:worker_threads'
import { SimulatedDisk, SimulatedDrive } from '../../ts/drive/simulated_io.js'
import { MetadataClient } from '../../ts/meta/client.js'
import type { CommandResult } from '../../ts/meta/command.js'
import type { MetaDrive } from '../../ts/meta/drive_files.js'
import type { MetadataError } from '../../ts/meta/engine.js'
import { serveMetadataPort } from '../../ts/meta/engine_port.js'
import { LocalEngine } from '../../ts/meta/local_engine.js'
import type { LocalEngineOptions } from '../../ts/meta/local_engine.js'
import { SimulatedViews } from '../../ts/meta/views.js'
import { FileIo } from './file_io.js'
import { createBucket, dataId, part, putObject } from './support.js'

const roots: string[] = []
after(() => {
  for (const root of roots) rmSync(root, { recursive: true, force: true })
})

/** Drives in memory that outlive engines. */
class Simulation {
  readonly drives = [1, 2, 3, 4].map(() => new SimulatedDrive(new SimulatedDisk()))
  readonly views = new SimulatedViews()
  readonly notes: string[] = []

  options(numbers = [1, 2, 3, 4]): LocalEngineOptions {
    const drives = numbers.map((number): MetaDrive => this.drive(number))
    return {
      drives,
      copies: 3,
      views: this.views,
      log: { fileSize: 65536 },
      flushEveryMs: 20,
      note: (text) => this.notes.push(text),
    }
  }

  drive(number: number): MetaDrive {
    return { number, io: (this.drives[number - 1] as SimulatedDrive).connect(), path: `/simulated/${String(number)}` }
  }
}

function realDrives(count: number): MetaDrive[] {
  const root = mkdtempSync(`${tmpdir()}/ostraka-meta-`)
  roots.push(root)
  return Array.from({ length: count }, (_, at) => {
    mkdirSync(`${root}/${String(at + 1)}`)
    return { number: at + 1, io: new FileIo(`${root}/${String(at + 1)}`), path: `${root}/${String(at + 1)}` }
  })
}

async function fill(engine: LocalEngine, from: number, to: number): Promise<void> {
  const results = await Promise.all(
    Array.from({ length: to - from }, (_, at) =>
      engine.propose(putObject(1, `key-${String(from + at)}`, part(dataId(1), 10))),
    ),
  )
  for (const result of results) assert.ok(result.ok, JSON.stringify(result))
}

async function start(engine: LocalEngine): Promise<void> {
  assert.ok((await engine.propose({ kind: 'openEpoch', nowMs: 1, worker: 'w' })).ok)
  assert.ok((await engine.propose(createBucket('b'))).ok)
}

function count(engine: LocalEngine): number {
  engine.reader.refresh()
  const page = engine.reader.list({ bucketId: 1, prefix: '', delimiter: '', after: '', limit: 100_000 })
  assert.equal(page.entries.length, engine.reader.bucket('b')?.objectCount)
  return page.entries.length
}

describe('local engine over simulated drives', () => {
  it('answers when a command is applied, and has it all after a clean restart', async () => {
    const simulation = new Simulation()
    const engine = await LocalEngine.open(simulation.options())
    await start(engine)
    await fill(engine, 0, 300)
    assert.equal(count(engine), 300)
    const status = await engine.status()
    assert.deepEqual(status.copies.map((copy) => copy.drive), [1, 2, 3])
    await engine.close()
    const again = await LocalEngine.open(simulation.options())
    assert.equal(count(again), 300)
    assert.deepEqual(simulation.notes, [])
    await again.close()
  })

  it('shows nothing of a batch while one of its logs syncs, and decides nothing by it', async () => {
    const simulation = new Simulation()
    const engine = await LocalEngine.open(simulation.options())
    await start(engine)
    await fill(engine, 0, 10)
    const { applied } = engine.published
    const end = simulation.drives[0]?.addFault({ op: 'sync', fault: { hang: true } })
    let answered = false
    const more = fill(engine, 10, 30).then(() => { answered = true })
    for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve))
    // This one waits behind the batch that syncs, and must see what that one did.
    const wish = { ...putObject(1, 'key-20', part(dataId(1), 10)), condition: { ifNoneMatch: '*' as const } }
    const late = engine.propose(wish)
    for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve))
    assert.deepEqual([answered, count(engine), engine.published.applied], [false, 10, applied])
    end?.()
    await more
    assert.equal(count(engine), 30)
    const refused = await late
    assert.equal(refused.ok ? '' : refused.refusal, 'PreconditionFailed')
    assert.deepEqual((await engine.compareCopies(() => Promise.resolve())).bad, [])
    await engine.close()
  })

  it('answers a batch in one message, before it looks at the next one', { timeout: 60_000 }, async (t) => {
    const simulation = new Simulation()
    const { views } = simulation
    const said: string[] = []
    const create = views.create.bind(views)
    views.create = async (drive, name) => {
      const view = await create(drive, name)
      const lastTwo = view.lastTwo.bind(view)
      view.lastTwo = (key) => {
        said.push('looked')
        return lastTwo(key)
      }
      return view
    }
    const engine = await LocalEngine.open(simulation.options())
    await start(engine)
    const { port1, port2 } = new MessageChannel()
    const post = port1.postMessage.bind(port1)
    port1.postMessage = (...message: Parameters<typeof post>) => {
      said.push('answered')
      post(...message)
    }
    serveMetadataPort(engine, port1)
    const client = new MetadataClient({ port: port2, published: engine.published.buffer })
    t.after(async () => {
      await client.close()
      await engine.close()
    })
    const put = (key: string): Promise<CommandResult> => client.propose(putObject(1, key, part(dataId(1), 10)))
    const end = simulation.drives[0]?.addFault({ op: 'sync', fault: { hang: true } })
    const first = [put('a'), put('b'), put('c')]
    for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve))
    const second = [put('d'), put('e')]
    for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve))
    said.length = 0
    end?.()
    const results = await Promise.all([...first, ...second])
    assert.deepEqual(results.map(({ ok, order }) => [ok, order.index, order.offset]), [
      [true, 3, 0], [true, 3, 1], [true, 3, 2], [true, 4, 0], [true, 4, 1],
    ])
    assert.deepEqual(said, ['answered', 'looked', 'answered'])
  })

  it('brings the other views on in small pieces, one view at a time', { timeout: 60_000 }, async (t) => {
    const simulation = new Simulation()
    const { views } = simulation
    /** Bytes of each commit, and which view it was. */
    const commits: { drive: number; bytes: number }[] = []
    const create = views.create.bind(views)
    views.create = async (drive, name) => {
      const view = await create(drive, name)
      const commit = view.commit.bind(view)
      view.commit = (writes) => {
        const bytes = writes.reduce((sum, { key, value }) => sum + key.length + (value?.length ?? 0), 0)
        commits.push({ drive: drive.number, bytes })
        commit(writes)
      }
      return view
    }
    const engine = await LocalEngine.open({ ...simulation.options(), flushEveryMs: 1 << 30 })
    t.after(() => engine.close())
    await start(engine)
    for (let n = 0; n < 400; n += 2) await fill(engine, n, n + 2)
    const largest = Math.max(...commits.map(({ bytes }) => bytes))
    assert.ok(largest < 80 << 10, `${String(largest)} bytes at once`)
    const following = commits.map(({ drive }, at) => ({ drive, at })).filter(({ drive }) => drive !== 1).slice(2)
    assert.ok(following.length >= 4, `${String(following.length)} commits of views that follow`)
    assert.deepEqual(new Set(following.map(({ drive }) => drive)), new Set([2, 3]))
    for (const [n, { at }] of following.entries()) {
      const next = following[n + 1]
      if (next !== undefined) assert.ok(next.at > at + 1, 'two views in the same pause')
    }
    assert.deepEqual((await engine.compareCopies(() => Promise.resolve())).bad, [])
  })

  it('goes on without a copy whose drive fails, remakes it elsewhere, and refuses the stale copy', async () => {
    const simulation = new Simulation()
    const engine = await LocalEngine.open({ ...simulation.options(), replaceAfterMs: 0 })
    await start(engine)
    await fill(engine, 0, 50)
    const end = simulation.drives[0]?.addFault({ op: 'sync', fault: { error: 'EIO' } })
    await fill(engine, 50, 100)
    assert.equal(count(engine), 100)
    assert.equal((await engine.status()).copies.filter((copy) => copy.state === 'online').length, 2)
    while (!(await engine.remakeCopies())) await new Promise((resolve) => setTimeout(resolve, 5))
    await fill(engine, 100, 120)
    const online = (await engine.status()).copies.filter((copy) => copy.state === 'online')
    assert.deepEqual(online.map((copy) => copy.drive).sort(), [2, 3, 4])
    assert.deepEqual((await engine.compareCopies(() => Promise.resolve())).bad, [])
    await engine.close()
    end?.()
    const again = await LocalEngine.open(simulation.options([2, 3, 4]))
    assert.equal(count(again), 120)
    await again.close()
  })
})

describe('copies of a local engine', () => {
  it('goes on when a drive hangs, once its deadline has passed', async () => {
    const simulation = new Simulation()
    const engine = await LocalEngine.open({ ...simulation.options(), deadlineMs: 1500, careDeadlineMs: 20_000 })
    await start(engine)
    const end = simulation.drives[1]?.addFault({ path: /meta/, fault: { hang: true } })
    await fill(engine, 0, 20)
    await fill(engine, 20, 300)
    const { copies } = await engine.status()
    assert.deepEqual(copies.map(({ drive, state }) => [drive, state]), [[1, 'online'], [3, 'online'], [2, 'offline']])
    await engine.close()
    end?.()
  })

  it('refuses a copy that was left behind when only its drive and drives that know better are here', async () => {
    const simulation = new Simulation()
    const engine = await LocalEngine.open(simulation.options())
    await start(engine)
    simulation.drives[0]?.addFault({ op: 'sync', times: 1, fault: { error: 'EIO' } })
    await fill(engine, 0, 20)
    await engine.close()
    await assert.rejects(LocalEngine.open(simulation.options([1, 4])), { code: 'unavailable', message: /stale/ })
    const again = await LocalEngine.open(simulation.options([1, 2, 3, 4]))
    assert.equal(count(again), 20)
    await again.close()
  })

  it('brings a copy that was left behind back when its drive is here again', async () => {
    const simulation = new Simulation()
    const engine = await LocalEngine.open(simulation.options())
    await start(engine)
    engine.removeDrive(1, 'by the operator')
    await fill(engine, 0, 20)
    assert.equal((await engine.status()).copies.filter(({ state }) => state === 'online').length, 2)
    engine.addDrive(simulation.drive(1))
    const going = fill(engine, 20, 200)
    for (let tries = 0; tries < 1000 && !(await engine.remakeCopies()); tries++)
      await new Promise((resolve) => setTimeout(resolve, 1))
    await going
    assert.equal((await engine.status()).copies.filter(({ state }) => state === 'online').length, 3)
    assert.deepEqual((await engine.compareCopies(() => Promise.resolve())).bad, [])
    await engine.close()
    const again = await LocalEngine.open(simulation.options([1]))
    assert.equal(count(again), 200)
    await again.close()
  })

  it('says unknown and stops when every copy fails, and has what it acknowledged after a restart', async () => {
    const simulation = new Simulation()
    const engine = await LocalEngine.open(simulation.options())
    await start(engine)
    await fill(engine, 0, 10)
    const ends = simulation.drives.map((drive) => drive.addFault({ op: ['sync', 'write'], fault: { error: 'EIO' } }))
    await assert.rejects(engine.propose(putObject(1, 'lost', part(dataId(1), 1))), { code: 'unknown' })
    await assert.rejects(engine.propose(putObject(1, 'never', part(dataId(1), 1))), { code: 'unavailable' })
    await engine.close()
    for (const end of ends) end()
    const again = await LocalEngine.open(simulation.options())
    assert.ok([10, 11].includes(count(again)))
    await again.close()
  })

  it('moves readers to another copy when a view is found damaged, and remakes it', async () => {
    const simulation = new Simulation()
    const engine = await LocalEngine.open(simulation.options())
    await start(engine)
    await fill(engine, 0, 100)
    await engine.flush()
    const { generation } = engine.published
    engine.doubt(generation, 'by the test')
    await engine.flush()
    assert.notEqual(engine.published.generation, generation)
    assert.equal(count(engine), 100)
    engine.doubt(generation, 'an old report changes nothing')
    await engine.flush()
    assert.equal((await engine.status()).copies.filter(({ state }) => state === 'online').length, 2)
    await engine.close()
  })

  it('bounds its queue', async () => {
    const simulation = new Simulation()
    const engine = await LocalEngine.open({ ...simulation.options(), maxQueued: 3 })
    await start(engine)
    const outcomes = await Promise.allSettled(
      Array.from({ length: 9 }, (_, at) => engine.propose(putObject(1, String(at)))),
    )
    const refused = outcomes.filter((outcome) => outcome.status === 'rejected')
    assert.equal(refused.length, 6)
    for (const { reason } of refused) assert.equal((reason as MetadataError).code, 'overloaded')
    await engine.close()
  })
})

describe('local engine over LMDB', () => {
  it('serves, restarts cleanly, and restarts after a crash', async () => {
    const drives = realDrives(3)
    const options: LocalEngineOptions = { drives, copies: 2, log: { fileSize: 1 << 20 }, flushEveryMs: 1_000_000 }
    const engine = await LocalEngine.open(options)
    await start(engine)
    await fill(engine, 0, 1000)
    assert.equal(count(engine), 1000)
    await engine.close()
    const again = await LocalEngine.open(options)
    assert.equal(count(again), 1000)
    await fill(again, 1000, 1500)
    assert.deepEqual((await again.compareCopies(() => Promise.resolve())).bad, [])
    await again.close()
  })
})
