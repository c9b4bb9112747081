import assert from 'node:assert/strict'
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

import { AggregatorRegistry } from 'prom-client'
import { parse } from 'yaml'

import { BOUNDS_MS, Histogram } from '../../ts/meta/raft/replica/engine_metrics.js'
import { REPLICA_METRICS, replicaMetrics } from '../../ts/server/metrics/replica_metrics.js'
import type { Measured } from '../../ts/server/metrics/replica_metrics.js'

const root = fileURLToPath(new URL('../../../', import.meta.url))

interface Rule {
  alert: string
  expr: string
  for?: string
  annotations: { summary: string }
}

const rules = (
  parse(readFileSync(join(root, 'docs/alerts.yml'), 'utf8')) as { groups: { rules: Rule[] }[] }
).groups.flatMap((group) => group.rules)

function measured(): Measured {
  const times = new Histogram()
  for (const ms of [0.1, 3, 3, 9_999]) times.observe(ms)
  const plain = new Proxy({}, {
    get: (_, name) =>
      name === 'peers' ? [{ id: 2, lagEntries: 7, lagMs: 250 }] : /Ms$/.test(String(name)) ? times.figures() : 5,
  })
  const peer = {
    id: 2, name: 'n', address: '', connected: true, trouble: '', roundTripMs: 4, silentMs: 1, queuedBytes: 0,
    sentBytes: 0, receivedBytes: 0, dropped: 3, connects: 1,
  }
  const comparison = { equal: [2], different: [3], missed: [] }
  return { engine: { metrics: () => plain as never }, transport: { state: () => [peer] }, comparison }
}

/** Names that the server's sources give to figures of its own. */
function namesInSources(): Set<string> {
  const folder = join(root, 'ts/server/metrics')
  const text = readdirSync(folder).map((file) => readFileSync(join(folder, file), 'utf8')).join('\n')
  return new Set([...text.matchAll(/'(ostraka_[a-z0-9_]+)'/g)].map((match) => match[1] ?? ''))
}

test('every alert uses figures that exist', () => {
  const known = new Set([...REPLICA_METRICS, ...namesInSources()])
  for (const { alert, expr } of rules) {
    const used = [...expr.matchAll(/\bostraka_[a-z0-9_]+/g)].map((match) => match[0])
    assert.ok(used.length > 0 || expr.startsWith('up{'), alert)
    for (const name of used) assert.ok(known.has(name), `${alert}: there is no ${name}`)
  }
})

test('the alerts that matter are there, with the limits that were promised', () => {
  const find = (part: RegExp): Rule | undefined => rules.find(({ expr }) => part.test(expr))
  assert.equal(find(/^max\(ostraka_raft_has_leader\) == 0$/)?.for, '30s')
  assert.equal(find(/peer_lag_entries\) > 1000$/)?.for, '1m')
  assert.equal(find(/^up\{.*== 0$/)?.for, '1m')
  assert.equal(find(/0\.99.*write_seconds_bucket.*> 0\.1$/)?.for, '5m')
  assert.equal(new Set(rules.map(({ alert }) => alert)).size, rules.length)
})

test('the figures of a replica come out under their names, times as cumulative buckets in seconds', async () => {
  const text = await AggregatorRegistry.aggregate([replicaMetrics(measured())]).metrics()
  for (const name of REPLICA_METRICS) assert.match(text, new RegExp(`^${name}[ {]`, 'm'))
  const buckets = [...text.matchAll(/^ostraka_raft_write_seconds_bucket\{le="([^"]+)"\} (\d+)$/gm)]
  assert.equal(buckets.length, BOUNDS_MS.length + 1)
  assert.deepEqual(buckets[0]?.slice(1), ['0.00025', '1'])
  assert.deepEqual(buckets.at(-1)?.slice(1), ['+Inf', '4'])
  assert.equal(buckets.find(([, le]) => le === '0.004')?.[2], '3')
  assert.match(text, /^ostraka_raft_peer_lag_seconds\{peer="2"\} 0\.25$/m)
  assert.match(text, /^ostraka_peer_dropped_total\{peer="2"\} 3$/m)
})
