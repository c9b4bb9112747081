/**
 * The shards of one part, as sources of verified blocks: opens readers when they are first needed, remembers what
 * was found missing or bad, and reports it once.
 *
 * A shard is `usable` while its drive is known, readable and has not failed this part as a whole. A bad block
 * spoils only the read that met it: the other blocks of the shard may still be needed.
 */
import type {
  DataId,
  Drive,
  DriveNumber,
  Geometry,
  ReadOptions,
  SalvageInfo,
  ShardHeader,
  ShardReader,
} from '../drive/drive.js'
import { CHECKSUM_SIZE, ShardError, blockCount, blockSizeAt } from '../drive/drive.js'
import type { Clock } from './clock.js'
import { within } from './clock.js'
import type { Damage, PartLocation } from './erasure_set.js'

export interface SourceOptions {
  clock: Clock
  driveOf: (number: DriveNumber) => Drive | undefined
  /** True for a drive that belongs to the set although it may not be reachable now. */
  isMember: (number: DriveNumber) => boolean
  read: ReadOptions
  readDeadlineMs: number
  onDamage: (damage: Damage) => void
  /** Keeps track of readers that are closed after the read has ended. */
  background: (work: Promise<unknown>) => void
}

export type ShardState = 'usable' | 'missing' | 'corrupt' | 'unreachable'

export class ShardSources {
  readonly location: PartLocation
  readonly #options: SourceOptions
  readonly #drives: (Drive | undefined)[]
  readonly #states: ShardState[]
  readonly #readers: (Promise<ShardReader> | undefined)[]
  /** Reads in flight of each shard: a reader is closed when there are none. */
  readonly #reading: Promise<unknown>[]
  readonly #reported: boolean[]
  #salvage: SalvageInfo = { bucketId: 0, key: '', uploadId: '', partNumber: 0 }

  constructor(location: PartLocation, options: SourceOptions) {
    this.location = location
    this.#options = options
    this.#drives = location.drives.map((number) => (number === 0 ? undefined : options.driveOf(number)))
    this.#states = this.#drives.map((drive, shard) => {
      if (drive === undefined) return options.isMember(location.drives[shard] ?? 0) ? 'unreachable' : 'missing'
      return drive.readable ? 'usable' : 'unreachable'
    })
    this.#readers = this.#drives.map(() => undefined)
    this.#reading = this.#drives.map(() => Promise.resolve())
    this.#reported = this.#drives.map(() => false)
  }

  get geometry(): Geometry {
    return this.location.geometry
  }

  /** What the header of a shard that was opened says; empty until then. */
  get salvage(): SalvageInfo {
    return this.#salvage
  }

  drive(shard: number): Drive | undefined {
    return this.#drives[shard]
  }

  state(shard: number): ShardState {
    return this.#states[shard] ?? 'missing'
  }

  usable(shard: number): boolean {
    return this.#states[shard] === 'usable'
  }

  usableShards(): number[] {
    return this.#drives.flatMap((_, shard) => (this.usable(shard) ? [shard] : []))
  }

  /**
   * Cells first..first+count-1 of a shard, verified, in one buffer. Rejects with ShardError, or 'timeout' of our own.
   */
  async read(shard: number, first: number, count: number): Promise<Uint8Array> {
    const drive = this.#drives[shard]
    if (drive === undefined) throw new ShardError('missing', 0, `shard ${String(shard)} has no drive`)
    const reading = this.#readCells(drive, shard, first, count)
    this.#reading[shard] = bothEnded(this.#reading[shard], reading)
    const { clock, readDeadlineMs } = this.#options
    try {
      return await within(clock, readDeadlineMs, reading, () => {
        return new ShardError('timeout', drive.number, `no answer within ${String(readDeadlineMs)} ms`)
      })
    } catch (error) {
      this.#learn(shard, error)
      throw error
    }
  }

  /** The shard holds bytes that are intact but wrong (it disagrees with the others). */
  markWrong(shard: number): void {
    this.#states[shard] = 'corrupt'
    this.#report(shard, 'corrupt')
  }

  /** Closes every reader, each after its last read has settled; does not wait for it. */
  close(): void {
    this.#readers.forEach((opening, shard) => {
      if (opening === undefined) return
      this.#readers[shard] = undefined
      const closing = Promise.allSettled([this.#reading[shard], opening]).then(async ([, opened]) => {
        if (opened.status === 'fulfilled') await opened.value.close()
      })
      this.#options.background(closing.catch(() => undefined))
    })
  }

  async #readCells(drive: Drive, shard: number, first: number, count: number): Promise<Uint8Array> {
    const reader = await (this.#readers[shard] ??= this.#open(drive, shard))
    if (count === 0) return new Uint8Array(0)
    const cells = await readOpened(drive, reader, first, count, this.#options.read)
    const expected = cellsSize(this.geometry, first, count)
    if (cells.length !== expected) {
      throw new ShardError(
        'corrupt',
        drive.number,
        `${String(cells.length)} bytes of cells, not ${String(expected)}`,
        first,
      )
    }
    return cells
  }

  async #open(drive: Drive, shard: number): Promise<ShardReader> {
    const reader = await drive.openShard(this.location.dataId, this.#options.read)
    if (!headerFits(reader.header, this.location, shard)) {
      await reader.close().catch(() => undefined)
      throw new ShardError('corrupt', drive.number, `the header is not that of shard ${String(shard)}`)
    }
    this.#salvage = reader.header.salvage
    return reader
  }

  #learn(shard: number, error: unknown): void {
    if (!(error instanceof ShardError)) {
      this.#states[shard] = 'unreachable'
      return
    }
    if (error.code === 'missing') {
      this.#states[shard] = 'missing'
      this.#report(shard, 'missing')
    } else if (error.code === 'corrupt') {
      if (error.block < 0) this.#states[shard] = 'corrupt'
      this.#report(shard, 'corrupt')
    } else if (error.code === 'io') {
      this.#report(shard, 'corrupt')
    } else {
      this.#states[shard] = 'unreachable'
    }
  }

  #report(shard: number, cause: Damage['cause']): void {
    if (this.#reported[shard] === true) return
    this.#reported[shard] = true
    const { dataId, set } = this.location
    this.#options.onDamage({ dataId, set, shards: [shard], cause })
  }
}

