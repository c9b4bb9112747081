/**
 * A reader over snapshots: what it reads stays the same between two calls of `refresh`, which keeps the snapshot while
 * nothing newer has been published. A snapshot that is older than MAX_AGE_MS is let go, because LMDB cannot use pages
 * again that a snapshot still sees; the next read then takes a new one.
 */
import { readApplied } from './apply/apply.js'
import { CheckedView } from './chain.js'
import type { StateReader } from './chain.js'
import { ViewReader } from './view_reader.js'
import type { ViewSnapshot } from './view_store.js'

const MAX_AGE_MS = 5_000

export abstract class SnapshotReader extends ViewReader {
  #snapshot: (ViewSnapshot & { release(): void }) | undefined
  #state: StateReader | undefined
  /** Applied index of the snapshot. */
  #index = -1
  #timer: NodeJS.Timeout | undefined

  /** Takes a snapshot of the newest state. */
  protected abstract take(): ViewSnapshot & { release(): void }

  /** Told the position of the snapshot that was taken; throws when it cannot be that. */
  protected checkPosition(_index: number): void {
    // Where the engine itself reads, there is nothing to compare it with.
  }

  /** False once the view that snapshots are taken of is another one. */
  protected current(): boolean {
    return true
  }

  refresh(): void {
    if (this.#state !== undefined && this.#index >= this.publishedPosition && this.current()) return
    this.release()
  }

  override get position(): number {
    return this.#state === undefined ? super.position : this.#index
  }

  /** Lets the snapshot go; the next read takes a new one. */
  release(): void {
    this.#snapshot?.release()
    this.#snapshot = undefined
    this.#state = undefined
  }

  protected state(): StateReader {
    if (this.#state !== undefined) return this.#state
    const taken = this.take()
    this.#snapshot = taken
    const state = new CheckedView(taken)
    this.#index = readApplied(state).index
    this.checkPosition(this.#index)
    this.#state = state
    // One timer for all snapshots: a new one comes with every batch.
    this.#timer ??= setTimeout(() => { this.release() }, MAX_AGE_MS).unref()
    this.#timer.refresh()
    return state
  }
}
