/**
 * CRC32C and CRC64NVME, running: start with 0, feed the last value back in. Both are reflected, with the register
 * inverted before and after, so that crc(a ++ b) = crc(b, crc(a)).
 *
 * Table form, eight bytes per step. Check values of "123456789": E3069283 and AE8B14860A799888.
 */
const CRC32C_POLYNOMIAL = 0x82f63b78
/** Reflected polynomial, high and low word. */
const CRC64_HIGH = 0x9a6c9329
const CRC64_LOW = 0xac4bc9b5

const crc32cTable = new Uint32Array(8 * 256)
const crc64High = new Uint32Array(8 * 256)
const crc64Low = new Uint32Array(8 * 256)

function fillTables(): void {
  for (let i = 0; i < 256; i++) {
    let c = i
    let high = 0
    let low = i
    for (let bit = 0; bit < 8; bit++) {
      c = (c & 1) === 1 ? (c >>> 1) ^ CRC32C_POLYNOMIAL : c >>> 1
      const carry = low & 1
      low = ((low >>> 1) | (high << 31)) >>> 0
      high >>>= 1
      if (carry === 1) {
        high = (high ^ CRC64_HIGH) >>> 0
        low = (low ^ CRC64_LOW) >>> 0
      }
    }
    crc32cTable[i] = c
    crc64High[i] = high
    crc64Low[i] = low
  }
  for (let i = 256; i < 2048; i++) {
    const c = crc32cTable[i - 256]!
    crc32cTable[i] = (c >>> 8) ^ crc32cTable[c & 255]!
    const high = crc64High[i - 256]!
    const low = crc64Low[i - 256]!
    crc64High[i] = (high >>> 8) ^ crc64High[low & 255]!
    crc64Low[i] = ((low >>> 8) | (high << 24)) ^ crc64Low[low & 255]!
  }
}
fillTables()

export function crc32c(data: Uint8Array, value = 0): number {
  const t = crc32cTable
  let c = ~value >>> 0
  let i = 0
  for (const end = data.length - 7; i < end; i += 8) {
    const a = c ^ (data[i]! | (data[i + 1]! << 8) | (data[i + 2]! << 16) | (data[i + 3]! << 24))
    c =
      t[1792 + (a & 255)]! ^ t[1536 + ((a >>> 8) & 255)]! ^ t[1280 + ((a >>> 16) & 255)]! ^ t[1024 + (a >>> 24)]! ^
      t[768 + data[i + 4]!]! ^ t[512 + data[i + 5]!]! ^ t[256 + data[i + 6]!]! ^ t[data[i + 7]!]!
  }
  for (; i < data.length; i++) c = (c >>> 8) ^ t[(c ^ data[i]!) & 255]!
  return ~c >>> 0
}

export function crc64nvme(data: Uint8Array, value = 0n): bigint {
  const hs = crc64High
  const ls = crc64Low
  let high = ~Number(value >> 32n) >>> 0
  let low = ~Number(value & 0xffffffffn) >>> 0
  let i = 0
  for (const end = data.length - 7; i < end; i += 8) {
    const a = low ^ (data[i]! | (data[i + 1]! << 8) | (data[i + 2]! << 16) | (data[i + 3]! << 24))
    const b = high ^ (data[i + 4]! | (data[i + 5]! << 8) | (data[i + 6]! << 16) | (data[i + 7]! << 24))
    const t0 = 1792 + (a & 255)
    const t1 = 1536 + ((a >>> 8) & 255)
    const t2 = 1280 + ((a >>> 16) & 255)
    const t3 = 1024 + (a >>> 24)
    const t4 = 768 + (b & 255)
    const t5 = 512 + ((b >>> 8) & 255)
    const t6 = 256 + ((b >>> 16) & 255)
    const t7 = b >>> 24
    high = hs[t0]! ^ hs[t1]! ^ hs[t2]! ^ hs[t3]! ^ hs[t4]! ^ hs[t5]! ^ hs[t6]! ^ hs[t7]!
    low = ls[t0]! ^ ls[t1]! ^ ls[t2]! ^ ls[t3]! ^ ls[t4]! ^ ls[t5]! ^ ls[t6]! ^ ls[t7]!
  }
  for (; i < data.length; i++) {
    const index = (low ^ data[i]!) & 255
    low = ((low >>> 8) | (high << 24)) ^ ls[index]!
    high = (high >>> 8) ^ hs[index]!
  }
  return (BigInt(~high >>> 0) << 32n) | BigInt(~low >>> 0)
}
