import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { type Geometry, ShardError } from '../../../ts/drive/drive.js'
import { LocalDrive } from '../../../ts/drive/local_drive.js'
import { createSegmentsMemory, type SegmentsMemory } from '../../../ts/drive/segments/segment_table.js'
import { segmentOf, unpackLocation } from '../../../ts/drive/segments/segment_file.js'
import type { SegmentOptions } from '../../../ts/drive/segments/segment_store.js'
import type { SimulatedDrive } from '../../../ts/drive/simulated_io.js'
import { randomInteger, seededRandom } from '../../../ts/util/random.js'
import { makeShard, preparedDrive, readShard, type TestShard } from '../shards.js'
import { buildSegment, DRIVE_ID, type Item, tiny } from './support.js'

const small: Geometry = { k: 2, m: 2, stripeSize: 1000, partSize: 2300 }
const joined = (shard: TestShard): Buffer => Buffer.concat(shard.cells)
const id = (shard: TestShard): Uint8Array => shard.header.dataId

function code(expected: string, block?: number): (error: unknown) => boolean {
  return (error) =>
    error instanceof ShardError && error.code === expected && (block === undefined || error.block === block)
}

function packed(simulated: SimulatedDrive, segments: SegmentOptions = {}): LocalDrive {
  const options = { driveId: DRIVE_ID, ...segments }
  return new LocalDrive({ io: simulated.connect(), number: 5, set: 0, position: 1, segments: options })
}

function filesOf(simulated: SimulatedDrive): string[] {
  return simulated.disk.files().map(({ path }) => path).sort()
}

async function filled(count: number, seed = 1): Promise<{
  simulated: SimulatedDrive; drive: LocalDrive; shards: TestShard[]
}> {
  const simulated = await preparedDrive(seed)
  const drive = packed(simulated)
  const random = seededRandom(seed)
  const shards = Array.from({ length: count }, () => makeShard(random, random() < 0.5 ? small : tiny))
  for (const shard of shards) await drive.putShard(shard.header, shard.cells)
  return { simulated, drive, shards }
}

