/**
 * Completing a multipart upload: the object record refers to the upload id, part records stay where they are;
 * only marks every 64 parts are copied into the object. A retry with the same request answers as the first did.
 */
import { createHash } from 'node:crypto'
import { crc32 } from 'node:zlib'
import { crc32c, crc64nvme } from '../../native/hash.js'
import { crcCombine } from '../../util/crc_combine.js'
import type { Command, CommandValue } from '../command.js'
import { partKey, uploadKey } from '../keys.js'
import { pack } from '../record.js'
import type { Checksum, ChecksumAlgorithm, ObjectRecord, PartMark, UploadPartRecord, UploadRecord } from '../schema.js'
import { checkCondition, currentObject, needBucket, refuse } from './context.js'
import type { Context, Handled } from './context.js'
import { disown } from './data_ids.js'
import { objectValue, placeObject } from './objects.js'
import { closeUpload, needUpload, noteCompleted, partsOf } from './uploads.js'

type Complete = Extract<Command, { kind: 'completeUpload' }>

const MAX_OBJECT_SIZE = 5 * 2 ** 40
const MARK_EVERY = 64

export function completeUpload(context: Context, command: Complete): Handled {
  const bucket = needBucket(context, command.bucketId)
  const upload = needUpload(context, command.bucketId, command.key, command.uploadId)
  const digest = requestDigest(command)
  if (upload.completed !== undefined) return answerAgain(upload, command, digest)
  const stored = partsOf(context, upload)
  const parts = chooseParts(command, stored)
  const size = sizeOf(command, parts)
  const checksum = checksumOf(upload, parts)
  checkExpected(command, checksum, size)
  const current = currentObject(context, command.bucketId, command.key)
  checkCondition(command.condition, current?.object)
  const object: ObjectRecord = {
    bucketId: command.bucketId,
    key: command.key,
    order: context.order,
    versionId: command.versionId,
    ownerId: upload.ownerId,
    size,
    etag: `${md5(parts.map((part) => part.md5))}-${String(parts.length)}`,
    modifiedMs: command.nowMs,
    attributes: upload.attributes,
    ...(checksum && { checksum }),
    body: { kind: 'parts', uploadId: upload.uploadId, count: parts.length, marks: marksOf(parts) },
  }
  for (const part of parts) stored.delete(part.partNumber)
  for (const left of stored.values()) {
    context.tx.remove(partKey(upload.bucketId, upload.key, upload.uploadId, left.partNumber))
    disown(context, left.location)
  }
  closeUpload(context, bucket, upload)
  const completed = {
    atMs: command.nowMs,
    etag: object.etag,
    size,
    requestDigest: digest,
    ...(checksum && { checksum }),
  }
  context.tx.put(uploadKey(upload.bucketId, upload.key, upload.uploadId), { ...upload, completed })
  noteCompleted(context, upload, command.nowMs)
  placeObject(context, bucket, object, current)
  return objectValue(object)
}

function requestDigest(command: Complete): Uint8Array {
  const { parts, checksum, expectedSize } = command
  return createHash('sha256').update(pack({ parts, checksum, expectedSize })).digest()
}

function answerAgain(upload: UploadRecord, command: Complete, digest: Uint8Array): CommandValue {
  const done = upload.completed
  if (done === undefined || Buffer.compare(done.requestDigest, digest) !== 0) refuse('NoSuchUpload', upload.uploadId)
  const { etag, size, checksum } = done
  return { etag, size, versionId: command.versionId, modifiedMs: done.atMs, ...(checksum && { checksum }) }
}

