/**
 * Keys of the metadata view: raw bytes, ordered as LMDB orders them.
 *
 *   object space    bucket id u64 | object key (UTF-8, no 0x00) | 0x00 | kind | rest
 *     0x10 object    rest = inverted index u64, inverted offset u32: the newest comes first
 *     0x20 upload    rest = upload id
 *     0x30 part      rest = upload id, 0x00, part number u16
 *   bucket space    the same with the empty object key: bucket id | 0x00 | kind | rest
 *     0x01 bucket    rest = nothing
 *     0x02 open upload, for ListMultipartUploads: rest = object key, 0x00, upload id
 *   system space    bucket id 0: 0x00 * 8 | 0x00 | kind | rest (kinds below)
 *
 * All numbers are big-endian. Upload ids contain no 0x00. Records of one object key lie together, and the keys of
 * a bucket lie in UTF-8 binary order because 0x00 is smaller than every byte of a key.
 */
import type { OrderKey } from './schema.js'

export const HEADER = 8
/** Longest object key in bytes, and longest upload id: together they fit LMDB's 1978 bytes. */
export const MAX_OBJECT_KEY = 1024
export const MAX_UPLOAD_ID = 128

export const KIND = { object: 0x10, upload: 0x20, part: 0x30, bucket: 0x01, openUpload: 0x02 } as const

export const SYSTEM = {
  head: 0x00,
  applied: 0x01,
  cluster: 0x02,
  totals: 0x03,
  collection: 0x04,
  counters: 0x05,
  layout: 0x06,
  bucketName: 0x10,
  set: 0x11,
  drive: 0x12,
  epoch: 0x13,
  slots: 0x14,
  garbage: 0x20,
  heal: 0x21,
  owner: 0x22,
  request: 0x30,
  requestOrder: 0x31,
  session: 0x32,
  node: 0x33,
  lease: 0x34,
  completed: 0x40,
} as const

const ZERO = Buffer.of(0)

export function u16(value: number): Buffer {
  const out = Buffer.allocUnsafe(2)
  out.writeUInt16BE(value)
  return out
}

export function u32(value: number): Buffer {
  const out = Buffer.allocUnsafe(4)
  out.writeUInt32BE(value)
  return out
}

export function u64(value: number): Buffer {
  const out = Buffer.allocUnsafe(8)
  out.writeUInt32BE(Math.floor(value / 0x1_0000_0000), 0)
  out.writeUInt32BE(value >>> 0, 4)
  return out
}

export function readU64(from: Buffer, offset: number): number {
  return from.readUInt32BE(offset) * 0x1_0000_0000 + from.readUInt32BE(offset + 4)
}

function invertedOrder(order: OrderKey): Buffer {
  const out = Buffer.allocUnsafe(12)
  out.writeUInt32BE(~Math.floor(order.index / 0x1_0000_0000) >>> 0, 0)
  out.writeUInt32BE(~order.index >>> 0, 4)
  out.writeUInt32BE(~order.offset >>> 0, 8)
  return out
}

export function orderBytes(order: OrderKey): Buffer {
  return Buffer.concat([u64(order.index), u32(order.offset)])
}

export function systemKey(kind: number, ...rest: Uint8Array[]): Buffer {
  return Buffer.concat([u64(0), ZERO, Buffer.of(kind), ...rest])
}

/** The smallest key of the view: the sentinel that the chain starts at. */
export const HEAD_KEY: Buffer = systemKey(SYSTEM.head)
export const APPLIED_KEY: Buffer = systemKey(SYSTEM.applied)
export const CLUSTER_KEY: Buffer = systemKey(SYSTEM.cluster)
export const TOTALS_KEY: Buffer = systemKey(SYSTEM.totals)
export const COLLECTION_KEY: Buffer = systemKey(SYSTEM.collection)
export const COUNTERS_KEY: Buffer = systemKey(SYSTEM.counters)
export const LAYOUT_KEY: Buffer = systemKey(SYSTEM.layout)

/** Everything of a bucket begins with this; with '' as object key, the records of the bucket itself. */
export function bucketPrefix(bucketId: number): Buffer {
  return u64(bucketId)
}

