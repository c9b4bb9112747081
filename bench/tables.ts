/** Results as Markdown tables, readable as they are. */
import type { FlushRow } from './flushes.js'
import type { HttpResult } from './http.js'
import { kernelRatios } from './kernels.js'
import type { KernelResult } from './kernels.js'

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((h, i) => Math.max(h.length, ...rows.map((row) => (row[i] ?? '').length)))
  const line = (cells: readonly string[]): string =>
    `| ${widths.map((w, i) => (i === 0 ? (cells[i] ?? '').padEnd(w) : (cells[i] ?? '').padStart(w))).join(' | ')} |`
  const rule = `| ${widths.map((w, i) => (i === 0 ? '-'.repeat(w) : `${'-'.repeat(w - 1)}:`)).join(' | ')} |`
  return [line(head), rule, ...rows.map(line)].join('\n')
}

function bytes(n: number): string {
  return n >= 2 ** 20
    ? `${String(n / 2 ** 20)} MiB`
    : n >= 1024
      ? `${String(n / 1024)} KiB`
      : `${String(n)} B`
}

const whole = (n: number): string => Math.round(n).toString()
const tenth = (n: number): string => n.toFixed(1)

export function kernelTable(results: readonly KernelResult[]): string {
  const names = Object.keys(results[0]?.gbPerSecond ?? {})
  const rows = names.map((name) => [name, ...results.map((result) => tenth(result.gbPerSecond[name] ?? NaN))])
  const figures = table(['', ...results.map((r) => r.kernel)], rows)
  const ratios = Object.entries(kernelRatios(results)).map(([name, ratio]) => [name, ratio.toFixed(2)])
  return `## Kernels, GB/s of data on one thread (1 MiB stripes)\n\n${figures}\n\n${table(['', 'ratio'], ratios)}\n`
}

export function httpTable(result: HttpResult): string {
  const rows = result.rows.map((row) => {
    const [store, bare] = [row.store.requests / row.store.seconds, row.bare.requests / row.bare.seconds]
    return [
      row.operation === 'LIST' ? 'LIST, pages of 1,000' : `${row.operation} ${bytes(row.size)}`,
      tenth(store),
      tenth(row.store.bytes / row.store.seconds / 1e6),
      tenth(row.store.p50Ms),
      tenth(row.store.p99Ms),
      whole(bare),
      tenth((100 * store) / bare),
    ]
  })
  const head = ['', 'requests/s', 'MB/s', 'p50 ms', 'p99 ms', 'bare requests/s', '% of bare']
  const about = `${String(result.drives)} drives, ${String(result.workers)} workers, ${String(result.connections)} connections (8 for large objects)`
  return `## HTTP: ${about}\n\n${table(head, rows)}\n\nPeak anonymous memory of the server: ${tenth(result.peakAnonymousBytes / 2 ** 20)} MiB\n`
}

export function flushTable(result: { rows: FlushRow[] } | { missing: string }): string {
  if ('missing' in result) return `## Durable flushes per PUT\n\nNot measured: ${result.missing}.\n`
  const rows = result.rows.map((row) => [
    `${bytes(row.size)}, ${String(row.connections)} at a time`,
    String(row.puts),
    String(row.flushes),
    row.perPut.toFixed(2),
  ])
  return `## Durable flushes per PUT (all drives and metadata copies together)\n\n${table(['', 'PUTs', 'flushes', 'per PUT'], rows)}\n`
}
