/**
 * Time that passes only when nothing else happens: `run` lets the work of a promise go on turn by turn, and when no
 * progress is seen for a while it moves the clock to the next timer. Deadlines and pauses cost nothing then.
 */
import type { Clock } from '../../ts/erasure/clock.js'

/** Turns without progress before time moves; more than any chain of turns that makes none. */
const QUIET_TURNS = 60
const STUCK_TURNS = 20_000

export class VirtualClock implements Clock {
  #now = 0
  #timers = new Set<{ at: number; fn: () => void }>()
  /** Anything that grows while there is progress, such as operations done. */
  readonly #progress: () => number
  /** Time that passes with every turn, for when something is always busy. */
  turnMs = 0

  constructor(progress: () => number = () => 0) {
    this.#progress = progress
  }

  now(): number {
    return this.#now
  }

  after(ms: number, fn: () => void): () => void {
    const timer = { at: this.#now + ms, fn }
    this.#timers.add(timer)
    return () => {
      this.#timers.delete(timer)
    }
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.after(ms, resolve)
    })
  }

  /** Moves the clock on; timers that become due fire in order. */
  advance(ms: number): void {
    const end = this.#now + ms
    for (;;) {
      const due = this.#first()
      if (due === undefined || due.at > end) break
      this.#fire(due)
    }
    this.#now = end
  }

  /** The outcome of `work`, with time moving whenever it waits for time. */
  async run<T>(work: Promise<T>): Promise<T> {
    let settled = false
    const done = work.finally(() => {
      settled = true
    })
    done.catch(() => undefined)
    let quiet = 0
    let stuck = 0
    let seen = this.#progress()
    while (!settled) {
      await new Promise((resolve) => setImmediate(resolve))
      if (this.turnMs > 0) this.advance(this.turnMs)
      const now = this.#progress()
      quiet = now === seen ? quiet + 1 : 0
      seen = now
      if (quiet < QUIET_TURNS) continue
      const due = this.#first()
      if (due !== undefined) {
        quiet = 0
        stuck = 0
        this.#fire(due)
      } else if (++stuck > STUCK_TURNS) {
        throw new Error('the simulation is stuck: nothing moves and no timer waits')
      }
    }
    return await done
  }

  #first(): { at: number; fn: () => void } | undefined {
    let first: { at: number; fn: () => void } | undefined
    for (const timer of this.#timers) if (first === undefined || timer.at < first.at) first = timer
    return first
  }

  #fire(timer: { at: number; fn: () => void }): void {
    this.#timers.delete(timer)
    this.#now = Math.max(this.#now, timer.at)
    timer.fn()
  }
}
