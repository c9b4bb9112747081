/**
 * An object pinned for reading. The handle is opened on one snapshot under a pin (pins.ts), so the shards
 * that the snapshot names stay until `release`.
 *
 * Bodies of many parts: the part records stay under the upload id as long as the object is there. `read` and
 * `part` take what they need from the view when they are called, and check that the view still shows the
 * pinned object; a caller that asks in the turn in which it opened the handle is always answered. When the
 * object was replaced in between, they throw ServiceUnavailable: a retry reads the new object, and no byte of
 * a mixture is ever given. A started read holds the locations it needs (packed, about 100 bytes a part) and
 * is not affected by later changes.
 */
import { ErasureError, type ErasureSet, type PartLocation } from '../erasure/erasure_set.js'
import type { MetadataReader } from '../meta/reader.js'
import type { ObjectRecord, PartMark, UploadPartRecord } from '../meta/schema.js'
import { checkReadableKey, unavailable, type StoreContext } from './context.js'
import { S3Error } from './errors.js'
import type { ByteRange, ObjectHandle } from './object_store.js'
import type { Pin } from './pins.js'

/** Part records read from the view at a time. */
const PAGE = 64
/** Ordinals between two marks of an object record (schema.ts). */
const MARK_STEP = 64

/** Opens an object: NoSuchBucket, NoSuchKey, ServiceUnavailable. */
export function openObject(context: StoreContext, bucket: string, key: string): ObjectHandle {
  return context.lookPinned((reader, pin) => {
    const { id } = context.bucketIn(reader, bucket)
    checkReadableKey(key)
    const object = reader.object(id, key)
    if (object === undefined) throw new S3Error('NoSuchKey', '', { Key: key })
    return new PinnedObject(context, object, pin)
  })
}

/** A piece of a read: part of one stored part. */
interface Piece {
  location: PartLocation
  offset: number
  length: number
}

class PinnedObject implements ObjectHandle {
  readonly object: ObjectRecord
  readonly #context: StoreContext
  readonly #pin: Pin
  #released = false

  constructor(context: StoreContext, object: ObjectRecord, pin: Pin) {
    this.#context = context
    this.object = object
    this.#pin = pin
  }

  get partCount(): number {
    return this.object.body.kind === 'parts' ? this.object.body.count : 1
  }

  part(ordinal: number): ReturnType<ObjectHandle['part']> {
    if (!Number.isInteger(ordinal) || ordinal < 0 || ordinal >= this.partCount) return undefined
    const { body, size, checksum } = this.object
    if (body.kind !== 'parts') {
      return { range: { offset: 0, length: size }, record: checksum === undefined ? { size } : { size, checksum } }
    }
    const mark = body.marks[Math.floor(ordinal / MARK_STEP)]
    if (mark === undefined) throw new S3Error('InternalError', 'The object record lacks a mark.')
    let offset = mark.offset
    for (const part of this.#partsFrom(mark)) {
      if (part.ordinal === ordinal) {
        const { size: partSize, checksum: partChecksum } = part.record
        return {
          range: { offset, length: partSize },
          record: partChecksum === undefined ? { size: partSize } : { size: partSize, checksum: partChecksum },
        }
      }
      offset += part.record.size
    }
    throw new S3Error('InternalError', 'A part record of the object is missing.')
  }

  read(range: ByteRange, signal?: AbortSignal): AsyncIterable<Uint8Array> {
    this.#check(range)
    const { length } = range
    return readPieces(this.#context, this.#pieces(range), length, signal)
  }

  readNow(range: ByteRange): Uint8Array | undefined {
    this.#check(range)
    const { body } = this.object
    if (body.kind !== 'part') return undefined
    const { location } = body.part
    return this.#context.set(location.set).readNow?.({ location, offset: range.offset, length: range.length })
  }

  release(): void {
    this.#released = true
    this.#pin.release()
  }

  #check({ offset, length }: ByteRange): void {
    if (this.#released) throw new Error('read of a released handle')
    if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(length) || offset < 0 || length < 0) {
      throw new RangeError('not a byte range')
    }
    if (offset + length > this.object.size) throw new RangeError('the range ends beyond the object')
  }

