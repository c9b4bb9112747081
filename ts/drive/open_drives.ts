/**
 * Opens the configured drives at start-up, in the control thread: locks and reads each, lets the roster decide,
 * and formats a new cluster. Drives that do not answer within the deadline count as unreadable and do not hold up
 * the start.
 *
 * A new cluster's drives are 'initialising' until `confirmMembers`, to be called when the cluster's first metadata
 * is durable and before anything is served.
 */
import { randomUUID } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { type DriveFormat, readFormat, repairFormat, writeFormat } from './format.js'
import { type DriveIo, IoError } from './io.js'
import { NativeDriveIo } from './native_io.js'
import { decideRoster, type FoundDrive, type RosterLayout, type RosterOptions, type RosterPlace } from './roster.js'

export interface OpenDrivesOptions extends RosterOptions {
  /** In the operator's order, which is the layout. */
  paths: readonly string[]
  /** How long a drive may take to say what it is (default 15 s). */
  deadlineMs?: number
  /** How to reach a drive; NativeDriveIo when absent. */
  connect?: (path: string) => DriveIo
  newId?: () => string
  /** The drives, if they are blank, join a cluster that exists. */
  join?: JoinCluster
}

export interface JoinCluster {
  clusterId: string
  /** Makes the drives known there, once their ids are durable on them; gives the number of the first, others follow. */
  enlist: (layout: RosterLayout, driveIds: readonly string[]) => Promise<number>
}

export interface OpenedPlace extends RosterPlace {
  /** Locked by this process, but for places that are out. */
  readonly io: DriveIo
}

export interface OpenedDrives {
  clusterId: string
  layout: RosterLayout
  /** True when this start made the cluster, or goes on making it. */
  created: boolean
  /** One for each path, in order: number i is position i % setSize of set i / setSize. */
  places: OpenedPlace[]
  /** Makes 'initialising' drives members, durably. */
  confirmMembers(): Promise<void>
  close(): Promise<void>
}

/** The drives cannot be used as configured; one sentence for each reason, naming path, expectation and finding. */
export class DrivesRefusedError extends Error {
  readonly problems: readonly string[]
  constructor(problems: readonly string[]) {
    super(`the drives are refused:\n${problems.map((problem) => `  ${problem}`).join('\n')}`)
    this.name = 'DrivesRefusedError'
    this.problems = problems
  }
}

/** Rejects with DrivesRefusedError, having written nothing. */
export async function openDrives(options: OpenDrivesOptions): Promise<OpenedDrives> {
  const deadlineMs = options.deadlineMs ?? 15_000
  const connect = options.connect ?? ((path): DriveIo => new NativeDriveIo(path, { deadlineMs }))
  const paths = options.paths.map((path) => resolve(path))
  const ios = paths.map(connect)
  const closeAll = async (): Promise<void> => {
    await Promise.all(ios.map((io) => io.close(1000)))
  }
  try {
    const found = await Promise.all(paths.map((path, index) => look(path, ios[index], deadlineMs)))
    const decision = decideRoster(markUnmounted(found), options)
    if (decision.kind === 'refuse') throw new DrivesRefusedError(decision.problems)
    if (decision.kind === 'open') {
      const places = decision.places.map((place, index): OpenedPlace => ({ ...place, io: at(ios, index) }))
      await Promise.all(places.map(repair))
      const { clusterId, layout } = decision
      return opened({ clusterId, layout, created: false, places }, closeAll)
    }
    const newId = options.newId ?? randomUUID
    const { join } = options
    if (join !== undefined && decision.clusterId !== undefined && decision.clusterId !== join.clusterId) {
      throw new DrivesRefusedError([`the drives were begun for cluster ${decision.clusterId}, not ${join.clusterId}`])
    }
    const clusterId = join?.clusterId ?? decision.clusterId ?? newId()
    const places = await Promise.all(decision.known.map(async (known, index): Promise<OpenedPlace> => {
      const format = known ?? newFormat(clusterId, newId(), decision.layout, index)
      const io = at(ios, index)
      await writeFormat(io, format)
      const { set, position } = format
      return { path: at(paths, index), set, position, state: 'present', format, formatDamaged: false, reason: '', io }
    }))
    if (join !== undefined) await enlist(join, decision.layout, places)
    return opened({ clusterId, layout: decision.layout, created: true, places }, closeAll)
  } catch (error) {
    await closeAll()
    throw error
  }
}

