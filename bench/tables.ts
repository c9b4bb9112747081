/** A result as tables: the same ones for the terminal (Markdown, readable as it is) and for the report. */
import { shown, shownUnit, unitOf } from './metrics.js'
import type { Metrics } from './metrics.js'
import type { Result } from './result.js'
import type { Verdict } from './targets.js'

export interface Table {
  title: string
  /** What the reader must know beside it. */
  about: string
  head: readonly string[]
  rows: readonly (readonly string[])[]
}

export function markdownTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((h, i) => Math.max(h.length, 3, ...rows.map((row) => (row[i] ?? '').length)))
  const line = (cells: readonly string[]): string =>
    `| ${widths.map((w, i) => (i === 0 ? (cells[i] ?? '').padEnd(w) : (cells[i] ?? '').padStart(w))).join(' | ')} |`
  const rule = `| ${widths.map((w, i) => (i === 0 ? '-'.repeat(w) : `${'-'.repeat(w - 1)}:`)).join(' | ')} |`
  return [line(head), rule, ...rows.map(line)].join('\n')
}

export function markdown(tables: readonly Table[]): string {
  return tables.map(({ title, about, head, rows }) => {
    return `## ${title}\n\n${about === '' ? '' : `${about}\n\n`}${markdownTable(head, rows)}\n`
  }).join('\n')
}

/** All tables of a result but that of its targets; parts that were not measured have none. */
export function tablesOf({ metrics, notes }: Result): Table[] {
  const kernels = kernelTable(metrics, notes['kernels.best'] ?? 'best')
  const rest = ['index', 'placement', 'drive', 'flushes', 'memory', 'metadata'].map((part) => partTable(metrics, part))
  const all = [...kernels, ...rest, ...s3Tables(metrics)]
  return all.filter(({ rows }) => rows.length > 0)
}

export function targetTable(verdicts: readonly Verdict[]): Table {
  return {
    title: 'Targets',
    about: '',
    head: ['target', 'limit', 'figure', 'unit', ''],
    rows: verdicts.map(({ section, text, limit, figure, unit, met }) => {
      return [`${section}: ${text}`, limit, shown(figure), unit, met]
    }),
  }
}

function kernelTable(metrics: Metrics, best: string): Table[] {
  const found = Object.keys(metrics).flatMap((name) => {
    const match = /^kernels\.([^.]+)\.([^.]+)\.GB_per_s$/.exec(name)
    return match === null ? [] : [{ what: match[1] ?? '', kernel: match[2] ?? '' }]
  })
  const kernels = [...new Set(found.map(({ kernel }) => kernel))]
  const whats = [...new Set(found.map(({ what }) => what))]
  const rows = whats.map((what) => [
    words(what), ...kernels.map((kernel) => shown(metrics[`kernels.${what}.${kernel}.GB_per_s`])),
  ])
  const ratios = Object.keys(metrics).filter((name) => /^kernels\.[^.]+\.ratio$/.test(name))
  return [
    {
      title: 'Kernels, GB/s of data on one thread', about: '',
      head: ['', ...kernels.map((kernel) => (kernel === 'best' ? best : kernel))], rows,
    },
    {
      title: 'Kernels against each other', about: 'Figures of the same run.', head: ['', 'ratio'],
      rows: ratios.map((name) => [words(name.split('.')[1] ?? ''), shown(metrics[name])]),
    },
  ]
}

/** Where the row's part of a name ends and the column's begins, of the components after the part's name. */
const SPLIT: Record<string, (rest: readonly string[]) => [row: readonly string[], column: readonly string[]]> = {
  // strategy, targets | what
  placement: (rest) => [rest.slice(0, 2), rest.slice(2)],
  // what | entries
  index: (rest) => (/^\d+$/.test(rest[0] ?? '') ? [rest.slice(1), rest.slice(0, 1)] : [rest, []]),
  // size, at a time | operation
  drive: (rest) => [rest.slice(0, -1), rest.slice(-1)],
  flushes: (rest) => [rest.slice(0, -1), []],
  // what, clients, whose | figure, '' for the rate
  metadata: (rest) => {
    const clients = rest.findIndex((part) => part.endsWith('clients'))
    const end = clients + (rest[clients + 1] === 'etcd' ? 2 : 1)
    return clients < 0 ? [rest, []] : [rest.slice(0, end), rest.length > end ? rest.slice(end) : ['']]
  },
}

