/**
 * The real LocalEngine, its logs on simulated drives and its views in memory, behind the same switches as
 * SimulatedMetadata. What outlives a process is `LocalMetadataStore`; a power cut takes from every view what its
 * last flush does not hold.
 */
import type { SimulatedDrive } from '../../ts/drive/simulated_io.js'
import type { Command } from '../../ts/meta/command.js'
import { MetadataError, type MetadataEngine } from '../../ts/meta/engine.js'
import { LocalEngine } from '../../ts/meta/local_engine.js'
import { SimulatedViewMedium } from '../../ts/meta/simulated_view.js'
import { SnapshotReader } from '../../ts/meta/snapshot_reader.js'
import type { ViewSnapshot } from '../../ts/meta/view_store.js'
import { SimulatedViews } from '../../ts/meta/views.js'
import type { Timer } from '../../ts/util/awake_timer.js'
import { randomInteger, type Random } from '../../ts/util/random.js'

export class LocalMetadataStore {
  views = new SimulatedViews()

  /** What the views' files hold after the process is gone; the old process can no longer reach it. */
  cut(how: 'kill' | 'powerCut', random: Random): void {
    const next = new SimulatedViews()
    for (const [path, medium] of this.views.media) {
      const commits = how === 'kill' ? medium.commits.length : randomInteger(random, medium.commits.length + 1)
      const copy = new SimulatedViewMedium()
      copy.flushed = { state: medium.flushed.state.clone(), position: medium.flushed.position }
      copy.commits = [...medium.commits]
      copy.cut(commits)
      next.media.set(path, copy)
    }
    this.views = next
  }
}

class EngineClientReader extends SnapshotReader {
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

  protected doubt(): void {
    this.release()
  }
}

export class LocalMetadata {
  readonly engine: LocalEngine
  readonly #copies: number
  readonly #readers: EngineClientReader[] = []
  /** The process is gone. */
  dead = false
  /** Called for every command before it is proposed; may throw MetadataError, or return a promise to hold it back. */
  before: (command: Command) => Promise<void> | void = () => undefined
  /** Called for every applied command; true: the proposer hears 'unknown' instead of the result. */
  loseAnswer: (command: Command) => boolean = () => false
  readonly notes: string[]

  private constructor(engine: LocalEngine, copies: number, notes: string[]) {
    this.engine = engine
    this.#copies = copies
    this.notes = notes
  }

  static async open(
    store: LocalMetadataStore,
    drives: ReadonlyMap<number, SimulatedDrive>,
    copies: number,
    now: () => number,
    timer: Timer,
  ): Promise<LocalMetadata> {
    const notes: string[] = []
    const engine = await LocalEngine.open({
      drives: [...drives].map(([number, drive]) => ({ number, io: drive.connect(), path: `/${String(number)}` })),
      copies,
      views: store.views,
      log: { fileSize: 1 << 20, timer },
      flushEveryMs: 20,
      replaceAfterMs: 0,
      now,
      note: (message) => notes.push(message),
    })
    return new LocalMetadata(engine, copies, notes)
  }

  /** Log records applied: progress, for the virtual clock. */
  get batches(): number {
    return this.engine.published.applied
  }

  client(): MetadataEngine {
    const { engine } = this
    const reader = new EngineClientReader(engine)
    this.#readers.push(reader)
    return {
      reader,
      propose: async (command, requestId) => {
        await this.before(command)
        if (this.dead) return await new Promise<never>(() => undefined)
        const result = engine.propose(command, requestId)
        // A process that is gone hears nothing.
        return await result.then(
          (value) => {
            if (this.loseAnswer(command)) throw new MetadataError('unknown', 'the answer is lost')
            return this.dead ? new Promise<never>(() => undefined) : value
          },
          (error: unknown) => (this.dead ? new Promise<never>(() => undefined) : Promise.reject(error as Error)),
        )
      },
      settled: () => Promise.resolve(),
      status: () => engine.status(),
      backup: (path, onProgress) => engine.backup(path, onProgress),
      close: () => Promise.resolve(),
    }
  }

  /** Makes the missing copies, as the engine does by itself when it is given time. */
  async remakeCopies(): Promise<void> {
    for (let i = 0; i < 20; i++) {
      const { copies } = await this.engine.status()
      if (copies.filter((copy) => copy.state === 'online').length >= this.#copies) return
      await this.engine.remakeCopies()
    }
  }

  die(): void {
    this.dead = true
    for (const reader of this.#readers) reader.release()
    // Its drives are dead too: nothing that it still does reaches anything.
    void this.engine.close().catch(() => undefined)
  }
}
