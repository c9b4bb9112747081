/**
 * An ordered map with byte-string keys (latin1 strings: one character per byte, so string order is byte order).
 * Entries lie in chunks of at most 512, so that inserting costs a short move; good for some hundred thousand
 * entries in memory.
 */
const CHUNK = 512

export class SortedMap<V> {
  readonly #values = new Map<string, V>()
  #chunks: string[][] = [[]]

  get size(): number {
    return this.#values.size
  }

  get(key: string): V | undefined {
    return this.#values.get(key)
  }

  has(key: string): boolean {
    return this.#values.has(key)
  }

  set(key: string, value: V): void {
    if (!this.#values.has(key)) this.#insert(key)
    this.#values.set(key, value)
  }

  delete(key: string): boolean {
    if (!this.#values.delete(key)) return false
    const at = this.#chunkOf(key)
    const chunk = this.#chunks[at] as string[]
    chunk.splice(lowerBound(chunk, key), 1)
    if (chunk.length === 0 && this.#chunks.length > 1) this.#chunks.splice(at, 1)
    return true
  }

  /** The smallest key >= from. */
  ceiling(from: string): string | undefined {
    const at = this.#chunkOf(from)
    const chunk = this.#chunks[at] as string[]
    return chunk[lowerBound(chunk, from)] ?? this.#chunks[at + 1]?.[0]
  }

  /** The greatest key < before. */
  lower(before: string): string | undefined {
    const at = this.#chunkOf(before)
    const chunk = this.#chunks[at] as string[]
    const index = lowerBound(chunk, before)
    return index > 0 ? chunk[index - 1] : this.#chunks[at - 1]?.at(-1)
  }

  /** Keys >= from in order. Changes made while iterating are seen. */
  *keysFrom(from: string): Generator<string> {
    let key = this.ceiling(from)
    while (key !== undefined) {
      yield key
      key = this.ceiling(key + '\0')
    }
  }

  *entries(): Generator<[string, V]> {
    for (const chunk of this.#chunks) for (const key of chunk) yield [key, this.#values.get(key) as V]
  }

  clone(): SortedMap<V> {
    const copy = new SortedMap<V>()
    for (const [key, value] of this.#values) copy.#values.set(key, value)
    copy.#chunks = this.#chunks.map((chunk) => chunk.slice())
    return copy
  }

  #insert(key: string): void {
    const at = this.#chunkOf(key)
    const chunk = this.#chunks[at] as string[]
    chunk.splice(lowerBound(chunk, key), 0, key)
    if (chunk.length > CHUNK) this.#chunks.splice(at + 1, 0, chunk.splice(CHUNK / 2))
  }

  /** The last chunk whose first key is <= key, the first chunk when there is none. */
  #chunkOf(key: string): number {
    let low = 0
    let high = this.#chunks.length - 1
    while (low < high) {
      const middle = (low + high + 1) >>> 1
      if ((this.#chunks[middle]?.[0] as string) <= key) low = middle
      else high = middle - 1
    }
    return low
  }
}

function lowerBound(chunk: readonly string[], key: string): number {
  let low = 0
  let high = chunk.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((chunk[middle] as string) < key) low = middle + 1
    else high = middle
  }
  return low
}
