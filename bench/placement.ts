/**
 * The placement strategies side by side, with rendezvous hashing as the yardstick, at 10, 100 and 1,000 targets of
 * mixed weights: how much a change moves against the ideal, how even the shares are, and what building and selecting
 * cost.
 *
 * Movement of the tables is counted over all slots; of `jump` and `rendezvous`, which have none, over random keys,
 * so that theirs is exact only to within the noise of the sample. "Ideal" is the share that the changed target
 * gains or loses.
 *
 * Metrics: placement.<strategy>.<targets>.<what>, as a flat object. Runs by itself too: `node dist/bench/placement.js`.
 */
import { writeFileSync } from 'node:fs'
import { pathToFileURL } from 'node:url'
import type { DataId } from '../ts/drive/drive.js'
import { JumpPlacement } from '../ts/layout/jump.js'
import { MaglevPlacement } from '../ts/layout/maglev.js'
import { planMovement } from '../ts/layout/movement.js'
import type { Placement, Target } from '../ts/layout/placement.js'
import { SlotsPlacement } from '../ts/layout/slots.js'
import { placementFor } from '../ts/layout/table_placement.js'
import { quotas } from '../ts/layout/targets.js'
import { xxh3_64 } from '../ts/native/hash.js'
import { seededRandom } from '../ts/util/random.js'

export interface Metric {
  value: number
  unit: string
}
export type Metrics = Record<string, Metric>

interface Strategy {
  name: string
  first: (targets: readonly Target[]) => Placement
  change: (before: Placement, targets: readonly Target[]) => Placement
}

const M = 655_373
const SIZES = [10, 100, 1000]
const CHANGES = ['add', 'remove', 'weight'] as const

const strategies: Strategy[] = [
  {
    name: 'slots',
    first: (targets) => SlotsPlacement.first(targets, M),
    change: (before, targets) => (before as SlotsPlacement).change(targets),
  },
  {
    name: 'maglev',
    first: (targets) => new MaglevPlacement(targets, M),
    change: (_, targets) => new MaglevPlacement(targets, M),
  },
  {
    name: 'jump',
    first: (targets) => JumpPlacement.first(targets, 1),
    change: (before, targets) => (before as JumpPlacement).change(targets),
  },
  {
    name: 'rendezvous',
    first: (targets) => new Rendezvous(targets),
    change: (_, targets) => new Rendezvous(targets),
  },
]

/** Weighted rendezvous hashing: every target draws from the key, the best draw wins. O(targets) for each select. */
class Rendezvous implements Placement {
  readonly targets: readonly Target[]
  readonly #seeds: Uint32Array

