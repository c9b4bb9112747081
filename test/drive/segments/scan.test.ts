import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { encodeBatchHeader, encodeTombstone } from '../../../ts/drive/segments/batch.js'
import { openHint } from '../../../ts/drive/segments/hint.js'
import {
  checkSegmentHeader, encodeSegmentHeader, isDead, MAX_OFFSET, MAX_SEGMENT_NUMBER, packLocation, parseSegmentName,
  segmentOf, segmentSeed, sizeClassOf, unpackLocation,
} from '../../../ts/drive/segments/segment_file.js'
import { randomInteger, seededRandom } from '../../../ts/util/random.js'
import { makeShard } from '../shards.js'
import { buildSegment, DRIVE_ID, expected, randomItems, scanBytes } from './support.js'

const built = (seed: number, sizes: readonly number[], closed = false): ReturnType<typeof buildSegment> => {
  const random = seededRandom(seed)
  return buildSegment(7, sizes.map((size) => randomItems(random, size)), closed)
}

describe('a segment read from its bytes', () => {
  it('gives every record of every batch, and where the segment ends', async () => {
    const segment = built(1, [3, 1, 12, 5])
    const scan = await scanBytes(segment.bytes, segment.seed)
    assert.deepEqual(scan.found, expected(segment.placed))
    assert.deepEqual([scan.end, scan.closed, scan.damaged], [segment.bytes.length, false, 0])
    const closed = built(1, [3, 1], true)
    assert.equal((await scanBytes(closed.bytes, closed.seed)).closed, true)
  })

  it('costs a packed shard of one block at most 160 bytes beside its block and key, even alone in a batch', () => {
    const shard = makeShard(seededRandom(1), { k: 2, m: 2, stripeSize: 2 ** 20, partSize: 4096 })
    const segment = buildSegment(1, [[{ shard }]])
    const { key, uploadId } = shard.header.salvage
    const own = 2048 + Buffer.byteLength(key) + Buffer.byteLength(uploadId)
    const hint = 24
    assert.ok(segment.bytes.length - 64 - own + hint <= 160, String(segment.bytes.length - 64 - own + hint))
  })

  it('is cut at the batch that a power cut tore, wherever it tore it', async () => {
    const segment = built(2, [2, 4, 3])
    const last = segment.batches.at(-2)!
    const kept = expected(segment.placed.filter(({ batch }) => batch < 2))
    for (let length = last; length < segment.bytes.length; length += 1) {
      for (const fill of [0, 64]) {
        const torn = Buffer.concat([segment.bytes.subarray(0, length), Buffer.alloc(fill)])
        if (torn.subarray(0, segment.bytes.length).equals(segment.bytes)) continue // only padding was lost
        const scan = await scanBytes(torn, segment.seed)
        assert.deepEqual(scan.found, kept, `length ${String(length)}`)
        assert.deepEqual([scan.end, scan.damaged], [last, 0])
      }
    }
  })

  it('takes zeros for no data', async () => {
    const segment = built(3, [2, 2])
    const scan = await scanBytes(Buffer.concat([segment.bytes, Buffer.alloc(100_000)]), segment.seed)
    assert.deepEqual([scan.end, scan.damaged, scan.found.length], [segment.bytes.length, 0, 4])
    const empty = Buffer.concat([encodeSegmentHeader(DRIVE_ID, 7), Buffer.alloc(4096)])
    assert.deepEqual(await scanBytes(empty, segment.seed), { end: 64, closed: false, lost: [], damaged: 0, found: [] })
  })

  it('finds every flipped byte below what was durable, cuts nothing, and loses at most the record that was hit', async () => {
    const segment = built(4, [2, 3, 2], true)
    const all = expected(segment.placed)
    for (let at = 64; at < segment.batches.at(-2)!; at++) {
      const bytes = Buffer.from(segment.bytes)
      bytes[at]! ^= 1 << (at % 8)
      const scan = await scanBytes(bytes, segment.seed)
      assert.equal(scan.damaged, 1, `byte ${String(at)}`)
      assert.equal(scan.end, bytes.length, `byte ${String(at)}`)
      const hit = all.find(({ offset, size }) => at >= offset && at < offset + size)
      const found = new Map(scan.found.map((record) => [record.offset, record]))
      for (const record of all) if (record !== hit) assert.deepEqual(found.get(record.offset), record)
      for (const record of scan.found) assert.ok(all.some((other) => other.offset === record.offset))
    }
  })

  it('cuts a damaged last batch that nothing proves durable, and keeps it when the end of the segment proves it', async () => {
    for (const closed of [false, true]) {
      const segment = built(5, [2, 3], closed)
      const bytes = Buffer.from(segment.bytes)
      bytes[segment.batches[1]! + 40]! ^= 1
      const scan = await scanBytes(bytes, segment.seed)
      assert.equal(scan.end, closed ? bytes.length : segment.batches[1])
      assert.equal(scan.damaged, closed ? 1 : 0)
      assert.equal(scan.found.length, closed ? 4 : 2)
    }
  })

  it('finds its way behind a hole of zeros as large as several batches', async () => {
    const segment = built(6, [4, 4, 4, 4])
    const bytes = Buffer.from(segment.bytes)
    bytes.fill(0, segment.batches[1]! + 8, segment.batches[3]! - 8)
    const scan = await scanBytes(bytes, segment.seed)
    assert.deepEqual([scan.end, scan.damaged], [bytes.length, 1])
    const whole = segment.placed.filter(({ batch }) => batch === 0 || batch === 3)
    assert.deepEqual(scan.found, expected(whole))
  })

  it('never takes records that somebody put into an object, or those of another drive or segment, for its own', async () => {
    const random = seededRandom(7)
    const item = randomItems(random, 1)
    const planted = Buffer.concat([
      encodeBatchHeader(0x5348_4452, 200, 64, 1, []), encodeTombstone(item[0]!.shard.header.dataId, 0, 0x5348_4452),
      buildSegment(8, [item]).bytes.subarray(64),
    ])
    const carrier = makeShard(random, { k: 1, m: 0, stripeSize: 4096, partSize: planted.length })
    carrier.cells[0]!.set(planted, 16)
    const segment = buildSegment(7, [[{ shard: carrier }], randomItems(random, 2)])
    const bytes = Buffer.from(segment.bytes)
    bytes[segment.placed[0]!.offset + 9]! ^= 1 // the carrier's header: what follows is searched through
    const scan = await scanBytes(bytes, segment.seed)
    assert.deepEqual(scan.found, expected(segment.placed.slice(1)))
  })

  it('is not moved by any damage to give what was never written', async () => {
    const random = seededRandom(Number(process.env['OSTRAKA_SEED'] ?? 8))
    const segment = built(8, [3, 5, 2, 4])
    // Where it lies is not asked: a copy of a record is that record.
    const strip = ({ size, id, tombstone }: { size: number; id: string; tombstone: boolean }): string =>
      JSON.stringify({ size, id, tombstone })
    const all = expected(segment.placed).map(strip)
    for (let run = 0; run < 300; run++) {
      const bytes = Buffer.from(segment.bytes)
      for (let hits = 1 + randomInteger(random, 8); hits > 0; hits--) {
        const at = randomInteger(random, bytes.length)
        if (random() < 0.3) bytes.fill(0, at, Math.min(bytes.length, at + randomInteger(random, 300)))
        else if (random() < 0.3) bytes.copy(bytes, at, randomInteger(random, bytes.length))
        else bytes[at] = randomInteger(random, 256)
      }
      const scan = await scanBytes(bytes, segment.seed)
      assert.ok(scan.end <= bytes.length)
      for (const record of scan.found) assert.ok(all.includes(strip(record)))
    }
  })
})

