import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { blockCount, type Geometry, ShardError } from '../../ts/drive/drive.js'
import { LocalDrive } from '../../ts/drive/local_drive.js'
import { FIRST_READ_SIZE, parseDataIdName, shardPath } from '../../ts/drive/shard_file.js'
import { ShardLister } from '../../ts/drive/shard_lister.js'
import { seededRandom } from '../../ts/util/random.js'
import { localDrive, makeShard, preparedDrive, randomBytes, readShard, type TestShard } from './shards.js'

const small: Geometry = { k: 2, m: 2, stripeSize: 1000, partSize: 2300 }
const large: Geometry = { k: 2, m: 1, stripeSize: 16_384, partSize: 100_001 }

const joined = (shard: TestShard): Buffer => Buffer.concat(shard.cells)

function code(expected: string, block?: number): (error: unknown) => boolean {
  return (error) =>
    error instanceof ShardError && error.code === expected && (block === undefined || error.block === block)
}

describe('local drive', () => {
  it('gives back what was put, from the cache and from the medium, block by block', async () => {
    const random = seededRandom(2)
    const drive = localDrive(await preparedDrive())
    for (const geometry of [small, large, { ...small, partSize: 0 }, { ...small, partSize: 1 }]) {
      const shard = makeShard(random, geometry)
      await drive.putShard(shard.header, shard.cells)
      for (const medium of [false, true]) {
        assert.deepEqual(Buffer.from(await readShard(drive, shard.header.dataId, medium)), joined(shard))
        const reader = await drive.openShard(shard.header.dataId)
        assert.deepEqual(reader.header, shard.header)
        for (let block = blockCount(geometry) - 1; block >= 0; block--) {
          assert.deepEqual(await reader.readCells(block, 1, { medium }), shard.cells[block])
        }
        await assert.rejects(reader.readCells(0, blockCount(geometry) + 1), RangeError)
        await reader.close()
      }
    }
  })

  it('takes a shard in pieces, and only under its name once it is committed', async () => {
    const drive = localDrive(await preparedDrive())
    const shard = makeShard(seededRandom(3), large)
    const writer = await drive.createShard(shard.header)
    await writer.append(shard.cells.slice(0, 2))
    await writer.append(shard.cells.slice(2))
    await assert.rejects(drive.openShard(shard.header.dataId), code('missing'))
    await writer.commit()
    assert.deepEqual(Buffer.from(await readShard(drive, shard.header.dataId)), joined(shard))
  })

  it('leaves nothing behind when a shard is aborted or does not fit its geometry', async () => {
    const simulated = await preparedDrive()
    const drive = localDrive(simulated)
    const shard = makeShard(seededRandom(4), large)
    const writer = await drive.createShard(shard.header)
    await writer.append(shard.cells.slice(0, 1))
    await writer.abort()
    await (await drive.createShard(shard.header)).abort()
    await assert.rejects(drive.putShard(shard.header, shard.cells.slice(1)), RangeError)
    await assert.rejects(writer.append(shard.cells), code('io'))
    assert.deepEqual(simulated.disk.files(), [])
  })

  it('makes a small shard durable with one submission and reads it with one', async () => {
    const simulated = await preparedDrive()
    const drive = localDrive(simulated)
    await drive.load()
    let submissions = 0
    const run = drive.io.run.bind(drive.io)
    drive.io.run = (ops, options) => {
      submissions++
      return run(ops, options)
    }
    const shard = makeShard(seededRandom(5), small)
    await drive.putShard(shard.header, shard.cells)
    assert.equal(submissions, 1)
    await readShard(drive, shard.header.dataId)
    assert.equal(submissions, 2)
  })

  it('deletes for good, and says whether there was something', async () => {
    const simulated = await preparedDrive()
    const drive = localDrive(simulated)
    const shard = makeShard(seededRandom(6), small)
    await drive.putShard(shard.header, shard.cells)
    assert.equal(await drive.deleteShard(shard.header.dataId), true)
    assert.equal(await drive.deleteShard(shard.header.dataId), false)
    simulated.powerCut()
    await assert.rejects(localDrive(simulated).openShard(shard.header.dataId), code('missing'))
  })

  it('makes an unlink durable when a delete whose outcome was unknown is asked for again', async () => {
    for (let seed = 0; seed < 20; seed++) {
      const simulated = await preparedDrive(seed)
      const drive = localDrive(simulated)
      const shard = makeShard(seededRandom(6), small)
      await drive.putShard(shard.header, shard.cells)
      simulated.addFault({ op: 'syncDir', times: 1, fault: { error: 'ENOMEM' } })
      await assert.rejects(drive.deleteShard(shard.header.dataId))
      drive.row.set('online', 'none')
      assert.equal(await drive.deleteShard(shard.header.dataId), false)
      simulated.powerCut()
      await assert.rejects(localDrive(simulated).openShard(shard.header.dataId), code('missing'))
    }
  })

  it('lists in the order of data ids, page by page, with sizes', async () => {
    const random = seededRandom(7)
    const simulated = await preparedDrive()
    const drive = localDrive(simulated)
    const ids: string[] = []
    for (let i = 0; i < 40; i++) {
      const shard = makeShard(random, { ...small, partSize: 10 + i })
      await drive.putShard(shard.header, shard.cells)
      ids.push(Buffer.from(shard.header.dataId).toString('hex'))
    }
    simulated.disk.place('shards/00/not-a-shard', randomBytes(random, 3))
    ids.sort()
    const narrow = new ShardLister((ops) => drive.run('read', ops, {}), drive.segments, 7)
    for (const list of [drive.listShards.bind(drive), narrow.list.bind(narrow)]) {
      for (const limit of [1, 3, 40, 100]) {
        const seen: string[] = []
        for (let after: Uint8Array | undefined; ;) {
          const page = await list(after, limit)
          for (const { dataId, size } of page) {
            seen.push(Buffer.from(dataId).toString('hex'))
            assert.equal(size, simulated.disk.contents(shardPath(dataId)).length)
          }
          after = page.at(-1)?.dataId
          if (after === undefined) break
        }
        assert.deepEqual(seen, ids, `limit ${String(limit)}`)
      }
    }
    const middle = parseDataIdName(ids[19] ?? '')
    await drive.deleteShard(parseDataIdName(ids[21] ?? '') ?? new Uint8Array(16))
    const names = (await drive.listShards(middle, 2)).map(({ dataId }) => Buffer.from(dataId).toString('hex'))
    assert.deepEqual(names, [ids[20], ids[22]])
  })

  it('keeps few files open while many shards are read', async () => {
    const random = seededRandom(8)
    const simulated = await preparedDrive()
    const io = simulated.connect()
    const drive = new LocalDrive({ io, number: 1, set: 0, position: 0, maxOpenReaders: 2, segments: { threshold: 0 } })
    const shards = Array.from({ length: 5 }, () => makeShard(random, large))
    for (const shard of shards) await drive.putShard(shard.header, shard.cells)
    const readers = await Promise.all(shards.map((shard) => drive.openShard(shard.header.dataId)))
    for (let block = 0; block < blockCount(large); block++) {
      for (const [at, reader] of readers.entries()) {
        assert.deepEqual(await reader.readCells(block, 1), shards[at]?.cells[block])
        assert.ok(io.openFiles <= 4, 'two, and what is just being closed or opened')
      }
    }
    await Promise.all(readers.map((reader) => reader.close()))
    assert.equal(io.openFiles, 0)
  })

  it('never gives a wrong byte, whichever byte of a shard file is flipped', async () => {
    const random = seededRandom(9)
    const simulated = await preparedDrive()
    const drive = localDrive(simulated)
    const shard = makeShard(random, small)
    await drive.putShard(shard.header, shard.cells)
    const path = shardPath(shard.header.dataId)
    const { length } = simulated.disk.contents(path)
    assert.ok(length < FIRST_READ_SIZE)
    for (let at = 0; at < length; at++) {
      const mask = 1 << (at % 8)
      simulated.disk.flip(path, at, mask)
      await assert.rejects(readShard(drive, shard.header.dataId, at % 2 === 0), code('corrupt'), `byte ${String(at)}`)
      simulated.disk.flip(path, at, mask)
    }
    assert.equal(drive.health.state, 'online', 'bad bytes are healed, the drive stays')
  })

  it('finds a shard under the wrong name, a shard cut short, and the number of a bad block', async () => {
    const random = seededRandom(10)
    const simulated = await preparedDrive()
    const drive = localDrive(simulated)
    const shard = makeShard(random, large)
    await drive.putShard(shard.header, shard.cells)
    const path = shardPath(shard.header.dataId)
    const bytes = simulated.disk.contents(path)
    const other = randomBytes(random, 16)
    simulated.disk.place(shardPath(other), bytes)
    await assert.rejects(drive.openShard(other), code('corrupt', -1))
    simulated.disk.flip(path, bytes.length - joined(shard).length + (shard.cells[0]?.length ?? 0) * 2, 1)
    await assert.rejects(readShard(drive, shard.header.dataId), code('corrupt', 2))
    simulated.disk.place(path, bytes.subarray(0, bytes.length - 1))
    await assert.rejects(readShard(drive, shard.header.dataId), code('missing'))
    simulated.disk.place(path, new Uint8Array(bytes.length))
    await assert.rejects(drive.openShard(shard.header.dataId), code('corrupt', -1))
  })
})

