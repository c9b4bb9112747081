import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { LocalDrive } from '../../../ts/drive/local_drive.js'
import type { SimulatedDrive } from '../../../ts/drive/simulated_io.js'
import { seededRandom } from '../../../ts/util/random.js'
import { makeShard, preparedDrive, readShard, type TestShard } from '../shards.js'
import { DRIVE_ID, tiny } from './support.js'

const AHEAD = 2 ** 20
const SEGMENT = 'segments/1.seg'

function packed(simulated: SimulatedDrive): LocalDrive {
  return new LocalDrive({
    io: simulated.connect(), number: 5, set: 0, position: 1, segments: { driveId: DRIVE_ID, threshold: 2 ** 21 },
  })
}

function sizeOf(simulated: SimulatedDrive): number {
  return simulated.disk.stat(SEGMENT).size
}

async function put(drive: LocalDrive, count: number, seed: number): Promise<TestShard[]> {
  const random = seededRandom(seed)
  const shards = Array.from({ length: count }, () => makeShard(random, tiny))
  for (const shard of shards) await drive.putShard(shard.header, shard.cells)
  return shards
}

/** Lets the drive end what it does after it has answered. */
async function quiet(drive: LocalDrive): Promise<void> {
  while (drive.io.pending > 0) await new Promise((resolve) => setImmediate(resolve))
}

async function expectAll(drive: LocalDrive, shards: readonly TestShard[]): Promise<void> {
  for (const shard of shards) {
    assert.deepEqual(Buffer.from(await readShard(drive, shard.header.dataId)), Buffer.concat(shard.cells))
  }
}

describe('zeros written ahead of small batches', () => {
  it('lie behind the active segment, are renewed before they end, and are cut off when it is sealed', async () => {
    const simulated = await preparedDrive(1)
    const drive = packed(simulated)
    const shards = await put(drive, 1, 1)
    await quiet(drive)
    const first = sizeOf(simulated)
    assert.ok(first > AHEAD && first < AHEAD + 4096, `${String(first)} bytes`)
    shards.push(...await put(drive, 8, 2))
    assert.equal(sizeOf(simulated), first)
    const random = seededRandom(3)
    for (let i = 0; i < 10; i++) {
      const shard = makeShard(random, { k: 1, m: 0, stripeSize: 100_000, partSize: 100_000 })
      await drive.putShard(shard.header, shard.cells)
      shards.push(shard)
    }
    await quiet(drive)
    assert.equal(sizeOf(simulated), first + AHEAD)
    const { bytes } = drive.segments.segments()[0]!
    await drive.close()
    assert.equal(sizeOf(simulated), bytes + 32)
    const again = packed(simulated)
    assert.equal((await again.load()).hinted, 1)
    await expectAll(again, shards)
  })

  it('are no data, and are cut off at a start after a kill or a power cut', async () => {
    for (const how of ['kill', 'powerCut'] as const) {
      const simulated = await preparedDrive(4)
      const drive = packed(simulated)
      const shards = await put(drive, 5, 4)
      await quiet(drive)
      const { bytes } = drive.segments.segments()[0]!
      simulated[how]()
      const again = packed(simulated)
      const report = await again.load()
      assert.deepEqual([report.hinted, report.damaged, report.records], [0, 0, 5])
      assert.equal(sizeOf(simulated), bytes + 32)
      await expectAll(again, shards)
    }
  })

  it('are cut off as well when the closing batch was written and the segment was not yet cut', async () => {
    const simulated = await preparedDrive(5)
    const drive = packed(simulated)
    const shards = await put(drive, 3, 5)
    await quiet(drive)
    const { bytes } = drive.segments.segments()[0]!
    const stop = simulated.addFault({ op: 'truncate', fault: { error: 'EIO' } })
    await drive.close().catch(() => undefined)
    stop()
    assert.ok(sizeOf(simulated) > AHEAD)
    simulated.kill()
    const again = packed(simulated)
    assert.equal((await again.load()).damaged, 0)
    assert.equal(sizeOf(simulated), bytes + 32)
    await expectAll(again, shards)
  })

  it('leave nothing behind where they found no room', async () => {
    const simulated = await preparedDrive(6)
    const drive = packed(simulated)
    simulated.disk.capacityBytes = 500_000
    const shards = await put(drive, 1, 6)
    await quiet(drive)
    const { bytes } = drive.segments.segments()[0]!
    assert.equal(drive.row.state, 'full')
    assert.equal(sizeOf(simulated), bytes)
    simulated.kill()
    const again = packed(simulated)
    shards.push(...await put(again, 1, 7))
    await expectAll(again, shards)
  })

  it('take nothing from a full drive, which keeps its room for deletes', async () => {
    const simulated = await preparedDrive(9)
    const [shard] = await put(packed(simulated), 1, 9)
    simulated.kill()
    const drive = packed(simulated)
    await drive.load()
    drive.row.failed('write', 'ENOSPC')
    assert.equal(drive.row.state, 'full')
    assert.equal(await drive.deleteShard(shard!.header.dataId), true)
    await quiet(drive)
    assert.ok(simulated.disk.stat('segments/2.seg').size < 4096)
  })

  it('do not follow large batches', async () => {
    const simulated = await preparedDrive(7)
    const drive = packed(simulated)
    const shard = makeShard(seededRandom(7), { k: 1, m: 0, stripeSize: 300_000, partSize: 300_000 })
    await drive.putShard(shard.header, shard.cells)
    await quiet(drive)
    assert.ok(sizeOf(simulated) < 301_000)
  })

  it('keep nobody waiting who comes when the last of a queue has just been written', async () => {
    const simulated = await preparedDrive(8)
    const drive = packed(simulated)
    const shards = await put(drive, 1, 8)
    // One turn of the event loop apart, at every distance from the end of the batch before.
    for (let wait = 0; wait < 12; wait++) {
      for (let turn = 0; turn < wait; turn++) await Promise.resolve()
      shards.push(...await put(drive, 1, 9 + wait))
      for (let turn = 0; turn < wait; turn++) await new Promise((resolve) => setImmediate(resolve))
    }
    await expectAll(drive, shards)
  })
})
