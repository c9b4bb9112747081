/**
 * What reads find bad, on its way into the heal queue of the metadata, from where a heal survives restarts.
 * `report` is the `onDamage` of a thread's sets: it never throws and never waits.
 *
 * Entries are gathered and proposed together; a data id found bad again within `quietMs` is not proposed
 * again. Bounded: beyond `MAX_PENDING` findings are dropped and counted, to be found again by the next read
 * or the scrubber.
 */
import type { Damage } from '../erasure/erasure_set.js'
import type { MetadataEngine } from '../meta/engine.js'
import type { HealEntry } from '../meta/schema.js'

const MAX_PENDING = 4096
const MAX_BATCH = 256

export interface DamageQueueOptions {
  quietMs?: number
  wallMs?: () => number
  onError?: (error: unknown) => void
}

export class DamageQueue {
  readonly #metadata: MetadataEngine
  readonly #quietMs: number
  readonly #wallMs: () => number
  readonly #onError: (error: unknown) => void
  readonly #pending = new Map<string, HealEntry>()
  /** When a finding was last proposed. */
  readonly #told = new Map<string, number>()
  #sending: Promise<void> | undefined
  dropped = 0

  constructor(metadata: MetadataEngine, options: DamageQueueOptions = {}) {
    this.#metadata = metadata
    this.#quietMs = options.quietMs ?? 30_000
    this.#wallMs = options.wallMs ?? Date.now
    this.#onError = options.onError ?? (() => undefined)
  }

  readonly report = (damage: Damage): void => {
    const { set, dataId, shards, cause } = damage
    const id = `${String(set)}/${Buffer.from(dataId).toString('hex')}/${shards.join()}`
    const now = this.#wallMs()
    if (this.#pending.has(id) || now - (this.#told.get(id) ?? -Infinity) < this.#quietMs) return
    if (this.#pending.size >= MAX_PENDING) {
      this.dropped++
      return
    }
    this.#pending.set(id, { set, dataId: new Uint8Array(dataId), shards: [...shards], cause, queuedMs: now })
    this.#sending ??= this.#send()
  }

  /** Resolves when all that was reported has been proposed or given up. */
  async settled(): Promise<void> {
    while (this.#sending !== undefined) await this.#sending
  }

  async #send(): Promise<void> {
    // Later than the read that reports: its other findings go into the same command.
    await new Promise((resolve) => setImmediate(resolve))
    while (this.#pending.size > 0) {
      const batch = [...this.#pending].slice(0, MAX_BATCH)
      for (const [id] of batch) this.#pending.delete(id)
      try {
        await this.#metadata.propose({ kind: 'queueHeal', entries: batch.map(([, entry]) => entry) })
        if (this.#told.size > MAX_PENDING) this.#told.clear()
        for (const [id] of batch) this.#told.set(id, this.#wallMs())
      } catch (error) {
        this.#onError(error)
      }
    }
    // In the same turn in which nothing was left: what is reported later starts anew.
    this.#sending = undefined
  }
}
