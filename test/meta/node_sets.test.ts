import assert from 'node:assert/strict'
import { test } from 'node:test'

import { verifyView } from '../../ts/meta/verify.js'
import { Machine, createBucket, dataId, part, putObject } from './support.js'

/** A store of one node with set 0 on drives 1 and 2, made part of several: node 1. */
function founded(): Machine {
  const machine = new Machine()
  const drive = (number: number): object => ({
    number,
    driveId: `d${String(number)}`,
    pool: 0,
    set: 0,
    position: number - 1,
    epoch: 1,
    state: 'member',
    healing: false,
  })
  machine.ok({
    kind: 'initCluster',
    cluster: { clusterId: 'c', createdMs: 1, featureLevel: 1, stripeSize: 1 << 20 },
    sets: [{ number: 0, pool: 0, k: 1, m: 1, drives: [1, 2] }],
    drives: [drive(1), drive(2)] as never,
  })
  assert.equal(machine.ok({ kind: 'claimSets', node: 1 }).count, 1)
  return machine
}

const joining = (node: number, driveIds: string[]): Parameters<Machine['ok']>[0] => ({
  kind: 'addNodeSets', node, driveIds, setSize: 2, parity: 1,
})

test('sets of a store of one node go to the node that claims them first', () => {
  const machine = founded()
  assert.equal(machine.ok({ kind: 'claimSets', node: 2 }).count, 0)
  assert.deepEqual(machine.reader.sets().map(({ node }) => node), [1])
})

test('a node brings sets with numbers of their own; asking again changes nothing', () => {
  const machine = founded()
  assert.equal(machine.ok(joining(2, ['a', 'b', 'c', 'd'])).count, 2)
  assert.equal(machine.ok(joining(2, ['a', 'b', 'c', 'd'])).count, 0)
  assert.equal(machine.ok(joining(3, ['e', 'f'])).count, 1)
  const sets = machine.reader.sets().map(({ number, node, drives, k, m }) => [number, node, drives, k, m])
  assert.deepEqual(sets, [[0, 1, [1, 2], 1, 1], [1, 2, [3, 4], 1, 1], [2, 2, [5, 6], 1, 1], [3, 3, [7, 8], 1, 1]])
  const drives = machine.reader.drives().map(({ number, driveId, set, position }) => [number, driveId, set, position])
  assert.deepEqual(drives.slice(2, 5), [[3, 'a', 1, 0], [4, 'b', 1, 1], [5, 'c', 2, 0]])
  assert.equal(machine.refused(joining(2, ['x', 'y'])), 'Conflict')
  assert.equal(machine.refused(joining(4, ['a', 'z'])), 'Conflict')
  assert.equal(machine.refused(joining(4, ['z'])), 'InvalidRequest')
  assert.equal(machine.refused(joining(4, ['z', 'z'])), 'InvalidRequest')
  verifyView(machine.view)
})

test('sets that hold objects stay; without objects they go, and no writer of the node can come back to them', () => {
  const machine = founded()
  machine.ok(createBucket('b'))
  machine.ok(joining(2, ['a', 'b']))
  const epoch = machine.ok({ kind: 'openEpoch', nowMs: 1, worker: 'w', node: 2 }).epoch ?? 0
  const stored = part(dataId(epoch), 10)
  machine.ok(putObject(1, 'k', stored))
  assert.equal(machine.refused({ kind: 'dropNodeSets', node: 2 }), 'Conflict')
  machine.ok({ kind: 'deleteObject', bucketId: 1, key: 'k' })
  assert.equal(machine.ok({ kind: 'dropNodeSets', node: 2 }).count, 1)
  assert.deepEqual(machine.reader.sets().map(({ number }) => number), [0])
  assert.deepEqual(machine.reader.drives().map(({ number }) => number), [1, 2])
  assert.equal(machine.refused(putObject(1, 'late', part(dataId(epoch), 10))), 'EpochFenced')
  assert.equal(machine.refused({ kind: 'openEpoch', nowMs: 1, worker: 'w', node: 2 }), 'Conflict')
  machine.ok({ kind: 'openEpoch', nowMs: 1, worker: 'w', node: 1 })
  machine.ok({ kind: 'openEpoch', nowMs: 1, worker: 'w' })
})