  constructor(targets: readonly Target[]) {
    this.targets = targets
    const name = new Uint8Array(4)
    this.#seeds = Uint32Array.from(targets, (target) => {
      new DataView(name.buffer).setUint32(0, target.set, true)
      return Number(xxh3_64(name, 1n) & 0xffff_ffffn)
    })
  }

  select(dataId: DataId): number {
    const view = new DataView(dataId.buffer, dataId.byteOffset, 16)
    const key = view.getUint32(8) ^ view.getUint32(12)
    let best = -1
    let bestScore = -Infinity
    for (let i = 0; i < this.targets.length; i++) {
      let hash = Math.imul(key ^ (this.#seeds[i] as number), 0x85ebca6b)
      hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
      const draw = (((hash ^ (hash >>> 16)) >>> 0) + 0.5) / 2 ** 32
      const score = (this.targets[i] as Target).weight / -Math.log(draw)
      if (score > bestScore) {
        bestScore = score
        best = i
      }
    }
    return (this.targets[best] as Target).set
  }
}

/** Some figures take seconds; `quick` uses fewer keys and repetitions. */
export function run(quick: boolean): Promise<Metrics> {
  const metrics: Metrics = {}
  const random = seededRandom(7)
  const keys = Array.from({ length: quick ? 20_000 : 200_000 }, () => {
    return Uint8Array.from({ length: 16 }, () => Math.floor(random() * 256))
  })
  for (const count of SIZES) {
    const targets = makeTargets(count)
    for (const strategy of strategies) {
      // A thousand draws for each key are a yardstick, not a way to spend an afternoon.
      const some = strategy.name === 'rendezvous' ? keys.slice(0, quick ? 10_000 : 50_000) : keys
      measure(strategy, targets, some, quick, (what, value, unit) => {
        metrics[`placement.${strategy.name}.${String(count)}.${what}`] = { value, unit }
      })
    }
  }
  // Last, so that the loop has seen as many kinds of calls as it had for the strategies; and in turns, so that what
  // else the machine does falls on both. The select is the one that the server's threads make, called where no other
  // strategy is called, as the read is.
  const targets = makeTargets(1000)
  const slots = placementFor(targets, SlotsPlacement.first(targets, M).table.memory)
  let [select, read] = [Infinity, Infinity]
  for (let turn = 0; turn < 4; turn++) {
    select = Math.min(select, loopNs((i) => slots.select(keys[i] as DataId)))
    read = Math.min(read, readNs(keys))
  }
  metrics['placement.slots.1000.select'] = { value: select, unit: 'ns' }
  metrics['placement.typedArrayRead'] = { value: read, unit: 'ns' }
  return Promise.resolve(metrics)
}

type Note = (what: string, value: number, unit: string) => void

function measure(
  strategy: Strategy,
  targets: readonly Target[],
  keys: readonly DataId[],
  quick: boolean,
  note: Note,
): void {
  const repeat = quick ? 3 : 5
  const built = best(repeat, () => strategy.first(targets))
  note('build', built.ms, 'ms')
  const before = built.result
  const error = balanceError(before)
  if (error !== undefined) note('balanceError', error, '%')
  for (const kind of CHANGES) {
    const changed = change(kind, targets)
    const rebuilt = best(repeat, () => strategy.change(before, changed))
    note(`${kind}.rebuild`, rebuilt.ms, 'ms')
    note(`${kind}.movement`, moved(before, rebuilt.result, keys) / ideal(targets, changed), 'x ideal')
  }
  note('select', selectNs(before, keys), 'ns')
}

function makeTargets(count: number): Target[] {
  return Array.from({ length: count }, (_, i) => ({
    set: i + 1,
    weight: [4, 4, 8, 16][i % 4] as number,
    state: 'active',
  }))
}

function change(kind: (typeof CHANGES)[number], targets: readonly Target[]): Target[] {
  const middle = Math.floor(targets.length / 2)
  if (kind === 'add') return [...targets, { set: targets.length + 1, weight: 8, state: 'active' }]
  if (kind === 'remove') return targets.filter((_, i) => i !== middle)
  return targets.map((target, i) => (i === middle ? { ...target, weight: target.weight * 2 } : target))
}

/** Half of what all shares change by: what must move. */
function ideal(before: readonly Target[], after: readonly Target[]): number {
  const shares = (targets: readonly Target[]): Map<number, number> => {
    const quota = quotas(targets, 1)
    return new Map(targets.map((target, i) => [target.set, quota[i] as number]))
  }
  const [a, b] = [shares(before), shares(after)]
  let sum = 0
  for (const set of new Set([...a.keys(), ...b.keys()]))
    sum += Math.abs((a.get(set) ?? 0) - (b.get(set) ?? 0))
  return sum / 2
}

function moved(before: Placement, after: Placement, keys: readonly DataId[]): number {
  if ('table' in before && 'table' in after) {
    const [a, b] = [before as SlotsPlacement, after as SlotsPlacement]
    return planMovement(a.table, b.table).share
  }
  let count = 0
  for (const key of keys) if (before.select(key) !== after.select(key)) count++
  return count / keys.length
}

/** The target furthest from its share, as a percentage of that share; undefined where there is nothing to count. */
function balanceError(placement: Placement): number | undefined {
  const counts = new Map<number, number>()
  let total = M
  if ('table' in placement) {
    for (const [set, count] of (placement as SlotsPlacement).table.counts()) counts.set(set, count)
  } else if (placement instanceof JumpPlacement) {
    for (const set of placement.owners) counts.set(set, (counts.get(set) ?? 0) + 1)
    total = placement.owners.length
  } else {
    return undefined
  }
  const quota = quotas(placement.targets, total)
  return placement.targets.reduce((most, target, i) => {
    const share = quota[i] as number
    return Math.max(most, (100 * Math.abs((counts.get(target.set) ?? 0) - share)) / share)
  }, 0)
}

function best<T>(repeat: number, work: () => T): { ms: number; result: T } {
  let ms = Infinity
  let result = work()
  for (let i = 0; i < repeat; i++) {
    const started = performance.now()
    result = work()
    ms = Math.min(ms, performance.now() - started)
  }
  return { ms, result }
}

/** Keys that stay in the cache, so that the loop shows the call and not the memory that the keys lie in. */
const HOT_KEYS = 1024
const ATTEMPT_MS = 1

/** The fastest of many short attempts (one may pass undisturbed on a busy machine), whatever one call takes. */
function loopNs(once: (i: number) => number): number {
  let fastest = Infinity
  let sum = 0
  for (let attempt = 0; attempt < 60; attempt++) {
    let calls = 0
    const started = performance.now()
    let elapsed = 0
    while (elapsed < ATTEMPT_MS) {
      for (let i = 0; i < HOT_KEYS; i++) sum += once(i)
      calls += HOT_KEYS
      elapsed = performance.now() - started
    }
    fastest = Math.min(fastest, (elapsed * 1e6) / calls)
  }
  if (Number.isNaN(sum)) throw new Error('a strategy gave no set')
  return fastest
}

function selectNs(placement: Placement, keys: readonly DataId[]): number {
  const hot = keys.slice(0, HOT_KEYS)
  return loopNs((i) => placement.select(hot[i] as DataId))
}

/** One read of a table of M entries at a place known beforehand, through the same kind of calls as `selectNs`. */
function readNs(keys: readonly DataId[]): number {
  const table = new Uint16Array(new SharedArrayBuffer(2 * M))
  const places = Int32Array.from(keys.slice(0, HOT_KEYS), (key) => new DataView(key.buffer).getUint32(12) % M)
  const reader = { select: (place: number): number => table[place] as number }
  return loopNs((i) => reader.select(places[i] as number))
}

/** One row for each strategy and number of targets. */
export function placementTable(metrics: Metrics): string {
  const columns = [
    'add.movement',
    'remove.movement',
    'weight.movement',
    'balanceError',
    'build',
    'add.rebuild',
    'select',
  ]
  const head = ['strategy', 'targets', ...columns.map((what) => what.replace('.', ' '))]
  const rows = strategies.flatMap(({ name }) => {
    return SIZES.map((count) => [
      name,
      String(count),
      ...columns.map((what) => {
        const metric = metrics[`placement.${name}.${String(count)}.${what}`]
        return metric === undefined
          ? ''
          : `${metric.value.toFixed(metric.unit === '%' ? 3 : 2)} ${metric.unit}`
      }),
    ])
  })
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`
  const read = metrics['placement.typedArrayRead']?.value ?? NaN
  const note = `One read of a typed array through the same calls: ${read.toFixed(2)} ns. M = ${String(M)}.`
  return [`## Placement`, '', line(head), line(head.map(() => '---')), ...rows.map(line), '', note, ''].join(
    '\n',
  )
}

