/**
 * What one data worker counts: requests as they end, bytes, latencies, and the health of its event loop. The control
 * thread asks for snapshots and adds those of all threads up (aggregate.ts). Labels are bounded: operations are a fixed
 * set, statuses are those the server sends.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks'

import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { MetricObjectWithValues, MetricValue } from 'prom-client'

import type { RequestSummary, S3Metrics } from '../s3/options.js'

export type MetricsSnapshot = MetricObjectWithValues<MetricValue<string>>[]

const LATENCY_BUCKETS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]

export class WorkerMetrics implements S3Metrics {
  readonly #registry = new Registry()
  readonly #requests = this.#counter('ostraka_s3_requests_total', 'S3 requests that ended', [
    'operation',
    'status',
    'code',
  ])
  readonly #received = this.#counter('ostraka_s3_received_bytes_total', 'Decoded body bytes received', [
    'operation',
  ])
  readonly #sent = this.#counter('ostraka_s3_sent_bytes_total', 'Body bytes sent', ['operation'])
  readonly #duration = this.#histogram(
    'ostraka_s3_request_seconds',
    'Time from the head of a request to the end of its answer',
  )
  readonly #firstByte = this.#histogram(
    'ostraka_s3_first_byte_seconds',
    'Time from the head of a request to the first byte of its answer',
  )
  readonly #inFlight: Gauge
  #active = 0

  constructor(thread: string) {
    this.#inFlight = new Gauge({
      name: 'ostraka_s3_requests_in_flight',
      help: 'S3 requests in progress',
      registers: [this.#registry],
    })
    addThreadMetrics(this.#registry, thread)
  }

  get inFlight(): number {
    return this.#active
  }

  requestStarted(): void {
    this.#active += 1
  }

  requestEnded(summary: RequestSummary): void {
    this.#active -= 1
    const { operation } = summary
    this.#requests.inc({ operation, status: String(summary.status), code: summary.code ?? '' })
    if (summary.bytesIn > 0) this.#received.inc({ operation }, summary.bytesIn)
    if (summary.bytesOut > 0) this.#sent.inc({ operation }, summary.bytesOut)
    this.#duration.observe({ operation }, summary.durationMs / 1000)
    this.#firstByte.observe({ operation }, summary.firstByteMs / 1000)
  }

  snapshot(): Promise<MetricsSnapshot> {
    this.#inFlight.set(this.#active)
    return this.#registry.getMetricsAsJSON()
  }

  #counter(name: string, help: string, labelNames: string[]): Counter {
    return new Counter({ name, help, labelNames, registers: [this.#registry] })
  }

  #histogram(name: string, help: string): Histogram {
    return new Histogram({
      name,
      help,
      labelNames: ['operation'],
      buckets: LATENCY_BUCKETS,
      registers: [this.#registry],
    })
  }
}

/** Event loop delay and heap of the calling thread, labelled with its name. */
export function addThreadMetrics(registry: Registry, thread: string): void {
  const delay = monitorEventLoopDelay({ resolution: 20 })
  delay.enable()
  new Gauge({
    name: 'ostraka_event_loop_delay_seconds',
    help: 'Delay of the event loop since the last scrape, 99th percentile',
    labelNames: ['thread'],
    registers: [registry],
    collect() {
      this.set({ thread }, delay.count === 0 ? 0 : Math.max(0, delay.percentile(99) / 1e9 - 0.02))
      delay.reset()
    },
  })
  new Gauge({
    name: 'ostraka_thread_heap_bytes',
    help: 'JavaScript heap in use',
    labelNames: ['thread'],
    registers: [registry],
    collect() { this.set({ thread }, process.memoryUsage().heapUsed) },
  })
}
