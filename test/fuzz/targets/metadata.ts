/** What metadata copies give back: log files, values of the view, commands. */
import assert from 'node:assert/strict'

import { applyBatch, decodeBatch, encodeBatch, encodeRequest } from '../../../ts/meta/apply/apply.js'
import { MetadataError } from '../../../ts/meta/engine.js'
import {
  FILE_COMMANDS, FILE_HEADER, FRAME_HEADER, RECORD_HEADER, decodeFileHeader, encodeFileHeader, encodeFrame, parseFile,
  type LogRecord,
} from '../../../ts/meta/log/frame.js'
import { checkValue, encodeValue, pack, payloadOf, unpack } from '../../../ts/meta/record.js'
import { SimulatedView, SimulatedViewMedium } from '../../../ts/meta/simulated_view.js'
import { checksum64, crc32c } from '../../../ts/native/hash.js'
import { putObject } from '../../meta/support.js'
import { type FuzzTarget, may } from '../target.js'

const LOG_SEED = 12345

const record = (index: number): LogRecord => ({
  type: 1, group: 0, epoch: 0, term: 1, index, payload: Buffer.from(`payload ${String(index)}`),
})


/** Makes the checksums of the file's header, of the first frame and of its records right, for most inputs. */
function sealLog(input: Buffer): boolean {
  if ((input[0] ?? 0) % 8 === 0 || input.length < FILE_HEADER + FRAME_HEADER) return false
  input.writeUInt32BE(crc32c(input.subarray(0, 60)), 60)
  const frame = input.subarray(FILE_HEADER)
  const end = frame.readUInt32BE(8)
  if (end < FRAME_HEADER || end > frame.length) return true
  for (let at = FRAME_HEADER; at + RECORD_HEADER <= end;) {
    const length = frame.readUInt32BE(at + 32)
    if (at + RECORD_HEADER + length > end) break
    const payload = frame.subarray(at + RECORD_HEADER, at + RECORD_HEADER + length)
    frame.writeUInt32BE(crc32c(payload, crc32c(frame.subarray(at, at + 36))), at + 36)
    at += Math.ceil((RECORD_HEADER + length) / 8) * 8
  }
  checksum64(frame, 32, [frame.subarray(0, 32), frame.subarray(FRAME_HEADER, end)], LOG_SEED)
  return true
}

export const logFile: FuzzTarget = {
  name: 'log file',
  seeds: [
    Buffer.concat([
      encodeFileHeader({ version: FILE_COMMANDS, number: 1, seed: LOG_SEED }),
      encodeFrame(LOG_SEED, 0, 0, [record(1), record(2)]),
      encodeFrame(LOG_SEED, 208, 208, [record(2)]),
    ]),
  ],
  run(input) {
    const sealed = sealLog(input)
    decodeFileHeader(input)
    let taken = 0
    for (const { records, size } of parseFile(input, LOG_SEED).frames) {
      taken += size
      for (const { payload } of records) {
        if (!sealed) assert.match(payload.toString(), /^payload [12]$/, 'only what was written')
      }
    }
    assert.ok(taken === 0 || FILE_HEADER + taken < input.length + 16, 'frames lie in the file')
  },
}

const VALUE_KEY = Buffer.from('key')

export const value: FuzzTarget = {
  name: 'metadata value',
  seeds: [encodeValue(VALUE_KEY, pack({ a: [1, 'x', Buffer.alloc(3)], b: { c: true } }), undefined)],
  run: (input) => may([MetadataError], () => {
    if ((input[0] ?? 0) % 4 !== 0 && input.length > 17) checksum64(input, 0, [VALUE_KEY, input.subarray(8)])
    checkValue(VALUE_KEY, input)
    unpack(payloadOf(input))
  }),
}

/** The payload of a record of the log, applied to an empty state. */
export const commands: FuzzTarget = {
  name: 'commands',
  seeds: [
    encodeBatch(5, [
      encodeRequest({ kind: 'createBucket', name: 'b', ownerId: 'o', region: 'us-east-1', nowMs: 5 }, 'r-1'),
      encodeRequest(putObject(1, 'k'), 'r-2'),
      encodeRequest({ kind: 'deleteBucket', name: 'b' }, 'r-3'),
    ]),
    encodeBatch(6, [encodeRequest({ kind: 'openEpoch', nowMs: 6, worker: 'w' }, undefined)],
      { node: 1, boot: 2, sequence: 3, floor: 1 }),
  ],
  run: (input) => may([MetadataError], () => {
    const batch = decodeBatch(input)
    const view = new SimulatedView(new SimulatedViewMedium())
    const { results } = applyBatch(view.snapshot(), { index: 1, term: 1 }, batch)
    const repeated = batch.origin !== undefined && results.length === 0
    assert.ok(repeated || results.length === batch.requests.length, 'every command has its result')
  }),
}
