/**
 * Whether this replica can serve, for load balancers: reads that show what was acknowledged anywhere, and writes.
 *
 * It can when a linearizable read was confirmed here not long ago, which takes a leader with a majority behind it and a
 * state that is as new; and when no command has waited for long. Where nobody reads, a read of its own is made. A short
 * time without a leader, as an election takes it, is no reason to send clients elsewhere: no other node could serve
 * them.
 */
import type { ReadConsistency } from '../../engine.js'
import type { NodeId } from '../core/types.js'
import type { Clock } from '../host/environment.js'

export interface ReadinessOptions {
  readonly clock: Clock
  /** What lasts longer is said. */
  readonly limitMs: number
  /** 0 when none is known. */
  readonly leader: () => NodeId
  readonly reads: {
    /** The state here shows everything that was acknowledged before this time. */
    readonly freshAt: number
    wait(level: ReadConsistency): Promise<void>
  }
  /** When the oldest of the commands came in that wait; undefined: none waits. */
  readonly waitingSince: () => number | undefined
}

/** Of the limit, so much passes between two reads of its own. */
const PROBE_SHARE = 1 / 5

export class Readiness {
  readonly #options: ReadinessOptions
  #probing = false
  #probeAt: number
  #leaderAt: number

  constructor(options: ReadinessOptions) {
    this.#options = options
    this.#probeAt = options.clock.now()
    this.#leaderAt = options.clock.now()
  }

  /** To be called every few dozen milliseconds. */
  tick(): void {
    const { clock, leader, limitMs, reads } = this.#options
    const now = clock.now()
    const probeMs = limitMs * PROBE_SHARE
    if (leader() !== 0) this.#leaderAt = now
    if (this.#probing || now < this.#probeAt || leader() === 0) return
    this.#probing = true
    this.#probeAt = now + probeMs
    const done = (): void => { this.#probing = false }
    reads.wait({ boundedMs: probeMs }).then(done, done)
  }

  /** Why this replica cannot serve, in words; empty when it can. */
  troubles(): string[] {
    const { clock, leader, limitMs, reads, waitingSince } = this.#options
    const now = clock.now()
    const since = (moment: number): string => `${((now - moment) / 1000).toFixed(1)} s`
    if (leader() === 0 && now - this.#leaderAt > limitMs) {
      return [`no leader of the metadata has been known for ${since(this.#leaderAt)}`]
    }
    if (reads.freshAt === -Infinity) return ['the metadata has not caught up with the cluster since the start']
    const troubles: string[] = []
    if (now - reads.freshAt > limitMs) troubles.push(`the metadata here is behind by ${since(reads.freshAt)}`)
    const oldest = waitingSince()
    if (oldest !== undefined && now - oldest > limitMs) {
      troubles.push(`a metadata command has waited for ${since(oldest)}`)
    }
    return troubles
  }
}
