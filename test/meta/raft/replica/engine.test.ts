import assert from 'node:assert/strict'
import { after, describe, it } from 'node:test'
import { MetadataError } from '../../../../ts/meta/engine.js'
import { LocalEngine } from '../../../../ts/meta/local_engine.js'
import { Cluster, begin, has, ok, put, retry, until } from './cluster.js'

const clusters: Cluster[] = []
after(async () => {
  for (const cluster of clusters) await cluster.end()
})

function cluster(...options: ConstructorParameters<typeof Cluster>): Cluster {
  const made = new Cluster(...options)
  clusters.push(made)
  return made
}

describe('a replicated engine of one node', () => {
  it('takes commands at once, and has them after a clean stop and after a crash', async () => {
    const one = cluster()
    const engine = await one.first()
    await Promise.all(Array.from({ length: 250 }, (_, at) => ok(engine.propose(put(`k${String(at)}`)))))
    await engine.settled('linearizable')
    assert.ok(has(engine, 'k249'))
    await one.stop(1)
    const again = await one.start(1)
    await ok(again.propose(put('later')))
    await one.kill(1)
    const third = await one.start(1)
    await third.settled('linearizable')
    assert.ok(has(third, 'k0') && has(third, 'k249') && has(third, 'later'))
  })

  it('is what a local engine was, in place, and a local engine keeps away from it then', async () => {
    const one = cluster()
    const drives = [one.drive(1), one.drive(9)]
    const local = await LocalEngine.open({ drives, copies: 2 })
    await begin(local)
    await Promise.all(Array.from({ length: 120 }, (_, at) => ok(local.propose(put(`k${String(at)}`)))))
    const { applied } = await local.status()
    await local.close()
    const engine = await one.start(1, { drives })
    assert.equal(engine.id, 1)
    assert.ok(engine.applied >= applied)
    assert.ok(has(engine, 'k0') && has(engine, 'k119'))
    await ok(engine.propose(put('more')))
    await one.stop(1)
    await assert.rejects(LocalEngine.open({ drives, copies: 2 }), /replica of a group/)
    const again = await one.start(1, { drives })
    assert.ok(has(again, 'k7') && has(again, 'more'))
    // Others join it, by a snapshot, although its log begins at its beginning.
    const second = await one.add(2)
    await until('the second node has everything', () => has(second, 'more'))
    await one.equal()
  })
})

