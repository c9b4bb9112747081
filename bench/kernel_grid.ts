/**
 * `best` against ISA-L over a grid of geometries and sizes, and decoding against encoding: what the choice of a kernel
 * must never lose. bench/native/kernel_bench.cc measures it, in one process and on the same memory; see there how.
 *
 * `node dist/bench/kernel_grid.js [--quick] [--times 10]` prints the quotients of as many runs side by side.
 */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { join } from 'node:path'
import { parseArgs } from 'node:util'

const root = fileURLToPath(new URL('../../', import.meta.url))

/** By name, as kernel_bench.cc lists them: GB of part data per second, or quotients. */
export type Grid = ReadonlyMap<string, number>

function output(command: string, args: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd: root, encoding: 'utf8' })
  if (error !== undefined) throw error
  if (status !== 0) throw new Error(`${command} failed (${String(status)})\n${stdout}${stderr}`)
  return stdout
}

/** One run: half a minute, or some seconds if `quick`. The program is built first where it is out of date. */
export function benchGrid(quick: boolean): Grid {
  output(process.execPath, [join('scripts', 'lib', 'native-bench.mjs'), 'kernel_bench'])
  const lines = output(join(root, 'build', 'bench', 'kernel_bench'), quick ? ['--quick'] : []).trim().split('\n')
  return new Map(lines.map((line) => {
    const [, name = '', value = ''] = /^(.*) (\S+) \S+$/.exec(line) ?? []
    return [name, Number(value)]
  }))
}

/** The least of the quotients whose names end so. */
export function leastOf(grid: Grid, ...ends: readonly string[]): number {
  const found = [...grid].filter(([name]) => ends.some((end) => name.endsWith(end)))
  return Math.min(...found.map(([, quotient]) => quotient))
}

function print(grids: readonly Grid[]): void {
  const row = (name: string, of: (grid: Grid) => number): void => {
    process.stdout.write(`${name.padEnd(40)} ${grids.map((grid) => of(grid).toFixed(2)).join('  ')}\n`)
  }
  const names = [...grids[0] ?? []].flatMap(([name]) => /: (ratio|to encode)$/.test(name) ? [name] : [])
  for (const name of names) row(name, (grid) => grid.get(name) ?? NaN)
  row('least of the ratios', (grid) => leastOf(grid, ': ratio'))
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const options = { quick: { type: 'boolean', default: false }, times: { type: 'string', default: '1' } } as const
  const { quick, times } = parseArgs({ options }).values
  print(Array.from({ length: Math.max(1, Number(times)) }, () => benchGrid(quick)))
}
