/**
 * A result as one HTML page that needs nothing else: style and plots are in it, scripts there are none. It reads well
 * in light and dark and in print, and is well-formed XML, so that other programs can take it apart.
 */
import type { Environment } from './environment.js'
import type { Metrics } from './metrics.js'
import type { Result } from './result.js'
import { barPlot, escape, linePlot } from './svg.js'
import type { Series } from './svg.js'
import { s3Cells, tablesOf, targetTable } from './tables.js'
import type { S3Cell, Table } from './tables.js'

const STYLE = `
:root { color-scheme: light dark; --paper: #fff; --ink: #1c1f24; --faint: #5d6570; --rule: #d9dde3; --band: #f4f6f8;
  --good: #11703a; --bad: #b3261e; --c0: #1b6ca8; --c1: #c8442f; --c2: #3f8f5b; --c3: #8059a8; --c4: #b8860b;
  --c5: #2b8c8c; --c6: #b0477f; --c7: #6b7280; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171b; --ink: #e6e8eb; --faint: #9aa3ad; --rule: #343a42;
  --band: #1c2026; --good: #5fd08a; --bad: #ff8a7a; --c0: #6ab7f5; --c1: #ff8b73; --c2: #7fd39b; --c3: #c2a1ee;
  --c4: #e6c15a; --c5: #6fd3d3; --c6: #f090c0; --c7: #a5adb8; } }
body { margin: 2rem auto; max-width: 84rem; padding: 0 1rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid var(--rule); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; }
th, td { padding: 0.2rem 0.7rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--rule); }
th:first-child, td:first-child { text-align: left; } tr:nth-child(even) td { background: var(--band); }
.met { color: var(--good); font-weight: 600; } .not-met { color: var(--bad); font-weight: 600; }
.not-measured, .about { color: var(--faint); }
.plots { display: flex; flex-wrap: wrap; gap: 1.2rem; margin: 1rem 0; } svg { max-width: 100%; height: auto; }
svg text { font: 12px system-ui, sans-serif; } svg .ink { fill: var(--ink); } svg .faint { fill: var(--faint); }
svg .grid { stroke: var(--rule); } svg .mark { stroke: var(--faint); stroke-dasharray: 5 4; }
${Array.from({ length: 8 }, (_, i) => `.f${String(i)} { fill: var(--c${String(i)}); } ` +
  `.l${String(i)} { stroke: var(--c${String(i)}); stroke-width: 2; fill: none; }`).join('\n')}
`

export function report(result: Result): string {
  const tables = tablesOf(result)
  const parts: { id: string; title: string; plots: string[]; tables: Table[] }[] = [
    {
      id: 's3',
      title: 'S3',
      plots: s3Plots(result.metrics),
      tables: tables.filter(({ title }) => title.startsWith('S3 ')),
    },
    { id: 'kernels', title: 'Kernels', plots: kernelPlots(result.metrics), tables: of(tables, 'Kernels') },
    {
      id: 'index',
      title: 'Shard index',
      plots: indexPlots(result.metrics),
      tables: of(tables, 'Shard index'),
    },
    {
      id: 'placement',
      title: 'Placement',
      plots: placementPlots(result.metrics),
      tables: of(tables, 'Placement'),
    },
    { id: 'drive', title: 'One drive', plots: drivePlots(result.metrics), tables: of(tables, 'One drive') },
    {
      id: 'flushes',
      title: 'Durable flushes per PUT',
      plots: flushPlots(result.metrics),
      tables: of(tables, 'Durable'),
    },
  ]
  const shown = parts.filter((part) => part.tables.length > 0)
  const links = shown.map(({ id, title }) => `<a href="#${id}">${escape(title)}</a>`).join(' · ')
  const sections = shown.map(({ id, title, plots, tables: own }) => {
    const plotted = plots.length === 0 ? '' : `<div class="plots">${plots.join('\n')}</div>`
    return `<h2 id="${id}">${escape(title)}</h2>\n${plotted}\n${own.map((table) => tableHtml(table)).join('\n')}`
  })
  return `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"/><meta name="viewport" content="width=device-width, initial-scale=1"/>
<title>Ostraka benchmarks, ${escape(result.date.slice(0, 16))}</title><style>${STYLE}</style></head><body>
<h1>Ostraka benchmarks</h1>
${about(result)}
<p>${links}</p>
<h2 id="targets">Targets</h2>
${tableHtml(targetTable(result.targets), true)}
${sections.join('\n')}
</body></html>
`
}

