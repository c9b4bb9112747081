/** What a drive gives back: its format, shard files, segments and hints. */
import assert from 'node:assert/strict'

import { formatText, parseFormat } from '../../../ts/drive/format.js'
import { batchHolds, encodeBatchHeader, readBatchHeader } from '../../../ts/drive/segments/batch.js'
import { openHint } from '../../../ts/drive/segments/hint.js'
import { FILE_SEED, ShardHeaderError, decodeShardHeader, parseDataIdName } from '../../../ts/drive/shard_file.js'
import { checksum64 } from '../../../ts/native/hash.js'
import { seededRandom } from '../../../ts/util/random.js'
import { buildSegment, randomItems, scanBytes } from '../../drive/segments/support.js'
import { type FuzzTarget, may } from '../target.js'

export const format: FuzzTarget = {
  name: 'format.json',
  seeds: [
    Buffer.from(formatText({
      clusterId: 'c', driveId: 'd', number: 1, pool: 0, set: 0, position: 2, epoch: 1, setCount: 1, setSize: 4,
      parity: 2, state: 'member',
    })),
  ],
  run(input) {
    const text = input.toString('utf8')
    const found = parseFormat(text)
    if (found.kind === 'format') assert.equal(formatText(found.format), text, 'only what is byte for byte as written')
  },
}

/** Makes the checksum of most headers right, so that what lies behind it is reached too. */
function seal(header: Buffer): void {
  if (header.length < 12 || (header[0] ?? 0) % 8 === 0) return
  const size = header.readUInt16LE(6)
  if (size < 8 || size > header.length) return
  checksum64(header, size - 8, [header.subarray(0, size - 8)], FILE_SEED)
}

export const shardHeader: FuzzTarget = {
  name: 'shard header',
  seeds: [],
  run: (input) => may([ShardHeaderError], () => {
    seal(input)
    const { size } = decodeShardHeader(input)
    assert.ok(size <= input.length, 'the header ends in what was given')
    parseDataIdName(input.toString('latin1'))
  }),
}

const built = buildSegment(7, [randomItems(seededRandom(1), 4), randomItems(seededRandom(2), 3)], true)
const ids = new Set(built.placed.map(({ shard }) => Buffer.from(shard.header.dataId).toString('hex')))

/** Makes the checksum of the first batch right, and that of the first record, for most inputs. */
function sealBatch(input: Buffer): void {
  if ((input[0] ?? 0) % 8 === 0 || input.length < 136) return
  const size = input.readUInt16LE(102)
  if (size >= 8 && 96 + size <= input.length) {
    checksum64(input, 96 + size - 8, [input.subarray(96, 96 + size - 8)], built.seed)
  }
  const header = readBatchHeader(input.subarray(64), 64)
  if (header === undefined || 64 + header.length > input.length) return
  const parts = [input.subarray(96, 64 + header.length)]
  encodeBatchHeader(built.seed, header.offset, header.syncedTo, header.count, parts).copy(input, 64)
  assert.ok(batchHolds(input.subarray(64, 64 + header.length), built.seed))
}

export const segment: FuzzTarget = {
  name: 'segment',
  seeds: [built.bytes],
  async run(input) {
    const untouched = (input[0] ?? 0) % 8 === 0
    sealBatch(input)
    const { found, end, lost } = await scanBytes(input, built.seed)
    assert.ok(end <= Math.max(64, input.length), 'the end lies in the segment')
    for (const [from, to] of lost) assert.ok(from < to && to <= end, 'what is lost lies below the end')
    let free = 64
    for (const { offset, size } of found) {
      assert.ok(offset >= free && offset + size <= input.length, 'records follow each other')
      free = offset + size
    }
    if (untouched) for (const { id } of found) assert.ok(ids.has(id), 'only what was written')
  },
}

export const hint: FuzzTarget = {
  name: 'hint',
  seeds: [built.hint],
  run(input) {
    if ((input[0] ?? 0) % 4 !== 0 && input.length >= 48) {
      checksum64(input, 40, [input.subarray(0, 40), input.subarray(48)], built.seed)
    }
    const opened = openHint(input, 7, built.bytes.length, built.seed)
    let free = 64
    for (const { offset, size } of opened ?? []) {
      assert.ok(offset >= free && offset + size <= built.bytes.length, 'entries follow each other in the segment')
      free = offset + size
    }
  },
}
