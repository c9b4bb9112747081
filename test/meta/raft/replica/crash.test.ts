import assert from 'node:assert/strict'
import { after, describe, it } from 'node:test'
import { SimulatedDisk, SimulatedDrive } from '../../../../ts/drive/simulated_io.js'
import { MetadataError } from '../../../../ts/meta/engine.js'
import { ReplicatedEngine } from '../../../../ts/meta/raft/replica/replicated_engine.js'
import { verifyView } from '../../../../ts/meta/verify.js'
import { SimulatedViews } from '../../../../ts/meta/views.js'
import { randomInteger, seededRandom } from '../../../../ts/util/random.js'
import type { Random } from '../../../../ts/util/random.js'
import { begin, ok, put, retry, until } from './cluster.js'
import { MemoryNetwork } from './memory_network.js'

const LONG = process.env.OSTRAKA_TEST_LONG !== undefined
const SEED = Number(process.env.OSTRAKA_TEST_SEED ?? randomInteger(Math.random, 2 ** 31))

/** Nodes with a simulated drive each, and what was acknowledged over all lives. */
class World {
  readonly random: Random
  readonly network = new MemoryNetwork()
  readonly drives: SimulatedDrive[]
  readonly views = new SimulatedViews()
  readonly engines = new Map<number, ReplicatedEngine>()
  readonly acknowledged = new Map<string, number>()
  readonly proposed = new Map<string, Set<number>>()
  notes: string[] = []
  #made = 0

  constructor(seed: number, nodes: number) {
    this.random = seededRandom(seed)
    this.drives = Array.from(
      { length: nodes },
      (_, at) => new SimulatedDrive(new SimulatedDisk(), { random: seededRandom(seed * 7 + at) }),
    )
  }

  async open(id: number, join = false): Promise<ReplicatedEngine> {
    const io = this.#drive(id).connect()
    const engine = await ReplicatedEngine.open({
      drives: [{ number: id, io, path: `/${String(id)}` }],
      network: this.network.connect(id),
      views: this.views,
      log: { fileSize: 8192 },
      trailingLogBytes: 8192,
      flushEveryMs: 5,
      releaseEvery: 10,
      trailingEntries: 3,
      tickMs: 10,
      stallMs: 60_000,
      retryMs: 100,
      commandTimeoutMs: 4_000,
      note: (text) => this.notes.push(`${String(id)}: ${text}`),
      ...(join && { join: { id } }),
    })
    this.engines.set(id, engine)
    return engine
  }

  #drive(id: number): SimulatedDrive {
    return this.drives[id - 1] as SimulatedDrive
  }

  /** The power of these nodes goes at a random operation of any of them. */
  arm(ids: readonly number[], operations: number): void {
    let left = randomInteger(this.random, operations)
    for (const id of ids) {
      this.#drive(id).beforeOperation = () => {
        if (left-- === 0) for (const one of ids) this.cut(one)
      }
    }
  }

  cut(id: number): void {
    const drive = this.#drive(id)
    drive.beforeOperation = undefined
    this.network.door(id)?.close()
    drive.powerCut()
    for (const [path, medium] of this.views.media) {
      if (path.startsWith(`${String(id)}/`)) medium.cut(randomInteger(this.random, medium.commits.length + 1))
    }
  }

  /** What is left of a node whose power went. */
  async bury(id: number): Promise<void> {
    this.cut(id)
    await this.engines.get(id)?.abandon()
    this.engines.delete(id)
  }

  async work(commands: number): Promise<void> {
    const going: Promise<void>[] = []
    const engines = [...this.engines.values()]
    for (let at = 0; at < commands; at++) {
      going.push(this.#write(engines[randomInteger(this.random, engines.length)] as ReplicatedEngine))
      if (this.random() < 0.4) await new Promise((resolve) => setImmediate(resolve))
    }
    await Promise.all(going)
  }

  async #write(engine: ReplicatedEngine): Promise<void> {
    const key = `k${String(randomInteger(this.random, 12))}`
    const made = ++this.#made
    this.proposed.set(key, (this.proposed.get(key) ?? new Set()).add(made))
    try {
      const { order } = await ok(engine.propose(put(key, String(made))))
      this.acknowledged.set(
        `${String(order.index).padStart(12, '0')}.${String(order.offset).padStart(4, '0')} ${key}`,
        made,
      )
    } catch (error) {
      if (!(error instanceof MetadataError)) throw error
    }
  }

  /** What is there is what was acknowledged last in the order of the log, or something proposed without an answer. */
  check(engine: ReplicatedEngine, text: string): void {
    engine.reader.refresh()
    const newest = new Map<string, number>()
    for (const name of [...this.acknowledged.keys()].sort()) {
      newest.set(name.slice(name.indexOf(' ') + 1), this.acknowledged.get(name) as number)
    }
    const answered = new Set(this.acknowledged.values())
    for (const [key, proposed] of this.proposed) {
      const found = engine.reader.object(1, key)?.etag
      const wanted = newest.get(key)
      if (found === undefined ? wanted === undefined : Number(found) === wanted) continue
      const open = found !== undefined && proposed.has(Number(found)) && !answered.has(Number(found))
      assert.ok(open, `${text}: ${key} is ${String(found)}, was ${String(wanted)}; ${this.notes.slice(-9).join('; ')}`)
    }
  }
}

