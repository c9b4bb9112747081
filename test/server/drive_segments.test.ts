import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { DriveTable } from '../../ts/drive/drive_table.js'
import { prepareLayout } from '../../ts/drive/local_drive.js'
import { SimulatedDisk, SimulatedDrive } from '../../ts/drive/simulated_io.js'
import { DriveSegments, type LoadableDrive } from '../../ts/server/control/drive_segments.js'
import { createLogger } from '../../ts/server/log.js'
import { seededRandom } from '../../ts/util/random.js'

async function simulated(number = 1): Promise<{ drive: SimulatedDrive; loadable: LoadableDrive }> {
  const drive = new SimulatedDrive(new SimulatedDisk(), { random: seededRandom(number) })
  const io = drive.connect()
  await prepareLayout(io)
  const row = DriveTable.create(1).row(0)
  row.number = number
  row.set('online', 'none')
  const record = {
    number, driveId: `drive-${String(number)}`, pool: 0, set: 0, position: 0, epoch: 1, state: 'member', healing: false,
  } as const
  return { drive, loadable: { path: `/${String(number)}`, record, io, row } }
}

test('a drive that comes back while its segments still fail to load is loaded', { timeout: 20_000 }, async () => {
  const { drive, loadable } = await simulated()
  const log = createLogger('error', 'test')
  let failures = 0
  log.error = (): void => { failures++ }
  const segments = new DriveSegments(log, () => undefined)
  const phase = async (wanted: string): Promise<void> => {
    while (segments.table(1)?.phase !== wanted) await new Promise((resolve) => setImmediate(resolve))
  }

  drive.addFault({ fault: { error: 'EIO' }, times: 1 })
  segments.load(loadable)
  drive.beforeOperation = () => {
    drive.beforeOperation = undefined
    segments.load(loadable)
  }
  await phase('loaded')
  assert.equal(failures, 1)
})

test('a replaced drive leaves no memory behind, the one in its place keeps its own', { timeout: 60_000 }, async () => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const segments = new DriveSegments(createLogger('error', 'test'), () => { assert.fail('nothing is damaged') })
  const use = async (number: number): Promise<WeakRef<SharedArrayBuffer>> => {
    const { loadable } = await simulated(number)
    const opened = segments.open(loadable)
    segments.load(loadable, opened)
    await opened.segments.loaded()
    // As often as it was full and is not any more.
    for (let i = 0; i < 3; i++) segments.refill(loadable)
    assert.equal(segments.totals(number)?.segments, 0)
    return new WeakRef(segments.memory(number).index.buffer)
  }
  const [old, next] = [await use(1), await use(2)]
  segments.forget(1)
  assert.equal(segments.totals(1), undefined)
  while (old.deref() !== undefined) {
    await sleep(1)
    collect()
  }
  assert.equal(segments.totals(2)?.segments, 0)
  assert.equal(segments.memory(2).index.buffer, next.deref())
})
