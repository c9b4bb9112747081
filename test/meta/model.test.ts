import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Command } from '../../ts/meta/command.js'
import { verifyView } from '../../ts/meta/verify.js'
import { randomInteger, seededRandom } from '../../ts/util/random.js'
import { hex, listAll, Model, randomCommand, randomQuery, shown } from './model.js'
import { createBucket, Machine } from './support.js'

const ROUNDS = process.env.OSTRAKA_TEST_LONG === undefined ? 12 : 300
const SEED = Number(process.env.OSTRAKA_TEST_SEED ?? randomInteger(Math.random, 2 ** 31))

/** The orders of garbage entries are known to the reader only. */
export function withOrders(machine: Machine, command: Command): Command {
  if (command.kind !== 'collected') return command
  const ids = new Set(command.entries.map(({ dataId }) => hex(dataId)))
  return { kind: 'collected', entries: machine.reader.garbage(10_000).filter(({ dataId }) => ids.has(hex(dataId))) }
}

describe('metadata against a model', () => {
  it(`agrees after every random batch, and on every listing (seed ${String(SEED)})`, () => {
    for (let round = 0; round < ROUNDS; round++) {
      const random = seededRandom(SEED + round)
      const machine = new Machine()
      const model = new Model()
      machine.ok({ kind: 'openEpoch', nowMs: 1, worker: 'w' })
      for (const name of ['b1', 'b2']) machine.ok(createBucket(name))
      for (let step = 0; step < 60; step++) {
        // Commands of one batch are made without knowing the results of those before them.
        const commands = Array.from({ length: 1 + randomInteger(random, 4) }, () =>
          withOrders(machine, randomCommand(random, model)),
        )
        const results = machine.batch(commands.map((command) => ({ command })))
        for (const [at, result] of results.entries()) model.take(commands[at] as Command, result)
        model.compare(machine.reader)
        verifyView(machine.view)
      }
      for (let step = 0; step < 100; step++) {
        const query = randomQuery(random)
        const page = machine.reader.list(query)
        const expected = model.list(query)
        const text = JSON.stringify({ seed: SEED + round, query })
        assert.deepEqual(shown(page), expected.entries, text)
        assert.equal(page.truncated, expected.truncated, text)
        assert.deepEqual(listAll(machine.reader, query), model.list({ ...query, limit: 1e6 }).entries, text)
      }
    }
  })
})