function of(tables: readonly Table[], begin: string): Table[] {
  return tables.filter(({ title }) => title.startsWith(begin))
}

function about(result: Result): string {
  const e: Environment = result.environment
  const facts = [
    e.cpu, `${String(e.cores)} cores`, `${String(e.memoryGiB)} GiB`, e.kernel, `Node ${e.node}`, `commit ${e.commit}`,
    `drives on ${e.fileSystem}`, `load before ${String(e.load)}`,
  ]
  const run = `${result.quick ? 'Quick' : 'Full'} run of ${String(Math.round(result.seconds))} s, ${result.date}`
  const notes = Object.entries(result.notes).map(([name, text]) => `${name}: ${text}`)
  return [run, facts.join(', '), ...notes].map((line) => `<p class="about">${escape(line)}</p>`).join('\n')
}

/** `verdicts`: the last column is a class too. */
function tableHtml(table: Table, verdicts = false): string {
  const head = `<tr>${table.head.map((cell) => `<th>${escape(cell)}</th>`).join('')}</tr>`
  const rows = table.rows.map((row) => {
    const cells = row.map((cell, i) => {
      const mark = verdicts && i === row.length - 1 ? ` class="${cell.replaceAll(' ', '-')}"` : ''
      return `<td${mark}>${escape(cell)}</td>`
    })
    return `<tr>${cells.join('')}</tr>`
  })
  const title = verdicts ? '' : `<h3>${escape(table.title)}</h3>`
  const note = table.about === '' ? '' : `<p class="about">${escape(table.about)}</p>`
  return `${title}${note}<div class="wide"><table><thead>${head}</thead><tbody>\n${rows.join('\n')}\n</tbody></table></div>`
}

function unique<T>(values: readonly T[]): T[] {
  return [...new Set(values)]
}

/**
 * Rate and latency, one line or colour for each server: over the number of clients for sizes that were measured with
 * several, and for the others of an operation side by side.
 */
function s3Plots(metrics: Metrics): string[] {
  const cells = s3Cells(metrics)
  return unique(cells.map(({ operation }) => operation)).flatMap((operation) => {
    const own = cells.filter((cell) => cell.operation === operation)
    const clientsOf = (what: string): number[] =>
      unique(own.filter((cell) => cell.what === what).map(({ clients }) => clients)).sort((a, b) => a - b)
    const whats = unique(own.map(({ what }) => what))
    const [several, single] = [
      whats.filter((w) => clientsOf(w).length > 1),
      whats.filter((w) => clientsOf(w).length === 1),
    ]
    const places = single.map((what) => ({ what, clients: clientsOf(what)[0] ?? 0 }))
    const name = operation.toUpperCase()
    return [
      ...several.flatMap((what) => {
        const over = clientsOf(what).map((clients) => ({ what, clients }))
        return ratePlots(
          metrics,
          own,
          `${name} ${what}`,
          over,
          over.map(({ clients }) => `${String(clients)} clients`),
          linePlot,
        )
      }),
      ...(places.length === 0 ? [] : ratePlots(
        metrics, own, name, places, places.map(({ what, clients }) => `${what}, ${String(clients)} clients`), barPlot,
      )),
    ]
  })
}

