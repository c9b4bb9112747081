/**
 * The parsers of bytes that come from outside the process. A target takes any bytes; what it may throw is what the
 * parser documents, and everything else, or an answer that breaks the parser's promise, is a finding.
 */
import assert from 'node:assert/strict'

import { formatText, parseFormat } from '../../ts/drive/format.js'
import { batchHolds, encodeBatchHeader, readBatchHeader } from '../../ts/drive/segments/batch.js'
import { openHint } from '../../ts/drive/segments/hint.js'
import { ShardHeaderError, decodeShardHeader, parseDataIdName } from '../../ts/drive/shard_file.js'
import { decodeFileHeader, encodeFrame, parseFile, type LogRecord } from '../../ts/meta/log/frame.js'
import { MessageFormatError, decodeMessage, encodeMessage } from '../../ts/meta/raft/codec.js'
import { makeMessage } from '../../ts/meta/raft/core/types.js'
import { checksum64 } from '../../ts/native/hash.js'
import { ProtocolError, Refusal } from '../../ts/rpc/errors.js'
import { FrameReader, FrameWriter } from '../../ts/rpc/frame.js'
import { decodeHello, encodeHello } from '../../ts/rpc/handshake.js'
import { decodeRpc, encodeRpc } from '../../ts/rpc/message.js'
import { parseTarget } from '../../ts/server/auth/target.js'
import { ChunkedDecoder } from '../../ts/server/s3/aws_chunked.js'
import { parseCopySource } from '../../ts/server/s3/copy_source.js'
import { readXml } from '../../ts/server/s3/xml_read.js'
import { S3Error } from '../../ts/store/errors.js'
import { seededRandom } from '../../ts/util/random.js'
import { buildSegment, randomItems, scanBytes } from '../drive/segments/support.js'

export interface FuzzTarget {
  readonly name: string
  /** Valid inputs to start from, beside those of the corpus folder. */
  readonly seeds: readonly Buffer[]
  run(input: Buffer): void | Promise<void>
}

const LOG_SEED = 12345
const LOG_HEADER = 4096

/** Runs `work`, which may throw errors of these classes only. */
async function may(classes: readonly (abstract new (...args: never[]) => Error)[], work: () => unknown): Promise<void> {
  try {
    await work()
  } catch (error) {
    if (!classes.some((known) => error instanceof known)) throw error
  }
}

async function* split(input: Buffer): AsyncGenerator<Uint8Array, void, undefined> {
  // Pieces whose lengths the input itself decides, so that a finding can be repeated.
  for (let at = 0, piece = 1; at < input.length; at += piece) {
    piece = 1 + ((input[at] ?? 0) % 61)
    yield await Promise.resolve(input.subarray(at, at + piece))
  }
}

const chunked: FuzzTarget = {
  name: 'aws-chunked',
  seeds: [
    Buffer.from('5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n'),
    Buffer.from('b\r\nhello world\r\n0\r\nx-amz-checksum-crc32c:yZRlqg==\r\n\r\n'),
    Buffer.from(`b;chunk-signature=${'a'.repeat(64)}\r\nhello world\r\n0;chunk-signature=${'b'.repeat(64)}\r\n\r\n`),
  ],
  async run(input) {
    const pieces = split(input)
    const source = {
      next: async (): Promise<Uint8Array | undefined> => (await pieces.next()).value ?? undefined,
    }
    const decoder = new ChunkedDecoder(source, { decodedLength: 11, trailers: ['x-amz-checksum-crc32c'] })
    await may([S3Error], async () => {
      let seen = 0
      for (let piece = await decoder.next(); piece !== undefined; piece = await decoder.next()) seen += piece.length
      assert.equal(seen, 11, 'a body that ends well has its length')
    })
  },
}

const xml: FuzzTarget = {
  name: 'xml',
  seeds: [
    Buffer.from('<Delete><Quiet>true</Quiet><Object><Key>a&amp;b</Key></Object></Delete>'),
    Buffer.from('<?xml version="1.0" encoding="UTF-8"?><CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/' +
      '2006-03-01/"><Part><PartNumber>1</PartNumber><ETag>"x"</ETag></Part></CompleteMultipartUpload>'),
  ],
  run: (input) => may([S3Error], () => readXml(split(input))),
}

