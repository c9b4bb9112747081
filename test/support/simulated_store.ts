/**
 * A whole store over simulated drives: workers with their own Store, sets and drives, one background thread whose jobs
 * the test steps, and metadata by SimulatedMetadata. Time is virtual, chance comes from one seed.
 *
 *   const sim = await SimulatedStore.create({ seed: 7 })
 *   await sim.run(sim.worker(0).store.createBucket('bucket', 'owner', 'region'))
 *   await sim.crash('powerCut')            // or 'kill'; then sim is the next process over what is left
 *   await sim.settleBackground()           // heals, fences, collects, finds orphans until nothing is left to do
 *   sim.close()                            // or it stays in memory
 */
import { LocalDrive, prepareLayout } from '../../ts/drive/local_drive.js'
import { DriveTable, type DriveRow } from '../../ts/drive/drive_table.js'
import { SegmentIndex } from '../../ts/drive/segments/segment_index.js'
import { createSegmentsMemory, type SegmentsMemory } from '../../ts/drive/segments/segment_table.js'
import { SimulatedDisk, SimulatedDrive } from '../../ts/drive/simulated_io.js'
import type { Damage, PartLocation } from '../../ts/erasure/erasure_set.js'
import { LocalSet } from '../../ts/erasure/local_set.js'
import { SlabPool } from '../../ts/erasure/slab.js'
import { WeightedPlacement } from '../../ts/layout/weighted_placement.js'
import type { MetadataEngine } from '../../ts/meta/engine.js'
import type { DriveRecord, ObjectAttributes, SetRecord } from '../../ts/meta/schema.js'
import { Background, type BackgroundOptions } from '../../ts/store/background/background.js'
import type { BackgroundEnvironment, BackgroundJob } from '../../ts/store/background/job.js'
import { Throttle } from '../../ts/store/background/throttle.js'
import type { StoreLimits } from '../../ts/store/context.js'
import { DamageQueue } from '../../ts/store/damage_queue.js'
import { DataIds } from '../../ts/store/data_ids.js'
import { PinBoard, Pins } from '../../ts/store/pins.js'
import { Store } from '../../ts/store/store.js'
import type { Timer } from '../../ts/util/awake_timer.js'
import { randomInteger, seededRandom, type Random } from '../../ts/util/random.js'
import { LocalMetadata, LocalMetadataStore } from './local_metadata.js'
import { shardPlaces, type ShardPlace } from './shard_places.js'
import { SimulatedMetadata, SimulatedMetadataStore } from './simulated_metadata.js'
import { VirtualClock } from './virtual_clock.js'

export const PLAIN: ObjectAttributes = { headers: {}, userMetadata: {}, storageClass: 'STANDARD' }

export interface SimulatedStoreOptions {
  seed: number
  k?: number
  m?: number
  sets?: number
  workers?: number
  stripeSize?: number
  limits?: Partial<StoreLimits>
  background?: BackgroundOptions
  epochIds?: number
  /** Cells of fewer bytes are packed: by default all, with 0 none. */
  threshold?: number
  /** 'local': the real engine, with m+1 copies on the drives. */
  engine?: 'simulated' | 'local'
  /** Waits between attempts to learn an unknown outcome. */
  unknownRetryMs?: readonly number[]
}

export interface SimulatedWorker {
  store: Store
  metadata: MetadataEngine
  dataIds: DataIds
  pins: Pins
  damage: DamageQueue
  sets: Map<number, LocalSet>
}

export class SimulatedStore {
  readonly random: Random
  readonly clock: VirtualClock
  readonly options: Required<SimulatedStoreOptions>
  readonly metadataStore = new SimulatedMetadataStore()
  /** Every drive that ever was, by number. */
  readonly drives = new Map<number, SimulatedDrive>()
  readonly rows = new Map<number, DriveRow>()
  /** What was reported as an error below the S3 layer. */
  readonly reports: { what: string; error: unknown }[] = []
  metadata: SimulatedMetadata | LocalMetadata
  readonly localStore = new LocalMetadataStore()
  board!: PinBoard
  workers: SimulatedWorker[] = []
  background!: Background
  environment!: BackgroundEnvironment
  #backgroundSets = new Map<number, LocalSet>()
  #backgroundDrives = new Map<number, LocalDrive>()
  /** What the threads of one life of the process share, by drive. */
  #memories = new Map<number, SegmentsMemory>()
  #wall = 1_700_000_000_000

