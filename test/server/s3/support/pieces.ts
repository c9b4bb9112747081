/** Byte sources for body tests. */
import type { PieceSource } from '../../../../ts/server/s3/request_reader.js'

/** Hands out the bytes in pieces of the given sizes, which are used round and round. */
export function pieceSource(bytes: Uint8Array, sizes: readonly number[]): PieceSource {
  let at = 0
  let turn = 0
  return {
    next: () => {
      if (at >= bytes.length) return Promise.resolve(undefined)
      const size = Math.max(1, sizes[turn++ % sizes.length] ?? 1)
      const piece = bytes.subarray(at, at + size)
      at += size
      return Promise.resolve(piece)
    },
  }
}

/** Everything a source gives. */
export async function readAll(source: PieceSource): Promise<Buffer> {
  const pieces: Uint8Array[] = []
  for (;;) {
    const piece = await source.next()
    if (piece === undefined) return Buffer.concat(pieces)
    pieces.push(Buffer.from(piece))
  }
}