function ratePlots(
  metrics: Metrics, cells: readonly S3Cell[], name: string, places: readonly { what: string; clients: number }[],
  labels: readonly string[], draw: typeof barPlot,
): string[] {
  const servers = unique(cells.map(({ server }) => server))
  const series = (ending: string, mark: string): Series[] => servers.map((server) => ({
    name: `${server === '' ? 'ostraka' : server}${mark}`,
    values: places.map(({ what, clients }) => {
      const cell = cells.find((one) => one.server === server && one.what === what && one.clients === clients)
      return cell === undefined ? undefined : metrics[`${cell.base}.${ending}`]
    }),
  }))
  const latency = [...series('p50_ms', ' p50'), ...series('p99_ms', ' p99')]
  const width = Math.max(420, 150 * labels.length)
  return [
    draw({ title: `${name}: rate`, unit: 'ops/s', labels, series: series('ops_per_s', ''), log: true }, width),
    draw({ title: `${name}: latency`, unit: 'ms', labels, series: latency, log: true }, width),
  ]
}

function kernelPlots(metrics: Metrics): string[] {
  const kernels = unique(
    Object.keys(metrics).flatMap((name) => /^kernels\.[^.]+\.([^.]+)\.GB_per_s$/.exec(name)?.[1] ?? []),
  )
  const whats = unique(
    Object.keys(metrics).flatMap((name) => /^kernels\.([^.]+)\.[^.]+\.GB_per_s$/.exec(name)?.[1] ?? []),
  )
  /** What a group's title says already is left out of its labels. */
  const groups: [title: string, pattern: RegExp, said: RegExp][] = [
    ['Encode', /^encode_\d/, /^encode_/],
    ['Encode, all geometries and sizes, against ISA-L', /^encode_grid/, /^encode_grid:_/],
    ['Reconstruct', /^reconstruct/, /^reconstruct_/],
    ['Seal: encode and checksums in one call', /^seal_encode/, /^seal_encode_and_checksums_/],
    ['MD5', /^MD5/, /^MD5_/],
    ['Checksums and memory', /^(XXH3|CRC|memcpy)/, /^$/],
  ]
  return [...sealPlot(metrics), ...groups.flatMap(([title, pattern, said]) => {
    const found = whats.filter((what) => pattern.test(what))
    const figure = (what: string, kernel: string): number | undefined => metrics[`kernels.${what}.${kernel}.GB_per_s`]
    const own = kernels.filter((kernel) => found.some((what) => figure(what, kernel) !== undefined))
    return chunks(found, LABELS_MOST).map((some) => barPlot({
      title, unit: 'GB/s', labels: some.map((what) => what.replace(said, '').replaceAll('_', ' ')),
      series: own.map((kernel) => ({ name: kernel, values: some.map((what) => figure(what, kernel)) })),
    }))
  })]
}

/** kernels.seal_<geometry>_from_pieces_<stripe>:_<way>: the ways beside each other for each stripe. */
function sealPlot(metrics: Metrics): string[] {
  const found = Object.keys(metrics).flatMap((name) => {
    const match = /^kernels\.seal_(\S+)_from_pieces_(\S+):_(\S+)\.best\.GB_per_s$/.exec(name)
    return match === null ? [] : [{ name, geometry: match[1] ?? '', stripe: match[2] ?? '', way: match[3] ?? '' }]
  })
  const [first] = found
  if (first === undefined) return []
  const stripes = unique(found.map(({ stripe }) => stripe))
  return [barPlot({
    title: `Seal ${first.geometry} from the pieces that the network brings`, unit: 'GB/s', log: true,
    labels: stripes.map((stripe) => stripe.replace('_stripe', '').replaceAll('_', ' ')),
    series: unique(found.map(({ way }) => way)).map((way) => ({
      name: way.replaceAll('_', ' '),
      values: stripes.map((stripe) => metrics[found.find((f) => f.stripe === stripe && f.way === way)?.name ?? '']),
    })),
  })]
}

/** Labels that stand beside each other in one plot. */
const LABELS_MOST = 6

function chunks<T>(items: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, i) => items.slice(i * size, (i + 1) * size))
}