describe('packed shards', () => {
  it('come back from the cache and from the medium, in one piece or in several, before and after a restart', async () => {
    const simulated = await preparedDrive()
    let drive = packed(simulated, { threshold: 200_000 })
    const random = seededRandom(2)
    const geometries = [
      small,
      tiny,
      { ...small, partSize: 0 },
      { k: 1, m: 0, stripeSize: 90_000, partSize: 150_000 },
    ]
    const shards = geometries.map((geometry) => makeShard(random, geometry))
    for (const shard of shards) {
      const writer = await drive.createShard(shard.header)
      for (const cell of shard.cells) await writer.append([cell])
      await writer.commit()
    }
    for (const restart of ['none', 'clean', 'powerCut']) {
      if (restart === 'clean') await drive.close()
      if (restart === 'powerCut') simulated.powerCut()
      if (restart !== 'none') drive = packed(simulated)
      for (const shard of shards) {
        for (const medium of [false, true]) {
          assert.deepEqual(Buffer.from(await readShard(drive, id(shard), medium)), joined(shard))
          assert.deepEqual((await drive.openShard(id(shard))).header, shard.header)
        }
      }
    }
    assert.deepEqual(filesOf(simulated), ['segments/1.hint', 'segments/1.seg'])
  })

  it('are committed in groups: whatever waits while the drive syncs shares the next sync', async () => {
    const { simulated, drive } = await filled(1)
    let syncs = 0
    simulated.beforeOperation = ({ op }) => {
      if (op === 'sync' || op === 'syncDir') syncs++
    }
    const random = seededRandom(3)
    const shards = Array.from({ length: 30 }, () => makeShard(random, tiny))
    await Promise.all(shards.map((shard) => drive.putShard(shard.header, shard.cells)))
    assert.equal(syncs, 1)
    syncs = 0
    const [first, ...others] = shards.map((shard) =>
      makeShard(
        random,
        tiny,
        0,
        Uint8Array.from(id(shard), (b) => b ^ 1),
      ),
    )
    const one = drive.putShard(first!.header, first!.cells)
    await new Promise((resolve) => setImmediate(resolve))
    await Promise.all([one, ...others.map((shard) => drive.putShard(shard.header, shard.cells))])
    assert.equal(syncs, 2)
    await Promise.all(others.map((shard) => drive.deleteShard(id(shard))))
    assert.equal(syncs, 3)
  })

  it('are deleted for good by a tombstone, whatever order segments are loaded in', async () => {
    const { simulated, drive, shards } = await filled(6)
    assert.equal(await drive.deleteShard(id(shards[0]!)), true)
    assert.equal(await drive.deleteShard(id(shards[0]!)), false)
    await assert.rejects(drive.openShard(id(shards[0]!)), code('missing'))
    simulated.powerCut()
    const again = packed(simulated)
    await assert.rejects(again.openShard(id(shards[0]!)), code('missing'))
    assert.equal((await again.listShards(undefined, 10)).length, 5)
    // A late write, in a segment loaded after the tombstone's.
    const late = buildSegment(90, [[{ shard: shards[0]! }]])
    const early = buildSegment(80, [[{ shard: shards[1]!, tombstone: true }]])
    simulated.kill()
    simulated.disk.place('segments/90.seg', late.bytes)
    simulated.disk.place('segments/80.seg', early.bytes)
    const third = packed(simulated)
    for (const shard of shards.slice(0, 2)) await assert.rejects(third.openShard(id(shard)), code('missing'))
    assert.equal((await third.listShards(undefined, 10)).length, 4)
  })

  it('of several records of one id the last segment counts, and a replaced one gets a higher number', async () => {
    const simulated = await preparedDrive()
    const random = seededRandom(5)
    const shard = makeShard(random, tiny)
    const bad = { header: shard.header, cells: shard.cells.map((cell) => Uint8Array.from(cell, (b) => b ^ 1)) }
    simulated.disk.place('segments/7.seg', buildSegment(7, [[{ shard: bad }]]).bytes)
    const memory = createSegmentsMemory(1000, 64)
    const drive = packed(simulated, { memory, loads: true })
    const other = packed(simulated, { memory })
    await drive.load()
    const elsewhere = makeShard(random, tiny)
    await drive.putShard(elsewhere.header, elsewhere.cells) // segment 8
    await other.putShard(bad.header, bad.cells) // segment 9
    await assert.rejects(readShard(drive, id(shard)), code('corrupt', 0))
    await drive.putShard(shard.header, shard.cells)
    assert.ok(segmentOf(drive.segments.index.get(id(shard))) > 9)
    assert.deepEqual(Buffer.from(await readShard(other, id(shard))), joined(shard))
    simulated.powerCut()
    assert.deepEqual(Buffer.from(await readShard(packed(simulated), id(shard))), joined(shard))
  })

  it('become files when their id was buried on the drive before, and those go as well when they are deleted', async () => {
    const { simulated, drive, shards } = await filled(2)
    const [shard] = shards
    await drive.deleteShard(id(shard!))
    await drive.putShard(shard!.header, shard!.cells)
    assert.equal(filesOf(simulated).filter((path) => path.startsWith('shards/')).length, 1)
    simulated.powerCut()
    const again = packed(simulated)
    assert.deepEqual(Buffer.from(await readShard(again, id(shard!))), joined(shard!))
    assert.equal((await again.listShards(undefined, 10)).length, 2)
    assert.equal(await again.deleteShard(id(shard!)), true)
    await assert.rejects(again.openShard(id(shard!)), code('missing'))
  })

  it('are listed among the files, in the order of data ids, page by page', async () => {
    const { simulated, shards } = await filled(60)
    const drive = packed(simulated, { threshold: 300 })
    const random = seededRandom(8)
    for (let i = 0; i < 40; i++) {
      const shard = makeShard(random, small)
      await drive.putShard(shard.header, shard.cells)
      shards.push(shard)
    }
    for (const shard of shards.splice(10, 5)) await drive.deleteShard(id(shard))
    const expected = shards.map((shard) => Buffer.from(id(shard)).toString('hex')).sort()
    for (const limit of [1, 7, 1000]) {
      const seen: string[] = []
      for (let after: Uint8Array | undefined; ;) {
        const page = await drive.listShards(after, limit)
        seen.push(...page.map(({ dataId }) => Buffer.from(dataId).toString('hex')))
        after = page.at(-1)?.dataId
        if (after === undefined) break
      }
      assert.deepEqual(seen, expected)
    }
  })

  it('give no wrong byte, whichever byte of a segment or hint is flipped, and lose at most the shard that was hit', async () => {
    const { simulated, drive, shards } = await filled(5)
    await drive.deleteShard(id(shards[4]!))
    const gone = shards.pop()!
    await drive.close()
    for (const path of ['segments/1.seg', 'segments/1.hint']) {
      const bytes = Buffer.from(simulated.disk.contents(path))
      for (let at = 0; at < bytes.length; at++) {
        const running = packed(simulated, { threshold: 0 })
        await running.load()
        simulated.disk.flip(path, at, 1 << (at % 8))
        for (const again of [running, packed(simulated, { threshold: 0 })]) {
          let lost = 0
          for (const shard of shards) {
            const found = await readShard(again, id(shard), at % 2 === 0).catch((error: unknown) => {
              assert.ok(code('corrupt')(error) || code('missing')(error), String(error))
              return undefined
            })
            if (found === undefined) lost++
            else assert.deepEqual(Buffer.from(found), joined(shard))
          }
          assert.ok(lost <= (path.endsWith('.seg') ? 1 : 0), `${path} byte ${String(at)}: ${String(lost)}`)
          if (again !== running || path.endsWith('.hint')) continue
          await assert.rejects(again.openShard(id(gone)), code('missing'))
        }
        simulated.kill()
        simulated.disk.flip(path, at, 1 << (at % 8))
      }
    }
  })

  it('report damage below what was durable, and keep everything around it', async () => {
    const { simulated, drive, shards } = await filled(8)
    simulated.kill()
    const { number, offset } = unpackLocation(drive.segments.index.get(id(shards[3]!)))
    simulated.disk.flip(`segments/${String(number)}.seg`, offset + 9, 1)
    const again = packed(simulated)
    const report = await again.load()
    assert.equal(report.damaged, 1)
    await assert.rejects(again.openShard(id(shards[3]!)), code('missing'))
    for (const shard of shards) if (shard !== shards[3]) await readShard(again, id(shard))
    assert.equal(again.segments.table.damaged, 1)
  })

  it('survive segments that were never used, hints that are wrong, and strays', async () => {
    const { simulated, drive, shards } = await filled(4)
    await drive.close()
    const { disk } = simulated
    disk.place('segments/5.seg', new Uint8Array(0))
    disk.place('segments/6.seg', new Uint8Array(64))
    disk.place('segments/7.seg', buildSegment(7, []).bytes)
    disk.place('segments/8.hint', disk.contents('segments/1.hint'))
    disk.place('segments/9.seg', new Uint8Array(5000))
    disk.place('segments/note.txt', new Uint8Array(3))
    disk.place('segments/1.hint', buildSegment(1, [[{ shard: shards[0]! }]]).hint)
    const again = packed(simulated)
    const { hinted, unreadable } = await again.load()
    assert.deepEqual([hinted, unreadable], [0, []])
    for (const shard of shards) await readShard(again, id(shard))
    assert.deepEqual(filesOf(simulated), ['1.hint', '1.seg', '9.seg', 'note.txt'].map((name) => `segments/${name}`))
    await again.putShard(shards[0]!.header, shards[0]!.cells)
    assert.ok(disk.lookUp('segments/10.seg') !== undefined, 'numbers go on behind all that were seen')
  })

  it('that are not found yet are waited for while segments are loaded, and those loaded are served at once', async () => {
    const random = seededRandom(11)
    const items = (count: number): Item[] =>
      Array.from({ length: count }, () => ({ shard: makeShard(random, tiny) }))
    const first = buildSegment(1, [items(3)], true)
    const second = buildSegment(2, [items(3)])
    const simulated = await preparedDrive()
    simulated.disk.place('segments/1.seg', first.bytes)
    simulated.disk.place('segments/1.hint', first.hint)
    simulated.disk.place('segments/2.seg', second.bytes)
    const release = simulated.addFault({ op: 'size', path: 'segments/2.seg', fault: { hang: true } })
    const memory = createSegmentsMemory(1000, 64)
    const loader = packed(simulated, { memory, loads: true })
    const other = packed(simulated, { memory, loadWaitMs: 20 })
    const loading = loader.load()
    while (other.segments.table.progress.loaded < 1) await new Promise((resolve) => setImmediate(resolve))
    await readShard(other, id(first.placed[0]!.shard))
    const unknown = makeShard(random, tiny)
    await assert.rejects(other.openShard(id(second.placed[0]!.shard)), code('timeout'))
    await assert.rejects(other.deleteShard(id(unknown)), code('timeout'))
    await other.putShard(unknown.header, unknown.cells)
    await readShard(other, id(unknown))
    release()
    await loading
    await readShard(other, id(second.placed[0]!.shard))
    await assert.rejects(other.openShard(id(makeShard(random, tiny))), code('missing'))
  })

  it('go on in a segment after a full drive, and in another after any other failure', async () => {
    const { simulated, drive, shards } = await filled(2)
    const next = makeShard(seededRandom(7), small)
    simulated.addFault({ op: 'write', path: /^segments/, times: 1, fault: { error: 'ENOSPC' } })
    await assert.rejects(drive.putShard(next.header, next.cells), code('driveFull'))
    drive.row.set('online', 'none')
    await drive.putShard(next.header, next.cells)
    assert.deepEqual(filesOf(simulated), ['segments/1.seg'])
    for (const op of ['write', 'sync'] as const) {
      const shard = makeShard(seededRandom(9), small)
      simulated.addFault({ op, path: /^segments/, times: 1, fault: { error: 'EIO' } })
      await assert.rejects(drive.putShard(shard.header, shard.cells), code('io'))
      assert.equal(drive.health.state, 'offline')
      await assert.rejects(drive.putShard(shard.header, shard.cells), code('driveOffline'))
      drive.row.set('online', 'none')
      await drive.putShard(shard.header, shard.cells)
      await readShard(drive, id(shard))
    }
    assert.equal(filesOf(simulated).length, 3)
    simulated.powerCut()
    const again = packed(simulated)
    for (const shard of [...shards, next]) await readShard(again, id(shard))
  })

  it('can be deleted on a full drive from its ballast, which is made again when there is room', async () => {
    const { simulated } = await filled(2)
    simulated.kill()
    const drive = packed(simulated, { ballastBytes: 4096 })
    await drive.load()
    const ballast = (): boolean => filesOf(simulated).includes('segments/ballast')
    assert.ok(ballast())
    const [shard] = await drive.listShards(undefined, 1)
    simulated.addFault({ op: 'write', path: /^segments/, times: 1, fault: { error: 'ENOSPC' } })
    await drive.deleteShard(shard!.dataId)
    assert.equal(ballast(), false)
    await drive.segments.refill()
    assert.equal(ballast(), false, 'the drive is still full')
    drive.row.set('online', 'none')
    drive.row.setSpace(2 ** 30, 100_000)
    await drive.segments.refill()
    assert.equal(ballast(), false, 'there is too little room')
    drive.row.setSpace(2 ** 30, 2 ** 29)
    simulated.addFault({ op: 'write', path: /^segments/, times: 1, fault: { error: 'ENOSPC' } })
    await drive.segments.refill()
    assert.equal(ballast(), false, 'half a ballast does not stay')
    await drive.segments.refill()
    assert.ok(ballast())
  })

  it('are counted by segment: records, those that live, and what share is dead', async () => {
    const { drive, shards } = await filled(10)
    for (const shard of shards.slice(0, 4)) await drive.deleteShard(id(shard))
    const [info] = drive.segments.segments()
    assert.deepEqual([info?.records, info?.live, info?.tombstones, info?.state], [10, 6, 4, 'active'])
    assert.ok(info!.deadShare > 0.1 && info!.deadShare < 0.9)
    for (const shard of shards.slice(4)) await drive.deleteShard(id(shard))
    assert.equal(drive.segments.segments()[0]?.deadShare, 1)
  })
})

