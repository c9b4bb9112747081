/** What other nodes send: frames, greetings, messages. */
import assert from 'node:assert/strict'

import { MessageFormatError, decodeMessage, encodeMessage } from '../../../ts/meta/raft/codec.js'
import { makeMessage } from '../../../ts/meta/raft/core/types.js'
import { ProtocolError, Refusal } from '../../../ts/rpc/errors.js'
import { FrameReader, FrameWriter } from '../../../ts/rpc/frame.js'
import { decodeHello, encodeHello } from '../../../ts/rpc/handshake.js'
import { decodeRpc, encodeRpc } from '../../../ts/rpc/message.js'
import { type FuzzTarget, may, split } from '../target.js'

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

export const rpcFrame: FuzzTarget = {
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

export const rpcHello: FuzzTarget = {
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

export const rpcMessage: FuzzTarget = {
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

export const raftMessage: FuzzTarget = {
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