/** Rows and columns as the part's names want them; figures that stand alone have the column `figure`. */
function partTable(metrics: Metrics, part: string): Table {
  const cells = Object.keys(metrics).filter((name) => name.startsWith(`${part}.`)).map((name) => {
    const unit = unitOf(name) ?? ''
    const rest = name.slice(part.length + 1, name.length - unit.length - (unit === '' ? 0 : 1)).split('.')
    const [row, column] = SPLIT[part]?.(rest) ?? [rest, []]
    const inRow = part === 'index' || column.length === 0
    const [rowUnit, columnUnit] = inRow ? [shownUnit(name), ''] : ['', shownUnit(name)]
    const title = column.length === 0 ? 'figure' : `${words(column.join(' '))} ${columnUnit}`.trim()
    return { name, row: `${words(row.join(' '))}${rowUnit === '' ? '' : `, ${rowUnit}`}`, column: title }
  })
  const columns = [...new Set(cells.map(({ column }) => column))]
  const rows = [...new Set(cells.map(({ row }) => row))]
  const byPlace = new Map(cells.map(({ name, row, column }) => [`${row}\n${column}`, metrics[name]]))
  return {
    title: titles[part] ?? part, about: '', head: ['', ...columns],
    rows: rows.map((row) => [row, ...columns.map((column) => {
      const value = byPlace.get(`${row}\n${column}`)
      return value === undefined ? '' : shown(value)
    })]),
  }
}

const titles: Record<string, string> = {
  index: 'Shard index', placement: 'Placement', drive: 'One drive', flushes: 'Durable flushes per PUT',
  metadata: 'Replicated metadata',
}

const words = (name: string): string => name.replaceAll('_', ' ').replaceAll('.', ' ')

export interface S3Cell {
  operation: string
  what: string
  clients: number
  /** '' for our own. */
  server: string
  /** The metric's name up to its unit. */
  base: string
}

export function s3Cells(metrics: Metrics): S3Cell[] {
  return Object.keys(metrics).flatMap((name) => {
    const match = /^(s3\.(\w+)\.(\w+)\.(\d+)clients(?:\.([A-Za-z][\w-]*))?)\.ops_per_s$/.exec(name)
    if (match === null) return []
    const [, base = '', operation = '', what = '', clients = '', server = ''] = match
    return [{ operation, what, clients: Number(clients), server, base }]
  })
}

/** A generator that was busy nearly all the time may be what was measured: then the rate is only a lower bound. */
const BUSY_CORES = 0.9

function generatorBound(metrics: Metrics, cells: readonly S3Cell[]): string {
  const bound = cells.filter(({ base }) => (metrics[`${base}.generator_cores`] ?? 0) > BUSY_CORES)
  if (bound.length === 0) return ''
  const names = bound.map(({ server, what, clients }) => {
    return `${server === '' ? 'ostraka' : server} at ${what}, ${String(clients)} clients`
  })
  return `The generator was busy all the time, so the server may do more than this: ${names.join('; ')}.`
}

/** One table for each operation, servers beside each other. */
function s3Tables(metrics: Metrics): Table[] {
  const cells = s3Cells(metrics)
  const operations = [...new Set(cells.map(({ operation }) => operation))]
  return operations.map((operation) => {
    const own = cells.filter((cell) => cell.operation === operation)
    const rows = own.map(({ what, clients, server, base }) => [
      `${what}, ${String(clients)} clients`,
      server === '' ? 'ostraka' : server,
      ...['ops_per_s', 'MB_per_s', 'p50_ms', 'p99_ms', 'percent_of_bare', 'server_cores', 'generator_cores']
        .map((ending) => shown(metrics[`${base}.${ending}`])),
      shown(metrics[`${base}.errors`] ?? 0),
    ])
    const head = ['', 'server', 'ops/s', 'MB/s', 'p50 ms', 'p99 ms', '% of bare', 'server cores', 'generator cores', 'errors']
    return { title: `S3 ${operation.toUpperCase()}`, about: generatorBound(metrics, own), head, rows }
  })
}