/** Movement against the ideal, as bars: an SVG of its own. */
export function placementPlot(metrics: Metrics): string {
  const colours = ['#1b6ca8', '#d1495b', '#66a182', '#8d6b94']
  const bars: string[] = []
  let x = 60
  for (const kind of CHANGES) {
    for (const count of SIZES) {
      strategies.forEach(({ name }, i) => {
        const value = metrics[`placement.${name}.${String(count)}.${kind}.movement`]?.value ?? 0
        const height = Math.min(240, value * 60)
        const title = `${name}, ${kind}, ${String(count)} targets: ${value.toFixed(2)} x ideal`
        const box = `x="${String(x)}" y="${(260 - height).toFixed(1)}" width="14" height="${height.toFixed(1)}"`
        bars.push(`<rect ${box} fill="${colours[i] ?? ''}"><title>${title}</title></rect>`)
        x += 16
      })
      bars.push(`<text x="${String(x - 48)}" y="276" font-size="10">${kind} ${String(count)}</text>`)
      x += 20
    }
  }
  const legend = strategies.map(({ name }, i) => {
    return `<text x="${String(60 + i * 110)}" y="300" font-size="12" fill="${colours[i] ?? ''}">${name}</text>`
  })
  const ideal = `<line x1="50" x2="${String(x)}" y1="200" y2="200" stroke="#888" stroke-dasharray="4"/>`
  const label = '<text x="4" y="204" font-size="10">ideal</text>'
  const size = `width="${String(x + 20)}" height="310" font-family="sans-serif"`
  return `<svg xmlns="http://www.w3.org/2000/svg" ${size}>${ideal}${label}${bars.join('')}${legend.join('')}</svg>\n`
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const metrics = await run(process.argv.includes('--quick'))
  process.stdout.write(placementTable(metrics))
  const plot = process.argv.find((argument) => argument.endsWith('.svg'))
  if (plot !== undefined) writeFileSync(plot, placementPlot(metrics))
}
