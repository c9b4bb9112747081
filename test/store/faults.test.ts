import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { SimulatedDrive } from '../../ts/drive/simulated_io.js'
import { randomInteger, seededRandom, type Random } from '../../ts/util/random.js'
import { SimulatedStore } from '../support/simulated_store.js'
import { StoreModel } from '../support/store_model.js'

const long = process.env['OSTRAKA_TEST_LONG'] !== undefined
const firstSeed = Number(process.env['OSTRAKA_TEST_SEED'] ?? Math.floor(Math.random() * 1e9))

const SHAPES = [
  { k: 2, m: 2, sets: 1 },
  { k: 4, m: 2, sets: 1 },
  { k: 2, m: 1, sets: 2 },
]

/** Makes a drive go wrong in one of many ways; the returned function ends it. */
function breakDrive(sim: SimulatedStore, number: number, random: Random): () => void {
  const drive: SimulatedDrive = sim.drive(number)
  const back = (end: () => void) => (): void => {
    end()
    sim.bringBack(number)
  }
  const probability = random() < 0.5 ? 1 : 0.2
  switch (randomInteger(random, 7)) {
    case 0:
      sim.lose(number)
      return () => { sim.bringBack(number) }
    case 1:
      return back(drive.addFault({ op: ['read', 'open'], fault: { error: 'EIO' }, probability }))
    case 2:
      return back(drive.addFault({ op: ['write', 'sync', 'rename', 'syncDir'], fault: { error: 'EIO' }, probability }))
    case 3:
      return back(drive.addFault({ op: ['write', 'open'], path: /tmp|meta/, fault: { error: 'ENOSPC' }, probability }))
    case 4:
      return back(drive.addFault({ fault: { hang: true }, probability: 0.02 }))
    case 5:
      return back(drive.addFault({ fault: { slowMs: 3_000 }, probability: 0.05 }))
    default:
      drive.readOnly = true
      return () => {
        drive.readOnly = false
        sim.bringBack(number)
      }
  }
}

/** Flips a bit in some of a drive's shards. */
function flipSome(sim: SimulatedStore, number: number, random: Random): void {
  for (const { path, offset, size } of sim.shards(number).values()) {
    if (random() < 0.3) continue
    sim.drive(number).disk.flip(path, offset + randomInteger(random, size), 1 << randomInteger(random, 8))
  }
}

/** Load, and the background jobs at the same time where asked for. */
async function loadWithJobs(model: StoreModel, count: number, jobs: boolean): Promise<void> {
  let over = !jobs
  model.sim.clock.turnMs = jobs ? 5 : 0
  const background = model.sim.backgroundUntil(() => over)
  await model.load(count)
  over = true
  await background
  model.sim.clock.turnMs = 0
}

async function faultRun(seed: number, engine: 'simulated' | 'local'): Promise<number> {
  const random = seededRandom(seed)
  const shape = SHAPES[randomInteger(random, SHAPES.length)]!
  const epochIds = 1 + randomInteger(random, 10)
  const sim = await SimulatedStore.create({
    seed,
    ...shape,
    workers: 2,
    epochIds,
    engine,
    threshold: seed % 3 === 0 ? 0 : 2 ** 18,
  })
  const model = new StoreModel(sim, 3)
  await model.start()
  await sim.run(model.load(15))
  for (let round = 0; round < 3; round++) {
    // No more than m drives of a set are bad at a time, those with flipped bits included.
    const victims = sim.reader.sets().flatMap((set) => {
      const drives = [...set.drives].sort(() => random() - 0.5)
      return drives.slice(0, randomInteger(random, set.m + 1))
    })
    const ends: (() => void)[] = []
    let replaced = false
    for (const number of victims) {
      const kind = randomInteger(random, 6)
      if (kind === 0) flipSome(sim, number, random)
      else if (kind === 1 && !replaced) {
        replaced = true
        await sim.replace(number)
      } else ends.push(breakDrive(sim, number, random))
    }
    await sim.run(loadWithJobs(model, 20, random() < 0.5))
    await model.check()
    // A restart with those drives gone or still bad.
    if (random() < 0.5) {
      model.endLife()
      await sim.crash(random() < 0.5 ? 'kill' : 'powerCut')
      await model.check()
      await model.endUploads()
      await sim.run(model.load(5))
    }
    for (const end of ends) end()
    await sim.scrub()
    await sim.settleBackground(4)
    await model.check()
  }
  await model.endUploads()
  // What failed writes left on drives that were out goes when their writer epochs are fenced: the next process does.
  await sim.crash('kill')
  await sim.scrub()
  await sim.settleBackground(4)
  await model.check()
  await model.checkDrives()
  assert.ok(sim.members().every((drive) => !drive.healing))
  sim.close()
  return model.operations
}

for (const engine of ['simulated', 'local'] as const) {
  const name = engine === 'local' ? 'the log on the drives' : 'metadata apart'
  test(`with up to m drives of a set bad in any way every object is right, then all is healed: ${name}`, async (t) => {
    const runs = Number(process.env['OSTRAKA_TEST_RUNS'] ?? (long ? 200 : 6))
    t.diagnostic(`seeds ${String(firstSeed)}..${String(firstSeed + runs - 1)} (OSTRAKA_TEST_SEED sets the first)`)
    let operations = 0
    for (let i = 0; i < runs; i++) {
      try {
        operations += await faultRun(firstSeed + i, engine)
      } catch (error) {
        const why = error instanceof Error ? (error.stack ?? error.message) : String(error)
        throw new Error(`seed ${String(firstSeed + i)}: ${why}`, { cause: error })
      }
    }
    t.diagnostic(`${String(operations)} operations`)
  })
}
