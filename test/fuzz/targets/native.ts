/**
 * The addon's calls with arguments that make no sense. An input is a list of small choices: a call, then for each
 * argument what it is. Whatever they are, a call works or throws its typed error, and never ends the process.
 */
import { addon } from '../../../ts/native/addon.js'
import type { FuzzTarget } from '../target.js'

/** Calls without effects outside their arguments. */
const CALLS = [
  'encode', 'reconstruct', 'parityAgrees', 'sealStripe', 'sealBlock', 'verifyCells', 'erasureKernel', 'xxh3_64',
  'xxh3_128', 'crc32c', 'crc64nvme', 'md5Start', 'md5Update', 'md5Digest', 'checksum64', 'checksum64Matches',
  'zstdCompress', 'zstdDecompress', 'indexRegionBytes', 'indexPadding', 'indexAttach', 'indexGet', 'indexDetach',
] as const
const MOST_ARGUMENTS = 9
const NUMBERS = [0, 1, 2, 3, 8, 15, 16, 17, 64, 88, 255, 256, -1, 1.5, NaN, Infinity, 2 ** 31, 2 ** 32, 2 ** 53, -0]
/** What all buffers are views of, so that they may overlap. */
const MEMORY = new Uint8Array(new SharedArrayBuffer(4096))

class Choices {
  readonly #input: Buffer
  #at = 0

  constructor(input: Buffer) {
    this.#input = input
  }

  below(limit: number): number {
    return (this.#input[this.#at++] ?? 0) % limit
  }

  get ended(): boolean {
    return this.#at >= this.#input.length
  }
}

function argument(choices: Choices, depth = 0): unknown {
  switch (choices.below(depth < 2 ? 10 : 7)) {
    case 0:
    case 1:
      return NUMBERS[choices.below(NUMBERS.length)]
    case 2:
      return BigInt(choices.below(256)) << BigInt(choices.below(80))
    case 3:
      return [undefined, null, true, '', 'text', {}, Symbol.iterator][choices.below(7)]
    case 4:
      return new Uint8Array(choices.below(256))
    case 5:
    case 6: {
      const start = choices.below(256)
      return MEMORY.subarray(start, start + choices.below(256))
    }
    case 7:
      return new Float64Array(choices.below(8))
    default:
      return Array.from({ length: choices.below(18) }, () => argument(choices, depth + 1))
  }
}

export const argumentsOfAddon: FuzzTarget = {
  name: 'addon arguments',
  seeds: [
    // encode(2, 1, 16, [views], [views]) and erasureKernel(3, 1), as the choices below read them.
    Buffer.from([0, 0, 2, 0, 1, 0, 6, 8, 2, 5, 0, 16, 5, 16, 16, 8, 1, 5, 32, 16]),
    Buffer.from([6, 0, 3, 0, 1]),
  ],
  run(input) {
    const choices = new Choices(input)
    while (!choices.ended) {
      const call = CALLS[choices.below(CALLS.length)] ?? 'encode'
      const given: unknown[] = []
      for (let i = 0; i < MOST_ARGUMENTS && !choices.ended; i++) given.push(argument(choices))
      try {
        Reflect.apply(addon[call], addon, given)
      } catch (error) {
        const code = (error as { code?: unknown }).code
        if (typeof code !== 'string' || !code.startsWith('ERR_OSTRAKA_')) throw error
      }
    }
  },
}