/** All records of one object key (with `kind`: those of one kind) begin with this. */
export function objectPrefix(bucketId: number, key: string, kind?: number): Buffer {
  const text = Buffer.from(key, 'utf8')
  const out = Buffer.allocUnsafe(HEADER + text.length + (kind === undefined ? 1 : 2))
  out.writeUInt32BE(Math.floor(bucketId / 0x1_0000_0000), 0)
  out.writeUInt32BE(bucketId >>> 0, 4)
  text.copy(out, HEADER)
  out[HEADER + text.length] = 0
  if (kind !== undefined) out[HEADER + text.length + 1] = kind
  return out
}

export function objectRecordKey(bucketId: number, key: string, order: OrderKey): Buffer {
  return Buffer.concat([objectPrefix(bucketId, key, KIND.object), invertedOrder(order)])
}

export function uploadKey(bucketId: number, key: string, uploadId: string): Buffer {
  return Buffer.concat([objectPrefix(bucketId, key, KIND.upload), Buffer.from(uploadId, 'utf8')])
}

export function partPrefix(bucketId: number, key: string, uploadId: string): Buffer {
  return Buffer.concat([objectPrefix(bucketId, key, KIND.part), Buffer.from(uploadId, 'utf8'), ZERO])
}

export function partKey(bucketId: number, key: string, uploadId: string, partNumber: number): Buffer {
  return Buffer.concat([partPrefix(bucketId, key, uploadId), u16(partNumber)])
}

export function bucketKey(bucketId: number): Buffer {
  return objectPrefix(bucketId, '', KIND.bucket)
}

export function openUploadsPrefix(bucketId: number): Buffer {
  return objectPrefix(bucketId, '', KIND.openUpload)
}

export function openUploadKey(bucketId: number, key: string, uploadId: string): Buffer {
  return Buffer.concat([openUploadsPrefix(bucketId), Buffer.from(key, 'utf8'), ZERO, Buffer.from(uploadId, 'utf8')])
}

export function bucketNameKey(name: string): Buffer {
  return systemKey(SYSTEM.bucketName, Buffer.from(name, 'utf8'))
}

export function setKey(set: number): Buffer {
  return systemKey(SYSTEM.set, u32(set))
}

export function driveKey(drive: number): Buffer {
  return systemKey(SYSTEM.drive, u32(drive))
}

export function epochKey(epoch: number): Buffer {
  return systemKey(SYSTEM.epoch, u64(epoch))
}

/** Slots record * SLOTS_PER_RECORD and following of a placement table. */
export function slotsKey(table: number, record: number): Buffer {
  return systemKey(SYSTEM.slots, u32(table), u32(record))
}

export function garbageKey(order: OrderKey, dataId: Uint8Array): Buffer {
  return systemKey(SYSTEM.garbage, orderBytes(order), dataId)
}

export function healKey(set: number, dataId: Uint8Array): Buffer {
  return systemKey(SYSTEM.heal, u32(set), dataId)
}

export function ownerKey(set: number, dataId: Uint8Array): Buffer {
  return systemKey(SYSTEM.owner, u32(set), dataId)
}

export function requestKey(requestId: string): Buffer {
  return systemKey(SYSTEM.request, Buffer.from(requestId, 'utf8'))
}

export function requestOrderKey(order: OrderKey): Buffer {
  return systemKey(SYSTEM.requestOrder, orderBytes(order))
}

export function sessionKey(node: number): Buffer {
  return systemKey(SYSTEM.session, u64(node))
}

export function nodeKey(id: number): Buffer {
  return systemKey(SYSTEM.node, u64(id))
}

export function leaseKey(name: string): Buffer {
  return systemKey(SYSTEM.lease, Buffer.from(name, 'utf8'))
}

export function completedKey(atMs: number, bucketId: number, key: string, uploadId: string): Buffer {
  return systemKey(SYSTEM.completed, u64(atMs), uploadKey(bucketId, key, uploadId))
}

/** The smallest key greater than every key that begins with `prefix`; undefined when there is none. */
export function afterPrefix(prefix: Uint8Array): Buffer | undefined {
  let end = prefix.length
  while (end > 0 && prefix[end - 1] === 0xff) end--
  if (end === 0) return undefined
  const out = Buffer.from(prefix.subarray(0, end))
  out[end - 1] = (out[end - 1] as number) + 1
  return out
}

export function hasPrefix(key: Buffer, prefix: Buffer): boolean {
  return key.length >= prefix.length && key.compare(prefix, 0, prefix.length, 0, prefix.length) === 0
}

/** Where the object key of a key of the object space ends (the position of its 0x00). */
export function objectKeyEnd(key: Buffer): number {
  return key.indexOf(0, HEADER)
}
