import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { BatchBuilder } from '../../../ts/drive/segments/batch_builder.js'
import { encodeBatchHeader, encodeTombstone, padding } from '../../../ts/drive/segments/batch.js'
import { SegmentIndex } from '../../../ts/drive/segments/segment_index.js'
import { createSegmentsMemory } from '../../../ts/drive/segments/segment_table.js'
import { encodeShardHeader } from '../../../ts/drive/shard_file.js'
import { randomInteger, seededRandom } from '../../../ts/util/random.js'
import { makeShard, randomBytes } from '../shards.js'

const SEED = 123_456

function joined(parts: readonly Uint8Array[]): Buffer {
  return Buffer.concat(parts)
}

describe('a batch builder', () => {
  it('gives the bytes of header, records and padding, batch after batch, and nothing of the batch before', () => {
    const seed = Number(process.env.OSTRAKA_SEED ?? Math.floor(Math.random() * 2 ** 32))
    console.log(`OSTRAKA_SEED=${String(seed)}`)
    const random = seededRandom(seed)
    const builder = new BatchBuilder()
    for (let batch = 0; batch < 60; batch++) {
      builder.clear()
      const expected: Uint8Array[] = []
      for (let left = 1 + randomInteger(random, 12); left > 0; left--) {
        if (random() < 0.3) {
          const dataId = randomBytes(random, 16)
          assert.equal(builder.addTombstone(dataId, left, SEED), 40)
          expected.push(encodeTombstone(dataId, left, SEED))
          continue
        }
        const stripeSize = 1 + randomInteger(random, random() < 0.2 ? 20_000 : 300)
        const { header, cells } = makeShard(random, { k: 1, m: 1, stripeSize, partSize: stripeSize * (1 + left) })
        const encoded = encodeShardHeader(header, SEED)
        const size = cells.reduce((sum, cell) => sum + cell.length, encoded.length)
        assert.equal(builder.addShard(header, cells, SEED), size)
        expected.push(encoded, ...cells, Buffer.alloc(padding(size)))
      }
      const records = builder.records
      const bytes = joined(builder.finish(SEED, 640, 64))
      assert.equal(bytes.length, builder.length)
      assert.ok(bytes.equals(joined([encodeBatchHeader(SEED, 640, 64, records, [joined(expected)]), ...expected])))
    }
  })

  it('has no room for a record that its buffer or one call cannot take, and keeps what it has', () => {
    for (const stripeSize of [5_000, 20_000]) {
      const { header, cells } = makeShard(seededRandom(1), { k: 1, m: 0, stripeSize, partSize: stripeSize })
      const size = encodeShardHeader(header, SEED).length + stripeSize + 16
      const builder = new BatchBuilder()
      while (builder.addShard(header, cells, SEED) > 0) assert.ok(builder.records < 1000)
      const { records } = builder
      assert.ok(records >= 40, String(records))
      const pieces = builder.finish(SEED, 64, 64)
      assert.ok(pieces.length < 250)
      assert.equal(joined(pieces).length, 32 + records * (size + padding(size)))
      builder.clear()
      assert.equal(builder.addShard(header, cells, SEED), size)
    }
  })

  it('refuses what cannot be written, and goes on without it', () => {
    const { header, cells } = makeShard(seededRandom(2), { k: 2, m: 1, stripeSize: 64, partSize: 64 })
    const builder = new BatchBuilder()
    const id = header.dataId
    assert.throws(() => builder.addShard({ ...header, shard: 3 }, cells, SEED), RangeError)
    assert.throws(() => builder.addShard({ ...header, dataId: id.subarray(1) }, cells, SEED), RangeError)
    builder.addTombstone(id, 1, SEED)
    const tombstone = encodeTombstone(id, 1, SEED)
    const expected = joined([encodeBatchHeader(SEED, 64, 64, 1, [tombstone]), tombstone])
    assert.ok(joined(builder.finish(SEED, 64, 64)).equals(expected))
  })
})

describe('the room of a segment index', () => {
  it('is not used up by threads that each know only now and then how much is left', () => {
    const memory = createSegmentsMemory(4000, 64)
    const threads = Array.from({ length: 60 }, () => new SegmentIndex(memory))
    const random = seededRandom(3)
    threads[0]?.table.add(1, 'active', 64)
    const ids: Uint8Array[] = []
    // All of them ask before any of them adds.
    for (let round = 0; round < 200; round++) {
      const adding = threads.filter((index) => !index.full)
      for (const index of adding) {
        const id = randomBytes(random, 16)
        ids.push(id)
        index.add(id, 1, 64 + 8 * ids.length, 40, false)
      }
    }
    assert.ok(threads.every((index) => index.full))
    assert.ok(ids.length >= 3750 && ids.length <= 4000, String(ids.length))
    const [index] = threads as [SegmentIndex]
    for (const id of ids.slice(0, 1000)) assert.ok(index.forget(id, index.get(id)))
    assert.ok(threads.every((each) => !each.full))
  })
})
