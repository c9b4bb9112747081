/**
 * What every part of the object engine works with, in one thread: metadata, sets, placement, pins and data
 * ids.
 *
 * Reads of metadata go through `look`: a fresh snapshot, and one retry on another copy when the view is
 * doubtful. Commands go through `commit`: it answers with the result, or with S3's word for what is known of
 * the outcome.
 */
import { randomBytes } from 'node:crypto'
import type { ErasureSet } from '../erasure/erasure_set.js'
import type { Placement } from '../layout/placement.js'
import type { Command, CommandResult, CommandValue } from '../meta/command.js'
import { MetadataError, type MetadataEngine } from '../meta/engine.js'
import type { MetadataReader } from '../meta/reader.js'
import type { BucketRecord, SetRecord } from '../meta/schema.js'
import { CommitGate } from './commit_gate.js'
import type { DataIds } from './data_ids.js'
import { S3Error, type S3ErrorCode } from './errors.js'
import { isKey } from './names.js'
import type { Pin, Pins } from './pins.js'

export const MIB: number = 1024 * 1024
export const GIB: number = 1024 * MIB

/** S3's limits, as settings so that tests can use small ones. */
export interface StoreLimits {
  /** Smallest part of a multipart upload but the last. */
  minPartSize: number
  maxPartSize: number
  maxPartNumber: number
  /** Largest body of PutObject and source of CopyObject. */
  maxPutSize: number
  maxObjectSize: number
}

export const S3_LIMITS: Readonly<StoreLimits> = {
  minPartSize: 5 * MIB,
  maxPartSize: 5 * GIB,
  maxPartNumber: 10_000,
  maxPutSize: 5 * GIB,
  maxObjectSize: 5 * 1024 * GIB,
}

export interface StoreParts {
  metadata: MetadataEngine
  /** The erasure set of a number, undefined when this node does not serve it. */
  set(number: number): ErasureSet | undefined
  placement: Placement
  pins: Pins
  dataIds: DataIds
  /** This node; absent in a store of one node. */
  node?: number | undefined
  limits?: Partial<StoreLimits>
  now?: () => number
  /** Waits between attempts to learn an unknown outcome, ms; empty in tests. */
  unknownRetryMs?: readonly number[]
  /** What went wrong and was answered in S3's words only. Never throws. */
  onError?: (what: string, error: unknown) => void
}

export class StoreContext {
  readonly metadata: MetadataEngine
  readonly placement: Placement
  readonly pins: Pins
  readonly dataIds: DataIds
  readonly node: number | undefined
  readonly limits: StoreLimits
  readonly now: () => number
  readonly #set: (number: number) => ErasureSet | undefined
  readonly #onError: (what: string, error: unknown) => void
  readonly #unknownRetryMs: readonly number[]
  #setRecords = new Map<number, SetRecord>()
  readonly #gates = new Map<number, CommitGate>()

  constructor(parts: StoreParts) {
    this.metadata = parts.metadata
    this.placement = parts.placement
    this.pins = parts.pins
    this.dataIds = parts.dataIds
    this.node = parts.node
    this.limits = { ...S3_LIMITS, ...parts.limits }
    this.now = parts.now ?? Date.now
    this.#set = (number) => parts.set(number)
    this.#onError = parts.onError ?? (() => undefined)
    this.#unknownRetryMs = parts.unknownRetryMs ?? [100, 400]
  }

  /** Tells the operator; the client hears only the S3Error made of it. */
  report(what: string, error: unknown): void {
    this.#onError(what, error)
  }