describe('local drive, health', () => {
  it('is taken out by a failed write or sync, and then neither takes nor gives shards', async () => {
    for (const op of ['write', 'sync', 'syncDir'] as const) {
      const simulated = await preparedDrive()
      const drive = localDrive(simulated)
      const shard = makeShard(seededRandom(1), small)
      await drive.putShard(shard.header, shard.cells)
      simulated.addFault({ op, times: 1, fault: { error: 'EIO' } })
      await assert.rejects(drive.putShard(shard.header, shard.cells), code('io'))
      assert.equal(drive.health.state, 'offline')
      await assert.rejects(drive.putShard(shard.header, shard.cells), code('driveOffline'))
      await assert.rejects(drive.openShard(shard.header.dataId), code('driveOffline'))
      assert.deepEqual([drive.writable, drive.readable], [false, false])
    }
  })

  it('survives single read errors and is taken out by many', async () => {
    const simulated = await preparedDrive()
    const drive = localDrive(simulated)
    const shard = makeShard(seededRandom(1), small)
    await drive.putShard(shard.header, shard.cells)
    simulated.addFault({ op: 'read', fault: { error: 'EIO' } })
    await assert.rejects(drive.openShard(shard.header.dataId), code('io'))
    assert.equal(drive.readable, true)
    for (let i = 0; i < 20; i++) await assert.rejects(drive.openShard(shard.header.dataId))
    assert.equal(drive.health.state, 'offline')
  })

  it('takes no shards but still deletes when it is full', async () => {
    const simulated = await preparedDrive()
    const drive = localDrive(simulated)
    const shard = makeShard(seededRandom(1), small)
    await drive.putShard(shard.header, shard.cells)
    simulated.disk.capacityBytes = simulated.disk.usedBytes + 100
    const next = makeShard(seededRandom(2), small)
    await assert.rejects(drive.putShard(next.header, next.cells), code('driveFull'))
    assert.equal(drive.health.state, 'full')
    await assert.rejects(drive.createShard(next.header), code('driveFull'))
    assert.deepEqual(Buffer.from(await readShard(drive, shard.header.dataId)), joined(shard))
    assert.equal(await drive.deleteShard(shard.header.dataId), true)
    assert.deepEqual(simulated.disk.files(), [])
  })

  it('leaves the reserve untouched between two looks at the free space', async () => {
    const simulated = await preparedDrive()
    const drive = localDrive(simulated)
    const shard = makeShard(seededRandom(1), large)
    drive.row.setSpace(10_000_000, 1_000_000, 850_000)
    await drive.putShard(shard.header, shard.cells)
    const writer = await drive.createShard(shard.header)
    await writer.append(shard.cells.slice(0, 5))
    const more = writer.append(shard.cells.slice(5)).then(() => drive.putShard(shard.header, shard.cells))
    await assert.rejects(more, code('driveFull'))
    await writer.abort()
    assert.deepEqual([drive.health.state, drive.health.reason], ['full', 'free space is below the reserve'])
    await assert.rejects(drive.putShard(shard.header, shard.cells), code('driveFull'))
    await readShard(drive, shard.header.dataId)
    assert.equal(await drive.deleteShard(shard.header.dataId), true)
    assert.deepEqual(simulated.disk.files(), [])
  })

  it('still reads when the file system became read-only', async () => {
    const simulated = await preparedDrive()
    const drive = localDrive(simulated)
    const shard = makeShard(seededRandom(1), small)
    await drive.putShard(shard.header, shard.cells)
    simulated.readOnly = true
    await assert.rejects(drive.putShard(shard.header, shard.cells), code('driveReadOnly'))
    assert.deepEqual(Buffer.from(await readShard(drive, shard.header.dataId)), joined(shard))
    await assert.rejects(drive.deleteShard(shard.header.dataId), code('driveReadOnly'))
  })

  it('tells a missing drive from a missing shard', async () => {
    const simulated = await preparedDrive()
    const drive = localDrive(simulated)
    await assert.rejects(drive.openShard(randomBytes(seededRandom(1), 16)), code('missing'))
    assert.equal(drive.readable, true)
    simulated.missing = true
    await assert.rejects(drive.openShard(randomBytes(seededRandom(1), 16)), code('driveOffline'))
    assert.equal(drive.health.state, 'offline')
  })

  it('is taken out when operations hang, without waiting for them', async () => {
    const simulated = await preparedDrive(1, { timer: (fire) => {
      const due = setImmediate(() => setImmediate(() => setImmediate(fire)))
      return () => { clearImmediate(due) }
    } })
    const drive = localDrive(simulated)
    const shard = makeShard(seededRandom(1), small)
    const release = simulated.addFault({ op: 'write', fault: { hang: true } })
    await assert.rejects(drive.putShard(shard.header, shard.cells), code('timeout'))
    await assert.rejects(drive.putShard(shard.header, shard.cells), code('timeout'))
    assert.equal(drive.health.state, 'slow')
    assert.equal(drive.health.timeouts, 2)
    await assert.rejects(drive.putShard(shard.header, shard.cells), code('driveOffline'))
    release()
  })

  it('reads the medium by dropping the cache where O_DIRECT is refused', async () => {
    const simulated = await preparedDrive()
    simulated.refuseDirect = true
    const drive = localDrive(simulated)
    const shard = makeShard(seededRandom(1), large)
    await drive.putShard(shard.header, shard.cells)
    assert.deepEqual(Buffer.from(await readShard(drive, shard.header.dataId, true)), joined(shard))
    assert.equal(drive.row.mediumReads, 'dropCache')
    assert.equal(drive.health.errors, 0)
  })

  it('makes a shard directory again that somebody removed', async () => {
    const simulated = await preparedDrive()
    const drive = localDrive(simulated)
    const shard = makeShard(seededRandom(1), small)
    simulated.disk.removeDir(shardPath(shard.header.dataId).slice(0, 9))
    await drive.putShard(shard.header, shard.cells)
    simulated.powerCut()
    assert.deepEqual(Buffer.from(await readShard(localDrive(simulated), shard.header.dataId)), joined(shard))
  })
})

