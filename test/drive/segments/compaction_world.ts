/**
 * A simulated drive with two threads that put and delete, and one that compacts: what a process has. A model knows
 * which shards must be there, which must be gone, and which may be either since an answer never came.
 */
import assert from 'node:assert/strict'
import { ShardError } from '../../../ts/drive/drive.js'
import { LocalDrive } from '../../../ts/drive/local_drive.js'
import { createSegmentsMemory, type SegmentsMemory } from '../../../ts/drive/segments/segment_table.js'
import { type CompactorOptions, SegmentCompactor, type Step } from '../../../ts/drive/segments/segment_compactor.js'
import type { SimulatedDrive } from '../../../ts/drive/simulated_io.js'
import { randomInteger, type Random, seededRandom } from '../../../ts/util/random.js'
import { makeShard, preparedDrive, readShard, type TestShard } from '../shards.js'
import { DRIVE_ID } from './support.js'

export interface Known {
  shard: TestShard
  bytes: Buffer
  /** 'unknown': an answer never came. */
  state: 'live' | 'dead' | 'unknown'
}

export interface WorldOptions extends Partial<CompactorOptions> {
  sealRecords?: number
}

export class World {
  readonly simulated: SimulatedDrive
  readonly random: Random
  readonly known = new Map<string, Known>()
  readonly damaged: { id: string; detail: string }[] = []
  readonly #options: WorldOptions
  now = 0
  memory!: SegmentsMemory
  threads: LocalDrive[] = []
  compactor!: SegmentCompactor

  private constructor(simulated: SimulatedDrive, seed: number, options: WorldOptions) {
    this.simulated = simulated
    this.random = seededRandom(seed)
    this.#options = options
  }

  static async create(seed: number, options: WorldOptions = {}): Promise<World> {
    const world = new World(await preparedDrive(seed), seed, options)
    await world.start()
    return world
  }

  /** A new process. Resolves when the segments are loaded, if they are to be. */
  async start(load = true): Promise<void> {
    this.memory = createSegmentsMemory(4096, 256)
    this.threads = [0, 1, 2].map((thread) => new LocalDrive({
      io: this.simulated.connect(), number: 5, set: 0, position: 1,
      segments: {
        memory: this.memory, loads: thread === 0, threshold: 2 ** 20, driveId: DRIVE_ID,
        sealRecords: this.#options.sealRecords ?? 8, aheadBytes: 16 * 1024,
      },
    }))
    this.compactor = new SegmentCompactor(this.threads[2]!, {
      threshold: 0.05, sealBytes: 2 ** 20, settleMs: 0, now: () => this.now++, permit: () => Promise.resolve(),
      damaged: (dataId, detail) => { this.damaged.push({ id: hex(dataId), detail }) },
      ...this.#options,
    })
    if (load) await this.threads[0]!.load()
  }

  async restart(how: 'clean' | 'kill' | 'powerCut'): Promise<void> {
    if (how === 'clean') {
      await this.compactor.close()
      for (const drive of this.threads) await drive.close()
    } else if (how === 'kill') this.simulated.kill()
    else this.simulated.powerCut()
    await this.start()
  }

  /** All threads seal what they are writing to, as when their segments are full. */
  async seal(): Promise<void> {
    this.threads[0]!.segments.table.askToSeal()
    for (const drive of this.threads) await drive.segments.tend()
    await settle(() => this.states().every((state) => state !== 'active'))
  }

  /** What all threads do now and then, and the time for it to be done. */
  async tend(): Promise<void> {
    for (const drive of this.threads) await drive.segments.tend()
    for (let turn = 0; turn < 200; turn++) await new Promise((resolve) => setImmediate(resolve))
  }

  states(): string[] {
    return this.threads[0]!.segments.segments().map(({ state }) => state)
  }

  async put(thread: number, size = 1 + randomInteger(this.random, 300)): Promise<string> {
    const shard = makeShard(this.random, { k: 1, m: 1, stripeSize: 128, partSize: size })
    const id = hex(shard.header.dataId)
    const known: Known = { shard, bytes: Buffer.concat(shard.cells), state: 'unknown' }
    this.known.set(id, known)
    await this.threads[thread]!.putShard(shard.header, shard.cells)
    known.state = 'live'
    return id
  }

  /** Writes a live shard once more, as a heal does. */
  async heal(thread: number, id: string): Promise<void> {
    const { shard } = this.known.get(id)!
    await this.threads[thread]!.putShard(shard.header, shard.cells)
  }

  async delete(thread: number, id: string): Promise<void> {
    const known = this.known.get(id)!
    known.state = 'unknown'
    await this.threads[thread]!.deleteShard(known.shard.header.dataId)
    known.state = 'dead'
  }

  ids(state: Known['state']): string[] {
    return [...this.known].filter(([, known]) => known.state === state).map(([id]) => id)
  }

  /** The bytes of a shard, undefined when it is missing; anything else than its bytes fails the test. */
  async read(thread: number, id: string): Promise<Buffer | undefined> {
    const { shard, bytes } = this.known.get(id)!
    try {
      const found = Buffer.from(await readShard(this.threads[thread]!, shard.header.dataId))
      assert.deepEqual(found, bytes, `wrong bytes of ${id}`)
      return found
    } catch (error) {
      if (error instanceof ShardError && error.code === 'missing') return undefined
      throw error
    }
  }

  /** Everything is as the model says. What is unknown is settled by what is found. */
  async check(what = ''): Promise<void> {
    for (const [id, known] of this.known) {
      const found = await this.read(randomInteger(this.random, 3), id)
      if (known.state === 'unknown') known.state = found === undefined ? 'dead' : 'live'
      else assert.equal(found === undefined ? 'dead' : 'live', known.state, `${id} ${what}`)
    }
  }

  /** Steps until there is nothing to do. */
  async compact(most = 2000): Promise<void> {
    for (let i = 0; i < most; i++) if ((await this.compactor.step()) !== 'worked') return
    throw new Error('compaction does not come to an end')
  }

  step(): Promise<Step> {
    return this.compactor.step()
  }

  /** Names in segments/. */
  files(): string[] {
    return this.simulated.disk.files().map(({ path }) => path).filter((path) => path.startsWith('segments/'))
  }
}

export function hex(dataId: Uint8Array): string {
  return Buffer.from(dataId).toString('hex')
}

async function settle(done: () => boolean): Promise<void> {
  for (let i = 0; i < 10_000 && !done(); i++) await new Promise((resolve) => setImmediate(resolve))
  assert.ok(done())
}
