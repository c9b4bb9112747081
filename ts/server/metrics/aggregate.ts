/**
 * Figures of all threads as one text in the Prometheus format.
 *
 * Each thread is asked for a snapshot; one that does not answer in time counts with its last. What a crashed run had
 * counted is kept, so that a total never falls.
 */
import { AggregatorRegistry } from 'prom-client'

import type { MetricsSnapshot } from './worker_metrics.js'

export type SnapshotSource = () => Promise<MetricsSnapshot>

export class MetricsAggregate {
  readonly #last = new Map<string, MetricsSnapshot>()
  #retired: MetricsSnapshot = []

  /** Asks every source (by the name of its thread). */
  async text(sources: ReadonlyMap<string, SnapshotSource>): Promise<string> {
    await Promise.all([...sources].map(async ([thread, ask]) => {
      try {
        this.#last.set(thread, await ask())
      } catch {
        // Its last snapshot stands.
      }
    }))
    const all = [this.#retired, ...this.#last.values()].filter((snapshot) => snapshot.length > 0)
    return AggregatorRegistry.aggregate(all).metrics()
  }

  /** The run of a thread has ended: its totals stay, its gauges go. */
  async retire(thread: string): Promise<void> {
    const last = this.#last.get(thread)
    if (last === undefined) return
    this.#last.delete(thread)
    const totals = last.filter((metric) => String(metric.type) !== 'gauge')
    const sum = AggregatorRegistry.aggregate([this.#retired, totals].filter((s) => s.length > 0))
    this.#retired = await sum.getMetricsAsJSON()
  }
}
