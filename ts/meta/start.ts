/**
 * Opening the metadata copies of a store.
 *
 * - Only members of the newest copy set on any present drive are trusted; other copies are stale.
 * - The newest log among them wins, records that were never acknowledged included; the others are brought up to
 *   date from it before anything is served.
 * - A view is brought up to date from its own log. A copy whose log or view cannot be trusted is left out, to be
 *   remade from another; when there is no other, the start is refused with a clear message.
 */
import { emptyView } from './chain.js'
import { createEmptyCopy, markUnclean, MetadataCopy, uncleanStarts } from './copy.js'
import { readCopySets, writeCopySet } from './copy_set.js'
import type { CopySet } from './copy_set.js'
import { exists, LOG, META, REPLICA } from './drive_files.js'
import type { MetaDrive } from './drive_files.js'
import { MetadataError } from './engine.js'
import { CommandLog, LogCorrupt } from './log/command_log.js'
import type { LogOptions } from './log/command_log.js'
import type { LogRecord } from './log/frame.js'
import type { ViewStore } from './view_store.js'
import { nextViewName } from './views.js'
import type { Care, OpenedView, ViewFactory } from './views.js'

export interface StartOptions {
  copies: number
  views: ViewFactory
  log: LogOptions
  deadlineMs: number
  /** Facts for the operator. */
  note: (message: string) => void
}

export interface Started {
  set: CopySet
  /** At least one; all at the same log index, their views applied up to it. */
  copies: MetadataCopy[]
  /** Drives that are here and whose copy must be remade. */
  lost: number[]
}

/** A copy as it was found. */
interface Candidate {
  drive: MetaDrive
  log: CommandLog
  view: ViewStore | undefined
  viewName: string
}

export async function openCopies(drives: readonly MetaDrive[], options: StartOptions): Promise<Started> {
  for (const drive of drives) {
    if (!(await exists(drive.io, REPLICA).catch(() => false))) continue
    const text = `drive ${String(drive.number)} holds a replica of a group: the engine is \`replicated\` for good`
    throw new MetadataError('unavailable', text)
  }
  const { newest, problems } = await readCopySets(drives)
  for (const [drive, problem] of problems) options.note(`drive ${String(drive)}: ${problem}`)
  if (newest === undefined) return createFirst(drives, problems.size > 0, options)
  const members = drives.filter(({ number }) => newest.members.includes(number))
  if (members.length === 0) {
    throw new MetadataError(
      'unavailable',
      `none of the drives with current metadata is here (drive ${newest.members.join(', ')}); a copy on another drive is stale`,
    )
  }
  const candidates = await Promise.all(members.map((drive) => openCandidate(drive, options)))
  const found = candidates.filter((candidate) => candidate !== undefined)
  if (found.length === 0) {
    throw new MetadataError(
      'corrupt',
      'no metadata copy can be trusted: restore a backup, or bring the missing drives back',
    )
  }
  const copies = await bringUpToDate(found, options)
  const set = { generation: newest.generation + 1, members: copies.map(({ drive }) => drive.number) }
  const lost = members.map(({ number }) => number).filter((number) => !set.members.includes(number))
  return { set: await agree(drives, copies, set, options), copies, lost }
}

/** A store that has no metadata yet. */
async function createFirst(drives: readonly MetaDrive[], damaged: boolean, options: StartOptions): Promise<Started> {
  if (damaged) throw new MetadataError('corrupt', 'no drive has a valid meta-copies.json')
  for (const drive of drives) {
    // A crash in the first start leaves copies without commands; anything else has lost its copy set.
    if (!(await exists(drive.io, LOG))) continue
    const log = await CommandLog.open(drive.io, LOG, options.log).catch((error: unknown) => {
      throw new MetadataError(
        'corrupt',
        `drive ${String(drive.number)} has metadata, and no drive a copy set`,
        { cause: error },
      )
    })
    const empty = log.isEmpty
    await log.close()
    if (!empty)
      throw new MetadataError(
        'corrupt',
        `drive ${String(drive.number)} has metadata, and no drive a copy set`,
      )
  }
  const chosen = drives.slice(0, Math.max(1, options.copies))
  const copies = await Promise.all(chosen.map((drive) => createEmptyCopy(drive, options.views, options.log)))
  if (copies.length === 0) throw new MetadataError('unavailable', 'there is no drive')
  const set = { generation: 1, members: copies.map(({ drive }) => drive.number) }
  return { set: await agree(drives, copies, set, options), copies, lost: [] }
}

/** Writes the copy set; every member must take it. */
async function agree(
  drives: readonly MetaDrive[],
  copies: readonly MetadataCopy[],
  set: CopySet,
  options: StartOptions,
): Promise<CopySet> {
  const failed = await writeCopySet(drives, set, options.deadlineMs)
  for (const { drive } of copies) {
    if (failed.has(drive.number)) {
      throw new MetadataError('unavailable', `drive ${String(drive.number)} does not take the copy set`, {
        cause: failed.get(drive.number),
      })
    }
  }
  return set
}

