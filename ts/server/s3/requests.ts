/** The XML requests of S3 as typed values. Every function throws MalformedXML for what does not fit its schema. */
import type { ChecksumAlgorithm } from '../../meta/schema.js'
import { decodeChecksum } from './checksums.js'
import { type XmlElement, childText, malformedXml } from './xml_read.js'

export interface DeleteRequest {
  quiet: boolean
  objects: { key: string; versionId?: string; ifMatch?: string }[]
}

export interface CompletePart {
  partNumber: number
  /** Without quotes. */
  etag: string
  checksum?: { algorithm: ChecksumAlgorithm; value: Uint8Array }
}

const MAX_DELETE_KEYS = 1000
export const MAX_PARTS = 10_000

function required(parent: XmlElement, name: string): string {
  const text = childText(parent, name)
  if (text === undefined) throw malformedXml()
  return text
}

/** The region asked for, '' when the document names none. */
export function locationConstraint(root: XmlElement): string {
  if (root.name !== 'CreateBucketConfiguration') throw malformedXml()
  return (childText(root, 'LocationConstraint') ?? '').trim()
}

export function deleteRequest(root: XmlElement): DeleteRequest {
  if (root.name !== 'Delete') throw malformedXml()
  const quiet = (childText(root, 'Quiet') ?? 'false').trim()
  if (quiet !== 'true' && quiet !== 'false') throw malformedXml()
  const objects: DeleteRequest['objects'] = []
  for (const child of root.children) {
    if (child.name !== 'Object') continue
    if (objects.length >= MAX_DELETE_KEYS) throw malformedXml()
    const key = required(child, 'Key')
    if (key === '') throw malformedXml()
    const versionId = childText(child, 'VersionId')?.trim()
    const etag = childText(child, 'ETag')
    objects.push({
      key,
      ...(versionId === undefined || versionId === '' ? {} : { versionId }),
      ...(etag === undefined ? {} : { ifMatch: unquote(etag.trim()) }),
    })
  }
  if (objects.length === 0) throw malformedXml()
  return { quiet: quiet === 'true', objects }
}

const PART_CHECKSUMS: Readonly<Record<string, ChecksumAlgorithm>> = {
  ChecksumCRC32: 'CRC32', ChecksumCRC32C: 'CRC32C', ChecksumCRC64NVME: 'CRC64NVME', ChecksumSHA1: 'SHA1',
  ChecksumSHA256: 'SHA256',
}

function completePart(element: XmlElement): CompletePart {
  const number = required(element, 'PartNumber').trim()
  if (!/^\d{1,5}$/.test(number)) throw malformedXml()
  const part: CompletePart = { partNumber: Number(number), etag: unquote(required(element, 'ETag').trim()) }
  for (const child of element.children) {
    const algorithm = Object.hasOwn(PART_CHECKSUMS, child.name) ? PART_CHECKSUMS[child.name] : undefined
    if (algorithm === undefined) continue
    if (part.checksum !== undefined) throw malformedXml()
    const value = decodeChecksum(algorithm, child.text.trim())
    if (value === undefined) throw malformedXml()
    part.checksum = { algorithm, value }
  }
  return part
}

/** In the order of the document; the order of numbers is the store's to judge. */
export function completeRequest(root: XmlElement): CompletePart[] {
  if (root.name !== 'CompleteMultipartUpload') throw malformedXml()
  const parts: CompletePart[] = []
  for (const child of root.children) {
    if (child.name !== 'Part') continue
    if (parts.length >= MAX_PARTS) throw malformedXml()
    parts.push(completePart(child))
  }
  if (parts.length === 0) throw malformedXml()
  return parts
}

/** ETags arrive with and without quotes. */
export function unquote(etag: string): string {
  return etag.length >= 2 && etag.startsWith('"') && etag.endsWith('"') ? etag.slice(1, -1) : etag
}
