import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { SimulatedDisk, SimulatedDrive } from '../../ts/drive/simulated_io.js'
import type { Command, CommandResult } from '../../ts/meta/command.js'
import type { MetaDrive } from '../../ts/meta/drive_files.js'
import { MetadataError } from '../../ts/meta/engine.js'
import { LocalEngine } from '../../ts/meta/local_engine.js'
import { SimulatedViews } from '../../ts/meta/views.js'
import { randomInteger, seededRandom } from '../../ts/util/random.js'
import type { Random } from '../../ts/util/random.js'
import { createBucket, dataId, part, putObject } from './support.js'

const CUTS = process.env.OSTRAKA_TEST_LONG === undefined ? 250 : 5000
const SEED = Number(process.env.OSTRAKA_TEST_SEED ?? randomInteger(Math.random, 2 ** 31))

/** Four drives with three copies, and what was acknowledged over all lives of the process. */
class World {
  readonly random: Random
  readonly drives: SimulatedDrive[]
  readonly views = new SimulatedViews()
  /** ETag by key: acknowledged, or proposed without an answer. */
  readonly acknowledged = new Map<string, string>()
  readonly unknown = new Map<string, Set<string>>()
  notes: string[] = []
  #made = 0

  constructor(seed: number) {
    this.random = seededRandom(seed)
    this.drives = [1, 2, 3, 4].map(
      (number) => new SimulatedDrive(new SimulatedDisk(), { random: seededRandom(seed * 7 + number) }),
    )
  }

  async open(): Promise<LocalEngine> {
    const drives = this.drives.map((drive, at): MetaDrive => ({
      number: at + 1,
      io: drive.connect(),
      path: `/${String(at + 1)}`,
    }))
    const note = (text: string): void => { this.notes.push(text) }
    return LocalEngine.open({
      drives,
      copies: 3,
      views: this.views,
      log: { fileSize: 8192 },
      trailingLogBytes: 16384,
      flushEveryMs: 2,
      replaceAfterMs: 0,
      note,
    })
  }

  /** The power goes on all drives at a random operation. */
  arm(operations: number): void {
    let left = randomInteger(this.random, operations)
    let cut = false
    for (const drive of this.drives) {
      drive.beforeOperation = () => {
        if (cut || left-- > 0) return
        cut = true
        this.cutAll()
      }
    }
  }

  cutAll(): void {
    for (const drive of this.drives) {
      drive.beforeOperation = undefined
      drive.powerCut()
    }
    for (const medium of this.views.media.values()) medium.cut(randomInteger(this.random, medium.commits.length + 1))
  }

  /** Proposes until the engine dies or enough was said. */
  async work(engine: LocalEngine, commands: number): Promise<void> {
    const going: Promise<void>[] = []
    for (let at = 0; at < commands; at++) {
      const key = `k${String(randomInteger(this.random, 12))}`
      const etag = `e${String(++this.#made)}`
      const command: Command = putObject(1, key, part(dataId(1), 7), etag)
      going.push(this.#follow(engine, command, key, etag))
      if (this.random() < 0.4) await new Promise((resolve) => setImmediate(resolve))
    }
    await Promise.all(going)
  }

  async #follow(engine: LocalEngine, command: Command, key: string, etag: string): Promise<void> {
    const set = this.unknown.get(key) ?? new Set()
    this.unknown.set(key, set.add(etag))
    try {
      const result: CommandResult = await engine.propose(command)
      assert.ok(result.ok, JSON.stringify(result))
      // The order of acknowledgements of one key is the order of its commands.
      this.acknowledged.set(key, etag)
      for (const earlier of [...set]) if (Number(earlier.slice(1)) <= Number(etag.slice(1))) set.delete(earlier)
    } catch (error) {
      if (!(error instanceof MetadataError)) throw error
    }
  }

  /** What is there is what was acknowledged last, or something proposed after it. */
  check(engine: LocalEngine, text: string): void {
    engine.reader.refresh()
    const page = engine.reader.list({ bucketId: 1, prefix: '', delimiter: '', after: '', limit: 1000 })
    const listed = new Map(
      page.entries.map((entry) => ('object' in entry ? [entry.object.key, entry.object.etag] : ['', ''])),
    )
    for (const [key, candidates] of this.unknown) {
      const found = engine.reader.object(1, key)?.etag
      assert.equal(listed.get(key), found, text)
      const acknowledged = this.acknowledged.get(key)
      if (found !== acknowledged)
        assert.ok(
          found !== undefined && candidates.has(found),
          `${text}: ${key} is ${String(found)}, was ${String(acknowledged)}`,
        )
      // It is settled now.
      if (found !== undefined) this.acknowledged.set(key, found)
      this.unknown.set(key, new Set())
    }
    assert.equal(engine.reader.bucket('b')?.objectCount, listed.size, text)
  }
}

/** Time is left until the engine's loop has come to rest after a cut. */
async function rest(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve))
}

describe('power cuts under a local engine', () => {
  it(`every acknowledged command is there after ${String(CUTS)} random cuts, others absent or whole (seed ${String(SEED)})`, async () => {
    const perWorld = 10
    for (let world = 0; world < CUTS / perWorld; world++) {
      const seed = SEED + world
      const here = new World(seed)
      let started = false
      for (let cut = 0; cut < perWorld; cut++) {
        const text = `seed ${String(seed)}, cut ${String(cut)}`
        here.notes = []
        here.arm(cut === 0 ? 150 : 400)
        let engine: LocalEngine | undefined
        try {
          engine = await here.open()
          if (!started) {
            const epoch = await engine.propose({ kind: 'openEpoch', nowMs: 1, worker: 'w' }, 'epoch')
            const bucket = await engine.propose(createBucket('b'), 'bucket')
            assert.ok(epoch.ok && bucket.ok)
            started = true
          }
          await here.work(engine, 60)
        } catch (error) {
          if (error instanceof assert.AssertionError) throw error
        }
        await rest()
        here.cutAll()
        await engine?.close().catch(() => undefined)
        await rest()
        const again = await here.open().catch((error: unknown) => {
          throw new Error(`${text}: ${String(error)}; ${here.notes.join('; ')}`, { cause: error })
        })
        if (started) here.check(again, text)
        assert.deepEqual((await again.compareCopies(() => Promise.resolve())).bad, [], text)
        for (const drive of here.drives) drive.kill()
        await again.close().catch(() => undefined)
      }
    }
  })
})
