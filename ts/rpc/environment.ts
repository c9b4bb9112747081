/** What connections need from the outside, so that tests decide over time and chance. */
import { randomBytes } from 'node:crypto'

export interface Clock {
  /** Monotonic milliseconds. */
  now(): number
  /** Calls `run` once, after `ms`; the returned function cancels. */
  after(ms: number, run: () => void): () => void
}

export interface Environment {
  clock: Clock
  /** Uniform in [0, 1): spreads reconnections. Never used for secrets. */
  random: () => number
  /** Unpredictable bytes: nonces and instances. */
  secretBytes: (length: number) => Uint8Array
}

export const systemClock: Clock = {
  now: () => performance.now(),
  after(ms, run) {
    const timer = setTimeout(run, ms)
    return () => {
      clearTimeout(timer)
    }
  },
}

export const systemEnvironment: Environment = {
  clock: systemClock,
  random: Math.random,
  secretBytes: (length) => randomBytes(length),
}
