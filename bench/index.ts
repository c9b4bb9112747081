/**
 * The shard index: what a get costs in C++ (bench/native/index_bench.cc) and from JavaScript (index_js.ts), beside
 * one dependent random read of as much memory, beside tables that anyone would write first, and what readers notice
 * of growth. `targets` compares the figures with what the index promises, all from one run.
 *
 * Metrics: index.<entries>.<what> and index.growth.<table>.<what>, as a flat object; index_bench.cc lists them.
 * Runs by itself too: `node dist/bench/index.js [--quick]`.
 */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { measureJs } from './index_js.js'
import type { Metrics } from './placement.js'

const root = fileURLToPath(new URL('../../', import.meta.url))

const TABLES = ['index', 'sharedMutexMap', 'shardedMutex'] as const
const NAMES: Record<(typeof TABLES)[number], string> = {
  index: 'shard index',
  sharedMutexMap: 'unordered_map, shared_mutex',
  shardedMutex: '64 tables, a mutex each',
}

/** Runs a program of the repository to its end and gives its output. */
function output(command: string, args: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd: root, encoding: 'utf8' })
  if (error !== undefined) throw error
  if (status !== 0) throw new Error(`${command} failed (${String(status)})\n${stdout}${stderr}`)
  return stdout
}

/** Two minutes on a quiet machine; `quick` leaves ten million entries out and takes half a minute. */
export function run(quick: boolean): Promise<Metrics> {
  output(process.execPath, [join('scripts', 'lib', 'native-bench.mjs')])
  const metrics: Metrics = {}
  const text = output(join(root, 'build', 'bench', 'index_bench'), quick ? ['--quick'] : [])
  for (const line of text.trim().split('\n')) {
    const [name = '', value = '', unit = ''] = line.split(' ')
    metrics[name] = { value: Number(value), unit }
  }
  for (const entries of sizes(metrics)) measureJs(entries, quick, metrics)
  for (const { id, figure, limit, atLeast } of targets(metrics)) {
    // At most 1 is met.
    metrics[`index.target.${id}`] = { value: atLeast ? limit / figure : figure / limit, unit: 'x' }
  }
  return Promise.resolve(metrics)
}

function sizes(metrics: Metrics): number[] {
  return Object.keys(metrics).flatMap((name) => {
    const found = /^index\.(\d+)\.randomRead$/.exec(name)
    return found === null ? [] : [Number(found[1])]
  })
}

export interface Target {
  id: string
  name: string
  figure: number
  /** What the figure must not pass, or with `atLeast` must reach. */
  limit: number
  unit: string
  atLeast: boolean
  met: boolean
}

/**
 * What the index promises, at a million entries. A single get is one whose answer is awaited, as that of the random
 * read is: `get.dependent`. Gets that the CPU may overlap (`get.hit`) are what batches are held against.
 */
export function targets(metrics: Metrics): Target[] {
  const at = (name: string): number => metrics[`index.1000000.${name}`]?.value ?? NaN
  const get = at('get.dependent')
  const rate = (table: string): number => at(`${table}.hit.writes5.threads2.rate`)
  const most = (id: string, name: string, figure: number, limit: number, unit = 'ns'): Target => {
    return { id, name: `${name}, at most`, figure, limit, unit, atLeast: false, met: figure <= limit }
  }
  const ahead = rate('index') / rate('sharedMutexMap')
  return [
    most('get', 'C++ get: 2 random reads', get, 2 * at('randomRead')),
    most('jsGet', 'JS get: C++ get + 2 empty calls', at('js.get.hit'), get + 2 * at('js.emptyCall')),
    most('jsGetMany', 'JS batched get, for each key: C++ get + 10 ns', at('js.getMany.hit'), at('get.hit') + 10),
    {
      id: 'twoThreads', name: '2 threads, 5% writes, times the rate of the shared_mutex map, at least',
      figure: ahead, limit: 3, unit: 'times', atLeast: true, met: ahead >= 3,
    },
    most('bytesPerEntry', 'memory for each entry', at('bytesPerEntry'), 70, 'bytes'),
  ]
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`
  return [line(head), line(head.map((_, i) => (i === 0 ? '---' : '---:'))), ...rows.map(line)].join('\n')
}

export function indexTable(metrics: Metrics): string {
  const figure = (name: string): string => metrics[name]?.value.toFixed(1) ?? ''
  const counts = sizes(metrics)
  const by = (name: string): string[] => counts.map((entries) => figure(`index.${String(entries)}.${name}`))
  const entries = counts.map((count) => `${String(count)} entries`)
  const single = [
    ['one dependent random read', ...by('randomRead')],
    ['get, each dependent on the last', ...by('get.dependent')],
    ['get, hit', ...by('get.hit')],
    ['get, miss', ...by('get.miss')],
    ['get in batches of 64', ...by('getMany')],
    ['JS: empty call', ...by('js.emptyCall')],
    ['JS: get, hit', ...by('js.get.hit')],
    ['JS: get, miss', ...by('js.get.miss')],
    ['JS: batched get, hit', ...by('js.getMany.hit')],
    ['JS: batched get, miss', ...by('js.getMany.miss')],
    ['JS: Map.get, hit', ...by('js.map.hit')],
    ['JS: Map.get, miss', ...by('js.map.miss')],
    ['bytes per entry', ...by('bytesPerEntry')],
  ]
  const mixed = ['hit', 'miss'].flatMap((kind) => [0, 5, 50].flatMap((writes) => [1, 2].flatMap((threads) => {
    const cell = `${kind}.writes${String(writes)}.threads${String(threads)}`
    const name = `${kind === 'hit' ? 'hits' : 'misses'}, ${String(writes)}% writes, threads: ${String(threads)}`
    return TABLES.map((which) => [name, NAMES[which], ...by(`${which}.${cell}`)])
  })))
  const growth = TABLES.flatMap((which) => ['idle', 'writes', 'grows'].map((state) => {
    const of = (what: string): string => figure(`index.growth.${which}.${state}.${what}`)
    return [NAMES[which], state, of('p50'), of('p99.9'), of('most')]
  }))
  const promised = targets(metrics).map(({ name, figure, limit, unit, atLeast, met }) => {
    return [name, `${figure.toFixed(1)} ${unit}`, `${atLeast ? '>=' : '<='} ${limit.toFixed(1)}`, met ? 'met' : 'not met']
  })
  return [
    '## Shard index, ns for each operation of one thread', '',
    table(['', ...entries], single), '',
    table(['', 'table', ...entries], mixed), '',
    'Reads of one thread while another does nothing, sets locations, or inserts and so makes the table grow, ns:', '',
    table(['table', 'other thread', 'p50', 'p99.9', 'most'], growth), '',
    'Targets, at 1,000,000 entries:', '',
    table(['target', 'figure', 'limit', ''], promised), '',
  ].join('\n')
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  process.stdout.write(indexTable(await run(process.argv.includes('--quick'))))
}
