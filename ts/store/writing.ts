/**
 * One part on its way in: data id -> placement -> erasure set, then the command that gives the part its owner.
 *
 * Order: the body is verified to its end before the command is proposed; the command is proposed only when
 * every shard is durable. What happens to the shards otherwise:
 * - the write failed, or the command was certainly never proposed: deleted here, best effort (a crash leaves
 *   orphans of an epoch that will be fenced);
 * - the command was refused: `apply` queued them as garbage, the collector deletes them;
 * - the outcome is unknown: left alone, the collector finds out.
 */
import type { SalvageInfo } from '../drive/drive.js'
import { ErasureError, type ErasureSet, type PartLocation } from '../erasure/erasure_set.js'
import type { CommandValue } from '../meta/command.js'
import { MetadataError } from '../meta/engine.js'
import type { ObjectAttributes, PartRecord } from '../meta/schema.js'
import { OutcomeUnknown, refusalError, unavailable, type StoreContext } from './context.js'
import type { DataIdLease } from './data_ids.js'
import { toHex } from './digests.js'
import { S3Error } from './errors.js'
import { proposePart } from './part_command.js'
import type { PartCommand } from './part_command.js'
import { WHOLE_BODY } from './object_store.js'
import type { BodyDigests, BodySource } from './object_store.js'

/** Data ids drawn before giving up on finding a set that can be written. */
const PLACEMENT_ATTEMPTS = 16

export interface PartToStore {
  /** Whose it is. Upload id and part number are '' and 0 for a part that is a whole object. */
  salvage: SalvageInfo
  storageClass: ObjectAttributes['storageClass']
  body: BodySource
  signal: AbortSignal | undefined
}

/** What a part's command is made of. `part` is absent for an empty object, whose body is verified all the same. */
export interface StoredPart {
  part?: PartRecord
  digests: BodyDigests
  /** The MD5 in hexadecimal digits. */
  etag: string
}

/**
 * Stores the body as one part and commits the command made from it. Errors: whatever the body threw; S3Error
 * ServiceUnavailable or SlowDown (nothing changed), InternalError (unknown outcome), or the refusal's.
 */
export async function storePart(
  context: StoreContext,
  request: PartToStore,
  command: (stored: StoredPart) => PartCommand,
  fields: Readonly<Record<string, string>>,
): Promise<{ stored: StoredPart; value: CommandValue }> {
  const { body } = request
  if (body.size === 0 && request.salvage.uploadId === '') {
    await drain(body)
    const digests = body.digests()
    const stored = { digests, etag: toHex(digests.md5) }
    return { stored, value: await context.commit(command(stored), fields) }
  }
  const whole = body.size <= WHOLE_BODY && body.size > 0 ? await body.whole?.() : undefined
  const { lease, set } = await choose(context)
  const turn = whole === undefined ? undefined : await context.gate(set.number).enter()
  try {
    const location =
      body.size === 0 ? await noShards(body, lease, set) : await writeShards(context, request, lease, set, whole)
    const digests = body.digests()
    const part: PartRecord = { location, size: body.size, md5: digests.md5 }
    if (digests.checksum !== undefined) part.checksum = digests.checksum
    const stored = { part, digests, etag: toHex(digests.md5) }
    const proposed = proposePart(context, command(stored), location)
    turn?.wrote()
    const result = await proposed.catch((error: unknown) => notCommitted(context, set, location, error))
    if (result.ok) return { stored, value: result.value }
    if (result.refusal === 'EpochFenced') context.dataIds.fenced(lease.epoch)
    throw refusalError(result.refusal, result.detail, fields)
  } finally {
    turn?.leave()
    lease.done()
  }
}

/** An empty part of an upload has a number, an ETag and a data id, and nothing on any drive. */
async function noShards(body: BodySource, lease: DataIdLease, set: ErasureSet): Promise<PartLocation> {
  await drain(body)
  const geometry = { k: 1, m: 0, stripeSize: 1, partSize: 0 }
  return { dataId: lease.dataId, set: set.number, geometry, drives: [] }
}

