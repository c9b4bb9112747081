/**
 * Holding a lease of the cluster, for work that only one node may do.
 *
 * - Whoever holds it renews it, and takes it for lost when three quarters of `ttlMs` have passed since before its last
 *   successful renewal was sent, by its own monotonic clock: also when it hears nothing at all.
 * - Whoever wants it takes it over only after it has seen it unchanged for `ttlMs`, by its own clock, and only if it
 *   has not changed until then (`apply` compares the version). So clocks may run at speeds that differ by a quarter.
 * - Work that changes metadata carries the token (`fence`): a holder that was stopped between its check and its command
 *   is refused.
 */
import type { CommandResult, Fence } from './command.js'
import { MetadataError } from './engine.js'
import type { MetadataEngine } from './engine.js'
import type { LeaseRecord } from './schema.js'

export interface LeaseKeeperOptions {
  engine: Pick<MetadataEngine, 'propose' | 'reader'>
  name: string
  /** Names this process, and no other run of it. */
  holder: string
  ttlMs: number
  /** Monotonic milliseconds. */
  now?: () => number
  onHeld?: (fence: Fence) => void
  onLost?: () => void
}

export class LeaseKeeper {
  readonly #options: LeaseKeeperOptions
  readonly #now: () => number
  /** The token while it is held, and until when that is sure. */
  #held: { token: number; until: number } | undefined
  /** The version seen last of another's lease, and since when. */
  #seen: { version: number; since: number } | undefined
  #timer: NodeJS.Timeout | undefined
  #expiry: NodeJS.Timeout | undefined
  #stopped = false

  constructor(options: LeaseKeeperOptions) {
    this.#options = options
    this.#now = options.now ?? ((): number => performance.now())
  }

  /** What commands of the work carry; undefined when this process must not work. */
  get fence(): Fence | undefined {
    if (this.#held === undefined || this.#now() >= this.#held.until) return undefined
    return { lease: this.#options.name, token: this.#held.token }
  }

  /** Looks at once, and then every quarter of the time to live. */
  start(): void {
    const turn = async (): Promise<void> => {
      await this.tend()
      if (this.#stopped) return
      this.#timer = setTimeout(() => void turn(), this.#options.ttlMs / 4)
      this.#timer.unref()
    }
    void turn()
  }

  /** Gives it back if it is held. */
  async stop(): Promise<void> {
    this.#stopped = true
    clearTimeout(this.#timer)
    const { fence } = this
    this.#lose()
    if (fence === undefined) return
    const { engine, name } = this.#options
    await engine.propose({ kind: 'releaseLease', name, token: fence.token }).catch(() => undefined)
  }

  /** One look: renews what is held, takes what has been left. Never rejects. */
  async tend(): Promise<void> {
    if (this.#held !== undefined && this.fence === undefined) this.#lose()
    try {
      await (this.#held === undefined ? this.#take() : this.#renew(this.#held.token))
    } catch (error) {
      // Not reached, or not known: the lease runs out by itself, and the next look tries again.
      if (!(error instanceof MetadataError)) throw error
    }
  }

  async #renew(token: number): Promise<void> {
    const asked = this.#now()
    const result = await this.#options.engine.propose({ kind: 'renewLease', name: this.#options.name, token })
    if (result.ok) this.#hold(result, asked)
    else this.#lose()
  }

  async #take(): Promise<void> {
    const { engine, name, holder, ttlMs } = this.#options
    engine.reader.refresh()
    const lease = engine.reader.lease(name)
    const asked = this.#now()
    const version = lease?.version ?? 0
    if (lease !== undefined && lease.holder !== '') {
      if (this.#seen?.version !== version) this.#seen = { version, since: asked }
      if (asked - this.#seen.since < ttlMs) return
    }
    const result = await engine.propose({ kind: 'takeLease', name, holder, ifVersion: version })
    if (result.ok) this.#hold(result, asked)
  }

  #hold(result: CommandResult & { ok: true }, asked: number): void {
    const { token } = result.value.lease as LeaseRecord
    const fresh = this.#held === undefined
    this.#held = { token, until: asked + (this.#options.ttlMs * 3) / 4 }
    this.#seen = undefined
    clearTimeout(this.#expiry)
    this.#expiry = setTimeout(() => {
      if (this.fence === undefined) this.#lose()
    }, this.#held.until - this.#now() + 1)
    this.#expiry.unref()
    if (this.#stopped || this.fence === undefined) this.#held = undefined
    else if (fresh) this.#options.onHeld?.({ lease: this.#options.name, token })
  }

  #lose(): void {
    if (this.#held === undefined) return
    this.#held = undefined
    clearTimeout(this.#expiry)
    this.#options.onLost?.()
  }
}
