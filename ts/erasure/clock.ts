/** Time as the erasure layer sees it, so that tests can let deadlines and hedges pass without waiting. */
export interface Clock {
  /** Monotonic milliseconds. */
  now(): number
  /** Calls `fn` once after `ms`; the returned function cancels. */
  after(ms: number, fn: () => void): () => void
}

export const systemClock: Clock = {
  now: () => performance.now(),
  after(ms, fn) {
    const timer = setTimeout(fn, ms)
    return () => {
      clearTimeout(timer)
    }
  },
}

/**
 * Settles as `promise` does, or rejects with `late()` after `ms`. The promise goes on, and a later rejection of it
 * is swallowed here: whoever needs to know when it really settles keeps the promise itself.
 */
export function within<T>(clock: Clock, ms: number, promise: Promise<T>, late: () => Error): Promise<T> {
  return new Promise((resolve, reject) => {
    const cancel = clock.after(ms, () => {
      reject(late())
    })
    promise.then(
      (value) => {
        cancel()
        resolve(value)
      },
      (error: unknown) => {
        cancel()
        reject(error instanceof Error ? error : new Error(String(error)))
      },
    )
  })
}