/** The stored parts that the client names, in its order; everything about them checked. */
function chooseParts(command: Complete, stored: Map<number, UploadPartRecord>): UploadPartRecord[] {
  if (command.parts.length === 0) refuse('InvalidRequest', 'no parts')
  let previous = 0
  for (const { partNumber } of command.parts) {
    if (partNumber <= previous) refuse('InvalidPartOrder', `part ${String(partNumber)}`)
    previous = partNumber
  }
  const parts = command.parts.map((wanted) => {
    const part = stored.get(wanted.partNumber)
    const equal =
      part !== undefined &&
      Buffer.from(part.md5).toString('hex') === wanted.etag.toLowerCase() &&
      (wanted.checksum === undefined ||
        (part.checksum !== undefined && Buffer.compare(part.checksum.value, wanted.checksum) === 0))
    return equal ? part : refuse('InvalidPart', `part ${String(wanted.partNumber)}`)
  })
  for (const part of parts.slice(0, -1)) {
    if (part.size < command.minPartSize) refuse('EntityTooSmall', `part ${String(part.partNumber)}`)
  }
  return parts
}

function sizeOf(command: Complete, parts: readonly UploadPartRecord[]): number {
  const size = parts.reduce((sum, part) => sum + part.size, 0)
  if (size > MAX_OBJECT_SIZE) refuse('EntityTooLarge', `${String(size)} bytes`)
  if (command.expectedSize !== undefined && command.expectedSize !== size) {
    refuse('InvalidRequest', `expected ${String(command.expectedSize)} bytes, the parts have ${String(size)}`)
  }
  return size
}

/** The checksum of the whole object, when every part carries one of the upload's algorithm. */
function checksumOf(upload: UploadRecord, parts: readonly UploadPartRecord[]): Checksum | undefined {
  const algorithm: ChecksumAlgorithm = upload.checksumAlgorithm ?? 'CRC64NVME'
  const type = upload.checksumType ?? (algorithm === 'CRC64NVME' ? 'FULL_OBJECT' : 'COMPOSITE')
  const sums: { value: Uint8Array; size: number }[] = []
  for (const { checksum, size } of parts) {
    if (checksum?.algorithm !== algorithm) return undefined
    sums.push({ value: checksum.value, size })
  }
  if (type === 'FULL_OBJECT') {
    if (algorithm !== 'CRC32' && algorithm !== 'CRC32C' && algorithm !== 'CRC64NVME') return undefined
    return { algorithm, type, value: crcCombine(algorithm, sums) }
  }
  return { algorithm, type, value: composite(algorithm, sums.map(({ value }) => value)) }
}

/** The checksum of the concatenated part checksums. */
function composite(algorithm: ChecksumAlgorithm, values: readonly Uint8Array[]): Uint8Array {
  const all = Buffer.concat(values)
  if (algorithm === 'SHA1' || algorithm === 'SHA256') return createHash(algorithm.toLowerCase()).update(all).digest()
  const out = Buffer.alloc(algorithm === 'CRC64NVME' ? 8 : 4)
  if (algorithm === 'CRC64NVME') out.writeBigUInt64BE(crc64nvme(all))
  else out.writeUInt32BE(algorithm === 'CRC32' ? crc32(all) : crc32c(all))
  return out
}

function checkExpected(command: Complete, checksum: Checksum | undefined, size: number): void {
  const expected = command.checksum
  if (expected === undefined) return
  if (checksum?.algorithm !== expected.algorithm || checksum.type !== expected.type) {
    refuse('InvalidRequest', `no ${expected.type} ${expected.algorithm} for these ${String(size)} bytes`)
  }
  if (Buffer.compare(checksum.value, expected.value) !== 0) refuse('BadDigest', 'the checksum of the object differs')
}

function md5(values: readonly Uint8Array[]): string {
  const hash = createHash('md5')
  for (const value of values) hash.update(value)
  return hash.digest('hex')
}

function marksOf(parts: readonly UploadPartRecord[]): PartMark[] {
  const marks: PartMark[] = []
  let offset = 0
  for (const [ordinal, part] of parts.entries()) {
    if (ordinal % MARK_EVERY === 0) marks.push({ ordinal, partNumber: part.partNumber, offset })
    offset += part.size
  }
  return marks
}
