/**
 * A state on its way to a follower: the records of one LMDB snapshot in order, in checked chunks.
 *
 *   chunk     magic "OSNP" | version u32 | CRC-32C u32 of everything behind | left u32 | piece of a body, at most 1 MiB
 *   left      how many chunks with further pieces of the same body follow: only a very large record needs any
 *   body      msgpack [last, [key, value, key, value, ...]]
 *   question  msgpack [id, after]: the snapshot, and the key behind which to go on (null: from the start)
 *   offer     msgpack [id, from]: what a snapshot message carries instead of the state
 *
 * Values are as the view holds them, with checksum and link to the next key, so that the receiver proves that no
 * record is missing, changed or out of place, wherever it went on after an interruption.
 *
 * The sender holds one snapshot for all followers and lets it go when nobody has asked for a while: LMDB cannot use
 * pages again that it sees.
 */
import { crc32c } from '../../../native/hash.js'
import { MetadataError } from '../../engine.js'
import { HEAD_KEY } from '../../keys.js'
import { checkValue, linksTo, pack, unpack } from '../../record.js'
import type { RawEntry, ViewSnapshot } from '../../view_store.js'
import type { NodeId } from '../core/types.js'

export const CHUNK_BYTES: number = 1 << 20
const HEADER = 16
/** What a record takes besides key and value. */
const FRAMING = 16
/** No body is larger: a command has at most 8 MiB. */
const MAX_PIECES = 16
const MAGIC = Buffer.from('OSNP')
const VERSION = 1

export interface Offer {
  id: string
  from: NodeId
}

export interface Question {
  id: string
  after: Buffer | undefined
}

export function encodeOffer({ id, from }: Offer): Uint8Array {
  return Uint8Array.from(pack([id, from]))
}

/** Undefined for what is none: it came from a peer. */
export function decodeOffer(bytes: Uint8Array): Offer | undefined {
  const value = list(bytes)
  const [id, from] = value ?? []
  if (value?.length !== 2 || typeof id !== 'string' || typeof from !== 'number') return undefined
  return Number.isSafeInteger(from) && from > 0 ? { id, from } : undefined
}

export function encodeQuestion({ id, after }: Question): Uint8Array {
  return Uint8Array.from(pack([id, after ?? null]))
}

export function decodeQuestion(bytes: Uint8Array): Question | undefined {
  const value = list(bytes)
  const [id, after] = value ?? []
  if (value?.length !== 2 || typeof id !== 'string') return undefined
  if (after === null) return { id, after: undefined }
  return after instanceof Uint8Array ? { id, after: Buffer.from(after) } : undefined
}

function list(bytes: Uint8Array): unknown[] | undefined {
  try {
    const value = unpack(bytes)
    return Array.isArray(value) ? (value as unknown[]) : undefined
  } catch {
    return undefined
  }
}

/** The chunks of a state behind a key. Ends with one that says it is the last. */
export function* chunksOf(
  state: ViewSnapshot,
  after: Buffer | undefined,
  bytes: number = CHUNK_BYTES,
): Generator<Uint8Array> {
  let fields: Uint8Array[] = []
  let size = 0
  for (const { key, value } of state.ascend(after === undefined ? HEAD_KEY : Buffer.concat([after, Buffer.of(0)]))) {
    if (size > 0 && size + key.length + value.length + FRAMING > bytes) {
      yield* encodeChunks(false, fields)
      fields = []
      size = 0
    }
    fields.push(key, value)
    size += key.length + value.length + FRAMING
  }
  yield* encodeChunks(true, fields)
}

function* encodeChunks(last: boolean, fields: readonly Uint8Array[]): Generator<Uint8Array> {
  const body = pack([last, fields])
  for (let at = 0; at < body.length; at += CHUNK_BYTES) {
    const piece = body.subarray(at, at + CHUNK_BYTES)
    const out = Buffer.alloc(HEADER + piece.length)
    MAGIC.copy(out)
    out.writeUInt32BE(VERSION, 4)
    out.writeUInt32BE(Math.ceil((body.length - at) / CHUNK_BYTES) - 1, 12)
    piece.copy(out, HEADER)
    out.writeUInt32BE(crc32c(out.subarray(12)), 8)
    yield out
  }
}

/** Checks chunks as they come; `last` is the key to go on behind. */
export class ChunkChecker {
  #last: RawEntry | undefined
  #pieces: Buffer[] = []
  done = false

  /** A new answer begins: what came of an unfinished body is forgotten. */
  restart(): void {
    this.#pieces = []
  }

  get after(): Buffer | undefined {
    return this.#last?.key
  }

  /** The records of the next chunk. Throws MetadataError 'corrupt'. */
  take(chunk: Uint8Array): RawEntry[] {
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length)
    if (this.done || bytes.length < HEADER || !bytes.subarray(0, 4).equals(MAGIC)) throw damaged('is not one')
    if (bytes.readUInt32BE(4) !== VERSION) throw damaged('has a newer format')
    if (crc32c(bytes.subarray(12)) !== bytes.readUInt32BE(8)) throw damaged('fails its checksum')
    this.#pieces.push(Buffer.from(bytes.subarray(HEADER)))
    if (this.#pieces.length > MAX_PIECES) throw damaged('is too large')
    if (bytes.readUInt32BE(12) > 0) return []
    const body = Buffer.concat(this.#pieces)
    this.#pieces = []
    const [last, fields] = (list(body) ?? []) as [unknown, unknown]
    if (typeof last !== 'boolean' || !Array.isArray(fields) || fields.length % 2 !== 0) throw damaged('has no records')
    const entries: RawEntry[] = []
    for (let at = 0; at < fields.length; at += 2) {
      const [key, value] = [fields[at], fields[at + 1]] as [unknown, unknown]
      if (!(key instanceof Uint8Array) || !(value instanceof Uint8Array)) throw damaged('has no records')
      entries.push(this.#check({ key: Buffer.from(key), value: Buffer.from(value) }))
    }
    if (last && !(this.#last !== undefined && linksTo(this.#last.value, undefined))) throw damaged('ends too early')
    this.done = last
    return entries
  }

  #check(entry: RawEntry): RawEntry {
    checkValue(entry.key, entry.value)
    const before = this.#last
    const follows = before === undefined ? entry.key.equals(HEAD_KEY) : linksTo(before.value, entry.key)
    if (!follows) throw damaged('leaves a gap')
    this.#last = entry
    return entry
  }
}

function damaged(how: string): MetadataError {
  return new MetadataError('corrupt', `a chunk of a snapshot ${how}`)
}
