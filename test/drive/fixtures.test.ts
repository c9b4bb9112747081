/**
 * Files of format version 1, written when it was frozen. Every later version reads them; as long as it writes
 * version 1, it writes these very bytes. They are never made anew: another layout of bytes is another version.
 */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { blockCount, type ShardHeader } from '../../ts/drive/drive.js'
import { formatText, parseFormat } from '../../ts/drive/format.js'
import { LocalDrive } from '../../ts/drive/local_drive.js'
import { scanBytes } from './segments/support.js'
import { decodeRecord } from '../../ts/drive/segments/batch.js'
import { segmentSeed } from '../../ts/drive/segments/segment_file.js'
import { parseDataIdName, shardPath } from '../../ts/drive/shard_file.js'
import { exampleFormat, preparedDrive, readShard } from './shards.js'

const DRIVE_ID = '6d1f2b8e-0000-4000-8000-0000000000d2'
const fixture = (name: string): Buffer => {
  return readFileSync(new URL(`../../../test/drive/fixtures/${name}`, import.meta.url))
}

const packedIds = ['000000000001a0a1a2a3a4a5a6a7a8a9', '000000000001b0b1b2b3b4b5b6b7b8b9']
const buriedId = '000000000001c0c1c2c3c4c5c6c7c8c9'
const fileId = '000000000002d0d1d2d3d4d5d6d7d8d9'

const headers: Record<string, Omit<ShardHeader, 'dataId'>> = {
  [packedIds[0]!]: {
    shard: 0, geometry: { k: 2, m: 2, stripeSize: 1_048_576, partSize: 200 },
    salvage: { bucketId: 7, key: 'a/key', uploadId: '', partNumber: 0 },
  },
  [packedIds[1]!]: {
    shard: 3, geometry: { k: 2, m: 2, stripeSize: 64, partSize: 301 },
    salvage: { bucketId: 2 ** 40, key: 'ключ', uploadId: 'an-upload', partNumber: 10_000 },
  },
  [fileId]: {
    shard: 1, geometry: { k: 3, m: 1, stripeSize: 90, partSize: 1000 },
    salvage: { bucketId: 1, key: 'large', uploadId: '', partNumber: 0 },
  },
}

const idOf = (name: string): Uint8Array => parseDataIdName(name) ?? new Uint8Array(16)

async function drive(
  threshold: number,
): Promise<{ simulated: Awaited<ReturnType<typeof preparedDrive>>; local: LocalDrive }> {
  const simulated = await preparedDrive()
  const segments = { driveId: DRIVE_ID, threshold }
  const local = new LocalDrive({ io: simulated.connect(), number: 2, set: 0, position: 1, segments })
  return { simulated, local }
}

test('format.json of version 1 is read, and written as it was', () => {
  const text = fixture('v1.format.json').toString('utf8')
  assert.deepEqual(parseFormat(text), { kind: 'format', format: exampleFormat, damaged: false })
  assert.equal(formatText(exampleFormat), text)
})

test('a shard file of version 1 is read, and written as it was', async () => {
  const bytes = fixture('v1.shard')
  const { simulated, local } = await drive(0)
  simulated.disk.place(shardPath(idOf(fileId)), bytes)
  const reader = await local.openShard(idOf(fileId))
  assert.deepEqual(reader.header, { dataId: idOf(fileId), ...headers[fileId] })
  const cells = await reader.readCells(0, blockCount(reader.header.geometry))
  const other = await drive(0)
  await other.local.putShard(reader.header, [cells])
  assert.deepEqual(Buffer.from(other.simulated.disk.contents(shardPath(idOf(fileId)))), bytes)
})

test('a segment of version 1 and its hint are read, and written as they were', async () => {
  const segment = fixture('v1.seg')
  const hint = fixture('v1.hint')
  const { found, closed, damaged } = await scanBytes(segment, segmentSeed(DRIVE_ID, 1))
  assert.deepEqual(found.map(({ id }) => id), [...packedIds, buriedId, buriedId])
  assert.deepEqual([closed, damaged], [true, 0])
  const shards: { header: ShardHeader; cells: Uint8Array }[] = []
  for (const withHint of [true, false]) {
    const { simulated, local } = await drive(1000)
    simulated.disk.place('segments/1.seg', segment)
    if (withHint) simulated.disk.place('segments/1.hint', hint)
    assert.equal((await local.load()).hinted, withHint ? 1 : 0)
    shards.length = 0
    for (const name of packedIds) {
      const reader = await local.openShard(idOf(name))
      assert.deepEqual(reader.header, { dataId: idOf(name), ...headers[name] })
      shards.push({ header: reader.header, cells: await readShard(local, idOf(name)) })
    }
    await assert.rejects(local.openShard(idOf(buriedId)), { code: 'missing' })
    assert.deepEqual(Buffer.from(simulated.disk.contents('segments/1.hint')), hint)
  }
  // Written again, in the same order; the bytes of the shard that was buried still lie in the segment.
  const { simulated, local } = await drive(1000)
  for (const { header, cells } of shards) await local.putShard(header, [cells])
  const buried = found[2]!
  const record = recordAt(segment, buried.offset, buried.size)
  await local.putShard(record.header, [record.cells])
  await local.deleteShard(idOf(buriedId))
  await local.close()
  assert.deepEqual(Buffer.from(simulated.disk.contents('segments/1.seg')), segment)
  assert.deepEqual(Buffer.from(simulated.disk.contents('segments/1.hint')), hint)
})

function recordAt(segment: Buffer, offset: number, size: number): { header: ShardHeader; cells: Uint8Array } {
  const bytes = segment.subarray(offset, offset + size)
  const { header, headerSize } = decodeRecord(bytes, offset, segmentSeed(DRIVE_ID, 1))
  assert.ok(header !== undefined)
  return { header, cells: bytes.subarray(headerSize) }
}
