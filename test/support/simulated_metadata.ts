/**
 * A MetadataEngine for tests of the layers above it: the real `apply`, records and readers over a view in memory, and
 * a proposer that keeps the engine's promises and can break off in every way they allow.
 *
 * What was answered survives a crash. What was not answered may have been applied or not, drawn at the crash.
 */
import { applyBatch, type Batch } from '../../ts/meta/apply/apply.js'
import { CheckedView, emptyView, type StateReader } from '../../ts/meta/chain.js'
import type { Command, CommandResult } from '../../ts/meta/command.js'
import { MetadataError, type MetadataEngine, type MetadataStatus } from '../../ts/meta/engine.js'
import { pack, unpack } from '../../ts/meta/record.js'
import { SimulatedView, SimulatedViewMedium } from '../../ts/meta/simulated_view.js'
import { ViewReader } from '../../ts/meta/view_reader.js'
import type { ViewSnapshot } from '../../ts/meta/view_store.js'
import type { Random } from '../../ts/util/random.js'

interface Pending {
  command: Command
  requestId: string
  resolve: (result: CommandResult) => void
  reject: (error: Error) => void
}

/** The state that outlives processes: one log position after another, each whole. */
export class SimulatedMetadataStore {
  readonly view: SimulatedView
  index = 0
  /** Processes so far: part of request ids, which must be unique for ever. */
  processes = 0
  #snapshot: { index: number; snapshot: ViewSnapshot } | undefined

  constructor() {
    this.view = new SimulatedView(new SimulatedViewMedium())
    this.view.commit(emptyView())
  }

  apply(requests: Batch['requests'], timeMs: number): CommandResult[] {
    this.index++
    const batch = unpack(pack({ timeMs, requests })) as Batch
    const { results, writes } = applyBatch(this.view, { index: this.index, term: 1 }, batch)
    this.view.commit(writes)
    return results
  }

  snapshot(): ViewSnapshot {
    if (this.#snapshot?.index !== this.index) {
      this.#snapshot = { index: this.index, snapshot: this.view.snapshot() }
    }
    return this.#snapshot.snapshot
  }
}

class SnapshotReader extends ViewReader {
  readonly #store: SimulatedMetadataStore
  #state: StateReader
  doubts = 0

  constructor(store: SimulatedMetadataStore) {
    super()
    this.#store = store
    this.#state = new CheckedView(store.snapshot())
  }

  protected state(): StateReader {
    return this.#state
  }

  protected doubt(): void {
    this.doubts++
  }

  refresh(): void {
    this.#state = new CheckedView(this.#store.snapshot())
  }

  get publishedPosition(): number {
    return this.#store.index
  }
}

/** One process's engine; every thread of it has a client. */
export class SimulatedMetadata {
  readonly store: SimulatedMetadataStore
  readonly #random: Random
  #queue: Pending[] = []
  #scheduled = false
  #dead = false
  readonly #process: number
  #lastRequest = 0
  /** Called for every command before it is queued; may throw MetadataError, or return a promise to hold it back. */
  before: (command: Command) => Promise<void> | void = () => undefined
  /** Called for every applied command; true: the proposer hears 'unknown' instead of the result. */
  loseAnswer: (command: Command) => boolean = () => false
  /** Batches applied: progress, for the virtual clock. */
  batches = 0

  constructor(store: SimulatedMetadataStore, random: Random) {
    this.store = store
    this.#process = ++store.processes
    this.#random = random
  }

  client(): MetadataEngine {
    const reader = new SnapshotReader(this.store)
    return {
      reader,
      propose: (command, requestId) => this.#propose(command, requestId),
      settled: () => Promise.resolve(),
      status: () => this.#status(reader),
      backup: () => Promise.reject(new Error('a simulated view has no files')),
      close: () => Promise.resolve(),
    }
  }

  /** The process ends: what waits is applied or not, and nobody hears of it. */
  die(): void {
    this.#dead = true
    const kept = Math.floor(this.#random() * (this.#queue.length + 1))
    const requests = this.#queue.slice(0, kept).map(({ command, requestId }) => ({ command, requestId }))
    this.#queue = []
    if (requests.length > 0) this.store.apply(requests, 0)
  }

  async #propose(command: Command, requestId = this.#newRequestId()): Promise<CommandResult> {
    await this.before(command)
    if (this.#dead) return await new Promise<never>(() => undefined)
    return await new Promise<CommandResult>((resolve, reject) => {
      this.#queue.push({ command, requestId, resolve, reject })
      if (this.#scheduled) return
      this.#scheduled = true
      setImmediate(() => { this.#applyQueue() })
    })
  }

  #newRequestId(): string {
    return `${String(this.#process)}-${String(++this.#lastRequest)}`
  }

  #applyQueue(): void {
    this.#scheduled = false
    if (this.#dead) return
    const queue = this.#queue
    this.#queue = []
    this.batches++
    const results = this.store.apply(queue.map(({ command, requestId }) => ({ command, requestId })), Date.now())
    for (const [i, { command, resolve, reject }] of queue.entries()) {
      const result = results[i]
      if (result === undefined || this.loseAnswer(command)) reject(new MetadataError('unknown', 'the answer is lost'))
      else resolve(result)
    }
  }

  #status(reader: SnapshotReader): Promise<MetadataStatus> {
    reader.refresh()
    return Promise.resolve({
      engine: 'local',
      term: 1,
      committed: this.store.index,
      applied: this.store.index,
      queued: this.#queue.length,
      copies: [],
      featureLevel: 1,
      collectionEnabled: reader.collectionEnabled(),
    })
  }
}