describe('power cuts under replicated engines', () => {
  const worlds: World[] = []
  // Engines of a test that failed would go on for ever.
  after(() => Promise.all(worlds.flatMap(({ engines }) => [...engines.values()].map((engine) => engine.abandon()))))

  it(`of one node lose nothing that was acknowledged (seed ${String(SEED)})`, { timeout: 300_000 }, async () => {
    const world = new World(SEED, 1)
    worlds.push(world)
    await begin(await world.open(1))
    await world.bury(1)
    for (let cut = 0; cut < (LONG ? 1500 : 80); cut++) {
      const text = `seed ${String(SEED)}, cut ${String(cut)}`
      world.arm([1], 300)
      try {
        await world.open(1)
        await world.work(60)
      } catch (error) {
        if (!/ESHUTDOWN|stopped|unavailable/.test(String(error))) throw error
      }
      await world.bury(1)
      const again = await world.open(1).catch((error: unknown) => {
        throw new Error(`${text}: ${String(error)}`, { cause: error })
      })
      await retry(() => again.settled('linearizable'))
      world.check(again, text)
      await world.bury(1)
    }
  })

  it(`of some or all of three nodes lose nothing either (seed ${String(SEED)})`, { timeout: 600_000 }, async () => {
    const world = new World(SEED, 3)
    worlds.push(world)
    const first = await world.open(1)
    await begin(first)
    for (const id of [2, 3]) {
      assert.equal(await first.addNode(`node-${String(id)}`, 'x:1'), id)
      await world.open(id, true)
      await retry(() => first.promote(id))
    }
    for (let cut = 0; cut < (LONG ? 200 : 12); cut++) {
      const text = `seed ${String(SEED)}, cut ${String(cut)}`
      const ids = [[1], [2], [3], [1, 2], [2, 3], [1, 2, 3]][randomInteger(world.random, 6)] as number[]
      world.arm(ids, 300)
      await world.work(80)
      for (const id of ids) await world.bury(id)
      for (const id of ids) await world.open(id)
      const engines = [...world.engines.values()]
      for (const engine of engines) {
        await retry(() => engine.settled('linearizable'))
        world.check(engine, `${text}, node ${String(engine.id)}`)
      }
    }
    const engines = [...world.engines.values()]
    await until('equal positions', () => new Set(engines.map(({ applied }) => applied)).size === 1)
    const digests = engines.map((engine) => verifyView(engine.snapshot()).digest)
    assert.equal(new Set(digests).size, 1, digests.join(' '))
    for (const id of [1, 2, 3]) await world.bury(id)
  })
})
