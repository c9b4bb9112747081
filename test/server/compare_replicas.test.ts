import assert from 'node:assert/strict'
import { test } from 'node:test'

import { compareReplicas } from '../../ts/server/threads/compare_replicas.js'
import { digestOfSnapshot } from '../../ts/server/threads/digest.js'
import type { Digest } from '../../ts/server/threads/digest.js'
import { Cluster, ok, put } from '../meta/raft/replica/cluster.js'

test('replicas are compared at one position, and one that differs is named', { timeout: 120_000 }, async () => {
  const cluster = new Cluster()
  try {
    await cluster.grow(3)
    const leader = await cluster.agreed()
    const others = [...cluster.engines.keys()].filter((id) => id !== leader.id)
    for (let i = 0; i < 20; i++) await ok(leader.propose(put(`k${String(i)}`)))
    const ask = async (node: number, position: number): Promise<Digest> => {
      const snapshot = await cluster.engine(node).snapshotAt(position, 10_000)
      assert.ok(snapshot !== undefined, 'nothing is written meanwhile')
      return digestOfSnapshot(snapshot)
    }
    assert.deepEqual(await compareReplicas(leader, others, ask), { equal: others, different: [], missed: [] })
    const [bad, good] = others
    const found = await compareReplicas(leader, others, async (node, position) => {
      const digest = await ask(node, position)
      return node === bad ? { ...digest, digest: 'another' } : digest
    })
    assert.deepEqual(found, { equal: [good], different: [bad], missed: [] })
    const follower = cluster.engine(good!)
    const none = () => Promise.reject(new Error('nobody is asked'))
    assert.equal(await compareReplicas(follower, [leader.id], none), undefined)
  } finally {
    await cluster.end()
  }
})

test('a position is waited for, and one that was passed over is not taken for it', { timeout: 120_000 }, async () => {
  const cluster = new Cluster()
  try {
    const engine = await cluster.first()
    const { applied } = engine
    const later = engine.snapshotAt(applied + 1, 60_000)
    await ok(engine.propose(put('k')))
    const snapshot = await later
    assert.ok(snapshot !== undefined)
    assert.equal((await digestOfSnapshot(snapshot)).position, applied + 1)
    assert.equal(await engine.snapshotAt(applied, 60_000), undefined)
    assert.equal(await engine.snapshotAt(engine.applied + 5, 10), undefined)
  } finally {
    await cluster.end()
  }
})
