/**
 * A replica on its drive: what a metadata copy is (log and view), and `meta/replica.json`, which says whose it is.
 *
 *   {"format":1,"id":3,"boot":17,"members":[1],"after":5120,"ready":true,"sha256":...}
 *
 *   id        of the replica in its group, for life; a replica that lost its log comes back under another one
 *   boot      number of this start: batches that it proposes are told apart by it (apply/sessions.ts)
 *   members   the group's first voters, as far as no view names any yet; empty for one that joins
 *   after     entries up to this one do not say who the members are, and are not offered to others
 *   ready     false while the replica is being made: it is made again then
 *
 * A store of one node becomes a group of one voter in place: its newest copy is brought up to date by the rules of the
 * local engine, becomes the replica, and from then on is written by the replicated engine alone.
 *
 * A log that is damaged below what was known durable, or a view that is gone, is the end of the replica: it is removed
 * from the group and added again under a new id, as a learner. Nothing is ever cut off to make it fit.
 */
import { createHash } from 'node:crypto'
import { CheckedView, linkChanges } from '../../chain.js'
import { createEmptyCopy, markUnclean, uncleanStarts } from '../../copy.js'
import { readCopySets, writeCopySet } from '../../copy_set.js'
import { LOG, META, readSmall, REPLICA, replaceFile } from '../../drive_files.js'
import type { MetaDrive } from '../../drive_files.js'
import { MetadataError } from '../../engine.js'
import { APPLIED_KEY } from '../../keys.js'
import { CommandLog, LogCorrupt } from '../../log/command_log.js'
import type { LogOptions } from '../../log/command_log.js'
import { RECORD_START, encodeHardState } from '../../log/frame.js'
import { pack } from '../../record.js'
import { SortedMap } from '../../sorted_map.js'
import { openCopies } from '../../start.js'
import type { ViewStore } from '../../view_store.js'
import type { Care, OpenedView, ViewFactory } from '../../views.js'
import { NO_DATA } from '../core/types.js'
import type { ConfState, NodeId } from '../core/types.js'
import type { RecoveredLog } from '../host/environment.js'
import { recoverLog } from './replica_log.js'
import { readReplicaApplied } from './replica_machine.js'

const FORMAT = 1
const LARGEST = 1 << 16

export interface Identity {
  id: NodeId
  boot: number
  members: NodeId[]
  after: number
  ready: boolean
}

export interface OpenReplicaOptions {
  readonly drives: readonly MetaDrive[]
  readonly views: ViewFactory
  readonly log: LogOptions
  readonly deadlineMs: number
  /** Joins a group that exists, under the id that it was given there. Absent: a store goes on or begins. */
  readonly join?: { readonly id: NodeId }
  /** Bytes of applied entries to keep in memory. */
  readonly keepBytes: number
  readonly note: (message: string) => void
}

export interface OpenedReplica {
  readonly drive: MetaDrive
  readonly identity: Identity
  readonly log: CommandLog
  readonly view: ViewStore
  readonly viewName: string
  readonly members: ConfState
  readonly recovered: RecoveredLog
}

export function onlyVoters(voters: readonly NodeId[]): ConfState {
  return { voters, votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false }
}

function digest({ id, boot, members, after, ready }: Identity): string {
  return createHash('sha256').update(JSON.stringify([FORMAT, id, boot, members, after, ready])).digest('hex')
}

export function encodeIdentity(identity: Identity): Buffer {
  return Buffer.from(`${JSON.stringify({ format: FORMAT, ...identity, sha256: digest(identity) })}\n`)
}

/** Throws MetadataError 'corrupt'. */
export function decodeIdentity(bytes: Buffer): Identity {
  let value: Record<string, unknown>
  try {
    value = JSON.parse(bytes.toString('utf8')) as Record<string, unknown>
  } catch (error) {
    throw new MetadataError('corrupt', `${REPLICA} is not JSON`, { cause: error })
  }
  const { format, id, boot, members, after, ready, sha256 } = value ?? {}
  if (typeof format === 'number' && format > FORMAT)
    throw new MetadataError('corrupt', `${REPLICA} has format ${String(format)}, known is ${String(FORMAT)}`)
  const identity = { id, boot, members, after, ready } as Identity
  if (sha256 !== digest(identity)) throw new MetadataError('corrupt', `the checksum of ${REPLICA} does not hold`)
  return identity
}

async function readIdentity(drive: MetaDrive): Promise<Identity | undefined> {
  const bytes = await readSmall(drive.io, REPLICA, LARGEST)
  return bytes === undefined ? undefined : decodeIdentity(bytes)
}

/** Throws MetadataError: 'unavailable' (no drive), 'corrupt' (this replica is lost), IoError. */
export async function openReplica(options: OpenReplicaOptions): Promise<OpenedReplica> {
  const found = await findReplica(options)
  const made = found?.identity.ready === true ? found : await make(options)
  const { drive } = made
  const { join } = options
  if (join !== undefined && join.id !== made.identity.id) {
    throw new MetadataError('unavailable', `drive ${String(drive.number)} holds replica ${String(made.identity.id)}`)
  }
  const identity = { ...made.identity, boot: made.identity.boot + 1 }
  const starts = await uncleanStarts(drive)
  await markUnclean(drive, starts + 1)
  await replaceFile(drive.io, REPLICA, encodeIdentity(identity), options.deadlineMs)
  const log = await CommandLog.open(drive.io, LOG, { ...options.log, replicated: true }).catch((error: unknown) => {
    throw lost(error)
  })
  const care: Care = starts === 0 ? 'trust' : starts === 1 ? 'verify' : 'remake'
  const { view, name } = await openView(drive, care, options)
  try {
    const applied = readReplicaApplied(new CheckedView(view))
    if (log.isEmpty && log.firstIndex === 0) log.startAt(applied.index + 1)
    const recovered = await recoverLog(log, { applied, after: identity.after, keepBytes: options.keepBytes })
    return { drive, identity, log, view, viewName: name, members: onlyVoters(identity.members), recovered }
  } catch (error) {
    await view.close()
    throw lost(error)
  }
}

