import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { blockSizeAt, CHECKSUM_SIZE, type Geometry } from '../../../ts/drive/drive.js'
import type { LocalDrive } from '../../../ts/drive/local_drive.js'
import { unpackLocation } from '../../../ts/drive/segments/segment_file.js'
import { seededRandom } from '../../../ts/util/random.js'
import { localDrive, makeShard, preparedDrive, readShard } from '../shards.js'

const THRESHOLD = 1 << 18

function geometry(partSize: number, k = 2): Geometry {
  return { k, m: 1, stripeSize: 1 << 20, partSize }
}

/** What the drive says at once within some tries: the simulated one answers half of them. */
function now(drive: LocalDrive, dataId: Uint8Array, shard: number, size: number): Uint8Array | undefined {
  for (let i = 0; i < 30; i++) {
    const into = new Uint8Array(size)
    if (drive.readBlockNow(dataId, shard, 0, into)) return into
  }
  return undefined
}

describe('reading packed shards at once', () => {
  it('gives the block of a shard in a segment that is open, of any size that has a class', async () => {
    const simulated = await preparedDrive(1)
    const drive = localDrive(simulated, THRESHOLD)
    const random = seededRandom(2)
    for (const partSize of [1, 100, 4096, 20_000, 120_000]) {
      const part = geometry(partSize)
      const shard = makeShard(random, part, 1)
      await drive.putShard(shard.header, shard.cells)
      await readShard(drive, shard.header.dataId)
      const found = now(drive, shard.header.dataId, 1, blockSizeAt(part, 0))
      assert.deepEqual(found, shard.cells[0]?.slice(CHECKSUM_SIZE), String(partSize))
    }
    await drive.close()
  })

  it('says nothing of what is buried, another shard, another block, damaged, or on a drive that is out', async () => {
    const simulated = await preparedDrive(3)
    const drive = localDrive(simulated, THRESHOLD)
    const random = seededRandom(4)
    const [kept, buried] = [makeShard(random, geometry(4096), 0), makeShard(random, geometry(4096), 0)]
    for (const { header, cells } of [kept, buried]) await drive.putShard(header, cells)
    await readShard(drive, kept.header.dataId)
    await drive.deleteShard(buried.header.dataId)
    const { dataId } = kept.header
    assert.notEqual(now(drive, dataId, 0, 2048), undefined)
    assert.equal(now(drive, buried.header.dataId, 0, 2048), undefined)
    assert.equal(now(drive, dataId, 1, 2048), undefined)
    assert.equal(now(drive, dataId, 0, 2047), undefined)
    assert.equal(now(drive, dataId, 0, 2049), undefined)
    assert.equal(now(drive, new Uint8Array(16), 0, 2048), undefined)
    assert.equal(drive.readBlockNow(dataId, 0, 1, new Uint8Array(2048)), false)
    const { number, offset } = unpackLocation(drive.segments.index.get(dataId))
    simulated.disk.flip(`segments/${String(number)}.seg`, offset + 600, 4)
    assert.equal(now(drive, dataId, 0, 2048), undefined)
    simulated.disk.flip(`segments/${String(number)}.seg`, offset + 600, 4)
    assert.notEqual(now(drive, dataId, 0, 2048), undefined)
    drive.row.set('offline', 'operator')
    assert.equal(now(drive, dataId, 0, 2048), undefined)
  })
})
