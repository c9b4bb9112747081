/**
 * The bandwidth limit that all background jobs of a process's background thread share: a bucket that fills
 * with `bytesPerSecond` and holds at most one second's worth. Whoever takes more than there is waits in line,
 * so a large piece of work is followed by a pause of its length. 0 means no limit.
 */
import type { Clock } from '../../erasure/clock.js'

export class Throttle {
  readonly #clock: Clock
  #bytesPerSecond: number
  /** When the bytes taken so far are paid for, by the clock. */
  #paidAt: number
  #taken = 0
  #windowAt: number
  #windowTaken = 0
  #used = 0
  readonly #waiting = new Set<() => void>()

  constructor(clock: Clock, bytesPerSecond: number) {
    this.#clock = clock
    this.#bytesPerSecond = bytesPerSecond
    this.#paidAt = clock.now()
    this.#windowAt = clock.now()
  }

  get limit(): number {
    return this.#bytesPerSecond
  }

  /** Takes effect for what is taken from now on; whoever waits is let go. */
  set limit(bytesPerSecond: number) {
    this.#bytesPerSecond = bytesPerSecond
    this.#paidAt = this.#clock.now()
    for (const go of [...this.#waiting]) go()
  }

  /** Bytes taken since the start. */
  get taken(): number {
    return this.#taken
  }

  /** Bytes per second over the last few seconds. */
  get used(): number {
    this.#roll()
    return Math.round(this.#used)
  }

  /** Resolves when the bytes may be moved. */
  async take(bytes: number): Promise<void> {
    this.#taken += bytes
    this.#windowTaken += bytes
    this.#roll()
    if (this.#bytesPerSecond <= 0) return
    const now = this.#clock.now()
    const wait = Math.max(this.#paidAt, now - 1000) - now
    this.#paidAt = now + wait + (bytes * 1000) / this.#bytesPerSecond
    if (wait <= 0) return
    await new Promise<void>((resolve) => {
      const go = (): void => {
        cancel()
        this.#waiting.delete(go)
        resolve()
      }
      const cancel = this.#clock.after(wait, go)
      this.#waiting.add(go)
    })
  }

  /** Ends every wait, as at shutdown. */
  release(): void {
    this.limit = 0
  }

  #roll(): void {
    const elapsed = this.#clock.now() - this.#windowAt
    if (elapsed < 2000) return
    this.#used = (this.#windowTaken * 1000) / elapsed
    this.#windowTaken = 0
    this.#windowAt = this.#clock.now()
  }
}
