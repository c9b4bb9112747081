import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Command, CommandResult } from '../../ts/meta/command.js'
import { MetadataError } from '../../ts/meta/engine.js'
import type { LeaseKeeperOptions } from '../../ts/meta/lease_keeper.js'
import { LeaseKeeper } from '../../ts/meta/lease_keeper.js'
import { Machine } from './support.js'

/** One state for all keepers, clocks of their own, and a way to the state that can be cut. */
class World {
  readonly machine = new Machine()
  now = 0
  readonly events: string[] = []
  readonly cut = new Set<string>()

  constructor() {
    const cluster = { clusterId: 'c', createdMs: 1, featureLevel: 3, stripeSize: 1 << 20 }
    this.machine.ok({ kind: 'initCluster', cluster, sets: [], drives: [] })
  }

  keeper(holder: string, rate = 1): LeaseKeeper {
    const propose = (command: Command): Promise<CommandResult> =>
      this.cut.has(holder)
        ? Promise.reject(new MetadataError('unknown', 'cut off'))
        : Promise.resolve(this.machine.propose(command))
    const engine = { propose, reader: this.machine.reader } as LeaseKeeperOptions['engine']
    return new LeaseKeeper({
      engine,
      name: 'scan',
      holder,
      ttlMs: 1000,
      now: () => this.now * rate,
      onHeld: ({ token }) => this.events.push(`${holder} holds ${String(token)}`),
      onLost: () => this.events.push(`${holder} lost it`),
    })
  }
}

describe('a keeper of a lease', () => {
  it('holds it as long as it renews, and nobody else does', async () => {
    const world = new World()
    const [a, b] = [world.keeper('a'), world.keeper('b')]
    for (; world.now < 5000; world.now += 250) {
      await a.tend()
      await b.tend()
      assert.deepEqual([a.fence?.token, b.fence], [1, undefined])
    }
    assert.deepEqual(world.events, ['a holds 1'])
    await a.stop()
    await b.tend()
    assert.equal(b.fence?.token, 2)
  })

  it('loses it by its own clock when it is cut off, before another can take it', async () => {
    const world = new World()
    // Its clock is slow by a fifth.
    const [a, b] = [world.keeper('a', 0.8), world.keeper('b')]
    await a.tend()
    await b.tend()
    world.cut.add('a')
    while (b.fence === undefined && world.now < 10_000) {
      world.now += 50
      await b.tend()
      assert.ok(a.fence === undefined || b.fence === undefined, `both hold it at ${String(world.now)}`)
      await a.tend()
    }
    assert.equal(b.fence?.token, 2)
    assert.deepEqual(world.events, ['a holds 1', 'a lost it', 'b holds 2'])
    world.cut.clear()
    await a.tend()
    assert.equal(a.fence, undefined)
  })
})
