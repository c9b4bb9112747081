/** The five checksums: their header names, lengths and base64 form. */
import type { Checksum, ChecksumAlgorithm } from '../../meta/schema.js'
import { CHECKSUM_ALGORITHMS, DIGEST_SIZE, fromBase64, toBase64 } from '../../store/digests.js'

const HEADERS: Readonly<Record<ChecksumAlgorithm, string>> = {
  CRC32: 'x-amz-checksum-crc32',
  CRC32C: 'x-amz-checksum-crc32c',
  CRC64NVME: 'x-amz-checksum-crc64nvme',
  SHA1: 'x-amz-checksum-sha1',
  SHA256: 'x-amz-checksum-sha256',
}

/** 'x-amz-checksum-crc32' and so on. */
export function checksumHeader(algorithm: ChecksumAlgorithm): string {
  return HEADERS[algorithm]
}

/** Name of the element in XML answers, 'ChecksumCRC32' and so on. */
export function checksumElement(algorithm: ChecksumAlgorithm): string {
  return 'Checksum' + algorithm
}

export function parseAlgorithm(text: string): ChecksumAlgorithm | undefined {
  const upper = text.toUpperCase()
  return CHECKSUM_ALGORITHMS.find((algorithm) => algorithm === upper)
}

export function algorithmOfHeader(name: string): ChecksumAlgorithm | undefined {
  return CHECKSUM_ALGORITHMS.find((algorithm) => checksumHeader(algorithm) === name)
}

/** Raw bytes of a checksum given as base64; undefined when it is not one of this algorithm. */
export function decodeChecksum(algorithm: ChecksumAlgorithm, text: string): Uint8Array | undefined {
  return fromBase64(text, DIGEST_SIZE[algorithm])
}

/** As S3 writes it: base64, with `-<parts>` for a composite one. */
export function checksumText(checksum: Checksum, partCount: number): string {
  const base64 = toBase64(checksum.value)
  return checksum.type === 'COMPOSITE' ? `${base64}-${partCount}` : base64
}
