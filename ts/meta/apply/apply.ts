/**
 * Applying one batch of commands, that is one log record, to a state. Pure: the same state and batch give the
 * same results and the same writes on every copy and at every replay.
 *
 * All commands of a batch, the applied position, the term and the request ids are one set of writes, committed in
 * one transaction of the view. A command that fails in an unforeseen way is refused, the same way everywhere.
 */
import { CheckedView, linkChanges } from '../chain.js'
import type { StateReader } from '../chain.js'
import type { Command, CommandResult, Fence } from '../command.js'
import { MetadataError } from '../engine.js'
import { APPLIED_KEY } from '../keys.js'
import { pack, unpack } from '../record.js'
import type { RawWrite, ViewSnapshot } from '../view_store.js'
import { createBucket, deleteBucket } from './buckets.js'
import { collected, healed, queueHeal, setCollection } from './care.js'
import { addSets, driveHealed, fenceEpochs, initCluster, openEpoch, replaceDrive } from './cluster.js'
import { completeUpload } from './complete.js'
import { refuse, Refused } from './context.js'
import { changeLayout, endGrowth, raiseFeatureLevel } from './layout.js'
import type { Context, Handled } from './context.js'
import { discard } from './data_ids.js'
import { checkFeature } from './features.js'
import { addNodeSets, claimSets, dropNodeSets } from './node_sets.js'
import { checkFence, registerNode, releaseLease, removeNode, renewLease, takeLease } from './nodes.js'
import { deleteObject, deleteObjects, putObject } from './objects.js'
import { remember, rememberedResult } from './requests.js'
import { firstTime } from './sessions.js'
import type { Origin } from './sessions.js'
import { Transaction } from './transaction.js'
import { abortUpload, createUpload, expireUploads, putPart } from './uploads.js'

export interface Request {
  command: Command
  requestId?: string
  fence?: Fence
}

/** What one log record carries. */
export interface Batch {
  /** The proposer's clock. */
  timeMs: number
  requests: Request[]
  /** In a replicated engine: who proposed it, so that it takes effect once. */
  origin?: Origin
}

/** A request as it travels: encoded once, where it is proposed. */
export function encodeRequest(command: Command, requestId: string | undefined, fence?: Fence): Buffer {
  // Undefined is left out at once: `pack` would look for it, and copy the whole command without.
  return pack(requestId === undefined && fence === undefined ? { command } : { command, requestId, fence })
}

export function encodeBatch(timeMs: number, requests: readonly Uint8Array[], origin?: Origin): Buffer {
  return pack(origin === undefined ? { timeMs, requests } : { timeMs, requests, origin })
}

/** Throws MetadataError 'corrupt' for bytes that are no batch. What a command says is checked when it is applied. */
export function decodeBatch(payload: Uint8Array): Batch {
  const batch = (unpack(payload) ?? {}) as { timeMs?: unknown; requests?: unknown; origin?: unknown }
  const { timeMs, requests, origin } = batch
  if (typeof timeMs !== 'number' || !Array.isArray(requests) || !(origin === undefined || isOrigin(origin))) {
    throw new MetadataError('corrupt', 'a record of the log is no batch of requests')
  }
  return { timeMs, requests: requests.map(decodeRequest), ...(origin !== undefined && { origin }) }
}

function isOrigin(value: unknown): value is Origin {
  const { node, boot, sequence, floor } = (value ?? {}) as Partial<Record<keyof Origin, unknown>>
  return [node, boot, sequence, floor].every((number) => Number.isSafeInteger(number) && Number(number) >= 0)
}

function decodeRequest(bytes: unknown): Request {
  const request = (bytes instanceof Uint8Array ? unpack(bytes) : undefined) as Partial<Request> | null | undefined
  const command = request?.command as { kind?: unknown } | null | undefined
  const fence = request?.fence as { lease?: unknown; token?: unknown } | null | undefined
  const sound = typeof command?.kind === 'string'
    && (request?.requestId === undefined || typeof request.requestId === 'string')
    && (fence === undefined || (typeof fence?.lease === 'string' && Number.isSafeInteger(fence.token)))
  if (!sound) throw new MetadataError('corrupt', 'a batch of the log holds something that is no request')
  return request as Request
}

export interface Applied {
  index: number
  term: number
}

export interface BatchOutcome {
  results: CommandResult[]
  writes: RawWrite[]
}

export function readApplied(state: StateReader): Applied {
  const payload = state.get(APPLIED_KEY)
  return payload === undefined ? { index: 0, term: 0 } : (unpack(payload) as Applied)
}

