import assert from 'node:assert/strict'
import { test } from 'node:test'

import type { BackgroundJob, SliceEnd } from '../../ts/store/background/job.js'
import { BackgroundRunner } from '../../ts/store/background/runner.js'
import { Throttle } from '../../ts/store/background/throttle.js'
import { SimulatedStore } from '../support/simulated_store.js'

const HOUR = 3_600_000

test('a job that is called for during its slice is run again without its pause', async () => {
  const sim = await SimulatedStore.create({ seed: 1 })
  const { clock } = sim
  const began: number[] = []
  const runner = new BackgroundRunner(sim.environment, new Throttle(clock, 0))
  const job: BackgroundJob = {
    name: 'healer',
    progress: () => sim.background.healer.progress(),
    runSlice: async (): Promise<SliceEnd> => {
      began.push(clock.now())
      await clock.sleep(10)
      return { againMs: HOUR }
    },
  }
  const start = clock.now()
  runner.start([job])
  clock.after(5, () => { runner.wake('healer') })
  clock.after(100, () => { runner.wake('healer') })
  await sim.run(clock.sleep(1.5 * HOUR))
  await sim.run(runner.stop(HOUR))
  assert.deepEqual(began.map((at) => at - start), [0, 10, 100, 110 + HOUR])
})