const format: FuzzTarget = {
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

const HEADER_SEED = 0x5348_4452

/** Makes the checksum of most headers right, so that what lies behind it is reached too. */
function seal(header: Buffer): void {
  if (header.length < 12 || (header[0] ?? 0) % 8 === 0) return
  const size = header.readUInt16LE(6)
  if (size < 8 || size > header.length) return
  checksum64(header, size - 8, [header.subarray(0, size - 8)], HEADER_SEED)
}

const shardHeader: FuzzTarget = {
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

const segment: FuzzTarget = {
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

const hint: FuzzTarget = {
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

const record = (index: number): LogRecord => ({
  type: 1, group: 0, epoch: 0, term: 1, index, payload: Buffer.from(`payload ${String(index)}`),
})

const logFile: FuzzTarget = {
  name: 'log file',
  seeds: [Buffer.concat([Buffer.alloc(LOG_HEADER), encodeFrame(LOG_SEED, 0, 0, [record(1), record(2)])])],
  run(input) {
    decodeFileHeader(input)
    for (const { records } of parseFile(input, LOG_SEED).frames) {
      for (const { payload } of records) assert.match(payload.toString(), /^payload [12]$/, 'only what was written')
    }
  },
}

const requestTarget: FuzzTarget = {
  name: 'request target',
  seeds: [Buffer.from('/bucket/a%20b?list-type=2&prefix=%C3%A9&x'), Buffer.from('bucket/key%2Fx?versionId=3')],
  async run(input) {
    const text = input.toString('latin1')
    await may([S3Error], () => parseTarget(text))
    await may([S3Error], () => parseCopySource(text))
  },
}

const RPC_KEY = Buffer.alloc(32, 9)

function rpcFrames(key: Uint8Array | undefined): Buffer {
  const writer = new FrameWriter()
  writer.useKey(key)
  const bodies = [
    encodeRpc({ kind: 'ping', number: 1 }),
    encodeRpc({ kind: 'messages', channel: 1, payloads: [RPC_KEY] }),
  ]
  return Buffer.concat(bodies.flatMap((body) => writer.frame(body)))
}

const rpcFrame: FuzzTarget = {
  name: 'rpc frame',
  seeds: [rpcFrames(RPC_KEY)],
  async run(input) {
    const frames = new FrameReader(4096)
    frames.useKey(RPC_KEY, 4096)
    const made = new FrameReader(4096)
    made.useKey(RPC_KEY, 4096)
    made.push(rpcFrames(RPC_KEY))
    const pieces = split(input)
    await may([ProtocolError], async () => {
      for (let piece = await pieces.next(); piece.value !== undefined; piece = await pieces.next()) {
        frames.push(piece.value)
        for (let body = frames.next(); body !== undefined; body = frames.next()) {
          assert.deepEqual(body, made.next(), 'only what was sealed, in its order')
        }
      }
    })
    assert.ok(frames.held <= 4096 + 64)
  },
}

const rpcHello: FuzzTarget = {
  name: 'rpc hello',
  seeds: [
    encodeHello({
      lowest: 1, highest: 1, lane: 'control', tls: false, secret: true, nodeId: 3, wanted: 2,
      instance: Buffer.alloc(16, 1), nonce: Buffer.alloc(32, 2), clusterId: 'cluster', name: 'n3', address: 'h:1',
    }),
  ],
  run: (input) => may([ProtocolError, Refusal], () => {
    const hello = decodeHello(input)
    assert.ok(hello.nodeId > 0)
  }),
}

const rpcMessage: FuzzTarget = {
  name: 'rpc message',
  seeds: [
    Buffer.from(encodeRpc({ kind: 'messages', channel: 2, payloads: [RPC_KEY, RPC_KEY] })),
    Buffer.from(encodeRpc({ kind: 'call', id: 5, name: 'propose', body: RPC_KEY })),
    Buffer.from(encodeRpc({ kind: 'answer', id: 5, code: 'ok', text: '', body: RPC_KEY })),
    Buffer.from(encodeRpc({ kind: 'chunk', number: 3, crc: 77, body: RPC_KEY })),
  ],
  run: (input) => may([ProtocolError], () => {
    const message = decodeRpc(input)
    assert.deepEqual(decodeRpc(encodeRpc(message)), message)
  }),
}

const raftMessage: FuzzTarget = {
  name: 'raft message',
  seeds: [
    Buffer.from(encodeMessage(makeMessage('MsgApp', 2, {
      from: 1, term: 4, logTerm: 3, index: 9, commit: 8,
      entries: [{ term: 4, index: 10, type: 'EntryNormal', data: RPC_KEY }],
    }))),
    Buffer.from(encodeMessage(makeMessage('MsgVote', 2, { from: 1, term: 4, force: true }))),
  ],
  run: (input) => may([MessageFormatError], () => {
    const message = decodeMessage(input)
    assert.deepEqual(decodeMessage(encodeMessage(message)), message)
  }),
}

export const TARGETS: readonly FuzzTarget[] = [
  chunked, xml, format, shardHeader, segment, hint, logFile, requestTarget, rpcFrame, rpcHello, rpcMessage, raftMessage,
]
