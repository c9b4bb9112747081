/**
 * What one data worker counts: requests as they end, bytes, latencies, and the health of its event loop. The control
 * thread asks for snapshots and adds those of all threads up (aggregate.ts). Labels are bounded: operations are a fixed
 * set, statuses are those the server sends.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks'

import { Counter, Gauge, Registry } from 'prom-client'
import type { MetricObjectWithValues, MetricValue } from 'prom-client'

import type { RequestSummary, S3Metrics } from '../s3/options.js'

export type MetricsSnapshot = MetricObjectWithValues<MetricValue<string>>[]

type HistogramValue = MetricValue<string> & { metricName: string }

/** Texts of the usual statuses, so that none is made for each request. */
const STATUS_TEXTS: Readonly<Record<number, string>> = { 200: '200', 204: '204', 206: '206', 304: '304' }

const LATENCY_BUCKETS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]

/** Times of one operation. Kept here and not in prom-client, which makes an object and a text of labels for each. */
class Latency {
  readonly counts: Float64Array = new Float64Array(LATENCY_BUCKETS.length + 1)
  sum = 0

  observe(seconds: number): void {
    let bucket = 0
    while (bucket < LATENCY_BUCKETS.length && seconds > (LATENCY_BUCKETS[bucket] ?? 0)) bucket++
    this.counts[bucket] = (this.counts[bucket] ?? 0) + 1
    this.sum += seconds
  }
}

/** What ended of one operation since the last snapshot, and its times since the start. */
interface OperationFigures {
  /** By status and error code. */
  ended: Map<string, { status: string; code: string; count: number }>
  received: number
  sent: number
  duration: Latency
  firstByte: Latency
}

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
  readonly #operations = new Map<string, OperationFigures>()
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
    const figures = this.#figuresOf(summary.operation)
    const code = summary.code ?? ''
    const status = STATUS_TEXTS[summary.status] ?? String(summary.status)
    const name = code === '' ? status : `${status} ${code}`
    const ended = figures.ended.get(name)
    if (ended === undefined) figures.ended.set(name, { status, code, count: 1 })
    else ended.count++
    figures.received += summary.bytesIn
    figures.sent += summary.bytesOut
    figures.duration.observe(summary.durationMs / 1000)
    figures.firstByte.observe(summary.firstByteMs / 1000)
  }

  async snapshot(): Promise<MetricsSnapshot> {
    this.#inFlight.set(this.#active)
    for (const [operation, figures] of this.#operations) {
      for (const { status, code, count } of figures.ended.values()) {
        this.#requests.inc({ operation, status, code }, count)
      }
      figures.ended.clear()
      if (figures.received > 0) this.#received.inc({ operation }, figures.received)
      if (figures.sent > 0) this.#sent.inc({ operation }, figures.sent)
      figures.received = 0
      figures.sent = 0
    }
    const times = [
      this.#histogram('ostraka_s3_request_seconds', 'Time from the head of a request to the end of its answer',
        (figures) => figures.duration),
      this.#histogram('ostraka_s3_first_byte_seconds',
        'Time from the head of a request to the first byte of its answer', (figures) => figures.firstByte),
    ]
    return [...await this.#registry.getMetricsAsJSON(), ...times]
  }

  #figuresOf(operation: string): OperationFigures {
    let figures = this.#operations.get(operation)
    if (figures === undefined) {
      figures = { ended: new Map(), received: 0, sent: 0, duration: new Latency(), firstByte: new Latency() }
      this.#operations.set(operation, figures)
    }
    return figures
  }

  #counter(name: string, help: string, labelNames: string[]): Counter {
    return new Counter({ name, help, labelNames, registers: [this.#registry] })
  }

  /** As prom-client would give it. */
  #histogram(name: string, help: string, of: (figures: OperationFigures) => Latency): MetricsSnapshot[number] {
    const values: HistogramValue[] = []
    for (const [operation, figures] of this.#operations) {
      const { counts, sum } = of(figures)
      let count = 0
      for (const [at, le] of [...LATENCY_BUCKETS, '+Inf'].entries()) {
        count += counts[at] ?? 0
        values.push({ labels: { le, operation }, value: count, metricName: `${name}_bucket` })
      }
      values.push({ labels: { operation }, value: sum, metricName: `${name}_sum` })
      values.push({ labels: { operation }, value: count, metricName: `${name}_count` })
    }
    return { name, help, type: 'histogram', values, aggregator: 'sum' } as unknown as MetricsSnapshot[number]
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
