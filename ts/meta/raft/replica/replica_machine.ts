/**
 * The state machine of a replica: an LMDB view.
 *
 * Every call of `apply` is one transaction of the view: what the commands changed, results of requests, sessions of
 * proposers, and the applied position with term and membership. Nothing is synced for it; the log, which is released
 * only up to what the view has flushed, says it again after a power cut.
 *
 * Snapshots: the state is what LMDB holds, so making one means holding an LMDB snapshot (snapshot_stream.ts). One that
 * is installed was received into a new view beside the one in use (staging.ts). Making it durable puts the file
 * `flushed` in place, by a rename: that is the pointer, since at a start the newest view that has one is the view.
 */
import { randomBytes } from 'node:crypto'
import { applyRecords, decodeBatch } from '../../apply/apply.js'
import type { Applied as Position } from '../../apply/apply.js'
import type { Origin } from '../../apply/sessions.js'
import { CheckedView } from '../../chain.js'
import type { StateReader } from '../../chain.js'
import type { CommandResult } from '../../command.js'
import { MetadataError } from '../../engine.js'
import { APPLIED_KEY } from '../../keys.js'
import { unpack } from '../../record.js'
import type { ViewSnapshot, ViewStore } from '../../view_store.js'
import type { ConfState, Entry, Snapshot } from '../core/types.js'
import { EMPTY_CONF_STATE } from '../core/types.js'
import type { Applied, Done, StateMachine } from '../host/environment.js'
import { chunksOf, decodeOffer, encodeOffer } from './snapshot_stream.js'

/** A view that holds a whole snapshot and is not in use yet. */
export interface StagedView {
  readonly id: string
  readonly view: ViewStore
  readonly name: string
}

export interface MachineOptions {
  /** This replica. */
  readonly id: number
  readonly view: ViewStore
  readonly viewName: string
  /** Members of a group whose view does not name any yet. */
  readonly members: ConfState
  readonly now: () => number
  /** The position has moved; called before anybody is told of it. */
  readonly onApplied: (index: number) => void
  /** Whether a follower can go on in the log behind this index. */
  readonly reaches: (index: number) => boolean
  /** Whether a follower is waiting for a snapshot. */
  readonly wanted: () => boolean
  /** Told the results of every batch that was applied here, undefined for a repetition. */
  readonly onBatch: (origin: Origin, results: CommandResult[] | undefined) => void
  /** The view was replaced by a snapshot's; the old one is to be closed and removed. */
  readonly onReplaced: (old: { view: ViewStore; name: string }) => void
}

/** What the view says of its position; members undefined where a local engine wrote it. */
export function readReplicaApplied(state: StateReader): Position & { members?: ConfState } {
  const payload = state.get(APPLIED_KEY)
  if (payload === undefined) return { index: 0, term: 0 }
  return unpack(payload) as Position & { members?: ConfState }
}

/** A snapshot that is held for followers. */
interface Held {
  readonly id: string
  readonly state: ViewSnapshot & { release(): void }
  readonly applied: Applied
  usedAt: number
}

/** A snapshot nobody asked about for so long is let go. */
const HOLD_MS = 60_000
const MAX_HELD = 3

export class ReplicaMachine implements StateMachine {
  readonly recovered: Applied
  readonly #options: MachineOptions
  #view: ViewStore
  #viewName: string
  #applied: Applied
  /** The view itself names the members. */
  #named: boolean
  /** Snapshots for followers, oldest first. */
  #held: Held[] = []
  #flushing: Promise<void> | undefined
  #closed = false
  readonly #staged = new Map<string, StagedView>()

  constructor(options: MachineOptions) {
    this.#options = options
    this.#view = options.view
    this.#viewName = options.viewName
    const { index, term, members } = readReplicaApplied(new CheckedView(options.view))
    this.recovered = { index, term, confState: members ?? options.members }
    this.#applied = this.recovered
    this.#named = members !== undefined
  }

  get view(): ViewStore {
    return this.#view
  }

  get viewName(): string {
    return this.#viewName
  }

  get applied(): Applied {
    return this.#applied
  }