  /** Where the range lies. Synchronous, so all of it comes from one snapshot. */
  #pieces(range: ByteRange): PieceList {
    const { body } = this.object
    const list = new PieceList()
    if (range.length === 0) return list
    if (body.kind === 'empty') throw new S3Error('InternalError', 'An empty object has a size.')
    if (body.kind === 'part') {
      list.push({ location: body.part.location, offset: range.offset, length: range.length })
      return list
    }
    const mark = markBefore(body.marks, range.offset)
    const end = range.offset + range.length
    let offset = mark.offset
    for (const { record } of this.#partsFrom(mark)) {
      const from = Math.max(range.offset, offset)
      const to = Math.min(end, offset + record.size)
      if (to > from) list.push({ location: record.location, offset: from - offset, length: to - from })
      offset += record.size
      if (offset >= end) return list
    }
    throw new S3Error('InternalError', 'The parts of the object end before its size.')
  }

  /** Parts in order from a mark on, from one snapshot that still shows this object. */
  *#partsFrom(mark: PartMark): Generator<{ ordinal: number; record: UploadPartRecord }> {
    const { body, bucketId, key } = this.object
    if (body.kind !== 'parts') return
    const reader = this.#context.metadata.reader
    this.#checkUnchanged(reader)
    let ordinal = mark.ordinal
    let after = mark.partNumber - 1
    while (ordinal < body.count) {
      const page = this.#context.guard(() => reader.parts(bucketId, key, body.uploadId, after, PAGE))
      if (page.length === 0) return
      for (const record of page) {
        yield { ordinal, record }
        ordinal++
        after = record.partNumber
        if (ordinal === body.count) return
      }
    }
  }

  #checkUnchanged(reader: MetadataReader): void {
    const { bucketId, key, order } = this.object
    const now = this.#context.guard(() => reader.object(bucketId, key))
    if (now?.order.index !== order.index || now.order.offset !== order.offset) {
      throw unavailable('the object was replaced; please retry')
    }
  }
}

/** The last mark that begins at or before the offset. */
export function markBefore(marks: readonly PartMark[], offset: number): PartMark {
  let low = 0
  let high = marks.length
  while (high - low > 1) {
    const middle = (low + high) >>> 1
    if (marks[middle]!.offset <= offset) low = middle
    else high = middle
  }
  const mark = marks[low]
  if (mark === undefined) throw new S3Error('InternalError', 'The object record has no marks.')
  return mark
}

/** Bytes of a packed piece: ids and numbers without object headers, because there may be 10,000 of them. */
const PIECE_SIZE = 16 + 4 + 8 * 4 + 2 + 16 * 2

/**
 * The pieces of a read, packed: data id, set u32, stripe size, part size, offset and length f64, k and m u8,
 * drive numbers u16. One record of PIECE_SIZE bytes each.
 */
class PieceList {
  #bytes = new Uint8Array(PIECE_SIZE)
  #count = 0

  get count(): number {
    return this.#count
  }

  push(piece: Piece): void {
    const { location, offset, length } = piece
    const at = this.#count * PIECE_SIZE
    if (at + PIECE_SIZE > this.#bytes.length) {
      const larger = new Uint8Array(this.#bytes.length * 2)
      larger.set(this.#bytes)
      this.#bytes = larger
    }
    this.#bytes.set(location.dataId, at)
    const view = new DataView(this.#bytes.buffer, at + 16, PIECE_SIZE - 16)
    view.setUint32(0, location.set)
    view.setFloat64(4, location.geometry.stripeSize)
    view.setFloat64(12, location.geometry.partSize)
    view.setFloat64(20, offset)
    view.setFloat64(28, length)
    view.setUint8(36, location.geometry.k)
    view.setUint8(37, location.geometry.m)
    location.drives.forEach((drive, shard) => { view.setUint16(38 + 2 * shard, drive) })
    this.#count++
  }

  get(index: number): Piece {
    const at = index * PIECE_SIZE
    const view = new DataView(this.#bytes.buffer, at + 16, PIECE_SIZE - 16)
    const k = view.getUint8(36)
    const m = view.getUint8(37)
    const drives: number[] = []
    for (let shard = 0; shard < k + m; shard++) drives.push(view.getUint16(38 + 2 * shard))
    return {
      location: {
        dataId: this.#bytes.slice(at, at + 16),
        set: view.getUint32(0),
        geometry: { k, m, stripeSize: view.getFloat64(4), partSize: view.getFloat64(12) },
        drives,
      },
      offset: view.getFloat64(20),
      length: view.getFloat64(28),
    }
  }
}

async function* readPieces(
  context: StoreContext,
  pieces: PieceList,
  length: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  let given = 0
  for (let i = 0; i < pieces.count; i++) {
    const piece = pieces.get(i)
    const set: ErasureSet = context.set(piece.location.set)
    const options = signal === undefined ? piece : { ...piece, signal }
    try {
      for await (const chunk of set.read(options)) {
        given += chunk.length
        yield chunk
      }
    } catch (error) {
      throw readError(context, error)
    }
  }
  if (given !== length) throw new S3Error('InternalError', 'A part gave fewer bytes than it holds.')
}

function readError(context: StoreContext, error: unknown): unknown {
  if (!(error instanceof ErasureError)) return error
  if (error.code === 'aborted') {
    return new S3Error('RequestTimeout', 'The request was aborted.', {}, {}, { cause: error })
  }
  context.report('read', error)
  return unavailable('the data cannot be read at present', error)
}
