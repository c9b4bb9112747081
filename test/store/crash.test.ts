import assert from 'node:assert/strict'
import { test } from 'node:test'
import { randomInteger, seededRandom, type Random } from '../../ts/util/random.js'
import { SimulatedStore } from '../support/simulated_store.js'
import { StoreModel } from '../support/store_model.js'

const long = process.env['OSTRAKA_TEST_LONG'] !== undefined
const firstSeed = Number(process.env['OSTRAKA_TEST_SEED'] ?? Math.floor(Math.random() * 1e9))

const SHAPES = [
  { k: 2, m: 2, sets: 1 },
  { k: 2, m: 1, sets: 2 },
  { k: 1, m: 0, sets: 1 },
  { k: 3, m: 3, sets: 1 },
]

/** Loads the store until the process ends at a random step of a drive or of the metadata. */
async function loadUntilCut(
  model: StoreModel,
  random: Random,
  how: 'kill' | 'powerCut',
  withBackground: boolean,
): Promise<void> {
  const { sim } = model
  let steps = 1 + randomInteger(random, 1500)
  let ended = (): void => undefined
  const end = new Promise<void>((resolve) => {
    ended = resolve
  })
  let cut = false
  const step = (): void => {
    if (cut || --steps > 0) return
    cut = true
    model.endLife()
    sim.cut(how)
    ended()
  }
  for (const drive of sim.drives.values()) drive.beforeOperation = step
  sim.metadata.before = step
  const load = model.load(1000)
  const background = withBackground ? sim.backgroundUntil(() => cut) : Promise.resolve()
  // After the cut some of these never settle, as in a process that is gone.
  load.catch(() => undefined)
  background.catch(() => undefined)
  await sim.run(Promise.race([end, load]))
  assert.ok(cut)
}

async function crashRun(seed: number, lives: number, engine: 'simulated' | 'local'): Promise<number> {
  const random = seededRandom(seed)
  const shape = SHAPES[randomInteger(random, SHAPES.length)]!
  const sim = await SimulatedStore.create({
    seed, ...shape, workers: 1 + randomInteger(random, 2), epochIds: 1 + randomInteger(random, 8), engine,
    threshold: [0, 2000, 2 ** 18, 2 ** 18][randomInteger(random, 4)]!,
  })
  const model = new StoreModel(sim, 3)
  await model.start()
  for (let life = 0; life < lives; life++) {
    const how = randomInteger(random, 3) === 0 ? 'kill' : 'powerCut'
    if (shape.m > 0 && randomInteger(random, 4) === 0) {
      // Whole first, so that no more than one drive of a set is being filled; the cut falls into its heal.
      await sim.settleBackground(3)
      const members = sim.members()
      await sim.replace(members[randomInteger(random, members.length)]!.number)
    }
    await loadUntilCut(model, random, how, randomInteger(random, 2) === 0)
    await sim.restart()
    await model.check()
    await model.endUploads()
  }
  await sim.settleBackground(3)
  await model.check()
  await model.checkDrives()
  sim.close()
  return model.operations
}

for (const engine of ['simulated', 'local'] as const) {
  const name = engine === 'local' ? 'the log on the drives' : 'metadata that answers at once'
  test(`a kill or power cut at any step keeps what was acknowledged, leaks nothing: ${name}`, async (t) => {
    const runs = Number(process.env['OSTRAKA_TEST_RUNS'] ?? (long ? 400 : 20))
    t.diagnostic(`seeds ${String(firstSeed)}..${String(firstSeed + runs - 1)} (OSTRAKA_TEST_SEED sets the first)`)
    let operations = 0
    for (let i = 0; i < runs; i++) {
      try {
        operations += await crashRun(firstSeed + i, 4, engine)
      } catch (error) {
        const why = error instanceof Error ? (error.stack ?? error.message) : String(error)
        throw new Error(`seed ${String(firstSeed + i)}: ${why}`, { cause: error })
      }
    }
    t.diagnostic(`${String(operations)} operations, ${String(runs * 4)} cuts`)
  })
}
