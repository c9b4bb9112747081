/**
 * Groups of small writes, one for each erasure set and thread: a group goes from its shards to its acknowledgement as
 * one, and the next one starts when it has left. What comes meanwhile gathers.
 *
 *   waiting ──(nobody runs: at the end of the turn)──► shards: one batch per drive ──► commands: one log batch ──► left
 *
 * Without it a closed loop of clients falls apart into ever smaller groups, each with flushes of its own: the drives'
 * batches end at different times, and so the next ones begin at different times. A group is announced to the metadata
 * engine, so that the groups of several threads share a log batch. There is no timer: a write that finds nobody
 * running starts with the next turn of the event loop.
 */

/** One write in its group. */
export interface Turn {
  /** Its command was proposed, or will not be. */
  wrote(): void
  /** It has ended. Implies `wrote`. */
  leave(): void
}

export class CommitGate {
  readonly #announce: () => () => void
  /** Members of the running group, and those whose command is still to come. */
  #running = 0
  #writing = 0
  #announced: () => void = () => undefined
  #waiting: (() => void)[] = []
  #scheduled = false

  /** `announce` is called when a group starts, what it returns when all its commands were proposed. */
  constructor(announce: () => () => void = () => () => undefined) {
    this.#announce = announce
  }

  /** Resolves when the write may begin; `leave` must follow. */
  async enter(): Promise<Turn> {
    await new Promise<void>((resolve) => {
      this.#waiting.push(resolve)
      this.#schedule()
    })
    let writing = true
    let running = true
    const wrote = (): void => {
      if (!writing) return
      writing = false
      if (--this.#writing === 0) this.#announced()
    }
    const leave = (): void => {
      wrote()
      if (!running) return
      running = false
      this.#running--
      this.#schedule()
    }
    return { wrote, leave }
  }

  /** At the end of the turn, so that all requests that came with it are of the same group. */
  #schedule(): void {
    if (this.#running > 0 || this.#scheduled || this.#waiting.length === 0) return
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      const group = this.#waiting
      this.#waiting = []
      this.#running = group.length
      this.#writing = group.length
      this.#announced = this.#announce()
      for (const begin of group) begin()
    })
  }
}
