/**
 * Plots as SVG to stand in an HTML page: no script, nothing from outside. Colours come from the page's style (classes
 * `s0` to `s7` for series, `ink`, `faint`), so that they follow light and dark; every mark has a title with its figure.
 */
import { shown } from './metrics.js'

export interface Series {
  name: string
  /** One for each label; undefined where there is none. */
  values: readonly (number | undefined)[]
}

export interface Plot {
  title: string
  /** What the figures are. */
  unit: string
  labels: readonly string[]
  series: readonly Series[]
  /** Logarithmic, for figures that lie far apart. */
  log?: boolean
  /** A line across, such as the ideal. */
  mark?: number
}

export const SERIES_COLOURS = 8
const PAD = { left: 62, right: 12, top: 28, bottom: 26 }
const HEIGHT = 250
const LEGEND_LINE = 17

export function escape(text: string): string {
  return text.replace(/[&<>"']/g, (c) => `&#${String(c.charCodeAt(0))};`)
}

interface Scale {
  /** Height above the axis, 0..1. */
  at: (value: number) => number
  ticks: readonly number[]
}

function scaleOf(plot: Plot): Scale {
  const values = plot.series
    .flatMap(({ values }) => values)
    .filter((v): v is number => v !== undefined && Number.isFinite(v))
  if (plot.mark !== undefined) values.push(plot.mark)
  const top = Math.max(...values, 0)
  if (plot.log === true) return logScale(values.filter((v) => v > 0))
  const step = niceStep(top / 4)
  const end = Math.max(step, Math.ceil(top / step - 1e-9) * step)
  const ticks = Array.from({ length: Math.round(end / step) + 1 }, (_, i) => i * step)
  return { at: (value) => Math.max(0, value) / end, ticks }
}

function logScale(values: readonly number[]): Scale {
  const low = Math.floor(Math.log10(Math.min(...values, 1)))
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...values, low))))
  const ticks = Array.from({ length: high - low + 1 }, (_, i) => 10 ** (low + i))
  return { at: (value) => (value <= 0 ? 0 : (Math.log10(value) - low) / (high - low)), ticks }
}

/** 1, 2 or 5 times a power of ten, at least `wanted`. */
function niceStep(wanted: number): number {
  if (!(wanted > 0)) return 1
  const power = 10 ** Math.floor(Math.log10(wanted))
  return ([1, 2, 5].find((f) => f * power >= wanted) ?? 10) * power
}

/** One group of bars for each label. */
export function barPlot(plot: Plot, width = 640): string {
  const scale = scaleOf(plot)
  const bottom = HEIGHT - PAD.bottom
  const group = (width - PAD.left - PAD.right) / Math.max(1, plot.labels.length)
  const bar = Math.min(30, (group * 0.84) / Math.max(1, plot.series.length))
  const bars = plot.labels.flatMap((label, l) => plot.series.map(({ name, values }, s) => {
    const value = values[l]
    if (value === undefined || !Number.isFinite(value)) return ''
    const height = Math.max(1, scale.at(value) * (bottom - PAD.top))
    const x = PAD.left + group * (l + 0.5) + bar * (s - plot.series.length / 2)
    const box = `x="${fixed(x)}" y="${fixed(bottom - height)}" width="${fixed(bar - 1)}" height="${fixed(height)}"`
    return `<rect class="f${colour(s)}" ${box}><title>${titleOf(plot, label, name, value)}</title></rect>`
  }))
  return frame(plot, width, scale, group, bars.join(''))
}

