/**
 * Data ids whose shards one job of this thread is changing, so that no other job changes them at the same
 * time: a heal and the orphan search must not work on one shard at once. Claim first, then look at the
 * metadata.
 */
import { hexId } from './part_lookup.js'

export class Claims {
  readonly #held = new Set<string>()

  /** False when another job holds it: try again later. */
  tryClaim(dataId: Uint8Array): boolean {
    const id = hexId(dataId)
    if (this.#held.has(id)) return false
    this.#held.add(id)
    return true
  }

  release(dataId: Uint8Array): void {
    this.#held.delete(hexId(dataId))
  }
}
