import assert from 'node:assert/strict'
import { after, describe, it } from 'node:test'
import type { ReadConsistency } from '../../../../ts/meta/engine.js'
import { Readiness } from '../../../../ts/meta/raft/replica/readiness.js'
import { Cluster, ok, put, until } from './cluster.js'

/** A replica as its readiness sees it. */
class Seen {
  now = 0
  leader = 1
  waitingSince: number | undefined
  readonly reads = { freshAt: -Infinity, wait: (level: ReadConsistency): Promise<void> => this.#read(level) }
  readonly asked: ReadConsistency[] = []
  #answers: (() => void)[] = []
  readonly readiness = new Readiness({
    clock: { now: () => this.now, after: () => () => undefined },
    limitMs: 5_000,
    leader: () => this.leader,
    reads: this.reads,
    waitingSince: () => this.waitingSince,
  })

  #read(level: ReadConsistency): Promise<void> {
    this.asked.push(level)
    return new Promise((resolve) => this.#answers.push(resolve))
  }

  async confirm(): Promise<void> {
    this.reads.freshAt = this.now
    for (const answer of this.#answers.splice(0)) answer()
    await new Promise((resolve) => setImmediate(resolve))
  }

  pass(ms: number): void {
    for (const end = this.now + ms; this.now < end; this.now += 25) this.readiness.tick()
  }
}

describe('the readiness of a replica', () => {
  it('begins with the first confirmed read, which it asks for itself, one at a time', async () => {
    const seen = new Seen()
    assert.match(seen.readiness.troubles().join(), /not caught up .* since the start/)
    seen.pass(3_000)
    assert.equal(seen.asked.length, 1)
    await seen.confirm()
    assert.deepEqual(seen.readiness.troubles(), [])
    seen.pass(2_000)
    assert.equal(seen.asked.length, 2)
  })

  it('ends when there is no leader for longer than elections take', async () => {
    const seen = new Seen()
    seen.pass(25)
    await seen.confirm()
    seen.leader = 0
    seen.pass(4_000)
    assert.deepEqual(seen.readiness.troubles(), [])
    seen.pass(2_000)
    assert.match(seen.readiness.troubles().join(), /^no leader of the metadata has been known for 6\.\d s$/)
    seen.leader = 2
    seen.pass(25)
    await seen.confirm()
    assert.deepEqual(seen.readiness.troubles(), [])
  })

  it('ends when no read is confirmed although there is a leader, and when a command waits', async () => {
    const seen = new Seen()
    seen.pass(25)
    await seen.confirm()
    seen.pass(6_000)
    assert.match(seen.readiness.troubles().join(), /^the metadata here is behind by 6\.\d s$/)
    seen.waitingSince = 0
    await seen.confirm()
    assert.match(seen.readiness.troubles().join(), /^a metadata command has waited for 6\.\d s$/)
    seen.waitingSince = seen.now
    assert.deepEqual(seen.readiness.troubles(), [])
  })
})

describe('the readiness of replicas of a group', () => {
  const cluster = new Cluster({ unreadyAfterMs: 1_500 })
  after(() => cluster.end())

  it('is there on all, ends on one that is cut off and comes back with it', { timeout: 60_000 }, async () => {
    await cluster.grow(3)
    const { network } = cluster
    const ready = (id: number): boolean => cluster.engine(id).troubles().length === 0
    await until('all are ready', () => ready(1) && ready(2) && ready(3))
    const leader = await cluster.agreed()
    network.isolate(leader.id, [1, 2, 3])
    await until('the one that is cut off says so', () => {
      return cluster.engine(leader.id).troubles().some((trouble) => /no leader|behind/.test(trouble))
    })
    const others = [1, 2, 3].filter((id) => id !== leader.id)
    await until('the others go on', () => others.every(ready))
    await ok(cluster.engine(others[0] as number).propose(put('meanwhile')))
    network.heal()
    await until('it is ready again', () => ready(leader.id))
  })
})
