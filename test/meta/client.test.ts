import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { after, describe, it } from 'node:test'
import { MessageChannel, Worker } from 'node:worker_threads'
import { MetadataClient } from '../../ts/meta/client.js'
import type { MetaDrive } from '../../ts/meta/drive_files.js'
import type { MetadataError } from '../../ts/meta/engine.js'
import { serveMetadataPort } from '../../ts/meta/engine_port.js'
import type { ClientConnection } from '../../ts/meta/engine_port.js'
import { LocalEngine } from '../../ts/meta/local_engine.js'
import { FileIo } from './file_io.js'
import { createBucket } from './support.js'

const root = mkdtempSync(`${tmpdir()}/ostraka-client-`)
after(() => {
  rmSync(root, { recursive: true, force: true })
})

let made = 0

async function openEngine(): Promise<LocalEngine> {
  const base = `${root}/${String(++made)}`
  const drives = [1, 2, 3].map((number): MetaDrive => {
    mkdirSync(`${base}/${String(number)}`, { recursive: true })
    return { number, io: new FileIo(`${base}/${String(number)}`), path: `${base}/${String(number)}` }
  })
  const engine = await LocalEngine.open({ drives, copies: 2, log: { fileSize: 1 << 18 }, flushEveryMs: 20 })
  await engine.propose({ kind: 'openEpoch', nowMs: 1, worker: 'w' })
  await engine.propose(createBucket('b'))
  return engine
}

function connect(engine: LocalEngine): ClientConnection {
  const { port1, port2 } = new MessageChannel()
  serveMetadataPort(engine, port1)
  return { port: port2, published: engine.published.buffer }
}

function runWorker(engine: LocalEngine, name: string, count: number, first: number): Promise<unknown> {
  const connection = connect(engine)
  const worker = new Worker(new URL('./client_worker.js', import.meta.url), {
    workerData: { connection, name, count, first },
    transferList: [connection.port],
  })
  return new Promise((resolve, reject) => {
    worker.once('message', resolve)
    worker.once('error', reject)
    worker.once('exit', (code) => { reject(new Error(`the worker ended with ${String(code)}`)) })
  })
}

describe('metadata clients in other threads', () => {
  it('see every command whose result they received, while other threads write', async () => {
    const engine = await openEngine()
    const outcomes = await Promise.all([runWorker(engine, 'a', 400, 0), runWorker(engine, 'b', 400, 10_000)])
    for (const outcome of outcomes) assert.deepEqual(outcome, { missing: 0, corrupt: 0, listed: 400 })
    await engine.close()
  })

  it('follow the primary when its copy is taken out, and when it is remade', async () => {
    const engine = await openEngine()
    const running = [runWorker(engine, 'a', 800, 0), runWorker(engine, 'b', 800, 10_000)]
    const { generation } = engine.published
    for (let round = 0; round < 4; round++) {
      await new Promise((resolve) => setTimeout(resolve, 30))
      engine.doubt(engine.published.generation, 'by the test')
      await engine.flush()
      for (let tries = 0; tries < 500 && !(await engine.remakeCopies()); tries++) {
        for (const drive of engine.drives) engine.addDrive(drive)
        await new Promise((resolve) => setTimeout(resolve, 5))
      }
    }
    assert.ok(engine.published.generation >= generation + 2, 'the primary did not change')
    for (const outcome of await Promise.all(running)) {
      assert.deepEqual({ ...(outcome as object), corrupt: 0 }, { missing: 0, corrupt: 0, listed: 800 })
    }
    assert.deepEqual((await engine.compareCopies(() => Promise.resolve())).bad, [])
    await engine.close()
  })

  it('give values, refusals and errors as the engine does', { timeout: 60_000 }, async (t) => {
    const engine = await openEngine()
    const client = new MetadataClient(connect(engine))
    t.after(() => client.close())
    const [made, refused] = await Promise.all([client.propose(createBucket('r')), client.propose(createBucket('r'))])
    const { index } = made.order
    assert.deepEqual(made, { ok: true, order: { index, offset: 0 }, value: { bucketId: 2 } })
    const detail = 'r'
    const refusal = 'BucketAlreadyOwnedByYou'
    assert.deepEqual(refused, { ok: false, order: { index, offset: 1 }, refusal, detail })
    await engine.close()
    await assert.rejects(client.propose(createBucket('s')), {
      code: 'unavailable', message: 'metadata unavailable: the engine is closed',
    })
  })

  it('say unknown for what was sent when the engine goes, and unavailable afterwards', async () => {
    const engine = await openEngine()
    const connection = connect(engine)
    const client = new MetadataClient(connection)
    assert.equal((await client.status()).engine, 'local')
    const sent = client.propose(createBucket('x'))
    setImmediate(() => { connection.port.close() })
    const code = await sent.then(() => 'applied', (error: unknown) => (error as MetadataError).code)
    assert.ok(code === 'unknown' || code === 'applied', code)
    await assert.rejects(client.propose(createBucket('y')), { code: 'unavailable' })
    await client.close()
    await engine.close()
  })

  it('announce commands: those of others wait for them, go into the same batch, and never wait for long', async () => {
    const engine = await openEngine()
    const [a, b] = [new MetadataClient(connect(engine)), new MetadataClient(connect(engine))]
    const end = a.announce()
    // A call is answered behind the announcement.
    await a.status()
    const waiting = b.propose(createBucket('other'))
    await new Promise((resolve) => setImmediate(resolve))
    await b.status()
    const own = a.propose(createBucket('own'))
    end()
    end()
    const [first, second] = await Promise.all([waiting, own])
    assert.equal(first.order.index, second.order.index, 'two batches')
    const again = a.announce()
    await a.status()
    const before = b.propose(createBucket('before'))
    await b.status()
    again()
    a.announce()
    assert.equal((await before).ok, true, 'it waited for what was announced later')
    assert.equal((await b.propose(createBucket('late'))).ok, true, 'it waited for what never came')
    await a.close()
    assert.equal((await b.propose(createBucket('later'))).ok, true)
    await b.close()
    await engine.close()
  })

  it('bound what waits', async () => {
    const engine = await openEngine()
    const client = new MetadataClient(connect(engine), { maxWaiting: 2 })
    const both = [client.propose(createBucket('x')), client.propose(createBucket('y'))]
    await assert.rejects(client.propose(createBucket('z')), { code: 'overloaded' })
    await Promise.all(both)
    await client.close()
    await engine.close()
  })
})
