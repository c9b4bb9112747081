/**
 * One drive by itself, as the erasure layer uses it: whole small shards put and read, one after the other and many at a
 * time, and how long a drive with many shards takes until it serves.
 *
 * Shards are those of 2+2 parts: the shard of a 4 KiB object has one block of 2 KiB. Writes are durable when they
 * count. Reads come from the page cache. The file system is that of `folder`.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'

import { CHECKSUM_SIZE } from '../ts/drive/drive.js'
import type { DataId, Drive, Geometry, ShardHeader } from '../ts/drive/drive.js'
import { LocalDrive, prepareLayout } from '../ts/drive/local_drive.js'
import { NativeDriveIo } from '../ts/drive/native_io.js'
import { createSegmentsMemory } from '../ts/drive/segments/segment_table.js'
import { sealBlock } from '../ts/native/erasure.js'
import { seededRandom } from '../ts/util/random.js'
import { sizeShown } from '../ts/cli/load/sizes.js'
import type { Metrics } from './metrics.js'

const STRIPE = 1 << 20
const CONCURRENCY = [1, 32]

interface Opened {
  drive: Drive
  close(): Promise<void>
}

/** A drive as a server opens it, with nothing in memory: ready when this resolves. */
async function openDrive(folder: string): Promise<Opened> {
  const io = new NativeDriveIo(folder)
  const segments = { memory: createSegmentsMemory(), loads: true }
  const drive = new LocalDrive({ io, number: 1, set: 1, position: 0, segments })
  await drive.recover()
  await drive.load()
  return {
    drive,
    close: async () => {
      await drive.close()
      await io.close(1000)
    },
  }
}

/** Drives are made below `folder`, which the caller removes. */
export async function runDrive(quick: boolean, folder: string): Promise<Metrics> {
  const metrics: Metrics = {}
  const say = (line: string): void => { process.stderr.write(`drive: ${line}\n`) }
  const root = join(folder, 'throughput')
  const opened = await prepared(root)
  try {
    for (const size of [4096, 256 * 1024, 2 * STRIPE]) {
      for (const concurrency of CONCURRENCY) {
        const name = `drive.${sizeShown(size)}object.${String(concurrency)}atatime`
        const made = await putFor(opened.drive, size, concurrency, quick ? 700 : 3000)
        metrics[`${name}.put.ops_per_s`] = made.rate
        metrics[`${name}.get.ops_per_s`] = await readFor(opened.drive, made.ids, concurrency, quick ? 300 : 2000)
        say(`${name}: put ${made.rate.toFixed(0)}/s, get ${(metrics[`${name}.get.ops_per_s`] ?? 0).toFixed(0)}/s`)
      }
    }
  } finally {
    await opened.close()
  }
  Object.assign(metrics, await startUp(join(folder, 'startup'), quick ? 15_000 : 120_000))
  return metrics
}

async function prepared(root: string): Promise<Opened> {
  mkdirSync(root)
  const io = new NativeDriveIo(root)
  await prepareLayout(io)
  await io.close(1000)
  return openDrive(root)
}

/** Bytes of the objects that the shards are of. */
const START_SIZE = 512
const START_SHARDS = 1_000_000
const FILLERS = 1024

/**
 * Fills a drive for at most `fillMs`, closes it in order, and opens it again; and, for what opening costs by itself, an
 * empty one.
 */
async function startUp(root: string, fillMs: number): Promise<Metrics> {
  const filled = await prepared(root)
  const emptyMs = await reopen(filled, root)
  const full = await openDrive(root)
  const make = shardMaker(START_SIZE)
  const started = performance.now()
  let shards = 0
  await together(FILLERS, async () => {
    if (shards >= START_SHARDS || performance.now() - started > fillMs) return false
    shards += 1
    const { header, cells } = make()
    await full.drive.putShard(header, cells)
    return true
  })
  const fillRate = (1000 * shards) / (performance.now() - started)
  const readyMs = await reopen(full, root)
  return {
    'drive.startup.shards_count': shards,
    'drive.startup.fill.ops_per_s': fillRate,
    'drive.startup.empty_ms': emptyMs,
    'drive.startup.ready_ms': readyMs,
  }
}

/** Closes a drive, and says how long it takes to open it again. It is closed then. */
async function reopen(opened: Opened, root: string): Promise<number> {
  await opened.close()
  const started = performance.now()
  const again = await openDrive(root)
  const ms = performance.now() - started
  await again.close()
  return ms
}

/** `concurrency` loops, each until `once` says false. */
async function together(concurrency: number, once: () => Promise<boolean>): Promise<void> {
  await Promise.all(Array.from({ length: concurrency }, async () => {
    while (await once());
  }))
}

/** Shards of objects of `size` bytes: new data ids each time, over the same few bodies. */
function shardMaker(size: number): () => { header: ShardHeader; cells: Uint8Array[] } {
  const random = seededRandom(size)
  const geometry: Geometry = { k: 2, m: 2, stripeSize: STRIPE, partSize: size }
  const blocks = Math.ceil(size / STRIPE)
  const block = Math.ceil(Math.min(size, STRIPE) / geometry.k)
  return () => {
    const dataId: DataId = Uint8Array.from({ length: 16 }, () => Math.floor(random() * 256))
    const cells = Array.from({ length: blocks }, (_, i) => {
      const cell = new Uint8Array(CHECKSUM_SIZE + block)
      cell.set(dataId, CHECKSUM_SIZE)
      sealBlock(cell, dataId, 0, i)
      return cell
    })
    const salvage = { bucketId: 1, key: 'bench/00000000', uploadId: '', partNumber: 0 }
    return { header: { dataId, shard: 0, geometry, salvage }, cells }
  }
}

async function putFor(
  drive: Drive, size: number, concurrency: number, ms: number,
): Promise<{ rate: number; ids: DataId[] }> {
  const make = shardMaker(size)
  const ids: DataId[] = []
  const started = performance.now()
  await together(concurrency, async () => {
    const { header, cells } = make()
    await drive.putShard(header, cells)
    ids.push(header.dataId)
    return performance.now() - started < ms
  })
  return { rate: (1000 * ids.length) / (performance.now() - started), ids }
}

async function readFor(drive: Drive, ids: readonly DataId[], concurrency: number, ms: number): Promise<number> {
  let reads = 0
  const started = performance.now()
  await together(concurrency, async () => {
    const id = ids[(reads * 7919) % ids.length]
    if (id === undefined) return false
    const reader = await drive.openShard(id)
    const { stripeSize, partSize } = reader.header.geometry
    await reader.readCells(0, Math.ceil(partSize / stripeSize))
    await reader.close()
    reads += 1
    return performance.now() - started < ms
  })
  return (1000 * reads) / (performance.now() - started)
}
