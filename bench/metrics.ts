/**
 * Metrics: one flat object of numbers. A name is dotted from the general to the special and ends in its unit; the unit
 * says whether more is better. Reports, comparisons and targets read nothing else.
 */

export type Metrics = Record<string, number>

export type Direction = 'higher' | 'lower' | 'neutral'

interface Unit {
  direction: Direction
  /** As people write it. */
  shown: string
}

/** By the ending of a metric's name. `ratio` is a quotient of speeds, `times` a multiple of some cost. */
const UNITS: Record<string, Unit> = {
  ops_per_s: { direction: 'higher', shown: 'ops/s' },
  MB_per_s: { direction: 'higher', shown: 'MB/s' },
  GB_per_s: { direction: 'higher', shown: 'GB/s' },
  percent_of_bare: { direction: 'higher', shown: '% of bare' },
  ratio: { direction: 'higher', shown: 'x' },
  times: { direction: 'lower', shown: 'x' },
  percent: { direction: 'lower', shown: '%' },
  ns: { direction: 'lower', shown: 'ns' },
  us: { direction: 'lower', shown: 'us' },
  ms: { direction: 'lower', shown: 'ms' },
  s: { direction: 'lower', shown: 's' },
  bytes: { direction: 'lower', shown: 'bytes' },
  MiB: { direction: 'lower', shown: 'MiB' },
  flushes: { direction: 'lower', shown: 'flushes' },
  errors: { direction: 'lower', shown: 'errors' },
  cores: { direction: 'neutral', shown: 'cores' },
  count: { direction: 'neutral', shown: '' },
}

/** Longest first: `ops_per_s` ends in `s` too. */
const ENDINGS = Object.keys(UNITS).sort((a, b) => b.length - a.length)

/** Undefined when the name ends in no known unit. */
export function unitOf(name: string): string | undefined {
  return ENDINGS.find((ending) => name.endsWith(`.${ending}`) || name.endsWith(`_${ending}`))
}

export function directionOf(name: string): Direction {
  return UNITS[unitOf(name) ?? '']?.direction ?? 'neutral'
}

export function shownUnit(name: string): string {
  return UNITS[unitOf(name) ?? '']?.shown ?? ''
}

/** Words as one component of a name. */
export function slug(words: string): string {
  return words.replace(/[(),]/g, '').trim().replace(/[\s.]+/g, '_')
}

/** Endings of metrics that were made with a unit beside them. */
const FROM_UNIT: Record<string, string> = {
  '%': 'percent', 'x ideal': 'times', 'x': 'times', 'ns': 'ns', 'us': 'us', 'ms': 'ms', 's': 's',
  'B': 'bytes', 'bytes': 'bytes', 'MiB': 'MiB', 'GB/s': 'GB_per_s', 'MB/s': 'MB_per_s', 'ops/s': 'ops_per_s',
}

/** Metrics of parts that keep value and unit apart, made flat. Throws for a unit that has no ending. */
export function flatten(metrics: Readonly<Record<string, { value: number; unit: string }>>): Metrics {
  return Object.fromEntries(Object.entries(metrics).map(([name, { value, unit }]) => {
    const ending = FROM_UNIT[unit] ?? (unit in UNITS ? unit : undefined)
    if (ending === undefined) throw new Error(`${name}: the unit ${unit} is not known`)
    // A point in a percentile would look like one more component.
    return [`${name.replace('p99.9', 'p999')}_${ending}`, value]
  }))
}

/** Three significant digits, or whole when large. */
export function shown(value: number | undefined): string {
  if (value === undefined || Number.isNaN(value)) return '-'
  const size = Math.abs(value)
  if (size >= 1000) return Math.round(value).toLocaleString('en-GB')
  if (size >= 100) return value.toFixed(0)
  if (size >= 10) return value.toFixed(1)
  return value.toFixed(size >= 0.1 || size === 0 ? 2 : 3)
}
