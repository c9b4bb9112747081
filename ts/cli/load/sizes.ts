/** Sizes of objects as people write them. */

export function sizeShown(n: number): string {
  if (n >= 2 ** 20 && n % 2 ** 20 === 0) return `${String(n / 2 ** 20)}MiB`
  return n >= 1024 && n % 1024 === 0 ? `${String(n / 1024)}KiB` : `${String(n)}B`
}

/** `4KiB`, `10MiB`, `512`, at most 256 MiB; undefined when it is none. */
export function parseSize(text: string): number | undefined {
  const match = /^(\d{1,9})\s*(B|KiB|MiB)?$/.exec(text)
  if (match === null) return undefined
  const size = Number(match[1]) * (match[2] === 'MiB' ? 2 ** 20 : match[2] === 'KiB' ? 1024 : 1)
  return size <= 2 ** 28 ? size : undefined
}

/** A comma-separated list; throws a sentence for the user that names the first bad item. */
export function parseList<T>(what: string, text: string, parse: (item: string) => T | undefined): T[] {
  const items = text.split(',').map((item) => item.trim())
  return items.map((item) => {
    const value = parse(item)
    if (value === undefined) throw new Error(`${what}: "${item}" is not valid`)
    return value
  })
}

/** A number of clients: 1..1024. */
export function parseClients(text: string): number | undefined {
  const value = /^\d{1,4}$/.test(text) ? Number(text) : 0
  return value >= 1 && value <= 1024 ? value : undefined
}
