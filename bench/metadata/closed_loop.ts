/** A closed loop: each client begins its next operation when the last one has ended. */

export interface Measured {
  opsPerSecond: number
  p50Ms: number
  p99Ms: number
  /** Operations that were refused or failed, of all. */
  errors: number
}

export interface LoopPlan {
  clients: number
  warmUpMs: number
  windowMs: number
}

/** Counts what ended within the window. An operation that rejects is an error, and its client goes on. */
export async function closedLoop(plan: LoopPlan, operation: (client: number) => Promise<void>): Promise<Measured> {
  const begin = performance.now() + plan.warmUpMs
  const end = begin + plan.windowMs
  const latencies: number[] = []
  let errors = 0
  const one = async (client: number): Promise<void> => {
    for (let from = performance.now(); from < end;) {
      let failed = false
      try {
        await operation(client)
      } catch {
        failed = true
        // What is refused at once must not become a loop that lets nothing else run.
        await new Promise((resolve) => setTimeout(resolve, 1))
      }
      const now = performance.now()
      if (now >= begin && now < end) {
        if (failed) errors++
        else latencies.push(now - from)
      }
      from = now
    }
  }
  await Promise.all(Array.from({ length: plan.clients }, (_, client) => one(client)))
  latencies.sort((a, b) => a - b)
  const { length } = latencies
  const at = (share: number): number => latencies[Math.min(length - 1, Math.floor(length * share))] ?? NaN
  return { opsPerSecond: (length * 1000) / plan.windowMs, p50Ms: at(0.5), p99Ms: at(0.99), errors }
}

/** The nth key: unlike its neighbours, so that keys come in no order; as many bytes for every n. */
export function keyOf(n: number): string {
  const mixed = Math.imul(n, 0x9e3779b1) >>> 0
  return `${mixed.toString(16).padStart(8, '0')}${n.toString(16).padStart(8, '0')}`
}

/** Bytes of a write: the encoded command of ours, key and value of etcd's. */
export const WRITE_BYTES = 200
