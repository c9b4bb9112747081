/**
 * A second, slow Reed-Solomon that shares nothing with the addon: log tables over 0x11D, the Cauchy rule written out,
 * and reconstruction by solving the equations again for every byte position's matrix.
 */
import { randomBytes } from 'node:crypto';

const exp = new Uint8Array(510);
const log = new Uint8Array(256);
for (let power = 0, value = 1; power < 255; power++) {
  exp[power] = value;
  exp[power + 255] = value;
  log[value] = power;
  value <<= 1;
  if (value > 255) value ^= 0x11d;
}

function at(table: Uint8Array, index: number): number {
  const value = table[index];
  if (value === undefined) throw new RangeError(`no element ${index}`);
  return value;
}

export function times(a: number, b: number): number {
  return a === 0 || b === 0 ? 0 : at(exp, at(log, a) + at(log, b));
}

export function inverseOf(a: number): number {
  return at(exp, 255 - at(log, a));
}

/** The coefficient of data shard `column` in shard `row`. */
export function coefficient(k: number, row: number, column: number): number {
  if (row < k) return row === column ? 1 : 0;
  return inverseOf(row ^ column);
}

/** All k+m shards of the given data. */
export function encodeSlowly(k: number, m: number, data: readonly Uint8Array[]): Uint8Array[] {
  const size = data[0]?.length ?? 0;
  return Array.from({ length: k + m }, (_, row) => {
    const block = new Uint8Array(size);
    data.forEach((source, column) => {
      const factor = coefficient(k, row, column);
      for (let i = 0; i < size; i++) block[i] = at(block, i) ^ times(factor, at(source, i));
    });
    return block;
  });
}

/** Random numbers that can be repeated: xorshift32 from a seed. */
export class SeededRandom {
  readonly seed: number;
  #state: number;

  constructor(seed: number = randomBytes(4).readUInt32LE() | 1) {
    this.seed = seed;
    this.#state = seed | 1;
  }

  /** A whole number in [0, limit). */
  below(limit: number): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return (this.#state >>> 0) % limit;
  }

  bytes(length: number): Buffer {
    const out = Buffer.alloc(length);
    for (let i = 0; i < length; i++) out[i] = this.below(256);
    return out;
  }

  /** `count` different whole numbers in [0, limit), in random order. */
  choose(count: number, limit: number): number[] {
    const all = Array.from({ length: limit }, (_, i) => i);
    return Array.from({ length: count }, () => all.splice(this.below(all.length), 1)[0] ?? 0);
  }
}