/** One line for each series over the labels. */
export function linePlot(plot: Plot, width = 420): string {
  const scale = scaleOf(plot)
  const group = (width - PAD.left - PAD.right) / Math.max(1, plot.labels.length)
  const lines = plot.series.map(({ name, values }, s) => {
    const points = values.flatMap((value, l) => {
      if (value === undefined || !Number.isFinite(value)) return []
      const x = fixed(PAD.left + group * (l + 0.5))
      const y = fixed(HEIGHT - PAD.bottom - scale.at(value) * (HEIGHT - PAD.bottom - PAD.top))
      return [{ x, y, title: titleOf(plot, plot.labels[l] ?? '', name, value) }]
    })
    const path = `<polyline class="l${colour(s)}" points="${points.map(({ x, y }) => `${x},${y}`).join(' ')}"/>`
    const dots = points.map(({ x, y, title }) => {
      return `<circle class="f${colour(s)}" cx="${x}" cy="${y}" r="3.5"><title>${title}</title></circle>`
    })
    return path + dots.join('')
  })
  return frame(plot, width, scale, group, lines.join(''))
}

const fixed = (n: number): string => n.toFixed(1)
const colour = (series: number): string => String(series % SERIES_COLOURS)

function titleOf(plot: Plot, label: string, name: string, value: number): string {
  return escape(`${name}, ${label}: ${shown(value)} ${plot.unit}`)
}

function frame(plot: Plot, width: number, scale: Scale, group: number, marks: string): string {
  const bottom = HEIGHT - PAD.bottom
  const height = (value: number): string => fixed(bottom - scale.at(value) * (bottom - PAD.top))
  const right = String(width - PAD.right)
  const grid = scale.ticks.map((tick) => {
    const text = `<text class="faint" x="${String(PAD.left - 6)}" y="${height(tick)}" dy="4" text-anchor="end">${tickShown(tick)}</text>`
    return `<line class="grid" x1="${String(PAD.left)}" x2="${right}" y1="${height(tick)}" y2="${height(tick)}"/>${text}`
  })
  const labels = plot.labels.map((label, l) => {
    const x = fixed(PAD.left + group * (l + 0.5))
    return `<text class="faint" x="${x}" y="${String(bottom + 16)}" text-anchor="middle">${escape(label)}</text>`
  })
  const mark = plot.mark === undefined ? '' :
    `<line class="mark" x1="${String(PAD.left)}" x2="${right}" y1="${height(plot.mark)}" y2="${height(plot.mark)}"/>`
  const title = `<text class="ink" x="4" y="14">${escape(plot.title)}</text>` +
    `<text class="faint" x="${right}" y="14" text-anchor="end">${escape(plot.unit)}</text>`
  const { legend, lines } = legendOf(plot, width)
  const total = HEIGHT + lines * LEGEND_LINE
  const size = `viewBox="0 0 ${String(width)} ${String(total)}" width="${String(width)}" height="${String(total)}"`
  const parts = [...grid, ...labels, mark, marks, legend].join('')
  return `<svg role="img" aria-label="${escape(plot.title)}" ${size}>${title}${parts}</svg>`
}

function tickShown(tick: number): string {
  if (tick >= 1e6) return `${String(Math.round(tick / 1e5) / 10)}M`
  if (tick >= 1e3) return `${String(Math.round(tick / 100) / 10)}k`
  return String(Number(tick.toPrecision(3)))
}

/** Letters are about this wide. */
const LETTER = 7

function legendOf(plot: Plot, width: number): { legend: string; lines: number } {
  if (plot.series.length < 2) return { legend: '', lines: 0 }
  let [x, line] = [PAD.left, 0]
  const parts = plot.series.map(({ name }, s) => {
    const wide = 20 + name.length * LETTER
    if (x + wide > width && x > PAD.left) [x, line] = [PAD.left, line + 1]
    const y = HEIGHT + 8 + line * LEGEND_LINE
    const box = `<rect class="f${colour(s)}" x="${String(x)}" y="${String(y - 9)}" width="10" height="10"/>`
    const text = `<text class="ink" x="${String(x + 14)}" y="${String(y)}">${escape(name)}</text>`
    x += wide + 8
    return box + text
  })
  return { legend: parts.join(''), lines: line + 1 }
}
