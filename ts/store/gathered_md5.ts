/**
 * MD5 of the parts that go through one thread at the same time, hashed side by side (see native/md5.ts): sixteen take
 * little longer than two. One that is alone costs what it costs with OpenSSL.
 *
 * - GatheredMd5, of a stream: what arrives in one turn of the event loop is hashed at its end.
 * - WholeMd5, of a body in one buffer: bodies are hashed when the digest of one of them is asked for. Small PUTs are
 *   written in groups, and ask when they are written: the first of a group finds the others here.
 *
 * Both keep what was given to them as it is, without a copy: the caller must not write to it any more. Each keeps at
 * most GATHERED_BYTES, and the bytes of one piece beyond, which also bounds what bodies leave here whose write failed.
 */
import { md5Digest, md5MaxPieces, md5Of, md5Size, md5Start, md5Update } from '../native/md5.js'

const GATHERED_BYTES = 4 << 20

let states: Uint8Array[] = []
let pieces: Uint8Array[] = []
let bytes = 0
let scheduled = false

function hashGathered(): void {
  if (pieces.length === 0) return
  const [ofStates, ofPieces] = [states, pieces]
  states = []
  pieces = []
  bytes = 0
  md5Update(ofStates, ofPieces)
}

function endOfTurn(): void {
  scheduled = false
  hashGathered()
}

export class GatheredMd5 {
  readonly #state = md5Start()

  update(piece: Uint8Array): void {
    states.push(this.#state)
    pieces.push(piece)
    bytes += piece.length
    if (pieces.length === md5MaxPieces || bytes >= GATHERED_BYTES) hashGathered()
    else if (!scheduled) {
      scheduled = true
      setImmediate(endOfTurn)
    }
  }

  /** Of everything so far; the stream can go on. */
  digest(): Uint8Array {
    hashGathered()
    return md5Digest(this.#state)
  }
}

export class WholeMd5 {
  /** Those whose digest nobody has asked for, their bodies, and the bytes of these. */
  static #kept: WholeMd5[] = []
  static #bodies: Uint8Array[] = []
  static #bytes = 0
  #digest: Uint8Array | undefined

  constructor(body: Uint8Array) {
    WholeMd5.#kept.push(this)
    WholeMd5.#bytes += body.length
    if (WholeMd5.#bodies.push(body) === md5MaxPieces || WholeMd5.#bytes >= GATHERED_BYTES) WholeMd5.#hashKept()
  }

  digest(): Uint8Array {
    if (this.#digest === undefined) WholeMd5.#hashKept()
    return this.#digest as Uint8Array
  }

  static #hashKept(): void {
    const kept = WholeMd5.#kept
    const digests = md5Of(WholeMd5.#bodies)
    WholeMd5.#kept = []
    WholeMd5.#bodies = []
    WholeMd5.#bytes = 0
    for (const [i, one] of kept.entries()) one.#digest = digests.slice(i * md5Size, (i + 1) * md5Size)
  }
}
