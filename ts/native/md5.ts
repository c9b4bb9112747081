/**
 * MD5 of many streams at once: the pieces of different streams in one call are hashed side by side in the lanes of
 * wide registers (16 on AVX-512, 8 on AVX2), which is several times faster than one after the other.
 *
 * A state is an opaque Uint8Array of `md5StateSize` bytes. It may be copied, and belongs to one thread at a time.
 */
import { addon } from './addon.js';

export const md5StateSize = 88;
/** The most pieces that one call takes. */
export const md5MaxPieces = 256;

export function md5Start(): Uint8Array {
  const state = new Uint8Array(md5StateSize);
  addon.md5Start(state);
  return state;
}

/** Takes in pieces[i] for states[i], at most `md5MaxPieces`. A state may come more than once: then in this order. */
export function md5Update(states: readonly Uint8Array[], pieces: readonly Uint8Array[]): void {
  addon.md5Update(states, pieces);
}

/** 16 bytes: the digest of what the state has taken in. The state can go on after that. */
export function md5Digest(state: Uint8Array): Uint8Array {
  const out = new Uint8Array(16);
  addon.md5Digest(state, out);
  return out;
}

export const md5Size = 16;

/** The digests of `pieces` (at most `md5MaxPieces`), each by itself: `md5Size` bytes each, one after the other. */
export function md5Of(pieces: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(pieces.length * md5Size);
  addon.md5Of(pieces, out);
  return out;
}
