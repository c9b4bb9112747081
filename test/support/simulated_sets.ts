/** Erasure sets of LocalDrives over simulated drives, which outlive power cuts. */
import { LocalDrive, prepareLayout } from '../../ts/drive/local_drive.js'
import { SimulatedDisk, SimulatedDrive } from '../../ts/drive/simulated_io.js'
import type { Damage } from '../../ts/erasure/erasure_set.js'
import type { LocalSetOptions } from '../../ts/erasure/local_set.js'
import { LocalSet } from '../../ts/erasure/local_set.js'
import { SlabPool } from '../../ts/erasure/slab.js'
import { seededRandom } from '../../ts/util/random.js'
import { TestClock } from './sets.js'
import { shardPlaces, type ShardPlace } from './shard_places.js'

/** `threshold`: cells of fewer bytes are packed; by default all, with 0 none. */
export type SimulatedSetOptions = Partial<LocalSetOptions> & { threshold?: number }

export class SimulatedSet {
  readonly k: number
  readonly m: number
  readonly simulated: SimulatedDrive[]
  readonly clock: TestClock = new TestClock()
  readonly damage: Damage[] = []
  readonly #options: Partial<LocalSetOptions>
  readonly #threshold: number
  drives: LocalDrive[] = []
  slabs: SlabPool = new SlabPool(16 * 1024 * 1024)
  set!: LocalSet

  private constructor(
    k: number, m: number, seed: number, { threshold = 2 ** 18, ...options }: SimulatedSetOptions,
  ) {
    this.#threshold = threshold
    this.k = k
    this.m = m
    this.#options = options
    this.simulated = Array.from({ length: k + m }, (_, i) => {
      const timer = (fire: () => void, ms: number): (() => void) => this.clock.after(ms, fire)
      return new SimulatedDrive(new SimulatedDisk(), { random: seededRandom(seed + i), timer })
    })
  }

  static async create(
    k: number,
    m: number,
    seed: number,
    options: SimulatedSetOptions = {},
  ): Promise<SimulatedSet> {
    const created = new SimulatedSet(k, m, seed, options)
    for (const drive of created.simulated) {
      const io = drive.connect()
      await prepareLayout(io)
      await io.close()
    }
    await created.start()
    return created
  }

  /** A new process: connects to the drives as they are and cleans what the last one left. */
  async start(): Promise<void> {
    this.drives = this.simulated.map((drive, position) => {
      return new LocalDrive({
        io: drive.connect(),
        number: position + 1,
        set: 1,
        position,
        segments: { threshold: this.#threshold, aheadBytes: 16 * 1024 },
      })
    })
    for (const drive of this.drives) {
      await drive.recover()
      await drive.load()
    }
    this.slabs = new SlabPool(16 * 1024 * 1024)
    const members = { number: 1, k: this.k, m: this.m, drives: this.drives.map((drive) => drive.number) }
    this.set = new LocalSet(members, this.drives, {
      stripeSize: 4096,
      slabs: this.slabs,
      clock: this.clock,
      onDamage: (damage) => this.damage.push(damage),
      ...this.#options,
    })
  }

  powerCut(): void {
    for (const drive of this.simulated) drive.powerCut()
  }

  /** Names of all files of shards, and of temporary ones, on one drive. */
  files(position: number): string[] {
    const all = this.simulated[position]?.disk.files() ?? []
    return all.map(({ path }) => path).filter((path) => path.startsWith('shards/') || path.startsWith('tmp/'))
  }

  /** The shards of one drive, by data id in hex. */
  shards(position: number): Map<string, ShardPlace> {
    const disk = this.simulated[position]?.disk
    const index = this.drives[position]?.segments.index
    return disk === undefined || index === undefined ? new Map<string, ShardPlace>() : shardPlaces(disk, index, '')
  }
}
