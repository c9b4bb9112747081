/**
 * A reader over snapshots: what it reads stays the same between two calls of `refresh`. A snapshot that is older
 * than MAX_AGE_MS is let go, because LMDB cannot use pages again that a snapshot still sees; the next read then
 * takes a new one.
 */
import { CheckedView } from './chain.js'
import type { StateReader } from './chain.js'
import { ViewReader } from './view_reader.js'
import type { ViewSnapshot } from './view_store.js'

const MAX_AGE_MS = 5_000

export abstract class SnapshotReader extends ViewReader {
  #snapshot: (ViewSnapshot & { release(): void }) | undefined
  #state: StateReader | undefined
  #timer: NodeJS.Timeout | undefined

  /** Takes a snapshot of the newest state. */
  protected abstract take(): ViewSnapshot & { release(): void }

  refresh(): void {
    this.release()
  }

  /** Lets the snapshot go; the next read takes a new one. */
  release(): void {
    this.#snapshot?.release()
    this.#snapshot = undefined
    this.#state = undefined
  }

  protected state(): StateReader {
    if (this.#state !== undefined) return this.#state
    this.#snapshot = this.take()
    this.#state = new CheckedView(this.#snapshot)
    const taken = this.#snapshot
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => {
      if (this.#snapshot === taken) this.release()
    }, MAX_AGE_MS)
    this.#timer.unref()
    return this.#state
  }
}