/** Gives the drives the numbers that they have in the cluster which they join. */
async function enlist(join: JoinCluster, layout: RosterLayout, places: readonly OpenedPlace[]): Promise<void> {
  const formats = places.flatMap(({ format }) => (format === undefined ? [] : [format]))
  const first = await join.enlist(layout, formats.map((format) => format.driveId))
  await Promise.all(places.map(async (place, index) => {
    if (place.format === undefined || place.format.number === first + index) return
    place.format = { ...place.format, number: first + index }
    await repairFormat(place.io, place.format)
  }))
}

/** The format of drive number index + 1 of a new cluster. */
function newFormat(clusterId: string, driveId: string, layout: RosterLayout, index: number): DriveFormat {
  const set = Math.floor(index / layout.setSize)
  return {
    clusterId, driveId, number: index + 1, pool: 0, set, position: index % layout.setSize, epoch: 1, ...layout,
    state: 'initialising',
  }
}

function opened(
  facts: Pick<OpenedDrives, 'clusterId' | 'layout' | 'created' | 'places'>, close: () => Promise<void>,
): OpenedDrives {
  const confirmMembers = async (): Promise<void> => {
    await Promise.all(facts.places.map(async (place) => {
      if (place.format?.state !== 'initialising') return
      place.format = { ...place.format, state: 'member' }
      await repairFormat(place.io, place.format)
    }))
  }
  return { ...facts, confirmMembers, close }
}

type Look = FoundDrive & { mounted?: boolean }

async function look(path: string, io: DriveIo | undefined, deadlineMs: number): Promise<Look> {
  if (io === undefined) return { path, kind: 'missing' }
  try {
    if (!(await io.lock())) return { path, kind: 'locked' }
    const found = await readFormat(io, deadlineMs)
    return { path, ...found, mounted: await isMountPoint(path) }
  } catch (error) {
    if (!(error instanceof IoError)) throw error
    if (error.code === 'ENOENT') return { path, kind: 'missing' }
    if (error.code === 'EROFS') return { path, kind: 'unreadable', detail: 'the file system is read-only' }
    return { path, kind: 'unreadable', detail: `${error.op} failed with ${error.code}` }
  }
}

/** Only asked of a drive that has just answered. True when it cannot be told. */
export async function isMountPoint(path: string): Promise<boolean> {
  try {
    const [own, above] = await Promise.all([stat(path), stat(dirname(path))])
    return own.dev !== above.dev
  } catch {
    return true
  }
}

/** Where every known drive is a mount point of its own, a blank directory that is none has probably lost its mount. */
function markUnmounted(found: readonly Look[]): FoundDrive[] {
  const known = found.filter((drive) => drive.kind === 'format')
  const allMounted = known.length > 0 && known.every((drive) => drive.mounted === true)
  return found.map((drive): FoundDrive => {
    if (drive.kind === 'blank' && allMounted && drive.mounted === false) return { path: drive.path, kind: 'unmounted' }
    return drive
  })
}

/** Rewrites a format.json of which one copy is bad. A drive that cannot take even that: the health monitor sees it. */
async function repair(place: OpenedPlace): Promise<void> {
  if (!place.formatDamaged || place.format === undefined) return
  await repairFormat(place.io, place.format).catch((error: unknown) => {
    if (!(error instanceof IoError)) throw error
  })
}

function at<T>(items: readonly T[], index: number): T {
  const item = items[index]
  if (item === undefined) throw new RangeError(`index ${String(index)}`)
  return item
}
