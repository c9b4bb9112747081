/**
 * How fast the drives of a set read, for the choice of shards and for hedging. Percentiles are costly to compute
 * and change slowly, so each thread keeps them for a moment.
 */
import type { Drive } from '../drive/drive.js'
import type { Clock } from './clock.js'

const KEPT_MS = 500
/** A drive this many times slower than the median is sluggish: asked last, and waited for no longer than that. */
const SLUGGISH = 4

export class DriveSpeeds {
  readonly #clock: Clock
  readonly #floorMs: number
  readonly #p95 = new Map<Drive, number>()
  #median = 0
  #takenAt = -Infinity

  /** `floorMs`: no read is called slow before this. */
  constructor(clock: Clock, floorMs: number) {
    this.#clock = clock
    this.#floorMs = floorMs
  }

  /** Takes the figures of these drives anew when they are old, or when the drives changed. */
  refresh(drives: readonly Drive[], changed = false): void {
    const now = this.#clock.now()
    if (!changed && now - this.#takenAt < KEPT_MS) return
    this.#takenAt = now
    this.#p95.clear()
    for (const drive of drives) this.#p95.set(drive, drive.health.readP95Ms)
    const sorted = [...this.#p95.values()].sort((a, b) => a - b)
    this.#median = sorted[Math.floor((sorted.length - 1) / 2)] ?? 0
  }

  /** Milliseconds after which a read of this drive counts as slow: its p95, within reason. */
  hedgeMs(drive: Drive | undefined): number {
    const p95 = drive === undefined ? 0 : (this.#p95.get(drive) ?? 0)
    return Math.max(this.#floorMs, Math.min(p95, SLUGGISH * this.#median))
  }

  sluggish(drive: Drive): boolean {
    return (this.#p95.get(drive) ?? 0) > Math.max(this.#floorMs, SLUGGISH * this.#median)
  }
}
