/**
 * The metadata engine of one process: one voter, several copies.
 *
 * One loop does everything that changes state, so nothing here needs a lock:
 *
 *   queue -> batch -> log record appended and synced on all online copies at once -> applied to the primary view
 *         -> published -> results; the other views follow with the same raw writes
 *
 * While a batch is being synced the next one gathers, bounded by bytes and count; when idle a command goes at
 * once. What a batch will change is worked out while its logs sync; it is written to a view, and seen by anybody, only
 * once it is durable.
 *
 * A copy that fails or misses its deadline is taken out: a new copy set is durable on the drives that are left
 * before the batch is acknowledged. `rebuild.ts` makes copies anew.
 *
 * Invariants:
 * - A record is acknowledged when it is durable on every online copy and applied to the primary view.
 * - All copies apply the same raw writes in the same order.
 * - The log of a copy is released only up to what every view has flushed.
 */
import { Announced } from './announced.js'
import type { Batch, BatchOutcome } from './apply/apply.js'
import { applyBatch, decodeBatch, encodeBatch, encodeRequest } from './apply/apply.js'
import type { Command, CommandResult, Fence } from './command.js'
import { compareSlice } from './compare.js'
import type { CompareProgress } from './compare.js'
import { markUnclean, wipeCopy } from './copy.js'
import type { MetadataCopy } from './copy.js'
import { writeCopySet } from './copy_set.js'
import type { CopySet } from './copy_set.js'
import { DeadlineIo } from './deadline_io.js'
import type { MetaDrive } from './drive_files.js'
import { MetadataError } from './engine.js'
import type { MetadataCopyStatus, MetadataEngine, MetadataStatus } from './engine.js'
import { writeBackup } from './backup.js'
import { withDefaults } from './engine_options.js'
import type { EngineOptions, LocalEngineOptions } from './engine_options.js'
import { RECORD_COMMANDS } from './log/frame.js'
import type { LogRecord } from './log/frame.js'
import { Published } from './published.js'
import { makeCopy } from './rebuild.js'
import { MAX_REQUEST_ID } from './apply/requests.js'
import { openCopies } from './start.js'
import type { Started } from './start.js'
import { SnapshotReader } from './snapshot_reader.js'
import type { ViewSnapshot } from './view_store.js'

export type { LocalEngineOptions } from './engine_options.js'

const BATCH_COUNT = 512
const BATCH_BYTES = 1 << 20
/** A command may not be larger: it has to fit a frame. */
const MAX_COMMAND_BYTES = 8 << 20
/** How long a batch waits at most for commands that were announced. */
const HOLD_MS = 50
/**
 * What waits for a view that follows is worked off in pieces of this size, 0.3 ms each. Less costs more transactions;
 * four times as much slowed small PUTs by a tenth, since nobody is answered meanwhile.
 */
const BRING_ON_BYTES = 64 << 10
const RETRY_COPY_MS = 5_000
const STABLE_MS = 5 * 60_000

interface Waiting {
  /** Encoded (`encodeRequest`). */
  request: Uint8Array
  done: (outcome: CommandResult | MetadataError) => void
}

interface InFlight {
  waiting: Waiting[]
  record: LogRecord
  /** What applying it will give, worked out while the logs sync; undefined: still to be worked out. */
  foreseen?: Foreseen | undefined
}

interface Foreseen extends BatchOutcome {
  /** Whose view it was worked out from. */
  by: MetadataCopy
}

interface Task {
  run: () => void | Promise<void>
  /** Called instead of `run` when the engine has failed. */
  cancel: (error: MetadataError) => void
}

interface OutCopy {
  reason: string
  retryAtMs: number
  rebuilding: boolean
}

