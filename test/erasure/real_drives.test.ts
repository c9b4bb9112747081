/** The erasure set over real directories and threads. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtemp, readdir, rm, unlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { LocalDrive, prepareLayout } from '../../ts/drive/local_drive.js'
import { NativeDriveIo } from '../../ts/drive/native_io.js'
import { shardPath } from '../../ts/drive/shard_file.js'
import { LocalSet } from '../../ts/erasure/local_set.js'
import { SlabPool } from '../../ts/erasure/slab.js'
import { bytes, chunked, collect, part, readBack } from '../support/sets.js'

interface RealSet {
  set: LocalSet
  roots: string[]
  drives: LocalDrive[]
  slabs: SlabPool
}

async function withRealSet(work: (real: RealSet) => Promise<void>): Promise<void> {
  const base = await mkdtemp(join(tmpdir(), 'ostraka-erasure-'))
  const roots = [1, 2, 3, 4].map((number) => join(base, String(number)))
  const { mkdir } = await import('node:fs/promises')
  const drives: LocalDrive[] = []
  try {
    for (const [position, root] of roots.entries()) {
      await mkdir(root)
      const io = new NativeDriveIo(root)
      await prepareLayout(io)
      const deadlines = { readMs: 500, writeMs: 2000, backgroundMs: 2000 }
      drives.push(new LocalDrive({ io, number: position + 1, set: 1, position, deadlines, segments: { threshold: 0 } }))
    }
    const slabs = new SlabPool(8 * 1024 * 1024)
    const members = { number: 1, k: 2, m: 2, drives: [1, 2, 3, 4] }
    const set = new LocalSet(members, drives, { stripeSize: 1024 * 1024, slabs })
    await work({ set, roots, drives, slabs })
    await set.settled(5000)
  } finally {
    await Promise.all(drives.map((drive) => drive.io.close(1000)))
    await rm(base, { recursive: true, force: true })
  }
}

test('parts of all sizes go to real drives and come back, in parallel, within the budget', async () => {
  await withRealSet(async ({ set, drives, slabs }) => {
    const sizes = [0, 1, 5000, 1_048_576, 1_048_577, 3_333_333, 12_000_000]
    const data = bytes(12_000_000)
    const locations = await Promise.all(
      sizes.map((size) => {
        const cut = data.subarray(0, size)
        return set.write(part(cut, { data: chunked(cut, 65_536) }))
      }),
    )
    assert.ok(slabs.stats.peakBytes <= 8 * 1024 * 1024)
    for (const drive of drives.slice(1, 3)) drive.row.set('offline', 'missing')
    for (const [i, location] of locations.entries()) {
      assert.ok(data.subarray(0, sizes[i]).equals(await readBack(set, location)))
    }
    for (const drive of drives) drive.row.set('online', 'none')
    for (const location of locations) assert.equal(await set.verify(location, { medium: true }), undefined)
    for (const location of locations) assert.deepEqual(await set.delete(location), [])
  })
})

test('a shard replaced by a FIFO hangs nobody: reads go elsewhere, the part can be healed and deleted', async () => {
  await withRealSet(async ({ set, roots, drives }) => {
    const data = bytes(5_000_000)
    const location = await set.write(part(data, { data: chunked(data, 65_536) }))
    const number = location.drives[0] ?? 0
    const path = join(roots[number - 1] ?? '', shardPath(location.dataId))
    await unlink(path)
    execFileSync('mkfifo', [path])
    assert.ok(data.equals(await collect(set.read({ location, offset: 0, length: 5_000_000 }))))
    await set.settled(5000)
    for (const drive of drives) drive.row.set('online', 'none')
    const healed = await set.heal(location, [0])
    for (const drive of drives) drive.row.set('online', 'none')
    if (healed.left.length > 0) assert.deepEqual((await set.heal(location, [0])).left, [])
    assert.equal(await set.verify(location, { medium: true }), undefined)
    assert.deepEqual(await set.delete(location), [])
    for (const root of roots) assert.deepEqual(await readdir(join(root, 'tmp')), [])
  })
})

test('an upload that is aborted half-way leaves no file', async () => {
  await withRealSet(async ({ set, roots }) => {
    const controller = new AbortController()
    const data = bytes(6_000_000)
    const body = (async function* () {
      for await (const chunk of chunked(data, 65_536)) {
        yield chunk
        if (chunk.byteOffset - data.byteOffset > 4_000_000) controller.abort()
      }
    })()
    await assert.rejects(set.write(part(data, { data: body, signal: controller.signal })), { code: 'aborted' })
    await set.settled(5000)
    for (const root of roots) {
      assert.deepEqual(await readdir(join(root, 'tmp')), [])
      for (const directory of await readdir(join(root, 'shards'))) {
        assert.deepEqual(await readdir(join(root, 'shards', directory)), [])
      }
    }
  })
})