describe('packed shards, crashes', () => {
  it('keep every acknowledged shard and delete over power cuts and kills, with several threads on a drive', async () => {
    const runs = process.env['OSTRAKA_TEST_LONG'] === undefined ? 200 : 5_000
    await fc.assert(
      fc.asyncProperty(fc.integer(), fc.integer({ min: 1, max: 150 }), fc.boolean(), crashRun),
      { numRuns: runs },
    )
  })
})

/** Three lives of two threads on one drive; each ends after a number of operations drawn from `cutAt`. */
async function crashRun(seed: number, cutAt: number, kill: boolean): Promise<void> {
  const random = seededRandom(seed)
  const simulated = await preparedDrive(seed)
  const known = new Map<TestShard, 'put' | 'deleted' | 'unknown'>()
  for (let life = 0; life < 3; life++) {
    const memory: SegmentsMemory = createSegmentsMemory(1000, 64)
    const options = { memory, threshold: 1000, sealBytes: 1500 }
    const threads = [packed(simulated, { ...options, loads: true }), packed(simulated, options)]
    const start = simulated.operations
    const after = 1 + randomInteger(random, cutAt)
    simulated.beforeOperation = () => {
      if (simulated.operations - start < after) return
      simulated.beforeOperation = undefined
      if (kill) simulated.kill()
      else simulated.powerCut()
    }
    const work = threads.map(async (drive) => {
      await threads[0]!.load()
      for (let i = 0; i < 10; i++) {
        const shard = makeShard(random, random() < 0.8 ? tiny : { k: 1, m: 0, stripeSize: 900, partSize: 2000 })
        known.set(shard, 'unknown')
        await drive.putShard(shard.header, shard.cells)
        known.set(shard, 'put')
        if (random() > 0.4) continue
        const [old] = [...known].filter(([, state]) => state === 'put')[randomInteger(random, 3)] ?? [shard]
        known.set(old, 'unknown')
        await drive.deleteShard(id(old))
        known.set(old, 'deleted')
      }
      if (random() < 0.5) await drive.segments.close()
    })
    await Promise.all(work.map((done) => done.catch(() => undefined)))
    simulated.beforeOperation = undefined
    simulated.kill()
    const again = packed(simulated)
    await again.recover()
    const report = await again.load()
    assert.deepEqual([report.damaged, report.unreadable], [0, []], 'a cut is no damage')
    for (const [shard, state] of known) {
      const found = await readShard(again, id(shard), true).catch((error: unknown) => {
        assert.ok(code('missing')(error), `an absent shard is missing, not damaged: ${String(error)}`)
        return undefined
      })
      if (state === 'put') assert.ok(found !== undefined, 'an acknowledged shard is there')
      if (state === 'deleted') assert.equal(found, undefined, 'a deleted shard is gone')
      if (found !== undefined) assert.deepEqual(Buffer.from(found), joined(shard))
      known.set(shard, found === undefined ? 'deleted' : 'put')
    }
    simulated.kill()
  }
}
