import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { blockSizeAt, type Drive } from '../../ts/drive/drive.js'
import type { PartLocation } from '../../ts/erasure/erasure_set.js'
import { MAX_READ_NOW, readNow } from '../../ts/erasure/read_now.js'

/** A drive that holds one data shard and can tell its blocks at once, but for those in `away`. */
function driveOf(location: PartLocation, shard: number, data: Uint8Array, away: ReadonlySet<number>): Drive {
  const { geometry } = location
  const drive: Pick<Drive, 'readable' | 'readBlockNow'> = {
    readable: true,
    readBlockNow: (dataId, asked, block, into) => {
      assert.deepEqual([dataId, asked], [location.dataId, shard])
      const size = blockSizeAt(geometry, block)
      assert.equal(into.length, size)
      if (away.has(block)) return false
      const from = block * geometry.stripeSize + shard * size
      const end = Math.min(geometry.partSize, (block + 1) * geometry.stripeSize)
      into.fill(0)
      into.set(data.subarray(Math.min(from, end), Math.min(from + size, end)))
      return true
    },
  }
  return drive as Drive
}

describe('reading without waiting', () => {
  it('gives exactly the range when all its blocks are at hand, and nothing otherwise', () => {
    const cases = fc.record({
      k: fc.integer({ min: 1, max: 5 }), stripeSize: fc.integer({ min: 1, max: 400 }),
      partSize: fc.integer({ min: 1, max: 1500 }), offset: fc.nat(1500), length: fc.nat(1500),
      away: fc.array(fc.tuple(fc.nat(4), fc.nat(8)), { maxLength: 2 }), out: fc.option(fc.nat(4)),
    })
    fc.assert(fc.property(cases, ({ k, stripeSize, partSize, offset, length, away, out }) => {
      const data = Uint8Array.from({ length: partSize }, (_, i) => (i * 31 + 7) & 255)
      const geometry = { k, m: 0, stripeSize, partSize }
      const numbers = Array.from({ length: k }, (_, shard) => shard + 1)
      const location: PartLocation = { dataId: new Uint8Array(16).fill(9), set: 0, geometry, drives: numbers }
      const drives = new Map(numbers.map((number, shard) => {
        const missing = new Set(away.filter(([at]) => at === shard).map(([, block]) => block))
        return [number, driveOf(location, shard, data, missing)]
      }))
      if (out !== null && drives.has(out + 1)) Object.assign(drives.get(out + 1) as Drive, { readable: false })
      const found = readNow(location, offset, length, (number) => drives.get(number))
      const stripe = Math.floor(offset / stripeSize)
      const within = length > 0 && offset + length <= Math.min(partSize, (stripe + 1) * stripeSize)
      const size = blockSizeAt(geometry, stripe)
      const first = Math.floor((offset - stripe * stripeSize) / size)
      const last = Math.floor((offset + length - 1 - stripe * stripeSize) / size)
      const held = (shard: number): boolean =>
        shard !== out && !away.some(([at, block]) => at === shard && block === stripe)
      const all = within && numbers.every((_, shard) => shard < first || shard > last || held(shard))
      if (all) assert.deepEqual(new Uint8Array(found ?? []), data.slice(offset, offset + length))
      else assert.equal(found, undefined)
    }))
  })

  it('leaves long ranges, and drives that cannot, to the long way', () => {
    const partSize = MAX_READ_NOW * 2
    const geometry = { k: 1, m: 0, stripeSize: partSize, partSize }
    const location: PartLocation = { dataId: new Uint8Array(16), set: 0, geometry, drives: [1] }
    const never = (): Drive => assert.fail('asked for a block')
    assert.equal(readNow(location, 0, MAX_READ_NOW + 1, never), undefined)
    const small = { ...location, geometry: { ...geometry, partSize: 10 } }
    assert.equal(readNow(small, 0, 10, () => undefined), undefined)
    assert.equal(readNow(small, 0, 10, () => ({ readable: true }) as Drive), undefined)
  })
})
