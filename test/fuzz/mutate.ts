/** Repeatable random changes to bytes: flips, cuts, repeats, splices of two inputs, numbers at their limits. */

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
export const MAX_INPUT = 64 * 1024
const NUMBERS = [0, 1, 0x7f, 0x80, 0xff, 0x7fffffff, 0x80000000, 0xffffffff]

/** A changed copy of `input`; `other` is another input to take bytes from. */
export function mutate(input: Buffer, other: Buffer, random: FuzzRandom): Buffer {
  let out: Buffer = Buffer.from(input)
  for (let changes = 1 + random.below(4); changes > 0; changes--) out = change(out, other, random)
  return out.subarray(0, MAX_INPUT)
}

function change(bytes: Buffer, other: Buffer, random: FuzzRandom): Buffer {
  const at = random.below(bytes.length + 1)
  const end = Math.min(bytes.length, at + 1 + random.below(32))
  switch (random.below(7)) {
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
    default:
      if (at + 4 <= bytes.length) bytes.writeUInt32BE(NUMBERS[random.below(NUMBERS.length)] ?? 0, at)
      return bytes
  }
}
