/**
 * Messages after the handshake: one msgpack array per frame, its first element the kind. Append only.
 *
 *   control   [0 messages, channel, bytes...]        may be lost; many that go the same way share a frame
 *             [1 call, id, name, bytes]              answered once with [2 answer, id, code, text, bytes]
 *             [3 ping, number], [4 pong, number]     on both lanes
 *             [5 goodbye, text]                      the sender closes the connection
 *   bulk      [6 ask, bytes]                         answered with chunks and an end, or goodbye
 *             [7 chunk, number, crc32, bytes]        in order from 0
 *             [8 received, number]                   that chunk was used
 *             [9 end, chunks]
 *
 * `bytes` are opaque here. Decoding checks the form of everything.
 */
import { Packr } from 'msgpackr'

import { ProtocolError } from './errors.js'

export const MAX_NAME = 64
/** Payloads that share one frame. */
export const MAX_BATCH = 4096
/** Longest chunk of an answer on the bulk lane. */
export const CHUNK_BYTES: number = (1 << 20) + 4096

export type AnswerCode = 'ok' | 'refused' | 'overloaded' | 'failed' | 'unknown'
const ANSWERS: readonly AnswerCode[] = ['ok', 'refused', 'overloaded', 'failed', 'unknown']

export type RpcMessage =
  | { kind: 'messages'; channel: number; payloads: Uint8Array[] }
  | { kind: 'call'; id: number; name: string; body: Uint8Array }
  | { kind: 'answer'; id: number; code: AnswerCode; text: string; body: Uint8Array }
  | { kind: 'ping' | 'pong'; number: number }
  | { kind: 'goodbye'; text: string }
  | { kind: 'ask'; body: Uint8Array }
  | { kind: 'chunk'; number: number; crc: number; body: Uint8Array }
  | { kind: 'received'; number: number }
  | { kind: 'end'; chunks: number }

const packr = new Packr({ useRecords: false, variableMapSize: true, int64AsType: 'number' })

export function encodeRpc(message: RpcMessage): Uint8Array {
  return packr.pack(toArray(message))
}

function toArray(m: RpcMessage): unknown[] {
  switch (m.kind) {
    case 'messages':
      return [0, m.channel, ...m.payloads]
    case 'call':
      return [1, m.id, m.name, m.body]
    case 'answer':
      return [2, m.id, ANSWERS.indexOf(m.code), m.text, m.body]
    case 'ping':
      return [3, m.number]
    case 'pong':
      return [4, m.number]
    case 'goodbye':
      return [5, m.text]
    case 'ask':
      return [6, m.body]
    case 'chunk':
      return [7, m.number, m.crc, m.body]
    case 'received':
      return [8, m.number]
    case 'end':
      return [9, m.chunks]
  }
}

/** Throws ProtocolError. Payloads are views of `bytes`. */
export function decodeRpc(bytes: Uint8Array): RpcMessage {
  let value: unknown
  try {
    value = packr.unpack(bytes)
  } catch (error) {
    throw new ProtocolError('a frame that is not msgpack', { cause: error })
  }
  if (!Array.isArray(value)) throw new ProtocolError('a frame that is not an array')
  const fields = value as unknown[]
  const kind = count(fields[0])
  const length = LENGTHS[kind]
  if (length === undefined || (length !== 0 && fields.length !== length)) {
    throw new ProtocolError('a message of an unknown form')
  }
  return fromArray(kind, fields)
}

/** Fields of each kind, its number included; 0: any number. */
const LENGTHS: readonly number[] = [0, 4, 5, 2, 2, 2, 2, 4, 2, 2]

function fromArray(kind: number, fields: readonly unknown[]): RpcMessage {
  switch (kind) {
    case 0:
      if (fields.length < 3 || fields.length > MAX_BATCH + 2) throw new ProtocolError('too many or no payloads')
      return { kind: 'messages', channel: count(fields[1]), payloads: fields.slice(2).map(binary) }
    case 1:
      return { kind: 'call', id: count(fields[1]), name: text(fields[2], MAX_NAME), body: binary(fields[3]) }
    case 2: {
      const code = ANSWERS[count(fields[2])]
      if (code === undefined) throw new ProtocolError('an unknown outcome')
      return { kind: 'answer', id: count(fields[1]), code, text: text(fields[3], 2000), body: binary(fields[4]) }
    }
    case 3:
      return { kind: 'ping', number: count(fields[1]) }
    case 4:
      return { kind: 'pong', number: count(fields[1]) }
    case 5:
      return { kind: 'goodbye', text: text(fields[1], 2000) }
    case 6:
      return { kind: 'ask', body: binary(fields[1]) }
    case 7:
      return { kind: 'chunk', number: count(fields[1]), crc: count(fields[2]), body: chunk(fields[3]) }
    case 8:
      return { kind: 'received', number: count(fields[1]) }
    case 9:
      return { kind: 'end', chunks: count(fields[1]) }
    default:
      throw new ProtocolError('a message of an unknown kind')
  }
}

function count(value: unknown): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) {
    throw new ProtocolError('a number is missing, negative or too large')
  }
  return value
}

function text(value: unknown, most: number): string {
  if (typeof value !== 'string' || value.length > most) throw new ProtocolError('a text is missing or too long')
  return value
}

function binary(value: unknown): Uint8Array {
  if (!(value instanceof Uint8Array)) throw new ProtocolError('bytes are missing')
  return value
}

function chunk(value: unknown): Uint8Array {
  const bytes = binary(value)
  if (bytes.length === 0 || bytes.length > CHUNK_BYTES) throw new ProtocolError('a chunk of a wrong size')
  return bytes
}
