/**
 * Two results beside each other. A change counts when it is beyond the noise: the threshold for noise, or what the
 * rounds of either run lay apart, whichever is more. Metrics whose unit has no good direction are shown and never
 * judged.
 */
import { directionOf, shown, shownUnit } from './metrics.js'
import type { Metrics } from './metrics.js'
import type { Result } from './result.js'
import { markdownTable } from './tables.js'

export interface Change {
  name: string
  before: number
  after: number
  /** (after - before) / before in percent; Infinity from nothing to something. */
  percent: number
  /** In percent: changes up to this say nothing. */
  noise: number
  verdict: 'better' | 'worse' | 'same' | 'changed'
}

export interface Comparison {
  changes: Change[]
  /** In one result only. */
  gone: string[]
  come: string[]
  /** Why the two may not be comparable. */
  warnings: string[]
}

export function compare(before: Result, after: Result, noisePercent: number): Comparison {
  const names = Object.keys(before.metrics).filter((name) => name in after.metrics)
  return {
    changes: names.map((name) => changeOf(name, before, after, noisePercent)),
    gone: missingIn(before.metrics, after.metrics),
    come: missingIn(after.metrics, before.metrics),
    warnings: warnings(before, after),
  }
}

function changeOf(name: string, before: Result, after: Result, noisePercent: number): Change {
  const [a, b] = [before.metrics[name] ?? NaN, after.metrics[name] ?? NaN]
  const percent = a === b ? 0 : a === 0 ? Infinity * Math.sign(b) : (100 * (b - a)) / Math.abs(a)
  const noise = Math.max(noisePercent, 100 * (before.spread[name] ?? 0), 100 * (after.spread[name] ?? 0))
  return { name, before: a, after: b, percent, noise, verdict: verdictOf(name, percent, noise) }
}

function verdictOf(name: string, percent: number, noise: number): Change['verdict'] {
  if (Math.abs(percent) <= noise) return 'same'
  const direction = directionOf(name)
  if (direction === 'neutral') return 'changed'
  return percent > 0 === (direction === 'higher') ? 'better' : 'worse'
}

function missingIn(here: Metrics, there: Metrics): string[] {
  return Object.keys(here).filter((name) => !(name in there))
}

function warnings(before: Result, after: Result): string[] {
  const found: string[] = []
  for (const what of ['cpu', 'cores', 'kernel', 'node', 'fileSystem'] as const) {
    const [a, b] = [before.environment[what], after.environment[what]]
    if (a !== b) found.push(`${what} differs: ${String(a)}, then ${String(b)}`)
  }
  if (before.quick !== after.quick) found.push('one of the runs was a quick one')
  return found
}

/** Worse by more than `thresholdPercent`, and by more than the noise. */
export function regressions(comparison: Comparison, thresholdPercent: number): Change[] {
  return comparison.changes.filter(({ verdict, percent }) => {
    return verdict === 'worse' && Math.abs(percent) > thresholdPercent
  })
}

/** `all`: those that did not change too. */
export function compareTable(comparison: Comparison, all: boolean): string {
  const rows = comparison.changes.filter(({ verdict }) => all || verdict !== 'same')
  const same = comparison.changes.length - comparison.changes.filter(({ verdict }) => verdict !== 'same').length
  const signed = (n: number): string => `${n > 0 ? '+' : ''}${Number.isFinite(n) ? n.toFixed(1) : String(n)}`
  const lines = rows.map(({ name, before, after, percent, noise, verdict }) => [
    name, shown(before), shown(after), shownUnit(name), signed(percent), noise.toFixed(0), verdict,
  ])
  const head = ['', 'before', 'after', '', 'change %', 'noise %', '']
  const parts = [
    ...comparison.warnings.map((warning) => `Beware: ${warning}.`),
    ...(lines.length > 0 ? [markdownTable(head, lines)] : []),
    `${String(comparison.changes.length)} figures compared, ${String(same)} of them the same within the noise.`,
  ]
  if (comparison.gone.length > 0) parts.push(`Only before: ${comparison.gone.join(', ')}`)
  if (comparison.come.length > 0) parts.push(`Only after: ${comparison.come.join(', ')}`)
  return `${parts.join('\n\n')}\n`
}
