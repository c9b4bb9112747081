/**
 * How two nodes make sure of each other before anything else is read. Fixed fields only: no byte of a stranger reaches
 * a msgpack decoder.
 *
 *   dialer    HELLO    who I am, whom I want, a nonce
 *   listener  HELLO    who I am, a nonce                     (or REFUSED)
 *   dialer    PROOF    HMAC(proof key of the dialer, transcript)
 *   listener  PROOF    HMAC(proof key of the listener, transcript)   (or REFUSED)
 *
 * transcript = SHA-256(length and bytes of both HELLOs); every key = HKDF-SHA256(shared secret, salt = both nonces,
 * info = label and transcript). The shared secret is the cluster secret, the exported keying material of the TLS
 * session, or both. So a proof is good for one pair of nonces, these two nodes, this cluster, this lane and this TLS
 * session; the dialer proves first, so a stranger who connects gets nothing to guess at.
 *
 * HELLO: type u8 = 1, magic 8 B, lowest and highest version u8 u8, lane u8, flags u8 (1 TLS, 2 secret), node u64 LE,
 * wanted node u64 LE (0: whoever is there), instance 16 B, nonce 32 B, then three strings, each with its length u8:
 * cluster id, name, advertised address. PROOF: 2, 32 B. REFUSED: 3, code u8, text.
 *
 * A node that does not belong to a cluster yet says '' as its cluster id; two different ids refuse each other.
 */
import { createHash, createHmac, hkdfSync, timingSafeEqual } from 'node:crypto'

import { ProtocolError, REFUSALS, Refusal } from './errors.js'
import type { RefusalCode } from './errors.js'

/** probe: only to learn who is there. Append only. */
export const LANES = ['control', 'bulk', 'probe'] as const
export type Lane = (typeof LANES)[number]

/** Versions of the messages after the handshake that this program speaks. */
export const VERSIONS: { readonly lowest: number; readonly highest: number } = { lowest: 1, highest: 1 }

/** Frames of the handshake are at most this long. */
export const MAX_HANDSHAKE_FRAME = 1024

const MAGIC = Buffer.from('OSTRKRPC', 'latin1')
const FIXED = 1 + 8 + 4 + 8 + 8 + 16 + 32
const NONCE = 32
const INSTANCE = 16
const PROOF = 32
const KIND = { hello: 1, proof: 2, refused: 3 } as const
const TLS = 1
const SECRET = 2

/** What a node says of itself. */
export interface Hello {
  lowest: number
  highest: number
  lane: Lane
  tls: boolean
  secret: boolean
  /** At least 1. */
  nodeId: number
  /** 0: whoever is there. */
  wanted: number
  /** Of this run of the process. */
  instance: Uint8Array
  nonce: Uint8Array
  /** '' on a node that has not joined a cluster. */
  clusterId: string
  name: string
  /** host:port at which others reach it. */
  address: string
}

export function encodeHello(hello: Hello): Buffer {
  const strings = [hello.clusterId, hello.name, hello.address].map((text) => Buffer.from(text, 'utf8'))
  for (const text of strings) if (text.length > 255) throw new RangeError('a name of more than 255 bytes')
  const fixed = Buffer.alloc(FIXED)
  fixed.writeUInt8(KIND.hello, 0)
  MAGIC.copy(fixed, 1)
  fixed.writeUInt8(hello.lowest, 9)
  fixed.writeUInt8(hello.highest, 10)
  fixed.writeUInt8(LANES.indexOf(hello.lane), 11)
  fixed.writeUInt8((hello.tls ? TLS : 0) | (hello.secret ? SECRET : 0), 12)
  fixed.writeBigUInt64LE(BigInt(hello.nodeId), 13)
  fixed.writeBigUInt64LE(BigInt(hello.wanted), 21)
  fixed.set(hello.instance, 29)
  fixed.set(hello.nonce, 45)
  return Buffer.concat([fixed, ...strings.flatMap((text) => [Buffer.from([text.length]), text])])
}

/** Throws ProtocolError, or the Refusal that the peer sent instead. */
export function decodeHello(bytes: Uint8Array): Hello {
  throwIfRefused(bytes)
  const buffer = view(bytes)
  if (buffer.length < FIXED || buffer[0] !== KIND.hello || !buffer.subarray(1, 9).equals(MAGIC)) {
    throw new ProtocolError('this is not a node of Ostraka')
  }
  const lane = LANES[buffer.readUInt8(11)]
  if (lane === undefined) throw new ProtocolError('an unknown lane')
  const flags = buffer.readUInt8(12)
  const strings: string[] = []
  let at = FIXED
  for (let i = 0; i < 3; i++) {
    const length = buffer[at]
    if (length === undefined || at + 1 + length > buffer.length) throw new ProtocolError('a cut name')
    strings.push(buffer.toString('utf8', at + 1, at + 1 + length))
    at += 1 + length
  }
  if (at !== buffer.length) throw new ProtocolError('bytes after the greeting')
  const [clusterId = '', name = '', address = ''] = strings
  return {
    lowest: buffer.readUInt8(9),
    highest: buffer.readUInt8(10),
    lane,
    tls: (flags & TLS) !== 0,
    secret: (flags & SECRET) !== 0,
    nodeId: id(buffer.readBigUInt64LE(13), 1),
    wanted: id(buffer.readBigUInt64LE(21), 0),
    instance: Buffer.from(buffer.subarray(29, 29 + INSTANCE)),
    nonce: Buffer.from(buffer.subarray(45, 45 + NONCE)),
    clusterId,
    name,
    address,
  }
}