function placementPlots(metrics: Metrics): string[] {
  const strategies = unique(Object.keys(metrics).flatMap((name) => /^placement\.([a-z]+)\.\d/.exec(name)?.[1] ?? []))
  if (strategies.length === 0) return []
  const sizes = unique(Object.keys(metrics).flatMap((name) => /^placement\.[a-z]+\.(\d+)\./.exec(name)?.[1] ?? []))
  const series = (ending: string): Series[] => strategies.map((name) => ({
    name, values: sizes.map((size) => metrics[`placement.${name}.${size}.${ending}`]),
  }))
  const labels = sizes.map((size) => `${size} targets`)
  const moves = ['add', 'remove', 'weight'].map((kind) => barPlot({
    title: `Movement against the ideal: ${kind}`, unit: 'x', labels, mark: 1, series: series(`${kind}.movement_times`),
  }, 420))
  return [
    ...moves,
    barPlot(
      {
        title: 'Balance: furthest from its share',
        unit: '%',
        labels,
        series: series('balanceError_percent'),
        log: true,
      },
      420,
    ),
    barPlot({ title: 'Build', unit: 'ms', labels, series: series('build_ms'), log: true }, 420),
    barPlot({ title: 'Select', unit: 'ns', labels, series: series('select_ns'), log: true }, 420),
  ]
}

/** index.<what>.<entries>.<subject>_ns: one plot for each `what`, entries along, one line for each subject. */
function indexPlots(metrics: Metrics): string[] {
  const found = Object.keys(metrics).flatMap((name) => {
    const match = /^index\.(.+)\.(\d+)\.([^.]+?)[._]ns$/.exec(name)
    return match === null ? [] : [{ name, what: match[1] ?? '', entries: Number(match[2]), subject: match[3] ?? '' }]
  })
  return unique(found.map(({ what }) => what)).map((what) => {
    const own = found.filter((one) => one.what === what)
    const entries = unique(own.map((one) => one.entries)).sort((a, b) => a - b)
    return linePlot({
      title: what.replaceAll(/[._]/g, ' '), unit: 'ns', log: true,
      labels: entries.map((count) => `${count.toLocaleString('en-GB')} entries`),
      series: unique(own.map(({ subject }) => subject)).map((subject) => ({
        name: subject.replaceAll('_', ' '),
        values: entries.map((count) => {
          const one = own.find((figure) => figure.entries === count && figure.subject === subject)
          return one === undefined ? undefined : metrics[one.name]
        }),
      })),
    })
  })
}

function drivePlots(metrics: Metrics): string[] {
  const found = Object.keys(metrics).flatMap((name) => {
    const match = /^drive\.(\w+)object\.(\d+)atatime\.(put|get)\.ops_per_s$/.exec(name)
    return match === null ? [] : [{ name, size: match[1] ?? '', times: match[2] ?? '', operation: match[3] ?? '' }]
  })
  const sizes = unique(found.map(({ size }) => size))
  return ['put', 'get'].map((operation) => ({ operation, own: found.filter((one) => one.operation === operation) }))
    .filter(({ own }) => own.length > 0)
    .map(({ operation, own }) => barPlot({
      title: `Shards ${operation} by size of the object`, unit: 'ops/s', labels: sizes, log: true,
      series: unique(own.map(({ times }) => times)).map((times) => ({
        name: `${times} at a time`,
        values: sizes.map((size) => metrics[own.find((one) => one.size === size && one.times === times)?.name ?? '']),
      })),
    }, 420))
}

function flushPlots(metrics: Metrics): string[] {
  const found = Object.keys(metrics).flatMap((name) => {
    const match = /^flushes\.put\.(\w+)\.(\d+)clients\.per_put_flushes$/.exec(name)
    return match === null ? [] : [{ label: `${match[1] ?? ''}, ${match[2] ?? ''} clients`, value: metrics[name] }]
  })
  if (found.length === 0) return []
  return [barPlot({
    title: 'Flushes per PUT', unit: 'flushes', labels: found.map(({ label }) => label), mark: 0.8,
    series: [{ name: 'flushes', values: found.map(({ value }) => value) }],
  }, 560)]
}