export class LocalEngine implements MetadataEngine {
  readonly published: Published = new Published()
  readonly reader: EngineReader
  readonly #options: EngineOptions
  readonly #drives = new Map<number, MetaDrive>()
  #copies: MetadataCopy[]
  #set: CopySet
  readonly #out = new Map<number, OutCopy>()
  #term: number
  #queue: Waiting[] = []
  #queuedBytes = 0
  #running: Promise<void> | undefined
  readonly #announced = new Announced()
  #gathered: () => void = () => undefined
  /** Work that needs the loop between two batches. */
  readonly #tasks: Task[] = []
  #failure: MetadataError | undefined
  #closed = false
  #timer: NodeJS.Timeout | undefined
  #care: Promise<void> | undefined
  #shortSinceMs: number | undefined
  #making = false
  readonly #openedMs: number
  #stable = false
  /** Drives known to hold no copy. */
  readonly #clean = new WeakSet<MetaDrive>()
  /** Log index that must stay because a copy is being made from it. */
  #keepFrom = Infinity

  private constructor(options: EngineOptions, drives: readonly MetaDrive[], { set, copies, lost }: Started) {
    this.#options = options
    this.#openedMs = options.now()
    for (const drive of drives) this.#drives.set(drive.number, drive)
    this.#set = set
    this.#copies = copies
    this.#term = Math.max(...copies.map(({ log }) => log.lastTerm)) + 1
    for (const number of lost) {
      this.#out.set(number, { reason: 'left out at the start', retryAtMs: 0, rebuilding: false })
    }
    this.reader = new EngineReader(this)
    this.#publishPrimary()
    this.published.setApplied(this.#primary.applied)
  }

  /** Throws MetadataError: 'unavailable' (drives missing), 'corrupt' (nothing can be trusted). */
  static async open(given: LocalEngineOptions): Promise<LocalEngine> {
    const options = withDefaults(given)
    const drives = given.drives.map((drive) => bounded(drive, options))
    const engine = new LocalEngine(options, drives, await openCopies(drives, options))
    engine.#schedule()
    return engine
  }

  /** A snapshot of the primary view that stays until released. */
  snapshot(): ViewSnapshot & { release(): void } {
    return this.#primary.view.snapshot()
  }

  /** Why the engine takes no commands any more; it stays so until it is opened anew. */
  get failure(): MetadataError | undefined {
    return this.#failure
  }

  get drives(): readonly MetaDrive[] {
    return [...this.#drives.values()]
  }

  propose(command: Command, requestId?: string, fence?: Fence): Promise<CommandResult> {
    if (requestId !== undefined && (requestId === '' || Buffer.byteLength(requestId) > MAX_REQUEST_ID)) {
      return Promise.reject(new MetadataError('unavailable', `a request id has 1 to ${String(MAX_REQUEST_ID)} bytes`))
    }
    return new Promise((resolve, reject) => {
      this.proposeEncoded(encodeRequest(command, requestId, fence), (outcome) => {
        if (outcome instanceof MetadataError) reject(outcome)
        else resolve(outcome)
      })
    })
  }

  proposeEncoded(request: Uint8Array, done: (outcome: CommandResult | MetadataError) => void): void {
    const refusal = this.#refusal(request)
    if (refusal !== undefined) {
      done(refusal)
      return
    }
    this.#queue.push({ request, done })
    this.#queuedBytes += request.length
    this.#wake()
  }

  /** Why this request cannot be taken now. */
  #refusal({ length }: Uint8Array): MetadataError | undefined {
    if (this.#failure !== undefined) return unavailable(this.#failure)
    if (this.#closed) return new MetadataError('unavailable', 'the engine is closed')
    const { maxQueued, maxQueuedBytes } = this.#options
    if (length > MAX_COMMAND_BYTES) return new MetadataError('unavailable', 'the command is too large')
    if (this.#queue.length < maxQueued && this.#queuedBytes + length <= maxQueuedBytes) return undefined
    return new MetadataError('overloaded', `${String(this.#queue.length)} commands are waiting`)
  }

  settled(): Promise<void> {
    return Promise.resolve()
  }

  status(): Promise<MetadataStatus> {
    this.reader.refresh()
    const copies = this.#copies.map((copy): MetadataCopyStatus => ({
      drive: copy.drive.number,
      state: 'online',
      reason: '',
      durable: copy.log.lastIndex,
      applied: copy.applied,
      logBytes: copy.log.bytes,
      viewBytes: copy.view.sizeBytes(),
      primary: copy === this.#primary,
    }))
    for (const [drive, { reason, rebuilding }] of this.#out) {
      const state = rebuilding ? 'rebuilding' : 'offline'
      copies.push({ drive, state, reason, durable: 0, applied: 0, logBytes: 0, viewBytes: 0, primary: false })
    }
    return Promise.resolve({
      engine: 'local',
      term: this.#term,
      committed: this.#primary.log.lastIndex,
      applied: this.#primary.applied,
      queued: this.#queue.length,
      copies,
      featureLevel: this.reader.cluster()?.featureLevel ?? 0,
      collectionEnabled: this.reader.collectionEnabled(),
    })
  }

  /** A drive that is here now, new or returned. It gets a copy when one is missing; a stale copy on it is removed. */
  addDrive(drive: MetaDrive): void {
    this.#task(() => {
      this.#drives.set(drive.number, bounded(drive, this.#options))
      const out = this.#out.get(drive.number)
      if (out !== undefined) out.retryAtMs = 0
    })
  }

  /** A drive that cannot be used any more. */
  removeDrive(number: number, reason: string): void {
    this.#task(async () => {
      this.#drives.delete(number)
      const copy = this.#copies.find(({ drive }) => drive.number === number)
      if (copy !== undefined) await this.#takeOut(new Map([[copy, reason]]))
    })
  }

  /** A reader has found the view of this generation damaged: another copy takes its place, and it is remade. */
  doubt(generation: number, reason: string): void {
    this.#task(async () => {
      if (generation !== this.published.generation || this.#copies.length < 2) return
      await this.#takeOut(new Map([[this.#primary, `its view is damaged: ${reason}`]]))
    })
  }

  async backup(
    path: string,
    onProgress?: (done: number, total: number) => void,
  ): Promise<{ position: number; records: number }> {
    const snapshot = this.snapshot()
    try {
      return await writeBackup(snapshot, path, this.#primary.view.count(), onProgress)
    } finally {
      snapshot.release()
    }
  }

  /**
   * Walks all views and logs in slices and compares them. What is bad is taken out and remade; the number of
   * records and what was found is returned. `pause` is awaited between slices: the throttle.
   */
  async compareCopies(
    pause: () => Promise<void>,
    onProgress?: (progress: CompareProgress) => void,
  ): Promise<CompareProgress> {
    const progress: CompareProgress = { records: 0, total: this.#primary.view.count(), bad: [] }
    let from: Buffer | undefined
    do {
      const next: { from: Buffer | undefined } = await this.#inLoop(async () => {
        const verdict = compareSlice(this.#copies, this.#primary, from)
        progress.records += verdict.records
        progress.bad.push(...[...verdict.bad].map(([copy, reason]) => ({ drive: copy.drive.number, reason })))
        await this.#takeOutBad(verdict.bad)
        return { from: verdict.next }
      })
      from = next.from
      onProgress?.(progress)
      await pause()
    } while (from !== undefined)
    for (const copy of this.#copies.slice()) {
      await copy.log.verify().catch(async (error: unknown) => {
        if (!this.#copies.includes(copy)) return
        progress.bad.push({ drive: copy.drive.number, reason: String(error) })
        await this.#inLoop(() => this.#takeOutBad(new Map([[copy, String(error)]])))
      })
      await pause()
    }
    onProgress?.(progress)
    return progress
  }

  /** Makes all views durable now. */
  async flush(): Promise<void> {
    await this.#inLoop(() => undefined)
    await this.#flushViews()
  }

  /** What was proposed is finished first. Then views are flushed and the copies closed cleanly. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    clearTimeout(this.#timer)
    // A drive that hangs does not keep the process from ending.
    const { deadlineMs } = this.#options
    await this.#running
    await within(deadlineMs, this.#care ?? Promise.resolve()).catch(() => undefined)
    await within(deadlineMs, this.#running ?? Promise.resolve()).catch(() => undefined)
    this.reader.release()
    for (const copy of this.#copies) {
      const clean = this.#failure === undefined
      await within(deadlineMs, copy.close(clean)).catch((error: unknown) => {
        this.#options.note(`metadata copy on drive ${String(copy.drive.number)}: ${String(error)}`)
      })
    }
  }

  get #primary(): MetadataCopy {
    return this.#copies[0] as MetadataCopy
  }

  #wake(): void {
    if (this.#running !== undefined) return
    // In the next microtask, so that the commands of this turn go together.
    this.#running = Promise.resolve().then(() => this.#run()).finally(() => {
      this.#running = undefined
      if (this.#failure === undefined && (this.#queue.length > 0 || this.#tasks.length > 0)) this.#wake()
    })
  }

  #task(run: () => void | Promise<void>, cancel: (error: MetadataError) => void = (): void => undefined): void {
    if (this.#failure !== undefined) {
      cancel(unavailable(this.#failure))
      return
    }
    this.#tasks.push({ run, cancel })
    this.#wake()
  }

  /** Runs `work` between two batches. */
  #inLoop<T>(work: () => T | Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#task(async () => {
        try {
          resolve(await work())
        } catch (error) {
          reject(error instanceof Error ? error : new Error(String(error)))
        }
      }, reject)
    })
  }

  /** A client's group of writes is on its way: what others proposed waits for it, so that one flush serves both. */
  expect(client: object, announced: boolean): void {
    this.#announced.say(client, announced, this.#queue.length > 0)
    if (!this.#announced.awaited) this.#gathered()
  }

  /** Until nothing is announced any more, or HOLD_MS have passed: a drive that hangs must not stop the others. */
  async #gather(): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    await new Promise<void>((resolve) => {
      this.#gathered = resolve
      timer = setTimeout(() => {
        this.#announced.giveUp()
        resolve()
      }, HOLD_MS)
    })
    clearTimeout(timer)
    this.#gathered = (): void => undefined
  }

  async #run(): Promise<void> {
    let done: InFlight | undefined
    for (;;) {
      if (done !== undefined) {
        this.#apply(done)
        done = undefined
        // Answers leave before the next batch goes to the logs: whoever has one goes on with the next write meanwhile.
        await Promise.resolve()
      }
      if (this.#announced.awaited && this.#queue.length > 0 && this.#tasks.length === 0 && !this.#closed) {
        await this.#gather()
      }
      const next = this.#tasks.length > 0 || this.#failure !== undefined ? undefined : this.#take()
      if (next !== undefined) {
        const durable = this.#append(next)
        next.foreseen = this.#foresee(next.record)
        this.#bringOn()
        if (await durable) done = next
        continue
      }
      const task = this.#tasks.shift()
      if (task !== undefined) {
        try {
          await task.run()
        } catch (error) {
          this.#fail(new MetadataError('unavailable', `a change of copies failed: ${String(error)}`, { cause: error }))
        }
      } else if (this.#queue.length === 0 || this.#failure !== undefined) {
        return
      } else {
        // Commands wait and nothing is in flight: the next round takes them.
        await Promise.resolve()
      }
    }
  }

  /** The next batch, as the log will hold it. */
  #take(): InFlight | undefined {
    if (this.#queue.length === 0) return undefined
    let count = 0
    let bytes = 0
    while (count < this.#queue.length && count < BATCH_COUNT && (count === 0 || bytes < BATCH_BYTES)) {
      bytes += this.#queue[count]?.request.length ?? 0
      count++
    }
    const waiting = this.#queue.splice(0, count)
    this.#queuedBytes -= bytes
    this.#announced.taken()
    const payload = encodeBatch(this.#options.now(), waiting.map(({ request }) => request))
    const index = this.#primary.log.lastIndex + 1
    return { waiting, record: { type: RECORD_COMMANDS, group: 0, epoch: 0, term: this.#term, index, payload } }
  }

  /** Durable on every copy that is then online: true. False: the outcome is unknown and was said. */
  async #append({ waiting, record }: InFlight): Promise<boolean> {
    const copies = this.#copies.slice()
    const outcomes = await Promise.allSettled(copies.map(({ log }) => log.append([record])))
    const bad = new Map<MetadataCopy, string>()
    for (const [at, outcome] of outcomes.entries()) {
      if (outcome.status === 'rejected')
        bad.set(copies[at] as MetadataCopy, `its log failed: ${String(outcome.reason)}`)
    }
    if (bad.size === 0) return true
    try {
      await this.#takeOut(bad)
      return true
    } catch (error) {
      for (const { done } of waiting) done(new MetadataError('unknown', String(error), { cause: error }))
      return false
    }
  }

  /**
   * Works out what the next record changes, which changes nothing yet: no view is written before the record is durable.
   * What goes wrong here goes wrong again when the record is applied, and is judged there.
   */
  #foresee(record: LogRecord): Foreseen | undefined {
    const copy = this.#primary
    try {
      copy.drain()
      if (this.#failure !== undefined || copy.applied !== record.index - 1) return undefined
      const batch = decodeBatch(record.payload)
      return { by: copy, ...applyBatch(copy.view, { index: record.index, term: record.term }, batch) }
    } catch {
      return undefined
    }
  }

  /** Applies a durable batch and answers. */
  #apply({ waiting, record, foreseen }: InFlight): void {
    try {
      const results = this.#applyToViews(record, foreseen)
      this.published.setApplied(record.index)
      for (const [at, { done }] of waiting.entries()) done(results[at] as CommandResult)
    } catch (error) {
      this.#fail(new MetadataError('corrupt', `record ${String(record.index)} cannot be applied`, { cause: error }))
      for (const { done } of waiting) done(new MetadataError('unknown', String(error), { cause: error }))
    }
  }

  /** The first copy whose view is sound applies, as was foreseen from this very view; the others follow. */
  #applyToViews(record: LogRecord, foreseen: Foreseen | undefined): CommandResult[] {
    const failed = new Map<MetadataCopy, string>()
    let batch: Batch | undefined
    for (const copy of this.#copies) {
      try {
        copy.drain()
        const position = { index: record.index, term: record.term }
        const { results, writes } = foreseen?.by === copy
          ? foreseen
          : applyBatch(copy.view, position, (batch ??= decodeBatch(record.payload)))
        copy.commit(writes, record.index)
        for (const other of this.#copies) {
          if (other === copy || failed.has(other)) continue
          try {
            other.follow(writes, record.index)
          } catch (error) {
            failed.set(other, `its view failed: ${String(error)}`)
          }
        }
        if (failed.size > 0) this.#laterTakeOut(failed, copy)
        return results
      } catch (error) {
        failed.set(copy, `its view failed: ${String(error)}`)
        if (failed.size === this.#copies.length) throw error
      }
    }
    throw new MetadataError('corrupt', 'there is no view')
  }

  /** While the logs sync: the view that is furthest behind takes what it lacks. One at a time keeps it short. */
  #bringOn(): void {
    let last: MetadataCopy | undefined
    for (const copy of this.#copies) if (copy.pendingBytes > (last?.pendingBytes ?? BRING_ON_BYTES)) last = copy
    try {
      last?.drain()
    } catch (error) {
      this.#laterTakeOut(new Map([[last as MetadataCopy, `its view failed: ${String(error)}`]]), this.#primary)
    }
  }

  /** Readers move to `primary` at once; the copies that failed leave between batches. */
  #laterTakeOut(failed: Map<MetadataCopy, string>, primary: MetadataCopy): void {
    if (primary !== this.#primary) {
      this.#copies = [primary, ...this.#copies.filter((copy) => copy !== primary)]
      this.reader.release()
      this.#publishPrimary()
    }
    this.#tasks.unshift({ run: () => this.#takeOut(failed), cancel: () => undefined })
  }

  async #takeOutBad(bad: Map<MetadataCopy, string>): Promise<void> {
    if (bad.size > 0 && bad.size < this.#copies.length) await this.#takeOut(bad)
  }

  /**
   * Goes on without these copies: the new copy set is durable on all that stay before this resolves. Throws, and
   * the engine has failed, when none stays.
   */
  async #takeOut(bad: Map<MetadataCopy, string>): Promise<void> {
    const gone = new Map([...bad].filter(([copy]) => this.#copies.includes(copy)))
    if (gone.size === 0) return
    for (;;) {
      const staying = this.#copies.filter((copy) => !gone.has(copy))
      if (staying.length === 0) {
        const reasons = [...gone].map(([copy, reason]) => `drive ${String(copy.drive.number)}: ${reason}`).join('; ')
        const error = new MetadataError('unavailable', `no metadata copy is left (${reasons})`)
        this.#fail(error)
        throw error
      }
      const set = { generation: this.#set.generation + 1, members: staying.map(({ drive }) => drive.number) }
      this.#set = set
      const failed = await writeCopySet(this.drives, set, this.#options.deadlineMs)
      const worse = staying.filter(({ drive }) => failed.has(drive.number))
      for (const copy of worse) gone.set(copy, `it did not take the copy set: ${String(failed.get(copy.drive.number))}`)
      if (worse.length === 0) break
    }
    const before = this.#primary
    this.#copies = this.#copies.filter((copy) => !gone.has(copy))
    if (this.#primary !== before) {
      this.#primary.drain()
      this.reader.release()
      this.#publishPrimary()
    }
    for (const [copy, reason] of gone) {
      this.#clean.delete(copy.drive)
      this.#noteOut(copy.drive.number, reason)
      void copy.close(false).catch(() => undefined)
    }
  }

  #noteOut(drive: number, reason: string): void {
    this.#out.set(drive, { reason, retryAtMs: this.#options.now() + RETRY_COPY_MS, rebuilding: false })
    this.#options.note(`metadata copy on drive ${String(drive)} is out: ${reason}`)
  }

  #publishPrimary(): void {
    const { drive, viewName } = this.#primary
    this.published.setPrimary(drive.number, this.#options.views.path(drive, viewName))
  }

  #fail(error: MetadataError): void {
    if (this.#failure !== undefined) return
    this.#failure = error
    this.#options.note(error.message)
    for (const { done } of this.#queue) done(unavailable(error))
    this.#queue = []
    this.#queuedBytes = 0
    for (const { cancel } of this.#tasks.splice(0)) cancel(unavailable(error))
  }

  #schedule(): void {
    this.#timer = setTimeout(() => {
      this.#care = this.#takeCare().finally(() => {
        if (!this.#closed && this.#failure === undefined) this.#schedule()
      })
    }, this.#options.flushEveryMs)
    this.#timer.unref()
  }

  /** The regular work: flush views, release logs, make missing copies. */
  async #takeCare(): Promise<void> {
    try {
      await this.#flushViews()
      await this.remakeCopies()
      await this.#removeStale()
      await this.#noteStable()
    } catch (error) {
      this.#options.note(`metadata: ${String(error)}`)
    }
  }

  async #flushViews(): Promise<void> {
    const failed = new Map<MetadataCopy, string>()
    await Promise.all(
      this.#copies.map((copy) =>
        copy.flush().catch((error: unknown) => {
          if (this.#copies.includes(copy)) failed.set(copy, `its view cannot be made durable: ${String(error)}`)
        }),
      ),
    )
    if (failed.size > 0) await this.#inLoop(() => this.#takeOut(failed))
    const flushed = Math.min(this.#keepFrom, ...this.#copies.map(({ view }) => view.flushedPosition))
    for (const copy of this.#copies) await copy.log.release(flushed, this.#options.trailingLogBytes)
  }

  /** Makes one missing copy, when a drive for it is here. True when one was made. */
  async remakeCopies(): Promise<boolean> {
    if (this.#copies.length >= this.#options.copies) {
      this.#shortSinceMs = undefined
      this.#out.clear()
      return false
    }
    const drive = this.#driveForCopy()
    if (drive === undefined || this.#making || this.#closed) return false
    this.#making = true
    this.#clean.delete(drive)
    const out = this.#out.get(drive.number) ?? { reason: 'a new copy', retryAtMs: 0, rebuilding: true }
    out.rebuilding = true
    this.#out.set(drive.number, out)
    try {
      this.#keepFrom = this.#primary.applied
      const copy = await makeCopy(drive, this.#options, {
        source: () => this.#primary,
        betweenBatches: (work) => this.#inLoop(work),
        stopped: () => this.#closed,
        join: (joining) => this.#join(joining),
      })
      this.#options.note(`metadata copy on drive ${String(copy.drive.number)} is remade`)
      return true
    } catch (error) {
      out.rebuilding = false
      out.retryAtMs = this.#options.now() + RETRY_COPY_MS
      out.reason = `it cannot be made: ${String(error)}`
      this.#options.note(`metadata copy on drive ${String(drive.number)}: ${out.reason}`)
      return false
    } finally {
      this.#keepFrom = Infinity
      this.#making = false
    }
  }

  /** Removes what is left of a copy on a drive that is no member, once enough copies are online. */
  async #removeStale(): Promise<void> {
    if (this.#copies.length < this.#options.copies || this.#making) return
    for (const drive of this.drives) {
      if (this.#clean.has(drive) || this.#copies.some((copy) => copy.drive.number === drive.number)) continue
      if (await wipeCopy(drive, this.#options.views)) {
        this.#options.note(`drive ${String(drive.number)}: a stale metadata copy was removed`)
      }
      this.#clean.add(drive)
    }
  }

  /** After a while without a crash, an unclean stop is the first again. */
  async #noteStable(): Promise<void> {
    if (this.#stable || this.#options.now() - this.#openedMs < STABLE_MS) return
    this.#stable = true
    for (const { drive } of this.#copies) await markUnclean(drive)
  }

  /** Called between batches with a copy that has every record. */
  async #join(copy: MetadataCopy): Promise<void> {
    const copies = [...this.#copies, copy]
    const set = { generation: this.#set.generation + 1, members: copies.map(({ drive }) => drive.number) }
    const failed = await writeCopySet(this.drives, set, this.#options.deadlineMs)
    this.#set = set
    this.#copies = copies
    this.#out.delete(copy.drive.number)
    const bad = copies.filter(({ drive }) => failed.has(drive.number))
    if (bad.length > 0) await this.#takeOut(new Map(bad.map((one) => [one, 'it did not take the copy set'])))
  }

  /** A drive that had a copy first; another one when the copy stays away. */
  #driveForCopy(): MetaDrive | undefined {
    const now = this.#options.now()
    this.#shortSinceMs ??= now
    const free = this.drives.filter(({ number }) => !this.#copies.some(({ drive }) => drive.number === number))
    const ready = free.filter(({ number }) => (this.#out.get(number)?.retryAtMs ?? 0) <= now)
    const former = ready.find(({ number }) => this.#out.has(number))
    if (former !== undefined) return former
    return now - this.#shortSinceMs >= this.#options.replaceAfterMs ? ready[0] : undefined
  }
}

/** Rejects when `work` takes longer than `ms`. */
async function within(ms: number, work: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new Error(`not done after ${String(ms)} ms`))
    }, ms)
  })
  try {
    await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}

/** Whatever a drive is asked for, it is not waited for for ever. */
function bounded(drive: MetaDrive, { careDeadlineMs }: EngineOptions): MetaDrive {
  return { ...drive, io: new DeadlineIo(drive.io, careDeadlineMs) }
}

function unavailable(cause: MetadataError): MetadataError {
  return new MetadataError('unavailable', `the engine has stopped: ${cause.message}`, { cause })
}

/** Reads in the engine's own thread. */
class EngineReader extends SnapshotReader {
  readonly #engine: LocalEngine

  constructor(engine: LocalEngine) {
    super()
    this.#engine = engine
  }

  get publishedPosition(): number {
    return this.#engine.published.applied
  }

  protected take(): ViewSnapshot & { release(): void } {
    return this.#engine.snapshot()
  }

  protected doubt(error: unknown): void {
    this.release()
    if (error instanceof MetadataError && error.code === 'corrupt') {
      this.#engine.doubt(this.#engine.published.generation, error.message)
    }
  }
}
