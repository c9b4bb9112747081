/**
 * The CRC of a concatenation from the CRCs and lengths of its pieces, without their bytes.
 *
 * A CRC is a polynomial over GF(2) modulo P, and crc(A B) = crc(A) * x^(8 * |B|) + crc(B); the all-ones start and
 * end values of these three CRCs cancel. All are reflected: the highest bit is x^0, multiplying by x shifts right.
 * Numbers are pairs (high, low) of 32-bit words; the 32-bit CRCs use only `low`.
 */
export type CombinableCrc = 'CRC32' | 'CRC32C' | 'CRC64NVME'

interface Field {
  width: 32 | 64
  high: number
  low: number
}

const FIELDS: Record<CombinableCrc, Field> = {
  CRC32: { width: 32, high: 0, low: 0xedb88320 },
  CRC32C: { width: 32, high: 0, low: 0x82f63b78 },
  CRC64NVME: { width: 64, high: 0x9a6c9329, low: 0xac4bc9b5 },
}

interface Element {
  high: number
  low: number
}

/** Multiplication by one fixed element: the products with x^0, x^1, ... */
class Multiplier {
  readonly #width: number
  readonly #high: Int32Array
  readonly #low: Int32Array

  constructor(field: Field, by: Element) {
    this.#width = field.width
    this.#high = new Int32Array(field.width)
    this.#low = new Int32Array(field.width)
    let { high, low } = by
    for (let power = 0; power < field.width; power++) {
      this.#high[power] = high
      this.#low[power] = low
      const out = low & 1
      low = (low >>> 1) | (high << 31)
      high >>>= 1
      if (out === 1) {
        high ^= field.high
        low ^= field.low
      }
    }
  }

  times(element: Element): Element {
    let high = 0
    let low = 0
    for (let power = 0; power < this.#width; power++) {
      const bit = this.#width - 1 - power
      const set = bit >= 32 ? (element.high >>> (bit - 32)) & 1 : (element.low >>> bit) & 1
      if (set === 1) {
        high ^= this.#high[power] as number
        low ^= this.#low[power] as number
      }
    }
    return { high, low }
  }
}

/** Multiplication by x^(8 * bytes). */
function shiftBy(field: Field, bytes: number): Multiplier {
  // x^0 is the highest bit; x^8 lies eight below it.
  let result: Element = field.width === 64 ? { high: 0x80000000 | 0, low: 0 } : { high: 0, low: 0x80000000 | 0 }
  let square: Element = field.width === 64 ? { high: 0x00800000, low: 0 } : { high: 0, low: 0x00800000 }
  for (let left = bytes; left > 0; left = Math.floor(left / 2)) {
    const multiplier = new Multiplier(field, square)
    if (left % 2 === 1) result = multiplier.times(result)
    square = multiplier.times(square)
  }
  return new Multiplier(field, result)
}

/**
 * CRC of the concatenated pieces. Values are big-endian, as S3 writes them (4 or 8 bytes); throws RangeError for
 * another length.
 */
export function crcCombine(kind: CombinableCrc, pieces: readonly { value: Uint8Array; size: number }[]): Uint8Array {
  const field = FIELDS[kind]
  const bytes = field.width / 8
  let sum: Element = { high: 0, low: 0 }
  let shift: { size: number; multiplier: Multiplier } | undefined
  for (const { value, size } of pieces) {
    if (value.length !== bytes) throw new RangeError(`a ${kind} has ${String(bytes)} bytes`)
    if (shift?.size !== size) shift = { size, multiplier: shiftBy(field, size) }
    const view = new DataView(value.buffer, value.byteOffset, value.byteLength)
    const shifted = shift.multiplier.times(sum)
    const high = field.width === 64 ? view.getInt32(0) : 0
    sum = { high: shifted.high ^ high, low: shifted.low ^ view.getInt32(bytes - 4) }
  }
  const out = Buffer.alloc(bytes)
  if (field.width === 64) out.writeInt32BE(sum.high | 0, 0)
  out.writeInt32BE(sum.low | 0, bytes - 4)
  return out
}
