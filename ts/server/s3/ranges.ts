/**
 * Range and partNumber. S3 takes one `bytes` range; anything that is not one is ignored, as if no Range had been
 * sent. A range that begins beyond the object is 416.
 */
import { S3Error } from '../../store/errors.js'
import type { ByteRange } from '../../store/object_store.js'

/** undefined: the whole object. Throws InvalidRange. */
export function resolveRange(header: string | undefined, size: number): ByteRange | undefined {
  const fields = /^bytes=(\d*)-(\d*)$/i.exec(header?.trim() ?? '')
  if (fields === null) return undefined
  const [, first = '', last = ''] = fields
  if (first === '' && last === '') return undefined
  if (first === '') {
    const length = Math.min(Number(last), size)
    if (length === 0) throw invalidRange(header ?? '', size)
    return { offset: size - length, length }
  }
  const offset = Number(first)
  const end = last === '' ? size - 1 : Math.min(Number(last), size - 1)
  if (last !== '' && Number(last) < offset) return undefined
  if (offset >= size) throw invalidRange(header ?? '', size)
  return { offset, length: end - offset + 1 }
}

function invalidRange(requested: string, size: number): S3Error {
  return new S3Error('InvalidRange', '', { RangeRequested: requested, ActualObjectSize: String(size) },
    { 'Content-Range': `bytes */${size}` })
}

export function contentRange(range: ByteRange, size: number): string {
  return `bytes ${range.offset}-${range.offset + range.length - 1}/${size}`
}

/** The range of x-amz-copy-source-range, which must be exact and lie inside; the store checks the size. */
export function copyRange(header: string | undefined): ByteRange | undefined {
  if (header === undefined) return undefined
  const fields = /^bytes=(\d{1,15})-(\d{1,15})$/.exec(header.trim())
  const first = Number(fields?.[1])
  const last = Number(fields?.[2])
  if (fields === null || last < first) {
    throw new S3Error('InvalidArgument', 'The x-amz-copy-source-range value must be of the form bytes=first-last where '
      + 'first and last are the zero-based offsets of the first and last bytes to copy', {
      ArgumentName: 'x-amz-copy-source-range', ArgumentValue: header,
    })
  }
  return { offset: first, length: last - first + 1 }
}

/** A part number, 1 to 10,000. Throws InvalidArgument. */
export function partNumber(text: string): number {
  const number = /^\d{1,5}$/.test(text) ? Number(text) : 0
  if (number < 1 || number > 10_000) {
    throw new S3Error('InvalidArgument', 'Part number must be an integer between 1 and 10000, inclusive', {
      ArgumentName: 'partNumber', ArgumentValue: text,
    })
  }
  return number
}
