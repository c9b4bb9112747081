/**
 * Repeatable random changes to bytes: flips, cuts, repeats, splices of two inputs, numbers at their limits, and words
 * of the parsers themselves.
 */

export class FuzzRandom {
  #state: number

  constructor(seed: number) {
    this.#state = seed >>> 0 || 1
  }

  below(limit: number): number {
    this.#state ^= this.#state << 13
    this.#state ^= this.#state >>> 17
    this.#state ^= this.#state << 5
    return (this.#state >>> 0) % limit
  }
}

/** Longest input that is made. */
export const MAX_INPUT: number = 64 * 1024
const NUMBERS = [0, 1, 0x7f, 0x80, 0xff, 0x7fffffff, 0x80000000, 0xffffffff]

/** A word as it may stand in an input: text as it is, numbers in two to eight bytes of either order. */
function spell(word: string | number, random: FuzzRandom): Buffer {
  if (typeof word === 'string') return Buffer.from(word, 'latin1')
  if (random.below(2) === 0) return Buffer.from(String(word))
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt.asUintN(64, BigInt(word)))
  const short = bytes.subarray(0, 1 << random.below(4))
  return random.below(4) === 0 ? short.reverse() : short
}

/** A changed copy of `input`; `other` is another input to take bytes from, `words` a dictionary. */
export function mutate(
  input: Buffer, other: Buffer, random: FuzzRandom, words: readonly (string | number)[] = [],
): Buffer {
  let out: Buffer = Buffer.from(input)
  for (let changes = 1 + random.below(4); changes > 0; changes--) out = change(out, other, random, words)
  return out.subarray(0, MAX_INPUT)
}

function change(bytes: Buffer, other: Buffer, random: FuzzRandom, words: readonly (string | number)[]): Buffer {
  const at = random.below(bytes.length + 1)
  const end = Math.min(bytes.length, at + 1 + random.below(32))
  switch (random.below(words.length === 0 ? 7 : 9)) {
    case 0:
      if (at < bytes.length) bytes[at] = (bytes[at] ?? 0) ^ (1 << random.below(8))
      return bytes
    case 1:
      if (at < bytes.length) bytes[at] = random.below(256)
      return bytes
    case 2:
      return bytes.subarray(0, at)
    case 3:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(end)])
    case 4:
      return Buffer.concat([bytes.subarray(0, end), bytes.subarray(at)])
    case 5: {
      const from = random.below(other.length + 1)
      return Buffer.concat([bytes.subarray(0, at), other.subarray(from, from + random.below(200)), bytes.subarray(at)])
    }
    case 6:
      if (at + 4 <= bytes.length) bytes.writeUInt32BE(NUMBERS[random.below(NUMBERS.length)] ?? 0, at)
      return bytes
    case 7: {
      const word = spell(words[random.below(words.length)] ?? 0, random)
      return Buffer.concat([bytes.subarray(0, at), word, bytes.subarray(at)])
    }
    default:
      spell(words[random.below(words.length)] ?? 0, random).copy(bytes, at)
      return bytes
  }
}
