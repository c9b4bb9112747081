import assert from 'node:assert/strict'
import { test } from 'node:test'

import { MetricsAggregate } from '../../ts/server/metrics/aggregate.js'
import { WorkerMetrics } from '../../ts/server/metrics/worker_metrics.js'

function put(metrics: WorkerMetrics, times: number): void {
  for (let i = 0; i < times; i++) {
    metrics.requestStarted()
    metrics.requestEnded({
      operation: 'PutObject',
      status: 200,
      code: undefined,
      bytesIn: 10,
      bytesOut: 0,
      durationMs: 3,
      firstByteMs: 3,
    })
  }
}

const requests = /^ostraka_s3_requests_total\{operation="PutObject",status="200",code=""\} (\d+)$/m

test('totals of all threads are added up, and survive the end of one', async () => {
  const aggregate = new MetricsAggregate()
  const [a, b] = [new WorkerMetrics('worker 0'), new WorkerMetrics('worker 1')]
  put(a, 3)
  put(b, 4)
  const both = new Map([['worker 0', () => a.snapshot()], ['worker 1', () => b.snapshot()]])
  assert.equal(requests.exec(await aggregate.text(both))?.[1], '7')
  await aggregate.retire('worker 1')
  assert.equal(requests.exec(await aggregate.text(new Map([['worker 0', () => a.snapshot()]])))?.[1], '7')
  const restarted = new WorkerMetrics('worker 1')
  put(restarted, 5)
  both.set('worker 1', () => restarted.snapshot())
  const text = await aggregate.text(both)
  assert.equal(requests.exec(text)?.[1], '12')
  assert.match(text, /^ostraka_s3_request_seconds_count\{operation="PutObject"\} 12$/m)
  assert.match(text, /^ostraka_s3_received_bytes_total\{operation="PutObject"\} 120$/m)
})

test('a thread that does not answer counts with its last snapshot', async () => {
  const aggregate = new MetricsAggregate()
  const metrics = new WorkerMetrics('worker 0')
  put(metrics, 2)
  await aggregate.text(new Map([['worker 0', () => metrics.snapshot()]]))
  const text = await aggregate.text(new Map([['worker 0', () => Promise.reject(new Error('hung'))]]))
  assert.equal(requests.exec(text)?.[1], '2')
})
