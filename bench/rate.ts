/**
 * How fast a call is: GB (1e9 bytes) per second in the best half millisecond or so. Shorter than the time slices in
 * which a busy machine is shared out, so that neighbours disturb some of many samples instead of every one.
 */

/** Buffers in turn, larger together than the caches of most machines would like. */
export const TURNS = 16

const SAMPLE_MS = 0.5
const LEAST_SAMPLES = 6

/** `once` is called with 0 to turns - 1, over and over, and handles `bytes` each time. */
export function rate(measureMs: number, bytes: number, once: (turn: number) => void, turns: number = TURNS): number {
  let next = 0
  const sample = (calls: number): number => {
    const started = performance.now()
    for (let i = 0; i < calls; i++) {
      once(next)
      next = next + 1 === turns ? 0 : next + 1
    }
    return performance.now() - started
  }
  // The first round warms up, also what the choice of a kernel costs.
  const ended = performance.now() + measureMs + sample(turns)
  let calls = 1
  let fastest = Infinity
  let samples = 0
  while (performance.now() < ended || samples < LEAST_SAMPLES) {
    const taken = sample(calls)
    if (taken < SAMPLE_MS / 2) calls *= 2
    else {
      samples++
      fastest = Math.min(fastest, taken / calls)
    }
  }
  return bytes / fastest / 1e6
}