  private constructor(options: SimulatedStoreOptions) {
    this.options = {
      k: 2,
      m: 2,
      sets: 1,
      workers: 1,
      stripeSize: 4096,
      limits: { minPartSize: 1000 },
      epochIds: 1_000_000,
      threshold: 2 ** 18,
      engine: 'simulated',
      unknownRetryMs: [],
      ...options,
      background: {
        collector: { graceMs: 0 },
        epochFence: { unseenMs: 0, drainMs: 0 },
        orphanSearch: { intervalMs: 3_600_000 },
        driveHealer: { pauseMs: 0 },
        compaction: { threshold: 0.1, sealBytes: 60_000, settleMs: 60_000 },
        ...options.background,
      },
    }
    this.random = seededRandom(options.seed)
    this.clock = new VirtualClock(() => this.operations + this.metadata.batches)
    this.metadata = new SimulatedMetadata(this.metadataStore, this.random)
  }

  static async create(options: SimulatedStoreOptions): Promise<SimulatedStore> {
    const sim = new SimulatedStore(options)
    await sim.#format()
    await sim.#start()
    return sim
  }

  /** I/O operations done by all drives. */
  get operations(): number {
    let sum = 0
    for (const drive of this.drives.values()) sum += drive.operations
    return sum
  }

  /** Milliseconds since 1970, a new one every time. */
  readonly wallMs = (): number => ++this.#wall

  worker(index = 0): SimulatedWorker {
    const worker = this.workers[index]
    if (worker === undefined) throw new RangeError('no such worker')
    return worker
  }

  get store(): Store {
    return this.worker().store
  }

  /** Lets time move while `work` waits for it. */
  run<T>(work: Promise<T>): Promise<T> {
    return this.clock.run(work)
  }

  /** All reads of metadata by tests: always the newest state. */
  get reader(): MetadataEngine['reader'] {
    const { reader } = this.metadata.client()
    return reader
  }

  /** Members of all sets now. */
  members(): DriveRecord[] {
    return this.reader.drives().filter((drive) => drive.state === 'member')
  }

  /** Ends the process at once and starts the next one. */
  async crash(how: 'kill' | 'powerCut'): Promise<void> {
    this.cut(how)
    await this.restart()
  }

  /** The process is gone: nothing that it had begun goes on or answers. */
  cut(how: 'kill' | 'powerCut'): void {
    this.localStore.cut(how, this.random)
    this.metadata.die()
    for (const drive of this.drives.values()) {
      drive.beforeOperation = undefined
      if (how === 'powerCut') drive.powerCut()
      else drive.kill()
    }
  }

  /** Ends the last process. Its engine's timers would keep all of this for ever, and do its regular work. */
  close(): void {
    this.metadata.die()
    for (const drive of this.drives.values()) drive.kill()
  }

  /** The next process over what a cut left. */
  restart(): Promise<void> {
    return this.#start()
  }

  /** Takes a drive away: its paths are not there. */
  lose(number: number): void {
    this.drive(number).missing = true
    this.rows.get(number)?.set('offline', 'missing')
  }

  /** Brings a lost drive back as it was. */
  bringBack(number: number): void {
    this.drive(number).missing = false
    this.rows.get(number)?.set('online', 'none')
    this.#backgroundDrives.get(number)?.load().catch(() => undefined)
  }

  drive(number: number): SimulatedDrive {
    const drive = this.drives.get(number)
    if (drive === undefined) throw new RangeError(`no drive ${String(number)}`)
    return drive
  }

  /** A blank drive takes the place of another. Its number. */
  async replace(old: number): Promise<number> {
    const record = this.reader.drives().find((drive) => drive.number === old)
    if (record === undefined) throw new RangeError(`no drive ${String(old)}`)
    const number = Math.max(...this.drives.keys()) + 1
    await this.#addDrive(number)
    this.lose(old)
    const drive: DriveRecord = { ...record, number, driveId: driveId(number), epoch: record.epoch + 1, healing: true }
    const metadata = this.metadata.client()
    const result = await this.run(metadata.propose({ kind: 'replaceDrive', old, drive, nowMs: this.wallMs() }))
    if (!result.ok) throw new Error(`replaceDrive: ${result.refusal} ${result.detail}`)
    if (this.metadata instanceof LocalMetadata) {
      this.metadata.engine.removeDrive(old, 'replaced')
      this.metadata.engine.addDrive({ number, io: this.drive(number).connect(), path: `/${String(number)}` })
    }
    this.#connectAll()
    await this.run(this.localDrive(number).load())
    return number
  }