describe('a hint', () => {
  it('says of a segment what a scan of it says', async () => {
    const segment = built(9, [3, 9, 1], true)
    const hint = openHint(segment.hint, 7, segment.bytes.length, segment.seed)
    assert.ok(hint !== undefined)
    const { found } = await scanBytes(segment.bytes, segment.seed)
    const entries = [...hint].map(({ dataId, ...rest }) => ({ ...rest, id: Buffer.from(dataId).toString('hex') }))
    assert.deepEqual(entries, found)
  })

  it('is ignored when any byte is flipped, when it is cut, and when it is of another segment, drive or length', () => {
    const segment = built(10, [3, 2], true)
    const { hint, seed, bytes } = segment
    for (let at = 0; at < hint.length; at++) {
      const flipped = Buffer.from(hint)
      flipped[at]! ^= 1 << (at % 8)
      assert.equal(openHint(flipped, 7, bytes.length, seed), undefined, `byte ${String(at)}`)
      assert.equal(openHint(hint.subarray(0, at), 7, bytes.length, seed), undefined)
    }
    assert.equal(openHint(hint, 8, bytes.length, segmentSeed(DRIVE_ID, 8)), undefined)
    assert.equal(openHint(hint, 7, bytes.length, segmentSeed('another', 7)), undefined)
    assert.equal(openHint(hint, 7, bytes.length - 8, seed), undefined)
    assert.notEqual(openHint(hint, 7, bytes.length, seed), undefined)
  })
})

describe('locations and names', () => {
  it('packs segment, offset, size class and death into a number that orders like the appends', () => {
    for (const number of [1, 2, MAX_SEGMENT_NUMBER]) {
      for (const offset of [64, 72, MAX_OFFSET]) {
        for (const size of [1, 768, 769, 70_000, 2 ** 20]) {
          for (const dead of [false, true]) {
            const location = packLocation(number, offset, size, dead)
            assert.ok(Number.isSafeInteger(location))
            assert.deepEqual(unpackLocation(location), { number, offset, sizeClass: sizeClassOf(size), dead })
            assert.deepEqual([isDead(location), segmentOf(location)], [dead, number])
          }
        }
      }
    }
    assert.ok(packLocation(2, 64, 1, false) > packLocation(1, MAX_OFFSET, 2 ** 20, true))
    assert.ok(packLocation(2, 72, 1, false) > packLocation(2, 64, 2 ** 20, true))
  })

  it('knows its own files only', () => {
    assert.deepEqual(parseSegmentName('12.seg'), { number: 12, kind: 'seg' })
    assert.deepEqual(parseSegmentName('12.hint'), { number: 12, kind: 'hint' })
    for (const name of ['012.seg', '0.seg', '12.seg.x', '12', '9999999.seg', 'a.seg', '']) {
      assert.equal(parseSegmentName(name), undefined, name)
    }
    const header = encodeSegmentHeader(DRIVE_ID, 12)
    assert.equal(checkSegmentHeader(header, DRIVE_ID, 12), 'good')
    assert.equal(checkSegmentHeader(header, DRIVE_ID, 13), 'bad')
    for (let at = 0; at < header.length; at++) {
      const flipped = Buffer.from(header)
      flipped[at]! ^= 1
      assert.equal(checkSegmentHeader(flipped, DRIVE_ID, 12), 'bad')
    }
  })
})