/** Settles after both, with nothing: what was read must not be kept for as long as the reader is open. */
function bothEnded(before: Promise<unknown> | undefined, reading: Promise<unknown>): Promise<void> {
  const ended = reading.then(nothing, nothing)
  return before === undefined ? ended : before.then(() => ended)
}

function nothing(): void {
  // The value is dropped.
}

/** A shard that was opened and then ends too early is a damaged one: its first blocks may still be good. */
async function readOpened(
  drive: Drive,
  reader: ShardReader,
  first: number,
  count: number,
  options: ReadOptions,
): Promise<Uint8Array> {
  try {
    return await reader.readCells(first, count, options)
  } catch (error) {
    if (!(error instanceof ShardError) || error.code !== 'missing') throw error
    throw new ShardError('corrupt', drive.number, error.message, first, { cause: error })
  }
}

/** Bytes of `count` consecutive cells from block `first`. */
export function cellsSize(geometry: Geometry, first: number, count: number): number {
  if (count === 0) return 0
  const full = CHECKSUM_SIZE + blockSizeAt(geometry, first)
  return full * (count - 1) + CHECKSUM_SIZE + blockSizeAt(geometry, first + count - 1)
}

/** The block of stripe first+index out of a buffer of consecutive cells that begins at `first`. */
export function blockIn(geometry: Geometry, cells: Uint8Array, first: number, index: number): Uint8Array {
  const start = index * (CHECKSUM_SIZE + blockSizeAt(geometry, first)) + CHECKSUM_SIZE
  return cells.subarray(start, start + blockSizeAt(geometry, first + index))
}

export function sameDataId(a: DataId, b: DataId): boolean {
  return Buffer.compare(a, b) === 0
}

/** True when a shard file says that it is this shard of this part. */
export function headerFits(header: ShardHeader, location: PartLocation, shard: number): boolean {
  const a = header.geometry
  const b = location.geometry
  return (
    sameDataId(header.dataId, location.dataId) &&
    header.shard === shard &&
    a.k === b.k &&
    a.m === b.m &&
    a.stripeSize === b.stripeSize &&
    a.partSize === b.partSize
  )
}

/** Throws RangeError when a location cannot be that of a part (it came from metadata that may be damaged). */
export function checkLocation(location: PartLocation): void {
  const { k, m, stripeSize, partSize } = location.geometry
  const whole = [k, m, stripeSize, partSize].every((value) => Number.isSafeInteger(value))
  const shape = k >= 1 && m >= 0 && k + m <= 16 && stripeSize >= 1 && partSize >= 0
  if (!whole || !shape || location.drives.length !== k + m || location.dataId.length !== 16) {
    throw new RangeError('not the location of a part')
  }
  if (blockCount(location.geometry) > 0xffffffff) throw new RangeError('more stripes than block numbers')
}
