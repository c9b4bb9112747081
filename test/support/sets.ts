/** Erasure sets over MemoryDrives, bodies, and a clock that tests move. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import type { Clock } from '../../ts/erasure/clock.js'
import type { Damage, PartLocation, PartWrite } from '../../ts/erasure/erasure_set.js'
import type { LocalSetOptions } from '../../ts/erasure/local_set.js'
import { LocalSet } from '../../ts/erasure/local_set.js'
import { SlabPool } from '../../ts/erasure/slab.js'
import { MemoryDrive } from './memory_drive.js'

export interface TestSet {
  set: LocalSet
  drives: MemoryDrive[]
  slabs: SlabPool
  damage: Damage[]
}

export function memorySet(k: number, m: number, options: Partial<LocalSetOptions> = {}): TestSet {
  const drives = Array.from({ length: k + m }, (_, position) => new MemoryDrive(position + 1))
  const slabs = options.slabs ?? new SlabPool(64 * 1024 * 1024)
  const damage: Damage[] = []
  const members = { number: 1, k, m, drives: drives.map((drive) => drive.number) }
  const set = new LocalSet(members, drives, {
    stripeSize: 1000,
    slabs,
    hedgeFloorMs: 10_000,
    cleanWaitMs: 10_000,
    onDamage: (found) => damage.push(found),
    ...options,
  })
  return { set, drives, slabs, damage }
}

export function newDataId(): Uint8Array {
  return new Uint8Array(randomBytes(16))
}

export function part(data: Uint8Array, more: Partial<PartWrite> = {}): PartWrite {
  return {
    dataId: newDataId(),
    size: data.length,
    data: chunked(data, 333),
    salvage: { bucketId: 7, key: 'a key', uploadId: '', partNumber: 0 },
    ...more,
  }
}

/** Yields `data` in chunks of at most `size` bytes; `after` runs when all were taken, and may throw. */
export async function* chunked(
  data: Uint8Array,
  size: number,
  after: () => Promise<void> | void = () => undefined,
): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < data.length; at += size) yield data.subarray(at, at + size)
  await after()
}

export async function collect(data: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  for await (const chunk of data) chunks.push(chunk)
  return Buffer.concat(chunks)
}

export async function readBack(set: LocalSet, location: PartLocation, offset = 0, length?: number): Promise<Buffer> {
  return await collect(set.read({ location, offset, length: length ?? location.geometry.partSize - offset }))
}

/** Pseudo-random bytes: the same for the same seed. */
export function bytes(size: number, seed = 1): Buffer {
  const out = Buffer.alloc(size)
  let state = (seed * 2654435761) >>> 0 || 1
  for (let i = 0; i < size; i++) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    state >>>= 0
    out[i] = state & 0xff
  }
  return out
}

/** Nothing of any part is left: no shard, no temporary file, no reader, no slab. */
export async function assertClean(test: TestSet): Promise<void> {
  assert.equal(await test.set.settled(10_000), true, 'background work ends')
  for (const drive of test.drives) {
    assert.equal(drive.shards.size, 0, `drive ${String(drive.number)} holds no shard`)
    assert.equal(drive.temporary, 0, `drive ${String(drive.number)} holds no temporary file`)
    assert.equal(drive.openReaders, 0)
  }
  assert.equal(test.slabs.stats.usedBytes, 0, 'all slabs are back')
}

/** A clock that stands still until a test moves it. */
export class TestClock implements Clock {
  #now = 0
  #timers: { at: number; fn: () => void }[] = []

  now(): number {
    return this.#now
  }

  after(ms: number, fn: () => void): () => void {
    const timer = { at: this.#now + ms, fn }
    this.#timers.push(timer)
    return () => {
      this.#timers = this.#timers.filter((each) => each !== timer)
    }
  }

  /** Lets `ms` pass in steps, with the work that becomes due, and the work that follows from it. */
  async advance(ms: number, turnsBetween = 20): Promise<void> {
    const end = this.#now + ms
    for (;;) {
      await turns(turnsBetween)
      const due = this.#timers.filter((timer) => timer.at <= end).sort((a, b) => a.at - b.at)[0]
      if (due === undefined) break
      this.#now = Math.max(this.#now, due.at)
      this.#timers = this.#timers.filter((each) => each !== due)
      due.fn()
    }
    this.#now = end
    await turns()
  }
}

/** Lets everything run that needs no time. */
export async function turns(count = 20): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve))
}

export const never: Promise<void> = new Promise(() => undefined)
