import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { decodeBatch, encodeRequest } from '../../../../ts/meta/apply/apply.js'
import { BATCH_COUNT, Proposer } from '../../../../ts/meta/raft/replica/proposer.js'

const REQUEST = encodeRequest({ kind: 'openEpoch', nowMs: 1, worker: 'w' }, undefined)

/** A proposer whose time goes only when it is told to. */
class Bench {
  now = 1000
  idle = true
  /** How many commands each batch held that was proposed. */
  readonly batches: number[] = []
  readonly proposer: Proposer
  #timers: { at: number; run: () => void }[] = []

  constructor() {
    this.proposer = new Proposer({
      node: 1,
      boot: 1,
      clock: {
        now: () => this.now,
        after: (ms, run) => {
          const timer = { at: this.now + ms, run }
          this.#timers.push(timer)
          return () => { this.#timers = this.#timers.filter((one) => one !== timer) }
        },
      },
      stamp: () => 1,
      maxQueued: 1_000,
      maxQueuedBytes: 1 << 20,
      retryMs: 1_000,
      giveUpMs: 10_000,
      propose: (data) => {
        this.batches.push(decodeBatch(data).requests.length)
        return 'ok'
      },
      idle: () => this.idle,
    })
  }

  command(): void {
    // Nothing is applied here: what is left over in the end is of no interest.
    this.proposer.propose(REQUEST).catch(() => undefined)
  }

  /** Everything of this turn, then so many milliseconds. */
  async pass(ms = 0): Promise<void> {
    await Promise.resolve()
    this.now += ms
    const due = this.#timers.filter(({ at }) => at <= this.now)
    this.#timers = this.#timers.filter(({ at }) => at > this.now)
    for (const { run } of due) run()
    await Promise.resolve()
  }
}

describe('commands on their way into the log', () => {
  it('go at once with an idle log, and together in one turn', async () => {
    const bench = new Bench()
    bench.command()
    bench.command()
    await bench.pass()
    assert.deepEqual(bench.batches, [2])
  })

  it('gather while the log writes, but not beyond the time or the count', async () => {
    const bench = new Bench()
    bench.idle = false
    bench.command()
    await bench.pass(9)
    assert.deepEqual(bench.batches, [])
    bench.command()
    await bench.pass(1)
    assert.deepEqual(bench.batches, [2])
    for (let i = 0; i < BATCH_COUNT + 1; i++) bench.command()
    await bench.pass()
    assert.deepEqual(bench.batches, [2, BATCH_COUNT])
  })

  it('wait for the groups that were announced, all of them', async () => {
    const bench = new Bench()
    const [one, other] = [{}, {}]
    bench.proposer.expect(one, true)
    bench.proposer.expect(other, true)
    bench.command()
    bench.command()
    await bench.pass(1)
    assert.deepEqual(bench.batches, [])
    bench.command()
    bench.proposer.expect(one, false)
    await bench.pass(1)
    assert.deepEqual(bench.batches, [])
    bench.proposer.expect(other, false)
    await bench.pass()
    assert.deepEqual(bench.batches, [3])
  })

  it('do not wait longer than 10 ms for a group, and then not again for the same one', async () => {
    const bench = new Bench()
    const late = {}
    bench.proposer.expect(late, true)
    bench.command()
    await bench.pass(9)
    assert.deepEqual(bench.batches, [])
    await bench.pass(1)
    assert.deepEqual(bench.batches, [1])
    bench.command()
    await bench.pass()
    assert.deepEqual(bench.batches, [1, 1])
    bench.proposer.expect(late, false)
    bench.proposer.expect(late, true)
    bench.command()
    await bench.pass()
    assert.deepEqual(bench.batches, [1, 1])
  })
})
