/**
 * Watches the drives from the control thread: probes each at an interval, brings back the ones that are well
 * again, takes out those that are not, and tells about every change of state, whichever thread made it.
 *
 * One probe of a drive: open its root anew (it may have been replaced), hold its lock, compare format.json with
 * the drive that is expected there, write + sync + read back + unlink a file in tmp/ (each time for a drive that
 * is out, else now and then), and ask for free space. A drive that is out comes back when all of that succeeded,
 * and only then.
 *
 * Probes are foreground work: a long queue of heals must not look like a drive that hangs. Probes of one drive
 * never overlap: a drive that hangs holds one of them until its deadline.
 */
import type { DriveHealth, DriveState } from './drive.js'
import type { DriveRow, HealthReason, MediumReads } from './drive_table.js'
import { type DriveFormat, readFormat, repairFormat } from './format.js'
import { type DriveIo, type DriveSpace, IoError, LAST_OPENED } from './io.js'

export interface MonitoredDrive {
  path: string
  io: DriveIo
  row: DriveRow
  /** Who is expected at that path; undefined: nobody yet, the drive stays out. */
  format: DriveFormat | undefined
}

export interface HealthMonitorOptions {
  intervalMs?: number
  deadlineMs?: number
  /** Free space kept on each drive; of small drives at most a twentieth of the drive. */
  reserveBytes?: number
  /** A drive that is well is written to in every so-manieth probe (default 12). */
  writeEvery?: number
  onEvent?: (event: DriveEvent) => void
}

export type DriveEvent =
  | { kind: 'state'; drive: MonitoredDrive; from: DriveState; health: DriveHealth }
  /** A blank directory lies where the drive should be: perhaps its replacement. */
  | { kind: 'blank'; drive: MonitoredDrive }
  /** One copy of format.json was damaged and has been rewritten. */
  | { kind: 'formatRepaired'; drive: MonitoredDrive }
  /** Neither O_DIRECT nor dropping the cache works: scrub and heal proofs may only see the page cache. */
  | { kind: 'mediumUnreachable'; drive: MonitoredDrive }

const DEFAULT_RESERVE = 2 ** 30
const PROBE_SIZE = 4096

/** Bytes that must stay free on a drive of that size. */
export function reserveOf(totalBytes: number, reserveBytes: number = DEFAULT_RESERVE): number {
  return Math.min(reserveBytes, Math.floor(totalBytes / 20))
}

interface Watched {
  drive: MonitoredDrive
  seen: DriveState
  /** Probes so far; the first one writes. */
  probes: number
  probing: Promise<void> | undefined
  blankReported: boolean
}

export class HealthMonitor {
  readonly #options: Required<Omit<HealthMonitorOptions, 'onEvent'>>
  readonly #onEvent: (event: DriveEvent) => void
  #watched: Watched[] = []
  #timer: NodeJS.Timeout | undefined
  #lastProbe = 0

