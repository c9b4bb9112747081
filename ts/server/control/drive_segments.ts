/**
 * The segments of this server's drives, as the control thread holds them: the memory that all threads share of each
 * drive, and the loading of its segments, once in the life of the process and again if that failed.
 */
import type { DriveIo } from '../../drive/io.js'
import type { DriveRow } from '../../drive/drive_table.js'
import { LocalDrive } from '../../drive/local_drive.js'
import type { SegmentsMemory, SegmentTotals } from '../../drive/segments/segment_table.js'
import { createSegmentsMemory, SegmentTable } from '../../drive/segments/segment_table.js'
import type { DriveRecord } from '../../meta/schema.js'
import { Again } from '../../util/again.js'
import type { Logger } from '../log.js'

/** Room for some ten thousand deletes of small shards on a full drive. */
const BALLAST = 2 ** 20

export interface LoadableDrive {
  path: string
  record: DriveRecord
  io: DriveIo
  row: DriveRow
}

export class DriveSegments {
  readonly #memories = new Map<number, SegmentsMemory>()
  readonly #loading = new Map<number, Again<{ drive: LoadableDrive; opened: LocalDrive }>>()
  readonly #totals = new Map<number, { at: number; totals: SegmentTotals }>()
  readonly #log: Logger
  /** A drive's segments were damaged, so that shards may be missing on it. */
  readonly #damaged: (set: number) => void

  constructor(log: Logger, damaged: (set: number) => void) {
    this.#log = log
    this.#damaged = damaged
  }

  /** Made when first asked for. */
  memory(drive: number): SegmentsMemory {
    const known = this.#memories.get(drive)
    if (known !== undefined) return known
    const made = createSegmentsMemory()
    this.#memories.set(drive, made)
    return made
  }

  /** For a drive that was replaced: its memory goes when no thread has the drive open any more. */
  forget(drive: number): void {
    this.#memories.delete(drive)
    this.#loading.delete(drive)
    this.#totals.delete(drive)
  }

  /** Undefined for a drive that is not here. */
  table(drive: number): SegmentTable | undefined {
    const memory = this.#memories.get(drive)
    return memory === undefined ? undefined : new SegmentTable(memory.table)
  }

  /** What the segments of a drive hold, not older than a second; undefined for a drive that is not here. */
  totals(drive: number): SegmentTotals | undefined {
    const now = performance.now()
    const known = this.#totals.get(drive)
    if (known !== undefined && now - known.at < 1000) return known.totals
    const totals = this.table(drive)?.totals()
    if (totals !== undefined) this.#totals.set(drive, { at: now, totals })
    return totals
  }

  /** The drive with its segments, to recover and load it. */
  open({ record, io, row }: LoadableDrive): LocalDrive {
    const { number, set, position, driveId } = record
    const segments = { memory: this.memory(number), loads: true, driveId, ballastBytes: BALLAST }
    return new LocalDrive({ io, row, number, set, position, segments })
  }

  /** For a drive that was full and is not any more. */
  refill(drive: LoadableDrive): void {
    void this.open(drive).segments.refill()
  }

  /**
   * Begins to load what is not loaded yet. What needs it waits; nobody waits here. Loads that fail are tried again when
   * this was called meanwhile: the drive may have come back while its calls still ran into their deadlines.
   */
  load(drive: LoadableDrive, opened: LocalDrive = this.open(drive)): void {
    const { number } = drive.record
    let loading = this.#loading.get(number)
    if (loading === undefined) {
      loading = new Again((asked) => this.#load(asked.drive, asked.opened))
      this.#loading.set(number, loading)
    }
    loading.ask({ drive, opened })
  }

  async #load({ record: { number, set }, path }: LoadableDrive, opened: LocalDrive): Promise<void> {
    const phase = this.table(number)?.phase
    if (phase !== 'new' && phase !== 'failed') return
    const started = performance.now()
    try {
      const { segments, hinted, records, damaged, unreadable } = await opened.load()
      const ms = Math.round(performance.now() - started)
      const fields = { path, segments, hinted, records, ms }
      if (damaged === 0) this.#log[records > 0 ? 'info' : 'debug'](fields, 'segments loaded')
      else {
        this.#log.warn({ ...fields, damaged, unreadable: unreadable.slice(0, 10) }, 'segments loaded; some are damaged')
        this.#damaged(set)
      }
    } catch (error) {
      this.#log.error({ err: error, path }, 'the segments of a drive could not be loaded')
    }
  }
}