  /** Runs background jobs until none finds anything more to do. */
  async settleBackground(rounds = 8): Promise<void> {
    this.background.healer.retryNow()
    this.background.driveHealer.retryNow()
    for (const set of this.#backgroundSets.keys()) this.background.presence.request(set)
    for (let round = 0; round < rounds; round++) {
      // What the health monitor does: a drive that was taken out, and is well again, serves again.
      for (const [number, row] of this.rows) if (!this.drive(number).missing) row.set('online', 'none')
      if (this.metadata instanceof LocalMetadata) await this.run(this.metadata.remakeCopies())
      this.background.orphanSearch.startNow()
      for (const job of this.background.jobs) await this.runJob(job)
      this.clock.advance(60_000)
    }
    for (const worker of this.workers) await this.run(worker.damage.settled())
  }

  /** All jobs at once, each slice after slice, as the runner does, but without its pauses. */
  async backgroundUntil(over: () => boolean): Promise<void> {
    const { background } = this
    await Promise.all(
      background.jobs.map(async (job) => {
        while (!over()) {
          if (job === background.orphanSearch) background.orphanSearch.startNow()
          if (job === background.scrubber) background.scrubber.startNow()
          await job.runSlice(this.clock.now() + 1).catch(() => undefined)
          await new Promise((resolve) => setImmediate(resolve))
        }
      }),
    )
  }

  /** Slices of one job until it is idle. */
  async runJob(job: BackgroundJob): Promise<void> {
    for (let slice = 0; slice < 1000; slice++) {
      const { againMs } = await this.run(job.runSlice(this.clock.now() + 50))
      if (againMs > 0) return
    }
    throw new Error(`${job.name} does not come to an end`)
  }

  /** A whole scrub pass. */
  async scrub(): Promise<void> {
    const passes = (): number => this.background.scrubber.progress().counters['passes'] ?? 0
    const before = passes()
    this.background.scrubber.startNow()
    for (let slice = 0; slice < 1000 && passes() === before; slice++) {
      await this.run(this.background.scrubber.runSlice(this.clock.now() + 50))
    }
  }

  /** The background thread's view of a drive. */
  localDrive(number: number): LocalDrive {
    const drive = this.#backgroundDrives.get(number)
    if (drive === undefined) throw new RangeError(`no drive ${String(number)}`)
    return drive
  }

  /** Shards on a drive, by data id in hex: files, and what the index of the segments names. */
  shards(number: number): Map<string, ShardPlace> {
    return shardPlaces(this.drive(number).disk, new SegmentIndex(this.#segments(number)), driveId(number))
  }

  /** Locations of all parts that metadata references. */
  locations(): PartLocation[] {
    const reader = this.reader
    const found: PartLocation[] = []
    for (const set of reader.sets()) {
      for (const owner of reader.owners(set.number, undefined, 1_000_000)) {
        const { bucketId, key, uploadId, partNumber } = owner
        const body = reader.object(bucketId, key)?.body
        const part =
          uploadId !== ''
            ? reader.parts(bucketId, key, uploadId, partNumber - 1, 1)[0]
            : body?.kind === 'part' ? body.part : undefined
        if (part === undefined) throw new Error('an owner record points nowhere')
        found.push(part.location)
      }
    }
    return found
  }

  async #format(): Promise<void> {
    const { k, m, sets: setCount, stripeSize } = this.options
    const sets: SetRecord[] = []
    const drives: DriveRecord[] = []
    for (let set = 0; set < setCount; set++) {
      const numbers = Array.from({ length: k + m }, (_, position) => set * (k + m) + position + 1)
      sets.push({ number: set, pool: 0, k, m, drives: numbers })
      for (const [position, number] of numbers.entries()) {
        await this.#addDrive(number)
        drives.push({
          number, driveId: driveId(number), pool: 0, set, position, epoch: 1, state: 'member', healing: false,
        })
      }
    }
    await this.#openMetadata()
    const cluster = { clusterId: 'simulated', createdMs: 1, featureLevel: 1, stripeSize }
    const result = await this.run(this.metadata.client().propose({ kind: 'initCluster', cluster, sets, drives }))
    if (!result.ok) throw new Error(`initCluster: ${result.refusal} ${result.detail}`)
  }

  async #openMetadata(): Promise<void> {
    if (this.options.engine === 'simulated') {
      this.metadata = new SimulatedMetadata(this.metadataStore, this.random)
      return
    }
    if (this.metadata instanceof LocalMetadata && !this.metadata.dead) return
    const here = new Map([...this.drives].filter(([, drive]) => !drive.missing))
    const now = (): number => 1e12 + this.clock.now()
    const copies = this.options.m + 1
    this.metadata = await this.run(LocalMetadata.open(this.localStore, here, copies, now, this.#timer))
  }

  readonly #timer: Timer = (fire, ms) => this.clock.after(ms, fire)

  async #addDrive(number: number): Promise<void> {
    const random = seededRandom(randomInteger(this.random, 0x7fffffff))
    const drive = new SimulatedDrive(new SimulatedDisk(), { random, timer: this.#timer })
    this.drives.set(number, drive)
    const io = drive.connect()
    await this.run(prepareLayout(io))
    await this.run(io.close())
    const row = DriveTable.create(1, () => this.clock.now()).row(0)
    row.number = number
    row.set('online', 'none')
    this.rows.set(number, row)
  }

  /** A process: workers in slots 0.., the background thread in the last one. */
  async #start(): Promise<void> {
    this.#memories.clear()
    await this.#openMetadata()
    this.board = PinBoard.create(this.options.workers + 1)
    for (const [number, row] of this.rows) if (!this.drive(number).missing) row.set('online', 'none')
    this.workers = Array.from({ length: this.options.workers }, (_, slot) => this.#makeWorker(slot))
    this.#makeBackground(this.options.workers)
    this.#connectAll()
    for (const drive of this.#backgroundDrives.values()) {
      if (!drive.readable) continue
      await this.run(drive.recover().catch(() => 0))
      await this.run(drive.load().catch(() => undefined))
    }
  }

  #makeWorker(slot: number): SimulatedWorker {
    const metadata = this.metadata.client()
    const pins = new Pins(this.board, slot)
    const dataIds = new DataIds(metadata, this.board, slot, {
      worker: `worker ${String(slot)}`,
      now: () => this.clock.now(),
      epochIds: this.options.epochIds,
      random: (into) => {
        for (let i = 0; i < into.length; i++) into[i] = randomInteger(this.random, 256)
      },
    })
    const sets = new Map<number, LocalSet>()
    const report = (what: string, error: unknown): void => {
      this.reports.push({ what, error })
    }
    const damage = new DamageQueue(metadata, {
      quietMs: 0, wallMs: this.wallMs, onError: (error) => { report('damage', error) },
    })
    const targets = this.reader.sets().map((set) => ({ set: set.number, weight: 1, state: 'active' as const }))
    const store = new Store({
      metadata, pins, dataIds,
      set: (number) => sets.get(number),
      placement: new WeightedPlacement(targets, 101),
      limits: this.options.limits,
      now: this.wallMs,
      unknownRetryMs: this.options.unknownRetryMs,
      onError: report,
    })
    this.board.claim(slot)
    return { store, metadata, dataIds, pins, damage, sets }
  }

  #makeBackground(slot: number): void {
    this.board.claim(slot)
    const metadata = this.metadata.client()
    const throttle = new Throttle(this.clock, 0)
    this.#backgroundSets = new Map()
    this.environment = {
      metadata,
      board: this.board,
      pins: new Pins(this.board, slot),
      set: (number) => this.#backgroundSets.get(number),
      drive: (number) => this.#backgroundDrives.get(number),
      localDrives: () => [...this.#backgroundDrives.values()].filter((drive) => drive.readable),
      clock: this.clock,
      wallMs: this.wallMs,
      report: (what, error) => {
        this.reports.push({ what, error })
      },
    }
    this.background = new Background(this.environment, throttle, this.options.background)
  }

  #segments(number: number): SegmentsMemory {
    const known = this.#memories.get(number)
    if (known !== undefined) return known
    const memory = createSegmentsMemory(1 << 14, 1024)
    this.#memories.set(number, memory)
    return memory
  }

  /** Gives every thread its drives and sets, as metadata has them now. */
  #connectAll(): void {
    const { reader } = this.metadata.client()
    const records = reader.drives()
    const successor = (old: number): number | undefined => {
      const gone = records.find((drive) => drive.number === old)
      return records.find(
        (drive) => drive.state === 'member' && drive.set === gone?.set && drive.position === gone.position,
      )?.number
    }
    type OnDamage = (damage: Damage) => void
    const connect = (onDamage: OnDamage, sets: Map<number, LocalSet>, loads = false): Map<number, LocalDrive> => {
      const mine = new Map<number, LocalDrive>()
      for (const { number, set, position, state } of records) {
        const row = this.rows.get(number)
        if (state !== 'member' || row === undefined) continue
        const io = this.drive(number).connect()
        const memory = this.#segments(number)
        const { threshold } = this.options
        const segments = {
          memory,
          loads,
          threshold,
          driveId: driveId(number),
          sealBytes: 60_000,
          ballastBytes: 4096,
          aheadBytes: 8192,
        }
        mine.set(number, new LocalDrive({ io, number, set, position, row, segments }))
      }
      for (const set of reader.sets()) {
        const drives = [...mine.values()].filter((drive) => drive.set === set.number)
        sets.set(set.number, new LocalSet(set, drives, {
          stripeSize: this.options.stripeSize, slabs: new SlabPool(64 << 20), clock: this.clock, onDamage, successor,
        }))
      }
      return mine
    }
    for (const worker of this.workers) connect(worker.damage.report, worker.sets)
    this.#backgroundDrives = connect(() => undefined, this.#backgroundSets, true)
  }
}

function driveId(number: number): string {
  return `drive-${String(number)}`
}
