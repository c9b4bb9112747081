import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { applyRecords } from '../../ts/meta/apply/apply.js'
import type { Origin } from '../../ts/meta/apply/sessions.js'
import type { Command, CommandResult } from '../../ts/meta/command.js'
import { pack, unpack } from '../../ts/meta/record.js'
import type { Batch } from '../../ts/meta/apply/apply.js'
import { createBucket, Machine } from './support.js'

function machine(featureLevel = 3): Machine {
  const made = new Machine()
  const cluster = { clusterId: 'c', createdMs: 1, featureLevel, stripeSize: 1 << 20 }
  made.ok({ kind: 'initCluster', cluster, sets: [], drives: [] })
  return made
}

/** A batch of one command from a proposer: its result, undefined when it was taken for a repetition. */
function propose(on: Machine, origin: Origin, command: Command): CommandResult | undefined {
  on.index++
  const batch = unpack(pack({ timeMs: 1, requests: [{ command }], origin })) as Batch
  const position = { index: on.index, term: 1 }
  const { results, writes } = applyRecords(on.view, [{ ...position, batch }], position)
  on.view.commit(writes)
  return results[0]?.[0]
}

describe('batches of proposers', () => {
  it('take effect once, in whatever order they come and however often', () => {
    const on = machine()
    const origin = { node: 1, boot: 3, floor: 1 }
    assert.ok(propose(on, { ...origin, sequence: 2 }, createBucket('two'))?.ok)
    assert.ok(propose(on, { ...origin, sequence: 1 }, createBucket('one'))?.ok)
    assert.equal(propose(on, { ...origin, sequence: 2 }, createBucket('again')), undefined)
    assert.ok(propose(on, { ...origin, sequence: 3, floor: 3 }, createBucket('three'))?.ok)
    assert.equal(propose(on, { ...origin, sequence: 1 }, createBucket('again')), undefined)
    assert.ok(propose(on, { ...origin, node: 2, sequence: 1 }, createBucket('other'))?.ok)
    on.reader.refresh()
    assert.deepEqual(on.reader.buckets().map(({ name }) => name).sort(), ['one', 'other', 'three', 'two'])
  })

  it('of an earlier start of the proposer, or that it has given up, take no effect', () => {
    const on = machine()
    assert.ok(propose(on, { node: 1, boot: 3, sequence: 5, floor: 5 }, createBucket('a'))?.ok)
    assert.equal(propose(on, { node: 1, boot: 3, sequence: 4, floor: 4 }, createBucket('given-up')), undefined)
    assert.ok(propose(on, { node: 1, boot: 4, sequence: 1, floor: 1 }, createBucket('b'))?.ok)
    assert.equal(propose(on, { node: 1, boot: 3, sequence: 6, floor: 5 }, createBucket('late')), undefined)
    assert.equal(on.reader.buckets().length, 2)
  })
})

describe('leases', () => {
  it('belong to one holder, with a token that grows with every holder', () => {
    const on = machine()
    const take = (holder: string, ifVersion: number): Command => ({
      kind: 'takeLease',
      name: 'scan',
      holder,
      ifVersion,
    })
    assert.equal(on.ok(take('a', 0)).lease?.token, 1)
    assert.equal(on.refused(take('b', 0)), 'Conflict')
    assert.equal(on.ok({ kind: 'renewLease', name: 'scan', token: 1 }).lease?.version, 2)
    // Who saw it before the renewal does not get it.
    assert.equal(on.refused(take('b', 1)), 'Conflict')
    assert.equal(on.ok(take('b', 2)).lease?.token, 2)
    assert.equal(on.refused({ kind: 'renewLease', name: 'scan', token: 1 }), 'LeaseLost')
    assert.equal(on.refused({ kind: 'releaseLease', name: 'scan', token: 1 }), 'LeaseLost')
    on.ok({ kind: 'releaseLease', name: 'scan', token: 2 })
    assert.deepEqual(on.reader.lease('scan'), { name: 'scan', holder: '', token: 2, version: 4 })
  })

  it('fence commands: without the lease they change nothing', () => {
    const on = machine()
    on.ok({ kind: 'takeLease', name: 'scan', holder: 'a', ifVersion: 0 })
    const [held] = on.batch([{ command: createBucket('one'), fence: { lease: 'scan', token: 1 } }])
    assert.ok(held?.ok)
    on.ok({ kind: 'takeLease', name: 'scan', holder: 'b', ifVersion: 1 })
    const [lost] = on.batch([{ command: createBucket('two'), fence: { lease: 'scan', token: 1 } }])
    assert.ok(lost !== undefined && !lost.ok && lost.refusal === 'LeaseLost')
    assert.equal(on.reader.bucket('two'), undefined)
  })
})

describe('nodes and feature levels', () => {
  it('give a node one id for life, and no id twice', () => {
    const on = machine()
    const register = (name: string, address: string, id?: number): Command =>
      ({ kind: 'registerNode', name, address, ...(id !== undefined && { id }) })
    assert.equal(on.ok(register('first', 'a:1', 1)).nodeId, 1)
    assert.equal(on.ok(register('second', 'b:1')).nodeId, 2)
    assert.equal(on.ok(register('second', 'b:2')).nodeId, 2)
    assert.equal(on.refused(register('second', 'b:2', 1)), 'Conflict')
    on.ok({ kind: 'removeNode', id: 2 })
    assert.equal(on.refused(register('x', 'b:2', 2)), 'Conflict')
    assert.equal(on.ok(register('second', 'b:3')).nodeId, 3)
    assert.equal(on.refused(register('far', 'c:1', 9)), 'InvalidRequest')
    assert.deepEqual(on.reader.nodes().map(({ id, address, state }) => [id, address, state]), [
      [1, 'a:1', 'member'], [2, 'b:2', 'removed'], [3, 'b:3', 'member'],
    ])
  })

  it('refuse newer kinds of commands until the level is raised, and levels that are not known here', () => {
    const on = machine(1)
    assert.equal(on.refused({ kind: 'takeLease', name: 'scan', holder: 'a', ifVersion: 0 }), 'FeatureLevel')
    assert.equal(on.refused({ kind: 'registerNode', name: 'n', address: 'a:1' }), 'FeatureLevel')
    assert.equal(on.refused({ kind: 'raiseFeatureLevel', level: 4 }), 'FeatureLevel')
    on.ok({ kind: 'raiseFeatureLevel', level: 3 })
    on.ok({ kind: 'raiseFeatureLevel', level: 1 })
    assert.equal(on.reader.cluster()?.featureLevel, 3)
    on.ok({ kind: 'takeLease', name: 'scan', holder: 'a', ifVersion: 0 })
  })
})