function lost(error: unknown): unknown {
  if (!(error instanceof LogCorrupt) && !(error instanceof MetadataError && error.code === 'corrupt')) return error
  const text = error instanceof Error ? error.message : String(error)
  return new MetadataError(
    'corrupt',
    `this replica cannot be trusted (${text}): remove its node from the group and add it again under a new id`,
    { cause: error },
  )
}

interface Found {
  drive: MetaDrive
  identity: Identity
}

async function findReplica({ drives }: OpenReplicaOptions): Promise<Found | undefined> {
  const all: Found[] = []
  for (const drive of drives) {
    const identity = await readIdentity(drive)
    if (identity !== undefined) all.push({ drive, identity })
  }
  const ready = all.filter(({ identity }) => identity.ready)
  if (ready.length > 1) {
    const where = ready.map(({ drive }) => String(drive.number)).join(', ')
    throw new MetadataError('corrupt', `drives ${where} hold a replica each, and a node has one`)
  }
  return ready[0] ?? all[0]
}

/** A replica where there is none yet: of a store that exists, of a new one, or of a group that exists elsewhere. */
async function make(options: OpenReplicaOptions): Promise<Found> {
  const { drives, join } = options
  const { newest } = await readCopySets(drives)
  if (newest !== undefined && join === undefined) return convert(options)
  const drive = drives[0]
  if (drive === undefined) throw new MetadataError('unavailable', 'there is no drive')
  if (newest !== undefined)
    throw new MetadataError('unavailable', 'the drives belong to a store: it cannot join another')
  const copy = await createEmptyCopy(drive, options.views, { ...options.log, replicated: true })
  const id = join?.id ?? 1
  const identity: Identity = { id, boot: 0, members: join === undefined ? [1] : [], after: 0, ready: false }
  await writeIdentity(drive, identity, options)
  if (join === undefined) {
    // Nobody can learn the members from the log, so that others begin with a snapshot.
    const first = { index: 1, term: 1 }
    writeApplied(copy.view, { ...first, members: onlyVoters([1]) })
    await copy.view.flush(1)
    await copy.log.append([
      { type: RECORD_START, group: 0, epoch: 0, ...first, payload: NO_DATA },
      encodeHardState(0, { term: 1, vote: 0, commit: 1 }),
    ])
    identity.after = 1
  }
  await copy.view.close()
  await copy.log.close()
  return finish(drive, identity, 1, options)
}

async function finish(
  drive: MetaDrive,
  identity: Identity,
  generation: number,
  options: OpenReplicaOptions,
): Promise<Found> {
  const ready = { ...identity, ready: true }
  await writeIdentity(drive, ready, options)
  // Only an engine that knows nothing of replicas looks at this: for it there is no other copy.
  const failed = await writeCopySet(
    options.drives,
    { generation, members: [drive.number] },
    options.deadlineMs,
  )
  if (failed.has(drive.number)) {
    throw new MetadataError('unavailable', `drive ${String(drive.number)} does not take the copy set`, {
      cause: failed.get(drive.number),
    })
  }
  return { drive, identity: ready }
}

async function writeIdentity(drive: MetaDrive, identity: Identity, options: OpenReplicaOptions): Promise<void> {
  await replaceFile(drive.io, REPLICA, encodeIdentity(identity), options.deadlineMs)
}

/** The newest copy of a store of one node becomes the replica. */
async function convert(options: OpenReplicaOptions): Promise<Found> {
  const { set, copies } = await openCopies(options.drives, { ...options, copies: 1 })
  const copy = copies[0]
  if (copy === undefined) throw new MetadataError('unavailable', 'no metadata copy is here')
  const { index, term } = readReplicaApplied(new CheckedView(copy.view))
  // A group begins behind an entry, so that who joins needs a snapshot, which names the members.
  const position = index === 0 ? { index: 1, term: 1 } : { index, term }
  if (index === 0) {
    writeApplied(copy.view, { ...position, members: onlyVoters([1]) })
    await copy.view.flush(1)
  }
  for (const one of copies) await one.close(true)
  const identity: Identity = { id: 1, boot: 0, members: [1], after: position.index, ready: false }
  options.note(`the metadata copy on drive ${String(copy.drive.number)} becomes replica 1 of a group`)
  return finish(copy.drive, identity, set.generation + 1, options)
}

function writeApplied(view: ViewStore, applied: { index: number; term: number; members: ConfState }): void {
  const changes = new SortedMap<Buffer | undefined>()
  changes.set(APPLIED_KEY.toString('latin1'), pack(applied))
  view.commit(linkChanges(view, changes))
}

/** The newest finished view; the others are removed. */
async function openView(drive: MetaDrive, care: Care, options: OpenReplicaOptions): Promise<OpenedView> {
  const { views, note } = options
  const names = (await views.list(drive)).sort((a, b) => b.length - a.length || (a < b ? 1 : -1))
  let opened: OpenedView | undefined
  let problem: unknown
  for (const name of names) {
    if (opened !== undefined) break
    try {
      opened = await views.open(drive, name, care, note)
    } catch (error) {
      problem ??= error
      note(`${META}/${name}: ${error instanceof Error ? error.message : String(error)}`)
    }
  }
  if (opened === undefined) throw lost(problem ?? new MetadataError('corrupt', 'it has no view'))
  for (const name of await views.list(drive)) if (name !== opened.name) await views.remove(drive, name)
  return opened
}
