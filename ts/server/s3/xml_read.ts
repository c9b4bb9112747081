/**
 * Reads XML requests with saxes, which is strict and streaming. A body becomes a small tree of elements; what a
 * hostile body can make of it is bounded: size, depth, number of elements, length of text. DOCTYPE is refused, so
 * there are no entities but XML's own five and character references. Attributes other than namespaces are ignored.
 */
import { SaxesParser } from 'saxes'
import { S3Error } from '../../store/errors.js'
import { S3_NAMESPACE } from './xml_write.js'

export interface XmlElement {
  /** Local name. */
  name: string
  children: XmlElement[]
  /** All text directly inside, decoded. */
  text: string
}

export interface XmlLimits {
  maxBytes: number
  maxDepth: number
  maxElements: number
}

/** 10,000 parts with number, ETag and one checksum are 40,001 elements. */
export const XML_LIMITS: XmlLimits = { maxBytes: 2 * 1024 ** 2, maxDepth: 8, maxElements: 60_000 }

export function malformedXml(message = ''): S3Error {
  return new S3Error('MalformedXML', message)
}

/** Fed with decoded text in pieces, `end` gives the root element. Throws MalformedXML, MaxMessageLengthExceeded. */
class TreeBuilder {
  readonly #limits: XmlLimits
  readonly #parser = new SaxesParser({ xmlns: true, fragment: false })
  readonly #open: XmlElement[] = []
  #root: XmlElement | undefined
  #elements = 0

  constructor(limits: XmlLimits) {
    this.#limits = limits
    this.#parser.on('error', () => { throw malformedXml() })
    this.#parser.on('doctype', () => { throw malformedXml() })
    this.#parser.on('opentag', (tag) => { this.#openTag(tag.local, tag.uri) })
    this.#parser.on('text', (text) => { this.#text(text) })
    this.#parser.on('cdata', (text) => { this.#text(text) })
    this.#parser.on('closetag', () => { this.#open.pop() })
  }

  write(text: string): void {
    this.#parser.write(text)
  }

  end(): XmlElement {
    this.#parser.close()
    if (this.#root === undefined) throw malformedXml()
    return this.#root
  }

  #openTag(name: string, uri: string): void {
    this.#elements += 1
    if (this.#elements > this.#limits.maxElements || this.#open.length >= this.#limits.maxDepth) throw malformedXml()
    if (uri !== '' && uri !== S3_NAMESPACE) throw malformedXml()
    const child: XmlElement = { name, children: [], text: '' }
    const parent = this.#open.at(-1)
    if (parent === undefined) this.#root = child
    else parent.children.push(child)
    this.#open.push(child)
  }

  #text(text: string): void {
    const parent = this.#open.at(-1)
    if (parent !== undefined) parent.text += text
    else if (text.trim() !== '') throw malformedXml()
  }
}

/** Parses a body in UTF-8. Throws MalformedXML, MaxMessageLengthExceeded, and what the body itself throws. */
export async function readXml(body: AsyncIterable<Uint8Array>, limits: XmlLimits = XML_LIMITS): Promise<XmlElement> {
  const builder = new TreeBuilder(limits)
  const decoder = new TextDecoder('utf-8', { fatal: true })
  let bytes = 0
  const decode = (chunk?: Uint8Array): string => {
    try {
      return chunk === undefined ? decoder.decode() : decoder.decode(chunk, { stream: true })
    } catch {
      throw malformedXml()
    }
  }
  for await (const chunk of body) {
    bytes += chunk.byteLength
    if (bytes > limits.maxBytes) throw new S3Error('MaxMessageLengthExceeded')
    builder.write(decode(chunk))
  }
  builder.write(decode())
  return builder.end()
}

/** The text of a child that may occur once; undefined when absent. Throws MalformedXML when it occurs twice. */
export function childText(parent: XmlElement, name: string): string | undefined {
  let found: string | undefined
  for (const child of parent.children) {
    if (child.name !== name) continue
    if (found !== undefined || child.children.length > 0) throw malformedXml()
    found = child.text
  }
  return found
}
