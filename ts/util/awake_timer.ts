/**
 * A deadline for work of other machines, drives and threads, measured in time that this process was awake: after a stop
 * (SIGSTOP, a virtual machine that is moved, a machine that sleeps) timers are the first that the event loop runs, and
 * would give up what has long been done and is only waiting to be heard.
 */

/** Calls `fire` after `ms`; the returned function cancels. */
export type Timer = (fire: () => void, ms: number) => () => void

export interface TimeSource {
  now(): number
  after: Timer
}

/** Its timers do not keep the process from ending. */
const systemTime: TimeSource = {
  now: () => performance.now(),
  after: (fire, ms) => {
    const timer = setTimeout(fire, ms)
    timer.unref()
    return () => { clearTimeout(timer) }
  },
}

/** A timer that fires so much too late says that nothing else ran either. */
const ASLEEP_MS = 1000

export function awakeTimer(fire: () => void, ms: number, time: TimeSource = systemTime): () => void {
  let due = 0
  let cancel = (): void => undefined
  const wait = (): void => {
    due = time.now() + ms
    cancel = time.after(() => {
      if (time.now() - due > ASLEEP_MS) wait()
      else fire()
    }, ms)
  }
  wait()
  return () => { cancel() }
}
