/**
 * MD5 of the parts that stream through one thread at the same time. What arrives in one turn of the event loop is
 * gathered and hashed at its end, the streams side by side (see native/md5.ts): sixteen streams take little longer
 * than two. A stream that is alone costs what it costs with OpenSSL.
 *
 * Gathered pieces are kept as they are, without a copy, until the end of the turn at the latest: the caller must not
 * write to them any more. At most GATHERED_BYTES are kept, and the bytes of one piece beyond.
 */
import { md5Digest, md5MaxPieces, md5Start, md5Update } from '../native/md5.js'

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
