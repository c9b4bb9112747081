import assert from 'node:assert/strict'
import { test } from 'node:test'

import { DriveTable } from '../../ts/drive/drive_table.js'
import { prepareLayout } from '../../ts/drive/local_drive.js'
import { SimulatedDisk, SimulatedDrive } from '../../ts/drive/simulated_io.js'
import { DriveSegments } from '../../ts/server/control/drive_segments.js'
import { createLogger } from '../../ts/server/log.js'
import { seededRandom } from '../../ts/util/random.js'

test('a drive that comes back while its segments still fail to load is loaded', { timeout: 20_000 }, async () => {
  const drive = new SimulatedDrive(new SimulatedDisk(), { random: seededRandom(1) })
  const io = drive.connect()
  await prepareLayout(io)
  const row = DriveTable.create(1).row(0)
  row.number = 1
  row.set('online', 'none')
  const record = {
    number: 1, driveId: 'drive-1', pool: 0, set: 0, position: 0, epoch: 1, state: 'member', healing: false,
  } as const
  const log = createLogger('error', 'test')
  let failures = 0
  log.error = (): void => { failures++ }
  const segments = new DriveSegments(log, () => undefined)
  const phase = async (wanted: string): Promise<void> => {
    while (segments.table(1)?.phase !== wanted) await new Promise((resolve) => setImmediate(resolve))
  }

  drive.addFault({ fault: { error: 'EIO' }, times: 1 })
  segments.load({ path: '/1', record, io, row })
  drive.beforeOperation = () => {
    drive.beforeOperation = undefined
    segments.load({ path: '/1', record, io, row })
  }
  await phase('loaded')
  assert.equal(failures, 1)
})