  constructor(drives: readonly MonitoredDrive[], options: HealthMonitorOptions = {}) {
    this.#options = {
      intervalMs: options.intervalMs ?? 5_000, deadlineMs: options.deadlineMs ?? 10_000,
      reserveBytes: options.reserveBytes ?? DEFAULT_RESERVE, writeEvery: options.writeEvery ?? 12,
    }
    this.#onEvent = options.onEvent ?? ((): void => undefined)
    for (const drive of drives) this.watch(drive)
  }

  watch(drive: MonitoredDrive): void {
    this.#watched.push({ drive, seen: drive.row.state, probes: 0, probing: undefined, blankReported: false })
  }

  start(): void {
    this.#timer ??= setInterval(() => { void this.probeAll() }, this.#options.intervalMs)
  }

  /** Ends when the probes that are running have ended. */
  async stop(): Promise<void> {
    clearInterval(this.#timer)
    this.#timer = undefined
    await Promise.all(this.#watched.map(async (item) => { await item.probing }))
  }

  /** One round. Drives whose last probe still runs are left out. */
  async probeAll(): Promise<void> {
    await Promise.all(this.#watched.map((item) => {
      this.#notice(item)
      item.probing ??= this.#probe(item).finally(() => {
        item.probing = undefined
        this.#notice(item)
      })
      return item.probing
    }))
  }

  #notice(item: Watched): void {
    const { state } = item.drive.row
    if (state === item.seen) return
    const from = item.seen
    item.seen = state
    this.#onEvent({ kind: 'state', drive: item.drive, from, health: item.drive.row.health })
  }

  async #probe(item: Watched): Promise<void> {
    const { row } = item.drive
    row.decay()
    const before = row.changes
    try {
      const outcome = await this.#examine(item)
      // Somebody took it out while it was being examined: that is newer, the next probe will tell.
      if (outcome.state === 'online' && row.changes !== before && row.state !== 'online') return
      if (row.state === 'offline' && row.reason === 'operator') return
      row.set(outcome.state, outcome.reason)
    } catch (error) {
      if (!(error instanceof IoError)) throw error
      if (error.code === 'ESHUTDOWN' || error.code === 'EAGAIN') return
      if (row.state === 'offline' && row.reason === 'operator') return
      const out = outcomeOf(error)
      // One missed deadline may be a busy drive or a busy machine: the table counts, as it does for everyone.
      if (out.state === 'slow') row.failed('write', error.code)
      else row.set(out.state, out.reason)
    }
  }

  async #examine(item: Watched): Promise<{ state: DriveState; reason: HealthReason }> {
    const { io, row, format } = item.drive
    const { deadlineMs, reserveBytes, writeEvery } = this.#options
    await io.refresh()
    if (!(await io.lock())) return { state: 'refused', reason: 'format' }
    const identity = await this.#identity(item)
    if (identity !== undefined || format === undefined) return identity ?? { state: 'offline', reason: 'notOpened' }
    const [space] = await io.run([{ op: 'space' }], { deadlineMs }) as [DriveSpace]
    const reserve = reserveOf(space.totalBytes, reserveBytes)
    row.setSpace(space.totalBytes, space.freeBytes, reserve)
    if (row.state !== 'online' || item.probes++ % writeEvery === 0) {
      const problem = await this.#writeAndReadBack(item.drive)
      if (problem !== undefined) return problem
    }
    // Full drives come back with some room above the reserve, so that the state does not flap.
    const wanted = row.state === 'full' ? Math.min(reserve * 1.1, reserve + 2 ** 30) : reserve
    if (space.freeBytes < wanted) return { state: 'full', reason: 'reserve' }
    return { state: 'online', reason: 'none' }
  }

  /** undefined: it is the drive that is expected. */
  async #identity(item: Watched): Promise<{ state: DriveState; reason: HealthReason } | undefined> {
    const { drive } = item
    const found = await readFormat(drive.io, this.#options.deadlineMs)
    if (found.kind === 'blank') {
      if (!item.blankReported) this.#onEvent({ kind: 'blank', drive })
      item.blankReported = true
      return { state: 'offline', reason: 'missing' }
    }
    item.blankReported = false
    const { format } = drive
    if (format === undefined) return undefined
    if (found.kind !== 'format') return { state: 'refused', reason: 'format' }
    const { clusterId, driveId, epoch } = found.format
    if (clusterId !== format.clusterId || driveId !== format.driveId || epoch !== format.epoch) {
      return { state: 'refused', reason: 'format' }
    }
    if (found.damaged) {
      await repairFormat(drive.io, format)
      this.#onEvent({ kind: 'formatRepaired', drive })
    }
    return undefined
  }

  /** The file is read from the medium, if the drive allows it, and from the page cache otherwise. */
  async #writeAndReadBack(drive: MonitoredDrive): Promise<{ state: DriveState; reason: HealthReason } | undefined> {
    const { io } = drive
    const path = `tmp/probe.${process.pid.toString(16)}.${(++this.#lastProbe).toString(16)}`
    const written = Uint8Array.from({ length: PROBE_SIZE }, () => Math.floor(Math.random() * 256))
    const read = new Uint8Array(PROBE_SIZE)
    const options = { deadlineMs: this.#options.deadlineMs }
    const file = LAST_OPENED
    const readBack = (direct: boolean): Promise<unknown> => io.run([
      { op: 'open', path, mode: 'read', direct }, { op: 'read', file, offset: 0, into: read }, { op: 'close', file },
    ], options)
    try {
      const results = await io.run([
        { op: 'open', path, mode: 'create' }, { op: 'write', file, offset: 0, from: [written] }, { op: 'sync', file },
        { op: 'dropCache', file }, { op: 'close', file }, { op: 'syncDir', path: 'tmp' },
      ], options)
      const direct = await readBack(true).then(() => true, (error: unknown) => {
        if (error instanceof IoError && (error.code === 'EINVAL' || error.code === 'EOPNOTSUPP')) return false
        throw error
      })
      if (!direct) await readBack(false)
      this.#noteMedium(drive, direct ? 'direct' : results[3] === 1 ? 'dropCache' : 'none')
    } catch (error) {
      if (error instanceof IoError && error.code !== 'ETIMEDOUT') {
        await io.run([{ op: 'unlink', path }], options).catch(() => undefined)
      }
      throw error
    }
    await io.run([{ op: 'unlink', path }], options)
    return Buffer.compare(read, written) === 0 ? undefined : { state: 'offline', reason: 'errors' }
  }

  #noteMedium(drive: MonitoredDrive, kind: MediumReads): void {
    const before = drive.row.mediumReads
    drive.row.mediumReads = kind
    if (kind === 'none' && before !== 'none') this.#onEvent({ kind: 'mediumUnreachable', drive })
  }
}

function outcomeOf(error: IoError): { state: DriveState; reason: HealthReason } {
  switch (error.code) {
    case 'ENOENT':
    case 'ENOTDIR':
    case 'ENODEV':
    case 'ENXIO': return { state: 'offline', reason: 'missing' }
    case 'ENOSPC':
    case 'EDQUOT': return { state: 'full', reason: 'noSpace' }
    case 'EROFS': return { state: 'readOnly', reason: 'readOnly' }
    case 'ETIMEDOUT': return { state: 'slow', reason: 'timeouts' }
    default: return { state: 'offline', reason: error.op === 'read' ? 'readErrors' : 'writeFailed' }
  }
}
