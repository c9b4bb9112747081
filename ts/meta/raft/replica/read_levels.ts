/**
 * How new the state must be that a read is answered from.
 *
 *   linearizable  everything acknowledged anywhere before the read began: a round of the leader confirms an index
 *                 (ReadIndex), and the read waits until it is applied here. Reads of one turn share a round.
 *   bounded       everything acknowledged until so many milliseconds ago: a linearizable read that was confirmed here
 *                 since then has shown it, by this node's clock alone. Where none has, one is made; when that fails,
 *                 the read is refused.
 *   eventual      whatever is here. Never goes back within a process.
 */
import { MetadataError } from '../../engine.js'
import type { ReadConsistency } from '../../engine.js'
import type { Clock } from '../host/environment.js'
import type { ReadOutcome } from '../host/reads.js'

export interface ReadHooks {
  readonly clock: Clock
  readonly timeoutMs: number
  readonly maxWaiting: number
  /** Asks for a confirmation. */
  readonly confirm: (timeoutMs: number, done: (outcome: ReadOutcome) => void) => void
  /** How long a linearizable read took, in milliseconds. */
  readonly onRead?: (ms: number) => void
}

interface Waiting {
  readonly resolve: () => void
  readonly reject: (error: MetadataError) => void
}

export class ReadLevels {
  readonly #hooks: ReadHooks
  #gathering: Waiting[] = []
  #waiting = 0
  /** The state here shows everything that was acknowledged before this time. */
  #freshAt = -Infinity

  constructor(hooks: ReadHooks) {
    this.#hooks = hooks
  }

  get waiting(): number {
    return this.#waiting
  }

  /** -Infinity as long as no read was confirmed. */
  get freshAt(): number {
    return this.#freshAt
  }

  /** Resolves when the state is new enough. Rejects with MetadataError 'unavailable' or 'overloaded'. */
  wait(level: ReadConsistency): Promise<void> {
    if (level === 'eventual') return Promise.resolve()
    const { clock, maxWaiting } = this.#hooks
    if (level !== 'linearizable' && clock.now() - this.#freshAt <= level.boundedMs) return Promise.resolve()
    if (this.#waiting >= maxWaiting) {
      return Promise.reject(new MetadataError('overloaded', `${String(this.#waiting)} reads are waiting`))
    }
    return new Promise((resolve, reject) => {
      this.#waiting++
      if (this.#gathering.push({ resolve, reject }) === 1) setImmediate(() => { this.#ask() })
    })
  }

  #ask(): void {
    const reads = this.#gathering
    this.#gathering = []
    const { clock, timeoutMs, confirm, onRead } = this.#hooks
    const asked = clock.now()
    confirm(timeoutMs, (outcome) => {
      this.#waiting -= reads.length
      if (outcome === 'ok') {
        this.#freshAt = Math.max(this.#freshAt, asked)
        onRead?.(clock.now() - asked)
        for (const { resolve } of reads) resolve()
        return
      }
      const error = new MetadataError(
        outcome === 'too-many-reads' ? 'overloaded' : 'unavailable',
        outcome === 'stopped' ? 'the engine has stopped' : `no leader confirmed the read (${outcome})`,
      )
      for (const { reject } of reads) reject(error)
    })
  }
}