/** Throws MetadataError 'corrupt' when the state cannot be trusted; nothing was changed then. */
export function applyBatch(view: ViewSnapshot, position: Applied, batch: Batch): BatchOutcome {
  const { results, writes } = applyRecords(view, [{ ...position, batch }], position)
  return { results: results[0] ?? [], writes }
}

/** One record of the log: undefined for one that holds no commands. */
export interface AppliedBatch extends Applied {
  batch: Batch | undefined
}

/**
 * As `applyBatch`, for consecutive records, all in one set of writes with what is to be known of the last of them.
 * The results of a record are undefined when it was a repetition and took no effect.
 */
export function applyRecords(
  view: ViewSnapshot,
  records: readonly AppliedBatch[],
  applied: Applied,
): { results: (CommandResult[] | undefined)[]; writes: RawWrite[] } {
  const checked = new CheckedView(view, true)
  const tx = new Transaction(checked)
  const results = records.map(({ index, batch }) => {
    if (batch === undefined) return []
    if (batch.origin !== undefined && !firstTime(tx, batch.origin)) return undefined
    return batch.requests.map((request, offset) =>
      applyOne({ tx, order: { index, offset }, batchMs: batch.timeMs }, request),
    )
  })
  tx.put(APPLIED_KEY, applied)
  tx.settle()
  return { results, writes: linkChanges(view, tx.changes, checked) }
}

function applyOne(context: Context, { command, requestId, fence }: Request): CommandResult {
  const first = requestId === undefined ? undefined : rememberedResult(context, requestId)
  if (first !== undefined) return first
  const result = run(context, command, fence)
  if (requestId !== undefined) remember(context, requestId, result)
  return result
}

function run(context: Context, command: Command, fence: Fence | undefined): CommandResult {
  context.tx.begin()
  try {
    checkFeature(context, command)
    if (fence !== undefined) checkFence(context, fence)
    return { ok: true, order: context.order, value: handle(context, command) }
  } catch (error) {
    if (error instanceof MetadataError) throw error
    context.tx.undo()
    discardParts(context, command)
    if (error instanceof Refused) {
      return { ok: false, order: context.order, refusal: error.refusal, detail: error.message }
    }
    return {
      ok: false,
      order: context.order,
      refusal: 'InvalidRequest',
      detail: `the command failed: ${String(error)}`,
    }
  }
}

/** What a refused command carried goes to the collector; a location that makes no sense is left to orphan proof. */
function discardParts(context: Context, command: Command): void {
  if (command.kind !== 'putObject' && command.kind !== 'putPart') return
  context.tx.begin()
  try {
    if (command.part !== undefined) discard(context, command.part.location)
  } catch (error) {
    if (error instanceof MetadataError) throw error
    context.tx.undo()
  }
}

function handle(context: Context, command: Command): Handled   {
  switch (command.kind) {
    case 'initCluster': return initCluster(context, command)
    case 'addSets': return addSets(context, command)
    case 'replaceDrive': return replaceDrive(context, command)
    case 'driveHealed': return driveHealed(context, command)
    case 'claimSets': return claimSets(context, command)
    case 'addNodeSets': return addNodeSets(context, command)
    case 'dropNodeSets': return dropNodeSets(context, command)
    case 'raiseFeatureLevel': return raiseFeatureLevel(context, command)
    case 'changeLayout': return changeLayout(context, command)
    case 'endGrowth': return endGrowth(context, command)
    case 'openEpoch': return openEpoch(context, command)
    case 'fenceEpochs': return fenceEpochs(context, command)
    case 'createBucket': return createBucket(context, command)
    case 'deleteBucket': return deleteBucket(context, command)
    case 'putObject': return putObject(context, command)
    case 'deleteObject': return deleteObject(context, command)
    case 'deleteObjects': return deleteObjects(context, command)
    case 'createUpload': return createUpload(context, command)
    case 'putPart': return putPart(context, command)
    case 'completeUpload': return completeUpload(context, command)
    case 'abortUpload': return abortUpload(context, command)
    case 'expireUploads': return expireUploads(context, command)
    case 'queueHeal': return queueHeal(context, command)
    case 'healed': return healed(context, command)
    case 'collected': return collected(context, command)
    case 'setCollection': return setCollection(context, command)
    case 'registerNode': return registerNode(context, command)
    case 'removeNode': return removeNode(context, command)
    case 'takeLease': return takeLease(context, command)
    case 'renewLease': return renewLease(context, command)
    case 'releaseLease': return releaseLease(context, command)
    default: return refuse('FeatureLevel', 'the kind of command is unknown here')
  }
}