/** Undefined when its log cannot be trusted. */
async function openCandidate(drive: MetaDrive, options: StartOptions): Promise<Candidate | undefined> {
  const who = `metadata copy on drive ${String(drive.number)}`
  try {
    if (!(await exists(drive.io, META))) {
      options.note(`${who}: it is gone`)
      return undefined
    }
    const starts = await uncleanStarts(drive)
    await markUnclean(drive, starts + 1)
    const log = await CommandLog.open(drive.io, LOG, options.log)
    const care: Care = starts === 0 ? 'trust' : starts === 1 ? 'verify' : 'remake'
    const { view, name } = await openView(drive, care, who, options)
    return { drive, log, view, viewName: name }
  } catch (error) {
    options.note(`${who}: ${error instanceof Error ? error.message : String(error)}`)
    return undefined
  }
}

/** The newest finished view of a drive; the others are removed. */
async function openView(
  drive: MetaDrive,
  care: Care,
  who: string,
  options: StartOptions,
): Promise<{ view: ViewStore | undefined; name: string }> {
  const { views } = options
  const names = (await views.list(drive)).sort((a, b) => b.length - a.length || (a < b ? 1 : -1))
  let opened: OpenedView | undefined
  for (const name of names) {
    if (opened !== undefined) break
    try {
      opened = await views.open(drive, name, care, (text) => {
        options.note(`${who}: ${text}`)
      })
    } catch (error) {
      options.note(`${who}, ${name}: ${error instanceof Error ? error.message : String(error)}`)
    }
  }
  for (const name of await views.list(drive)) if (name !== opened?.name) await views.remove(drive, name)
  return opened ?? { view: undefined, name: nextViewName(names) }
}

async function bringUpToDate(found: Candidate[], options: StartOptions): Promise<MetadataCopy[]> {
  const positions = found.map(({ view }) => view?.flushedPosition ?? 0)
  for (const { log, view } of found) if (log.isEmpty && view !== undefined) log.startAt(view.flushedPosition + 1)
  const newest = found.reduce((a, b) => (b.log.lastIndex > a.log.lastIndex ? b : a))
  const target = newest.log.lastIndex
  if (Math.max(...positions) > target) {
    throw new MetadataError(
      'corrupt',
      `a view has record ${String(Math.max(...positions))}, and no log has it any more`,
    )
  }
  const copies: MetadataCopy[] = []
  for (const candidate of [newest, ...found.filter((other) => other !== newest)]) {
    const who = `metadata copy on drive ${String(candidate.drive.number)}`
    try {
      await catchUp(candidate.log, newest.log)
      const copy = await replayed(candidate, options)
      if (copy !== undefined) copies.push(copy)
      else options.note(`${who}: its view must be remade`)
    } catch (error) {
      options.note(`${who}: ${error instanceof Error ? error.message : String(error)}`)
    }
  }
  if (copies.length === 0) {
    throw new MetadataError('corrupt', 'no view of the metadata can be trusted or rebuilt from a log: restore a backup')
  }
  return copies
}

/** Appends what a log lacks from the newest one. */
export async function catchUp(log: CommandLog, newest: CommandLog, upTo: number = newest.lastIndex): Promise<void> {
  if (log === newest || log.lastIndex >= upTo) return
  let group: LogRecord[] = []
  let bytes = 0
  for await (const record of newest.read(log.lastIndex + 1)) {
    if (record.index > upTo) break
    group.push(record)
    bytes += record.payload.length
    if (bytes < 1 << 20 && record.index < upTo) continue
    await log.append(group)
    group = []
    bytes = 0
  }
  if (log.lastIndex < upTo) throw new LogCorrupt(`records after ${String(log.lastIndex)} cannot be had`)
}

/** The copy with its view applied to the end of its log; undefined when the view cannot be had from what is here. */
async function replayed(candidate: Candidate, options: StartOptions): Promise<MetadataCopy | undefined> {
  const { drive, log } = candidate
  let { view } = candidate
  try {
    if (view === undefined) {
      if (log.firstIndex !== 1) return undefined
      view = await options.views.create(drive, candidate.viewName)
      view.commit(emptyView())
    }
    const copy = new MetadataCopy(drive, log, view, candidate.viewName)
    if (copy.applied + 1 < log.firstIndex) throw new LogCorrupt('the log does not reach back to the view')
    if (copy.applied < log.lastIndex) for await (const record of log.read(copy.applied + 1)) copy.replay(record)
    await copy.flush()
    return copy
  } catch (error) {
    await view?.close()
    if (error instanceof MetadataError || error instanceof LogCorrupt) {
      options.note(`drive ${String(drive.number)}: ${error.message}`)
      return undefined
    }
    throw error
  }
}
