/**
 * Brings a drive's segments into the index, once in the life of a process: those with a hint from their hint, the
 * others by reading them. Ids are found as soon as their segment is loaded; that an id is missing can be said only
 * when all are.
 *
 * A segment without a hint was active when the process ended. It is synced first, so that nothing counts as found
 * that the next power cut may take; then it is cut at its end, closed and given a hint, and is sealed like any other. A
 * segment that never held a batch is removed. Damage is counted and reported; nothing of what surrounds it is cut.
 *
 * A load that failed with the drive may be begun again. What the table has by then is left alone: it was loaded, or it
 * is a segment that a thread of this process has made since, and may be writing to. Only one in state 'loading' is
 * loaded once more.
 */
import { ShardError } from '../drive.js'
import { IoError, type IoOp, LAST_OPENED } from '../io.js'
import type { DriveAccess } from '../local_drive.js'
import { putBallast } from './ballast.js'
import { HintBuilder, HINT_HEADER_SIZE, openHint, type Hint } from './hint.js'
import { type ScanResult, scanSegment } from './scan.js'
import {
  checkSegmentHeader,
  hintPath,
  parseSegmentName,
  SEGMENT_HEADER_SIZE,
  segmentPath,
  SEGMENTS_DIRECTORY,
  segmentSeed,
} from './segment_file.js'
import type { SegmentIndex } from './segment_index.js'
import { cutOps, hintOps, sealOps } from './segment_writer.js'

export interface LoadReport {
  segments: number
  /** Loaded from their hints. */
  hinted: number
  records: number
  /** Damaged places below what was durable: some shards may be missing on this drive. */
  damaged: number
  /** Segments that could not be read. */
  unreadable: { number: number; reason: string }[]
}

/** A hint larger than this is not read: its segment is. */
const HINT_BYTES_MOST = 2 ** 28
const RECORDS_PER_TURN = 4096
const READ_SIZE = 4 * 2 ** 20

export class SegmentLoader {
  readonly #drive: DriveAccess
  readonly #index: SegmentIndex
  readonly #driveId: string
  readonly #ballastBytes: number
  readonly #report: LoadReport = { segments: 0, hinted: 0, records: 0, damaged: 0, unreadable: [] }
  #sinceTurn = 0

  constructor(drive: DriveAccess, index: SegmentIndex, driveId: string, ballastBytes: number) {
    this.#ballastBytes = ballastBytes
    this.#drive = drive
    this.#index = index
    this.#driveId = driveId
  }