async function drain(body: BodySource): Promise<void> {
  for await (const chunk of body) {
    if (chunk.length > 0) throw new S3Error('IncompleteBody', 'The body is longer than it said.')
  }
}

/** A data id whose set can take it. Ids are random, so another id means another choice. */
async function choose(context: StoreContext): Promise<{ lease: DataIdLease; set: ErasureSet }> {
  for (let attempt = 0; attempt < PLACEMENT_ATTEMPTS; attempt++) {
    const lease = context.dataIds.leaseNow() ?? (await leaseId(context))
    let chosen = false
    try {
      const set = context.set(context.placement.select(lease.dataId))
      if (!set.writable) continue
      chosen = true
      return { lease, set }
    } finally {
      if (!chosen) lease.done()
    }
  }
  throw unavailable('too few drives can be written')
}

async function leaseId(context: StoreContext): Promise<DataIdLease> {
  try {
    return await context.dataIds.lease()
  } catch (error) {
    if (error instanceof MetadataError) throw unavailable('metadata cannot be changed at present', error)
    throw error
  }
}

/** Shards kept for REDUCED_REDUNDANCY: half the parity, at least one where the set has any. */
export function parityOf(storageClass: ObjectAttributes['storageClass'], m: number): number {
  return storageClass === 'REDUCED_REDUNDANCY' ? Math.ceil(m / 2) : m
}

async function writeShards(
  context: StoreContext,
  request: PartToStore,
  lease: DataIdLease,
  set: ErasureSet,
  whole: Uint8Array | undefined,
): Promise<PartLocation> {
  const { m } = context.setRecord(set.number)
  const body = whole === undefined ? new WatchedBody(request.body) : undefined
  try {
    return await set.write({
      dataId: lease.dataId,
      size: request.body.size,
      data: body ?? whole ?? request.body,
      salvage: request.salvage,
      // 0 means the set's own parity; a set without parity has nothing to reduce.
      parity: request.storageClass === 'STANDARD' ? 0 : parityOf(request.storageClass, m),
      signal: request.signal,
    })
  } catch (error) {
    if (body?.failed === true) throw body.error
    throw writeError(context, error)
  }
}

function writeError(context: StoreContext, error: unknown): unknown {
  if (!(error instanceof ErasureError)) return error
  switch (error.code) {
    case 'writeQuorum':
      return unavailable('too few drives took the data', error)
    case 'drivesFull':
      return unavailable('the drives are full', error)
    case 'sizeMismatch':
      return new S3Error('IncompleteBody', '', {}, {}, { cause: error })
    case 'aborted':
      return new S3Error('RequestTimeout', 'The request was aborted.', {}, {}, { cause: error })
    case 'readQuorum':
    case 'inconsistent':
      context.report('write', error)
      return new S3Error('InternalError', '', {}, {}, { cause: error })
  }
}

/** Throws the error; before, it deletes the shards of a part whose command was certainly never proposed. */
async function notCommitted(
  context: StoreContext, set: ErasureSet, location: PartLocation, error: unknown,
): Promise<never> {
  // S3Errors other than OutcomeUnknown say that nothing was proposed; of anything else nothing is known.
  if (error instanceof S3Error && !(error instanceof OutcomeUnknown)) {
    await set.delete(location).catch((e: unknown) => { context.report('delete of an uncommitted part', e) })
  }
  throw error
}

/** Remembers what the body threw, which is what the client must hear, whatever the set makes of it. */
class WatchedBody implements AsyncIterable<Uint8Array> {
  failed = false
  error: unknown
  readonly #body: AsyncIterable<Uint8Array>

  constructor(body: AsyncIterable<Uint8Array>) {
    this.#body = body
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    const iterator = this.#body[Symbol.asyncIterator]()
    let ended = false
    try {
      for (;;) {
        let next
        try {
          next = await iterator.next()
        } catch (error) {
          this.failed = true
          this.error = error
          ended = true
          throw error
        }
        if (next.done === true) {
          ended = true
          return
        }
        yield next.value
      }
    } finally {
      if (!ended) await iterator.return?.()
    }
  }
}
