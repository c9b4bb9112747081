/**
 * The difference between two placement tables of one size, as bytes: what a change of the layout carries, so that
 * every copy of the metadata gets the table that was proposed, whatever computes tables later.
 *
 * For each slot whose set changes, in ascending order: how many slots lie between it and the one before (a varint:
 * seven bits each, lowest first, the high bit says that more follow), then the new set number (u16, little-endian).
 */
import { PlacementError } from './errors.js'

/** What makes `after` of `before`; both have the same length. */
export function encodeMoves(before: Uint16Array, after: Uint16Array): Uint8Array {
  const out = new Uint8Array(5 * after.length)
  let length = 0
  let last = -1
  for (let slot = 0; slot < after.length; slot++) {
    const set = after[slot] as number
    if (set === before[slot]) continue
    let gap = slot - last - 1
    while (gap > 0x7f) {
      out[length++] = (gap & 0x7f) | 0x80
      gap >>>= 7
    }
    out[length++] = gap
    out[length++] = set & 0xff
    out[length++] = set >>> 8
    last = slot
  }
  return out.slice(0, length)
}

/**
 * Changes `sets` as `moves` say. PlacementError 'badTable' for bytes that are no such list, or that leave the table.
 */
export function applyMoves(sets: Uint16Array, moves: Uint8Array): void {
  let at = 0
  let slot = -1
  while (at < moves.length) {
    let gap = 0
    let shift = 0
    for (;;) {
      const byte = moves[at++]
      if (byte === undefined || shift > 21) throw new PlacementError('badTable', 'moves that cannot be read')
      gap |= (byte & 0x7f) << shift
      if (byte < 0x80) break
      shift += 7
    }
    slot += gap + 1
    if (slot >= sets.length || at + 2 > moves.length) throw new PlacementError('badTable', 'moves outside the table')
    sets[slot] = (moves[at] as number) | ((moves[at + 1] as number) << 8)
    at += 2
  }
}
