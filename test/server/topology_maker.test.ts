import assert from 'node:assert/strict'
import { test } from 'node:test'

import { DriveTable } from '../../ts/drive/drive_table.js'
import type { DriveIo } from '../../ts/drive/io.js'
import type { DriveRecord, SetRecord } from '../../ts/meta/schema.js'
import { makeTopology } from '../../ts/server/control/topology_maker.js'
import type { Place, TopologyFacts } from '../../ts/server/control/topology_maker.js'

const io = {} as DriveIo

/** Two sets of 2+2 over drives 1..8, all online; `out` names those that are not. */
function facts(out: readonly number[]): TopologyFacts {
  const table = DriveTable.create(8)
  const records = Array.from({ length: 8 }, (_, i): DriveRecord => {
    const place = { pool: 0, set: Math.floor(i / 4), position: i % 4, epoch: 1 }
    return { number: i + 1, driveId: `id ${String(i + 1)}`, ...place, state: 'member', healing: false }
  })
  const places = records.map((record): Place => {
    const row = table.row(record.number - 1)
    row.number = record.number
    row.setSpace(2 ** 40, 2 ** 39)
    row.set(out.includes(record.number) ? 'offline' : 'online', 'none')
    const path = `/d${String(record.number)}`
    return { path, record, monitored: { path, io, row, format: undefined }, blank: false }
  })
  const sets = [0, 1].map(
    (number): SetRecord => ({ number, pool: 0, k: 2, m: 2, drives: [1, 2, 3, 4].map((n) => n + 4 * number) }),
  )
  const rowOf: TopologyFacts['rowOf'] = (row) => row.number - 1
  return { version: 1, clusterId: 'c', stripeSize: 1, sets, records, places, rowOf, segmentsOf: () => undefined }
}

test('every member has its path and row, and sets weigh as much as their drives hold', () => {
  const topology = makeTopology(facts([]))
  assert.deepEqual(
    topology.drives.map(({ path, row }) => [path, row]),
    [1, 2, 3, 4, 5, 6, 7, 8].map((n) => [`/d${String(n)}`, n - 1]),
  )
  assert.deepEqual(
    topology.targets,
    [0, 1].map((set) => ({ set, weight: 256, state: 'active' })),
  )
})

test('a set below its write quorum takes nothing new while another can', () => {
  const states = (out: readonly number[]): string[] => makeTopology(facts(out)).targets.map((target) => target.state)
  assert.deepEqual(states([1]), ['active', 'active'])
  assert.deepEqual(states([1, 2]), ['readOnly', 'active'])
  assert.deepEqual(states([1, 2, 5, 6]), ['active', 'active'])
})

test('a drive that was replaced has no path', () => {
  const given = facts([])
  const [first] = given.records
  assert.ok(first !== undefined)
  given.records = [{ ...first, state: 'replaced' }, ...given.records.slice(1)]
  assert.equal(makeTopology(given).drives[0]?.path, '')
})
