/** The closed loop of the metadata part: what it counts, and its keys. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { closedLoop, keyOf } from '../../bench/metadata/closed_loop.js'
import { tablesOf } from '../../bench/tables.js'
import { resultOf } from './results.js'

const soon = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

test('each client has one operation at a time, and refused ones are errors without a latency', async () => {
  const running = new Set<number>()
  let most = 0
  const measured = await closedLoop({ clients: 4, warmUpMs: 0, windowMs: 100 }, async (client) => {
    assert.ok(!running.has(client))
    running.add(client)
    most = Math.max(most, running.size)
    await soon()
    running.delete(client)
    if (client === 0) throw new Error('refused')
  })
  assert.equal(most, 4)
  assert.equal(running.size, 0)
  assert.ok(measured.errors > 0)
  assert.ok(measured.opsPerSecond > 0)
  assert.ok(measured.p50Ms <= measured.p99Ms)
})

test('keys differ, have one length and come in no order', () => {
  const keys = Array.from({ length: 1000 }, (_, n) => keyOf(n))
  assert.equal(new Set(keys).size, 1000)
  assert.deepEqual([...new Set(keys.map((key) => key.length))], [16])
  assert.notDeepEqual([...keys].sort(), keys)
})

test('replicated metadata is a table with a row for each load, etcd beside', () => {
  const metrics = {
    'metadata.write.64clients.ops_per_s': 5000, 'metadata.write.64clients.p99_ms': 7,
    'metadata.write.64clients.etcd.ops_per_s': 4000, 'metadata.write.64clients.to_etcd.ratio': 1.25,
    'metadata.most_lag_ms': 30,
  }
  const [table] = tablesOf(resultOf(metrics))
  assert.equal(table?.title, 'Replicated metadata')
  assert.deepEqual(table.head, ['', 'ops/s', 'p99 ms', 'to etcd x', 'figure'])
  assert.deepEqual(table.rows, [
    ['write 64clients', '5,000', '7.00', '1.25', ''],
    ['write 64clients etcd', '4,000', '', '', ''],
    ['most lag, ms', '', '', '', '30.0'],
  ])
})
