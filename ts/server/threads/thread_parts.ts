/**
 * What a thread that works on data opens for itself: its drives, erasure sets, placement, metadata client, pins and
 * data ids. Nothing here is shared with other threads but the memory in `SharedState` and the drives themselves.
 *
 * `update` takes a new topology over: sets get their new members, drives that are gone are closed once nothing of this
 * thread uses them any more.
 */
import { DriveTable } from '../../drive/drive_table.js'
import { LocalDrive } from '../../drive/local_drive.js'
import { NativeDriveIo } from '../../drive/native_io.js'
import type { SegmentOptions } from '../../drive/segments/segment_store.js'
import type { Drive, DriveNumber } from '../../drive/drive.js'
import { LocalSet } from '../../erasure/local_set.js'
import type { LocalSetOptions } from '../../erasure/local_set.js'
import { SlabPool } from '../../erasure/slab.js'
import type { Placement } from '../../layout/placement.js'
import { placementFor } from '../../layout/table_placement.js'
import type { MetadataEngine } from '../../meta/engine.js'
import { DataIds } from '../../store/data_ids.js'
import { PinBoard, Pins } from '../../store/pins.js'
import type { Topology, TopologyDrive } from './topology.js'

/** Memory that all threads of the process share. */
export interface SharedState {
  pinBoard: SharedArrayBuffer
  driveTable: SharedArrayBuffer
}

export interface ThreadPartsOptions {
  thread: string
  /** This thread's slot on the pin board. */
  pinSlot: number
  /** This node; undefined in a store of one node. */
  node: number | undefined
  topology: Topology
  shared: SharedState
  metadata: MetadataEngine
  memoryBytes: number
  driveDeadlineMs: number
  sets: Pick<LocalSetOptions, 'onDamage' | 'permit'>
  segments: Pick<SegmentOptions, 'threshold' | 'sealBytes'>
}

/** A drive that left the topology is closed after this: longer than any deadline of what may still use it. */
const CLOSE_AFTER_MS = 120_000
/** How often segments are looked after that this thread writes to. */
const TEND_MS = 1_000

export class ThreadParts {
  readonly metadata: MetadataEngine
  readonly board: PinBoard
  readonly pins: Pins
  readonly dataIds: DataIds
  readonly #options: ThreadPartsOptions
  readonly #table: DriveTable
  readonly #slabs: SlabPool
  readonly #drives = new Map<DriveNumber, LocalDrive>()
  readonly #sets = new Map<number, LocalSet>()
  readonly #tending: NodeJS.Timeout
  #topology: Topology
  #placement: Placement

  constructor(options: ThreadPartsOptions) {
    this.#options = options
    this.metadata = options.metadata
    this.board = new PinBoard(options.shared.pinBoard)
    this.board.claim(options.pinSlot)
    this.pins = new Pins(this.board, options.pinSlot)
    this.dataIds = new DataIds(options.metadata, this.board, options.pinSlot, {
      worker: options.thread,
      node: options.node,
    })
    this.#table = DriveTable.over(options.shared.driveTable)
    this.#slabs = new SlabPool(options.memoryBytes)
    this.#topology = options.topology
    this.#placement = placementFor(options.topology.targets, options.topology.layout?.table)
    this.update(options.topology)
    this.#tending = setInterval(() => { this.#tend() }, TEND_MS).unref()
  }

  get topology(): Topology {
    return this.#topology
  }

  /** Always the one of the newest topology. */
  get placement(): Placement {
    const current = (): Placement => this.#placement
    return {
      get targets() {
        return current().targets
      },
      select: (dataId) => current().select(dataId),
    }
  }

  set(number: number): LocalSet | undefined {
    return this.#sets.get(number)
  }

  drive(number: DriveNumber): Drive | undefined {
    return this.#drives.get(number)
  }

  readableDrives(): LocalDrive[] {
    return [...this.#drives.values()].filter((drive) => drive.readable)
  }

  update(topology: Topology): void {
    if (topology !== this.#topology) {
      this.#placement = placementFor(topology.targets, topology.layout?.table)
    }
    this.#topology = topology
    const wanted = new Map(
      topology.drives.filter((drive) => drive.path !== '').map((drive) => [drive.number, drive]),
    )
    for (const [number, drive] of this.#drives) {
      if ((drive.io as NativeDriveIo).path !== wanted.get(number)?.path) this.#forget(number, drive)
    }
    for (const [number, drive] of wanted) {
      if (!this.#drives.has(number)) this.#drives.set(number, this.#open(drive))
    }
    for (const record of topology.sets) {
      const members = record.drives.flatMap((number) => this.#drives.get(number) ?? [])
      const set = this.#sets.get(record.number)
      if (set === undefined) this.#sets.set(record.number, this.#makeSet(record, members))
      else set.update(record, members)
    }
  }

  /** At a clean end: lets what is going on in the background end, and seals the segments of this thread, in time. */
  async seal(withinMs: number): Promise<void> {
    clearInterval(this.#tending)
    const drives = [...this.#drives.values()].filter((drive) => drive.readable)
    const work = Promise.all([...this.#sets.values()].map((set) => set.settled(withinMs / 2)))
      .then(() => Promise.allSettled(drives.map((drive) => drive.segments.close())))
    const late = new Promise<void>((resolve) => {
      setTimeout(resolve, withinMs).unref()
    })
    await Promise.race([work, late])
  }

  #tend(): void {
    for (const drive of this.#drives.values()) {
      if (drive.readable) drive.segments.tend().catch(() => undefined)
    }
  }

  #open(drive: TopologyDrive): LocalDrive {
    const deadline = this.#options.driveDeadlineMs
    return new LocalDrive({
      io: new NativeDriveIo(drive.path),
      number: drive.number,
      set: drive.set,
      position: drive.position,
      row: this.#table.row(drive.row),
      deadlines: { readMs: deadline, writeMs: deadline, backgroundMs: 3 * deadline },
      segments: {
        ...(drive.segments === undefined ? {} : { memory: drive.segments }),
        loads: false,
        driveId: drive.driveId,
        loadWaitMs: deadline,
        ...this.#options.segments,
      },
    })
  }

  #makeSet(record: Topology['sets'][number], members: readonly Drive[]): LocalSet {
    const deadline = this.#options.driveDeadlineMs
    return new LocalSet(record, members, {
      stripeSize: this.#topology.stripeSize,
      slabs: this.#slabs,
      writeDeadlineMs: 2 * deadline,
      readDeadlineMs: 2 * deadline,
      successor: (old) => this.#successor(old),
      ...this.#options.sets,
    })
  }

  /** The member that stands where a replaced drive stood. */
  #successor(old: DriveNumber): DriveNumber | undefined {
    const { drives } = this.#topology
    const gone = drives.find((drive) => drive.number === old)
    if (gone === undefined) return undefined
    return drives.find(
      (drive) => drive.state === 'member' && drive.set === gone.set && drive.position === gone.position,
    )?.number
  }

  #forget(number: DriveNumber, drive: LocalDrive): void {
    this.#drives.delete(number)
    setTimeout(() => {
      void drive.close().catch(() => undefined)
    }, CLOSE_AFTER_MS).unref()
  }
}