describe('local drive, crashes', () => {
  it('keeps every acknowledged shard whole over power cuts, and of the others nothing or all', async () => {
    const runs = process.env.OSTRAKA_TEST_LONG === undefined ? 300 : 5_000
    await fc.assert(
      fc.asyncProperty(fc.integer(), fc.integer({ min: 1, max: 150 }), fc.boolean(), crashRun),
      { numRuns: runs },
    )
  })
})

/** Puts and deletes from several clients until the power is cut after `cutAt` operations. */
async function crashRun(seed: number, cutAt: number, kill: boolean): Promise<void> {
  const random = seededRandom(seed)
  const simulated = await preparedDrive(seed)
  const start = simulated.operations
  simulated.beforeOperation = () => {
    if (simulated.operations - start < cutAt) return
    simulated.beforeOperation = undefined
    if (kill) simulated.kill()
    else simulated.powerCut()
  }
  const drive = localDrive(simulated)
  const acknowledged = new Map<TestShard, 'put' | 'deleted' | 'unknown'>()
  const client = async (): Promise<void> => {
    for (let i = 0; i < 12; i++) {
      const shard = makeShard(random, random() < 0.5 ? small : { k: 1, m: 0, stripeSize: 900, partSize: 2000 })
      acknowledged.set(shard, 'unknown')
      if (random() < 0.5) {
        await drive.putShard(shard.header, shard.cells)
      } else {
        const writer = await drive.createShard(shard.header)
        for (const cell of shard.cells) await writer.append([cell])
        await writer.commit()
      }
      acknowledged.set(shard, 'put')
      if (random() < 0.3) {
        acknowledged.set(shard, 'unknown')
        await drive.deleteShard(shard.header.dataId)
        acknowledged.set(shard, 'deleted')
      }
    }
  }
  await Promise.all([client(), client(), client()].map((done) => done.catch(() => undefined)))
  simulated.beforeOperation = undefined
  simulated.kill()
  const again = localDrive(simulated)
  await again.recover()
  assert.ok(simulated.disk.files().every(({ path }) => path.startsWith('shards/')), 'nothing left in tmp')
  for (const [shard, state] of acknowledged) {
    const found = await readShard(again, shard.header.dataId).catch((error: unknown) => {
      assert.ok(code('missing')(error), `an absent shard is missing, not damaged: ${String(error)}`)
      return undefined
    })
    if (state === 'put') assert.ok(found !== undefined, 'an acknowledged shard is there')
    if (state === 'deleted') assert.equal(found, undefined, 'a deleted shard is gone')
    if (found !== undefined) assert.deepEqual(Buffer.from(found), joined(shard))
  }
}