export function encodeProof(proof: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from([KIND.proof]), proof])
}

/** Throws ProtocolError, or the Refusal that the peer sent instead. */
export function decodeProof(bytes: Uint8Array): Buffer {
  throwIfRefused(bytes)
  const buffer = view(bytes)
  if (buffer.length !== 1 + PROOF || buffer[0] !== KIND.proof) throw new ProtocolError('a proof was expected')
  return buffer.subarray(1)
}

export function encodeRefusal(refusal: Refusal): Buffer {
  const text = Buffer.from(refusal.message, 'utf8').subarray(0, 500)
  return Buffer.concat([Buffer.from([KIND.refused, REFUSALS.indexOf(refusal.code)]), text])
}

function throwIfRefused(bytes: Uint8Array): void {
  if (bytes[0] !== KIND.refused) return
  const code: RefusalCode = REFUSALS[bytes[1] ?? 0] ?? 'protocol'
  // Said by somebody who may not be a node: printable characters only.
  const said = view(bytes).toString('utf8', 2).replaceAll(/[^\x20-\x7e]/g, '?')
  throw new Refusal(code, said, true)
}

/** The version both speak. Throws Refusal. */
export function commonVersion(mine: Hello, theirs: Hello): number {
  const highest = Math.min(mine.highest, theirs.highest)
  if (highest >= mine.lowest && highest >= theirs.lowest && highest > 0) return highest
  const range = ({ lowest, highest }: Hello): string => `${String(lowest)} to ${String(highest)}`
  throw new Refusal('version', `this node speaks versions ${range(mine)}, the other ${range(theirs)}`)
}

/** Whether these two may talk, apart from proofs. Throws Refusal. */
export function checkHello(mine: Hello, theirs: Hello): void {
  if (mine.clusterId !== '' && theirs.clusterId !== '' && mine.clusterId !== theirs.clusterId) {
    throw new Refusal('other-cluster', `node ${label(mine)} belongs to cluster ${mine.clusterId}, another one`)
  }
  if (mine.nodeId === theirs.nodeId) {
    throw new Refusal('same-node', `both sides say that they are node ${label(mine)}`)
  }
  if (theirs.wanted !== 0 && theirs.wanted !== mine.nodeId) {
    throw new Refusal('wrong-node', `this is node ${label(mine)}, not ${String(theirs.wanted)}`)
  }
  if (mine.wanted !== 0 && mine.wanted !== theirs.nodeId) {
    throw new Refusal('wrong-node', `node ${String(mine.wanted)} was wanted, ${label(theirs)} answered`)
  }
  if (mine.tls !== theirs.tls || mine.secret !== theirs.secret) {
    throw new Refusal('security', `node ${label(mine)} is set up for ${security(mine)}, the other is not`)
  }
}

function label({ nodeId, name }: Hello): string {
  return name === '' ? String(nodeId) : `${String(nodeId)} (${name})`
}

function security({ tls, secret }: Hello): string {
  return [...(tls ? ['mutual TLS'] : []), ...(secret ? ['a cluster secret'] : [])].join(' and ')
}

/** Keys of one connection. */
export interface SessionKeys {
  dialerProof: Buffer
  listenerProof: Buffer
  /** Seals what the dialer sends; what the listener sends. */
  fromDialer: Buffer
  fromListener: Buffer
}

export function deriveKeys(
  shared: Uint8Array,
  dialer: { hello: Hello; bytes: Uint8Array },
  listener: { hello: Hello; bytes: Uint8Array },
): SessionKeys {
  const hash = createHash('sha256')
  for (const { bytes } of [dialer, listener]) {
    const length = Buffer.alloc(4)
    length.writeUInt32LE(bytes.length)
    hash.update(length).update(bytes)
  }
  const transcript = hash.digest()
  const salt = Buffer.concat([dialer.hello.nonce, listener.hello.nonce])
  const key = (name: string): Buffer => {
    const info = Buffer.concat([Buffer.from(`ostraka rpc 1 ${name}\0`, 'latin1'), transcript])
    return Buffer.from(hkdfSync('sha256', shared, salt, info, 32))
  }
  const proof = (name: string): Buffer => createHmac('sha256', key(name)).update(transcript).digest()
  return {
    dialerProof: proof('dialer proof'),
    listenerProof: proof('listener proof'),
    fromDialer: key('from dialer'),
    fromListener: key('from listener'),
  }
}

/** Throws Refusal when the proof is not the expected one. */
export function checkProof(expected: Uint8Array, given: Uint8Array, tls: boolean): void {
  if (given.length === expected.length && timingSafeEqual(expected, given)) return
  throw new Refusal('wrong-secret', `the cluster secrets differ${tls ? ', or something stands between the nodes' : ''}`)
}

function id(value: bigint, least: number): number {
  const number = Number(value)
  if (!Number.isSafeInteger(number) || number < least) throw new ProtocolError('a node id out of range')
  return number
}

function view(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
}
