/**
 * Groups of small writes, one gate for each erasure set and thread. A group goes through two phases as one:
 *
 *   waiting ──► writing: shards, one batch per drive ──► committing: commands, one log batch ──► left
 *
 * Each phase has flushes of its own, so the fewer groups, the fewer flushes; and one group writes while the one before
 * it commits, so that neither the drives nor the metadata thread wait for the other. Without the gate a closed loop of
 * clients falls apart into ever smaller groups: the drives' batches end at different times, and so the next ones begin
 * at different times.
 *
 * What waits becomes the next group when nobody writes and
 * - nobody commits: all of it, at the end of the turn of the event loop. There is no timer;
 * - others commit, and as many wait as do that: half of both together, so that two groups of one size take turns.
 *   (Fewer go on waiting, at the longest until the others have left.)
 *
 * A group is announced to the metadata engine while it writes, so that the groups of several threads share a log batch.
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
  #writing = 0
  #committing = 0
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
    let phase: 'writing' | 'committing' | 'left' = 'writing'
    const wrote = (): void => {
      if (phase !== 'writing') return
      phase = 'committing'
      this.#committing++
      if (--this.#writing > 0) return
      this.#announced()
      this.#schedule()
    }
    const leave = (): void => {
      wrote()
      if (phase === 'left') return
      phase = 'left'
      this.#committing--
      this.#schedule()
    }
    return { wrote, leave }
  }

  /** At the end of the turn, so that all requests that came with it are of the same group. */
  #schedule(): void {
    if (this.#scheduled || this.#writing > 0 || this.#waiting.length === 0) return
    if (this.#waiting.length < this.#committing) return
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      const half = Math.ceil((this.#waiting.length + this.#committing) / 2)
      const group = this.#waiting.splice(0, this.#committing === 0 ? this.#waiting.length : half)
      this.#writing = group.length
      this.#announced = this.#announce()
      for (const begin of group) begin()
    })
  }
}
