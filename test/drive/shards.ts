/** Shards and drives for tests of this folder. */
import { blockCount, blockSizeAt, CHECKSUM_SIZE, type Geometry, type ShardHeader } from '../../ts/drive/drive.js'
import type { DriveFormat } from '../../ts/drive/format.js'
import { LocalDrive, prepareLayout } from '../../ts/drive/local_drive.js'
import { SimulatedDisk, SimulatedDrive, type SimulatedDriveOptions } from '../../ts/drive/simulated_io.js'
import { sealBlock } from '../../ts/native/erasure.js'
import { type Random, seededRandom } from '../../ts/util/random.js'

export interface TestShard {
  header: ShardHeader
  cells: Uint8Array[]
}

export const exampleFormat: DriveFormat = {
  clusterId: '6d1f2b8e-0000-4000-8000-000000000001',
  driveId: '6d1f2b8e-0000-4000-8000-0000000000d2',
  number: 2,
  pool: 0,
  set: 0,
  position: 1,
  epoch: 1,
  setCount: 1,
  setSize: 4,
  parity: 2,
  state: 'member',
}

export function randomBytes(random: Random, length: number): Uint8Array {
  return Uint8Array.from({ length }, () => Math.floor(random() * 256))
}

export function makeShard(random: Random, geometry: Geometry, shard = 0, dataId = randomBytes(random, 16)): TestShard {
  const header: ShardHeader = {
    dataId, shard, geometry,
    salvage: { bucketId: 7, key: 'dir/ключ', uploadId: 'u-1', partNumber: 3 },
  }
  const cells = Array.from({ length: blockCount(geometry) }, (_, block) => {
    const cell = new Uint8Array(CHECKSUM_SIZE + blockSizeAt(geometry, block))
    cell.set(randomBytes(random, cell.length - CHECKSUM_SIZE), CHECKSUM_SIZE)
    sealBlock(cell, dataId, shard, block)
    return cell
  })
  return { header, cells }
}

/** With the threshold 0 every shard is a file of its own. */
export function localDrive(simulated: SimulatedDrive, threshold = 0): LocalDrive {
  return new LocalDrive({ io: simulated.connect(), number: 5, set: 0, position: 1, segments: { threshold } })
}

export async function preparedDrive(seed = 1, options: SimulatedDriveOptions = {}): Promise<SimulatedDrive> {
  const simulated = new SimulatedDrive(new SimulatedDisk(), { random: seededRandom(seed), ...options })
  const io = simulated.connect()
  await prepareLayout(io)
  await io.close()
  return simulated
}

export async function readShard(drive: LocalDrive, dataId: Uint8Array, medium = false): Promise<Uint8Array> {
  const reader = await drive.openShard(dataId, { medium })
  try {
    return await reader.readCells(0, blockCount(reader.header.geometry), { medium })
  } finally {
    await reader.close()
  }
}