  /** In a turn of its own: between two transactions messages are taken and acknowledgements leave. */
  apply(entries: readonly Entry[], applied: Applied, done: Done): void {
    setImmediate(() => {
      if (this.#closed) done(new MetadataError('unavailable', 'the view is closed'))
      else this.#apply(entries, applied, done)
    })
  }

  #apply(entries: readonly Entry[], applied: Applied, done: Done): void {
    let error: Error | undefined
    const told: [Origin, CommandResult[] | undefined][] = []
    try {
      const records = entries.map(({ index, term, type, data }) => {
        const batch = type === 'EntryNormal' && data.length > 0 ? decodeBatch(data) : undefined
        return { index, term, batch }
      })
      const { index, term, confState } = applied
      const position = { index, term, members: confState }
      const { results, writes } = applyRecords(this.#view, records, position)
      this.#view.commit(writes)
      this.#applied = applied
      this.#named = true
      this.#options.onApplied(index)
      for (const [at, { batch }] of records.entries()) if (batch?.origin) told.push([batch.origin, results[at]])
    } catch (caught) {
      const why = caught instanceof Error ? caught.message : String(caught)
      const what = `entry ${String(applied.index)} cannot be applied: ${why}`
      error = new MetadataError('corrupt', what, { cause: caught })
    }
    queueMicrotask(() => {
      done(error)
      for (const [origin, results] of told) this.#options.onBatch(origin, results)
    })
  }

  flush(done: Done): void {
    this.flushView().then(
      () => { done(undefined) },
      (error: unknown) => { done(error instanceof Error ? error : new Error(String(error))) },
    )
  }

  /** Makes the view durable as it is now, or as a flush that is under way has found it, and then again. */
  async flushView(): Promise<void> {
    while (this.#flushing !== undefined) await this.#flushing
    const view = this.#view
    const { index } = this.#applied
    if (view.flushedPosition === index) return
    this.#flushing = view.flush(index)
    try {
      await this.#flushing
    } finally {
      this.#flushing = undefined
    }
  }

  // ---- snapshots for others

  snapshot(): Snapshot | undefined {
    if (!this.#named || this.#applied.confState.voters.length === 0) return undefined
    const held = this.#hold()
    const { index, term, confState } = held.applied
    return { index, term, confState, data: encodeOffer({ id: held.id, from: this.#options.id }) }
  }

  /** One snapshot serves many followers, as long as it names them and the log goes on from it. */
  #hold(): Held {
    this.letGo()
    const newest = this.#held.at(-1)
    if (newest !== undefined && this.#options.reaches(newest.applied.index)) {
      if (sameMembers(newest.applied.confState, this.#applied.confState)) return newest
    }
    if (this.#held.length >= MAX_HELD) this.#held.shift()?.state.release()
    const id = randomBytes(12).toString('hex')
    const held: Held = { id, state: this.#view.snapshot(), applied: this.#applied, usedAt: this.#options.now() }
    this.#held.push(held)
    return held
  }

  /** Lets held snapshots go that are not used any more. */
  letGo(): void {
    const before = this.#options.now() - HOLD_MS
    for (const { state, usedAt } of this.#held) if (usedAt < before) state.release()
    this.#held = this.#held.filter(({ usedAt }) => usedAt >= before)
  }

  #releaseAll(): void {
    for (const { state } of this.#held) state.release()
    this.#held = []
  }

  neededAfter(): number | undefined {
    this.letGo()
    return this.#options.wanted() ? this.#held[0]?.applied.index : undefined
  }

  /** The chunks of a snapshot that was offered. Throws MetadataError 'unavailable' when it is gone. */
  *read(id: string, after: Buffer | undefined, bytes?: number): Generator<Uint8Array> {
    const held = this.#held.find((one) => one.id === id)
    if (held === undefined) throw new MetadataError('unavailable', 'the snapshot is gone')
    for (const chunk of chunksOf(held.state, after, bytes)) {
      held.usedAt = this.#options.now()
      yield chunk
      if (!this.#held.includes(held)) throw new MetadataError('unavailable', 'the snapshot is gone')
    }
  }

  // ---- snapshots of others

  /** Takes a view that holds a whole snapshot, for `install`. */
  stage(staged: StagedView): void {
    this.#staged.set(staged.id, staged)
  }

  /** Views that were staged and are of no use any more. */
  takeStale(): StagedView[] {
    const stale = [...this.#staged.values()].filter(({ view }) => {
      return readReplicaApplied(new CheckedView(view)).index <= this.#applied.index
    })
    for (const { id } of stale) this.#staged.delete(id)
    return stale
  }

  install(snapshot: Snapshot, done: Done): void {
    this.#install(snapshot).then(
      () => { done(undefined) },
      (error: unknown) => { done(error instanceof Error ? error : new Error(String(error))) },
    )
  }

  async #install({ index, term, confState, data }: Snapshot): Promise<void> {
    const staged = this.#staged.get(decodeOffer(data)?.id ?? '')
    if (staged === undefined) throw new MetadataError('corrupt', `snapshot ${String(index)} was not received`)
    this.#staged.delete(staged.id)
    await staged.view.flush(index)
    while (this.#flushing !== undefined) await this.#flushing.catch(() => undefined)
    const old = { view: this.#view, name: this.#viewName }
    this.#releaseAll()
    this.#view = staged.view
    this.#viewName = staged.name
    this.#applied = { index, term, confState }
    this.#named = true
    this.#options.onReplaced(old)
    this.#options.onApplied(index)
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#releaseAll()
    await this.#flushing?.catch(() => undefined)
    for (const { view } of this.#staged.values()) await view.close().catch(() => undefined)
    await this.#view.close()
  }
}

/** Whether a view is what a snapshot says of itself. */
export function isStateOf(view: ViewStore, { index, term, confState }: Snapshot): boolean {
  const found = readReplicaApplied(new CheckedView(view))
  return found.index === index && found.term === term && sameMembers(found.members ?? EMPTY_CONF_STATE, confState)
}

function sameMembers(a: ConfState, b: ConfState): boolean {
  const text = ({ voters, votersOutgoing, learners, learnersNext, autoLeave }: ConfState): string =>
    JSON.stringify([voters, votersOutgoing, learners, learnersNext, autoLeave])
  return text(a) === text(b)
}