describe('a group of three', () => {
  it('serves reads and writes through any node, each seeing what was acknowledged anywhere', async () => {
    const three = cluster()
    await three.grow(3)
    for (const id of [1, 2, 3]) {
      await ok(three.engine(id).propose(put(`by-${String(id)}`)))
      assert.ok(has(three.engine(id), `by-${String(id)}`))
      for (const engine of three.engines.values()) {
        await engine.settled('linearizable')
        assert.ok(has(engine, `by-${String(id)}`))
      }
    }
    await three.equal()
    const { replica } = await (await three.agreed()).status()
    assert.deepEqual(replica?.peers.map(({ id, role, name }) => [id, role, name]), [
      [1, 'voter', 'node-1'],
      [2, 'voter', 'node-2'],
      [3, 'voter', 'node-3'],
    ])
  })

  it('goes on when its leader dies, with everything that was acknowledged', async () => {
    const three = cluster()
    await three.grow(3)
    const leader = await three.agreed()
    await Promise.all(Array.from({ length: 50 }, (_, at) => ok(leader.propose(put(`k${String(at)}`)))))
    await three.kill(leader.id)
    const [other] = [...three.engines.values()]
    assert.ok(other)
    await ok(other.propose(put('after')))
    await other.settled('linearizable')
    assert.ok(has(other, 'k49') && has(other, 'after'))
    const back = await three.start(leader.id)
    await until('the former leader has everything', () => has(back, 'after'))
    await three.equal()
  })

  it('answers a write once however often messages are lost, or says that the outcome is unknown', async () => {
    const three = cluster({ retryMs: 60, commandTimeoutMs: 20_000 })
    await three.grow(3)
    await three.agreed()
    three.network.loss = 200
    const outcomes = await Promise.allSettled(
      Array.from({ length: 90 }, (_, at) =>
        three.engine((at % 3) + 1).propose({ kind: 'openEpoch', nowMs: 1, worker: String(at) }),
      ),
    )
    three.network.loss = 0
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected') assert.match(String(outcome.reason), /unknown/)
      else assert.ok(outcome.value.ok, JSON.stringify(outcome.value))
    }
    const answered = outcomes.filter(({ status }) => status === 'fulfilled').length
    assert.ok(answered > 0)
    await three.equal()
    const { reader } = three.engine(1)
    reader.refresh()
    const epochs = reader.epochs().length - 1
    assert.ok(epochs >= answered && epochs <= 90, `${String(epochs)} epochs of ${String(answered)} answered`)
  })

  it('refuses linearizable reads and says that writes are unknown where there is no majority', async () => {
    const three = cluster({ commandTimeoutMs: 1_500, readTimeoutMs: 600 })
    await three.grow(3)
    const leader = await three.agreed()
    await ok(leader.propose(put('before')))
    three.network.isolate(leader.id, [1, 2, 3])
    await assert.rejects(leader.propose(put('lost')), (error: MetadataError) => error.code === 'unknown')
    await assert.rejects(leader.settled('linearizable'), (error: MetadataError) => error.code === 'unavailable')
    await assert.rejects(leader.settled({ boundedMs: 1 }), MetadataError)
    await leader.settled('eventual')
    assert.ok(has(leader, 'before'))
    const other = [...three.engines.values()].find(({ id }) => id !== leader.id)
    assert.ok(other)
    await retry(() => ok(other.propose(put('without'))))
    three.network.heal()
    await until('the isolated node catches up', () => has(leader, 'without'))
    await leader.settled('linearizable')
    await leader.settled({ boundedMs: 60_000 })
    await three.equal()
  })

  it('hands leadership over, on request and when its leader closes', async () => {
    const three = cluster()
    await three.grow(3)
    const leader = await three.agreed()
    const target = [1, 2, 3].find((id) => id !== leader.id) as number
    await leader.transferLeadership(target)
    await three.agreed()
    assert.equal(three.leader()?.id, target)
    await three.stop(target)
    await three.agreed()
  })

  it('removes a node for good, also its leader', async () => {
    const three = cluster()
    await three.grow(3)
    const leader = await three.agreed()
    await leader.removeNode(3)
    await assert.rejects(leader.addNode('node-3', ''), MetadataError)
    const remaining = await retry(async () => (await three.engine(1).status()).replica?.peers.map(({ id }) => id))
    assert.deepEqual(remaining, [1, 2])
    await three.kill(3)
    const two = await three.agreed()
    assert.equal(await two.addNode('node-3', 'host-3:7000'), 4)
  })
})

describe('snapshots between engines', () => {
  it('bring a node up to date that lacks what the log has released, although the way breaks', async () => {
    const three = cluster({ releaseEvery: 20, trailingEntries: 5, releaseBytes: 1 << 16, trailingBytes: 1 << 12 })
    await three.grow(2)
    const leader = await three.agreed()
    for (let round = 0; round < 30; round++) {
      const keys = Array.from({ length: 150 }, (_, at) => `${'long-name-'.repeat(20)}${String(round)}-${String(at)}`)
      await Promise.all(keys.map((key) => ok(leader.propose(put(key)))))
    }
    await until('the log is released', () => leader.metrics().snapshotIndex > 10)
    three.network.breakAfter = 1
    const third = await three.add(3)
    assert.ok(three.network.breaks > 0, 'the stream never broke')
    assert.ok(third.metrics().snapshotsReceived > 0)
    await third.settled('linearizable')
    assert.ok(has(third, `${'long-name-'.repeat(20)}29-149`))
    await three.equal()
    // And again after it was away for long, while it has readers.
    await three.stop(3)
    const now = await three.agreed()
    for (let round = 0; round < 40; round++) await ok(now.propose(put(`while-away-${String(round)}`)))
    await until('the log is released', () => now.metrics().snapshotIndex > third.applied)
    const back = await three.start(3)
    assert.ok(!has(back, 'while-away-39'))
    await until('the node is up to date', () => has(back, 'while-away-39'))
    await three.equal()
    await three.kill(3)
    const last = await three.start(3)
    assert.ok(has(last, 'while-away-39'))
  })
})