  /** A read of one fresh snapshot. ServiceUnavailable when no copy of the metadata can answer. */
  look<T>(read: (reader: MetadataReader) => T): T {
    return this.#attempt((reader) => {
      reader.refresh()
      return read(reader)
    })
  }

  /** Like `look`, under a pin taken before the snapshot. The reader of the pin must release it. */
  lookPinned<T>(read: (reader: MetadataReader, pin: Pin) => T): T {
    return this.#attempt((reader) => {
      const pin = this.pins.open(reader)
      if (pin === undefined) throw new MetadataError('unavailable', 'the view lags behind')
      try {
        return read(reader, pin)
      } catch (error) {
        pin.release()
        throw error
      }
    })
  }

  /** A doubtful view is tried once more: the next snapshot comes from another copy. */
  #attempt<T>(read: (reader: MetadataReader) => T): T {
    const reader = this.metadata.reader
    for (let attempt = 0; ; attempt++) {
      try {
        return read(reader)
      } catch (error) {
        if (!(error instanceof MetadataError)) throw error
        this.report('metadata read', error)
        if (error.code !== 'corrupt' || attempt > 0) throw unavailable('metadata cannot be read at present', error)
      }
    }
  }

  /** A further read of the current snapshot; without a retry, which would be on another snapshot. */
  guard<T>(read: () => T): T {
    try {
      return read()
    } catch (error) {
      if (!(error instanceof MetadataError)) throw error
      this.report('metadata read', error)
      throw unavailable('metadata cannot be read at present', error)
    }
  }

  /** NoSuchBucket when absent. From the reader's current snapshot. */
  bucketIn(reader: MetadataReader, name: string): BucketRecord {
    const bucket = reader.bucket(name)
    if (bucket === undefined) throw new S3Error('NoSuchBucket', '', { BucketName: name })
    return bucket
  }

  bucket(name: string): BucketRecord {
    return this.look((reader) => this.bucketIn(reader, name))
  }

  set(number: number): ErasureSet {
    const set = this.#set(number)
    if (set === undefined) throw unavailable(this.#elsewhere(number))
    return set
  }

  /** Where a set is that is not served here. */
  #elsewhere(number: number): string {
    const set = `erasure set ${String(number)}`
    const owner = this.look((reader) => reader.sets()).find((record) => record.number === number)?.node
    if (owner === undefined || owner === this.node) return `${set} is not served here`
    return `The data lies on drives of ${this.nodeName(owner)} (${set}), which this node cannot read. Ask that node.`
  }

  nodeName(id: number): string {
    const name = this.look((reader) => reader.nodes()).find((node) => node.id === id)?.name
    return name === undefined ? `node ${String(id)}` : `node ${String(id)} (${name})`
  }

  /** Where small writes to a set form groups. */
  gate(set: number): CommitGate {
    let gate = this.#gates.get(set)
    if (gate === undefined) this.#gates.set(set, (gate = new CommitGate(() => this.metadata.announce?.() ?? noop)))
    return gate
  }

  /** Data and parity of a set as the metadata states them; they never change. */
  setRecord(number: number): SetRecord {
    const known = this.#setRecords.get(number)
    if (known !== undefined) return known
    const records = this.look((reader) => reader.sets())
    this.#setRecords = new Map(records.map((r) => [r.number, r]))
    const record = this.#setRecords.get(number)
    if (record === undefined) throw unavailable(`erasure set ${String(number)} is not known`)
    return record
  }

  /**
   * Proposes a command and gives its result. Throws S3Error: SlowDown or ServiceUnavailable when nothing
   * changed, InternalError when the outcome stays unknown although the same request id was tried again.
   */
  async propose(command: Command): Promise<CommandResult> {
    const requestId = randomBytes(16).toString('hex')
    return (await this.attempt(command, requestId)).result
  }

  /**
   * Proposes until there is a result, as `propose` does; `again`: an attempt before it may have been applied. What is
   * proposed must have its effect once, however often it comes.
   */
  async attempt(command: Command, requestId?: string): Promise<{ result: CommandResult; again: boolean }> {
    let unknown: MetadataError | undefined
    for (let attempt = 0; ; attempt++) {
      try {
        return { result: await this.metadata.propose(command, requestId), again: unknown !== undefined }
      } catch (error) {
        if (!(error instanceof MetadataError)) throw error
        // 'corrupt' says nothing of the command's fate.
        if (error.code === 'unknown' || error.code === 'corrupt') unknown = error
        const wait = this.#unknownRetryMs[attempt]
        if (unknown === undefined || wait === undefined) {
          throw unknown === undefined ? notProposed(error) : new OutcomeUnknown(unknown)
        }
        await new Promise((resolve) => setTimeout(resolve, wait))
      }
    }
  }

  /** Like `propose`, with a refusal thrown as the S3Error it stands for. */
  async commit(command: Command, fields: Readonly<Record<string, string>> = {}): Promise<CommandValue> {
    const result = await this.propose(command)
    if (!result.ok) throw refusalError(result.refusal, result.detail, fields)
    return result.value
  }
}

function noop(): void {}

/** A command may or may not have been applied: whoever stored shards for it must leave them alone. */
export class OutcomeUnknown extends S3Error {
  constructor(cause: unknown) {
    super('InternalError', 'The outcome of the request is unknown; please retry.', {}, {}, { cause })
    this.name = 'OutcomeUnknown'
  }
}

export function unavailable(message: string, cause?: unknown): S3Error {
  return new S3Error('ServiceUnavailable', message, {}, {}, cause === undefined ? undefined : { cause })
}

function notProposed(error: MetadataError): S3Error {
  if (error.code === 'overloaded') return new S3Error('SlowDown', '', {}, {}, { cause: error })
  return unavailable('metadata cannot be changed at present', error)
}

type CommandRefusal = Extract<CommandResult, { ok: false }>['refusal']

const retried: readonly CommandRefusal[] = ['EpochFenced', 'FeatureLevel', 'Conflict', 'LeaseLost']

/** Apply's refusals in S3's words. Some changed nothing and may be retried. */
export function refusalError(
  refusal: CommandRefusal,
  detail: string,
  fields: Readonly<Record<string, string>> = {},
): S3Error {
  const code = (retried.includes(refusal) ? 'ServiceUnavailable' : refusal) as S3ErrorCode
  // A detail that only repeats a field says less than S3's own message.
  const said = Object.values(fields).includes(detail) ? '' : detail
  return new S3Error(code, code === 'ServiceUnavailable' ? 'Please retry.' : said, fields)
}

/** A key that cannot exist is never looked up. */
export function checkReadableKey(key: string): void {
  if (!isKey(key)) throw new S3Error('NoSuchKey', '', { Key: key.slice(0, 1024) })
}