  /** The numbers of the segments there are; from now on new ones can be made. */
  async list(): Promise<number[]> {
    const names = await this.#names()
    const found = names.flatMap((name) => parseSegmentName(name) ?? [])
    for (const { number } of found) this.#index.table.raiseNumber(number)
    const all = found.filter(({ kind }) => kind === 'seg').map(({ number }) => number).sort((a, b) => a - b)
    const strays = found.filter(({ kind, number }) => kind === 'hint' && !all.includes(number))
    for (const { number } of strays) {
      await this.#drive.io.run([{ op: 'unlink', path: hintPath(number) }], QUIETLY).catch(ignore)
    }
    const numbers = all.filter((number) => (this.#index.table.info(number)?.state ?? 'loading') === 'loading')
    this.#index.table.startLoading(numbers.length)
    this.#index.table.phase = 'listed'
    return numbers
  }

  /** Loads them: first those with hints. Rejects when the drive fails as a whole; the phase then is 'failed'. */
  async load(numbers: readonly number[]): Promise<LoadReport> {
    const { table } = this.#index
    this.#report.segments = numbers.length
    try {
      const unhinted: number[] = []
      for (const number of numbers) if (!(await this.#loadHint(number))) unhinted.push(number)
      for (const number of unhinted) await this.#loadByScan(number)
      table.phase = 'loaded'
      await putBallast(this.#drive, this.#ballastBytes)
      return this.#report
    } catch (error) {
      table.phase = 'failed'
      throw error
    }
  }

  async #names(): Promise<string[]> {
    const list: IoOp = { op: 'list', path: SEGMENTS_DIRECTORY }
    try {
      return (await this.#drive.run('read', [list], BACKGROUND))[0] as string[]
    } catch (error) {
      if (!isMissing(error)) throw error
    }
    const make: IoOp[] = [{ op: 'makeDir', path: SEGMENTS_DIRECTORY }, { op: 'syncDir', path: '.' }]
    await this.#drive.run('write', make, BACKGROUND)
    return []
  }

  /** True when the segment was loaded, or is gone. */
  async #loadHint(number: number): Promise<boolean> {
    const found = await readHint(this.#drive, this.#driveId, number)
    if (found === undefined) return false
    const { hint, length } = found
    if (!this.#enter(number, length)) return true
    for (let i = 0; i < hint.count; i++) {
      this.#index.add(hint.dataId(i), number, hint.offset(i), hint.size(i), hint.isTombstone(i))
      await this.#mayYield()
    }
    this.#index.table.setState(number, 'sealed')
    this.#report.hinted++
    this.#report.records += hint.count
    this.#index.table.loadedOne(0)
    return true
  }

  /** False when the table is full. */
  #enter(number: number, bytes: number): boolean {
    const { table } = this.#index
    if (!table.has(number)) return table.add(number, 'loading', bytes)
    table.setLength(number, bytes)
    return true
  }

  async #loadByScan(number: number): Promise<void> {
    const { table } = this.#index
    try {
      const damaged = await this.#scanAndSeal(number)
      this.#report.damaged += damaged
      table.loadedOne(damaged)
    } catch (error) {
      // The drive as a whole is judged by its health; one file that cannot be read is damage.
      if (!this.#drive.readable || !(error instanceof ShardError)) throw error
      this.#report.damaged++
      this.#report.unreadable.push({ number, reason: error.message })
      table.changeState(number, 'loading', 'active')
      table.loadedOne(1)
    }
  }

  /** The number of damaged places. */
  async #scanAndSeal(number: number): Promise<number> {
    const seed = segmentSeed(this.#driveId, number)
    const { file, size, writable } = await this.#openSynced(number)
    let closed = false
    try {
      const header = await this.#readFrom(file, 0, SEGMENT_HEADER_SIZE)
      const verdict = checkSegmentHeader(header, this.#driveId, number)
      if (verdict === 'newer') throw new ShardError('io', this.#drive.number, `segment ${String(number)} is newer`)
      const hint = new HintBuilder()
      this.#enter(number, size)
      const scan = await this.#scan({ number, seed, file, size, hint })
      if (scan.end === SEGMENT_HEADER_SIZE) {
        this.#index.table.remove(number)
        // Made, and never used; anything longer is kept for a person to look at.
        if (writable && (verdict === 'good' || size <= SEGMENT_HEADER_SIZE)) await this.#remove(number)
        return verdict === 'good' || size <= SEGMENT_HEADER_SIZE ? 0 : 1
      }
      this.#report.records += hint.count
      if (writable) {
        const seal = scan.closed
          ? [...cutOps(file, scan.end), ...hintOps(number, hint.encode(number, scan.end, seed))]
          : sealOps({ number, seed, file, end: scan.end, hint })
        await this.#drive.run('write', seal, BACKGROUND)
        closed = true
        this.#index.table.setLength(number, scan.closed ? scan.end : scan.end + 32)
      }
      this.#index.table.setState(number, 'sealed')
      return scan.damaged + (verdict === 'bad' ? 1 : 0)
    } finally {
      if (!closed) await this.#drive.io.run([{ op: 'close', file }], QUIETLY).catch(ignore)
    }
  }

  #scan(segment: {
    number: number; seed: number; file: number; size: number; hint: HintBuilder
  }): Promise<ScanResult> {
    const { number, seed, file, size, hint } = segment
    const read = (offset: number, length: number): Promise<Buffer> => this.#readFrom(file, offset, length)
    return scanSegment({ size, seed, read }, async ({ records, batchHeader }) => {
      if (batchHeader !== undefined) hint.addBatch(batchHeader)
      for (const record of records) {
        const tombstone = record.header === undefined
        hint.add(record.dataId, record.offset, record.size, tombstone)
        this.#index.add(record.dataId, number, record.offset, record.size, tombstone)
        await this.#mayYield()
      }
    })
  }

  /** What a process wrote before it was killed may be in the page cache alone: it is made durable before it counts. */
  async #openSynced(number: number): Promise<{ file: number; size: number; writable: boolean }> {
    const rest: IoOp[] = [{ op: 'sync', file: LAST_OPENED }, { op: 'size', file: LAST_OPENED }]
    const path = segmentPath(number)
    try {
      const [file, , size] = await this.#drive.run('write', [{ op: 'open', path, mode: 'write' }, ...rest], BACKGROUND)
      return { file: file as number, size: size as number, writable: true }
    } catch (error) {
      if (!(error instanceof ShardError) || error.code !== 'driveReadOnly') throw error
    }
    const size: IoOp = { op: 'size', file: LAST_OPENED }
    const results = await this.#drive.run('read', [{ op: 'open', path, mode: 'read' }, size], BACKGROUND)
    return { file: results[0] as number, size: results[1] as number, writable: false }
  }

  async #readFrom(file: number, offset: number, length: number): Promise<Buffer> {
    const into = Buffer.allocUnsafeSlow(length)
    const [found] = await this.#drive.run('read', [{ op: 'read', file, offset, into }], BACKGROUND)
    return into.subarray(0, found as number)
  }

  async #remove(number: number): Promise<void> {
    const ops: IoOp[] = [{ op: 'unlink', path: segmentPath(number) }, { op: 'unlink', path: hintPath(number) }]
    await this.#drive.io.run(ops, QUIETLY).catch(ignore)
  }

  async #mayYield(): Promise<void> {
    if (++this.#sinceTurn < RECORDS_PER_TURN) return
    this.#sinceTurn = 0
    await new Promise((resolve) => setImmediate(resolve))
  }
}

/** The hint of a segment, if there is one that holds for it as it is. Rejects when the drive fails. */
export async function readHint(
  drive: DriveAccess, driveId: string, number: number,
): Promise<{ hint: Hint; length: number } | undefined> {
  const path = hintPath(number)
  try {
    const [segment, stat] = await drive.run('read', [
      { op: 'stat', path: segmentPath(number) }, { op: 'stat', path },
    ], BACKGROUND) as { size: number }[]
    const length = segment?.size ?? 0
    const size = stat?.size ?? 0
    if (size < HINT_HEADER_SIZE || size > HINT_BYTES_MOST) return undefined
    const bytes = Buffer.allocUnsafeSlow(size)
    for (let at = 0; at < size; at += READ_SIZE) {
      await drive.readFile(path, at, bytes.subarray(at, Math.min(size, at + READ_SIZE)), BACKGROUND)
    }
    const hint = openHint(bytes, number, length, segmentSeed(driveId, number))
    return hint === undefined ? undefined : { hint, length }
  } catch (error) {
    // A hint that cannot be read is no hint; whether the drive is well, its segments will tell.
    if (error instanceof ShardError && drive.readable) return undefined
    throw error
  }
}

const BACKGROUND = { background: true }
const QUIETLY = { background: true, deadlineMs: 30_000 }

function isMissing(error: unknown): boolean {
  return error instanceof ShardError && error.code === 'missing' && error.cause instanceof IoError
}

function ignore(): void {
  // The outcome does not matter to anyone.
}
