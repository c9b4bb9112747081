/**
 * `best` against ISA-L over a grid of geometries and sizes: what the choice of a kernel must never lose.
 *
 * Each of the two is a process of its own (OSTRAKA_CPU), asked for one cell of the grid at a time, in turn with the
 * other, and the best of several turns counts: so a busy neighbour disturbs both alike. Run with `--serve`, this file
 * is such a process: it answers { cell, ms } with GB of part data per second. Run as `kernel_grid.js <ms> [--json]` it
 * measures the whole grid and prints it.
 */
import { fork, spawnSync, type ChildProcess } from 'node:child_process'
import { fileURLToPath } from 'node:url'

import { encode } from '../ts/native/erasure.js'
import { rate } from './rate.js'

const GEOMETRIES = [[2, 1], [2, 2], [3, 1], [4, 2], [6, 3], [8, 4], [12, 4]] as const
/** All blocks of a stripe together, and of all stripes in turn. */
const SIZES = [
  { name: 'L2', stripe: 384 << 10, span: 384 << 10 },
  { name: 'out of L2', stripe: 3 << 19, span: 12 << 20 },
  { name: 'out of L3', stripe: 3 << 19, span: 96 << 20 },
] as const
const ROUNDS = 5

interface Cell {
  k: number
  m: number
  stripe: number
  span: number
}

export interface GridRow {
  name: string
  best: number
  isal: number
}

function measure({ k, m, stripe, span }: Cell, ms: number, memory: Uint8Array): number {
  const blockSize = Math.floor(stripe / (k + m) / 64) * 64 - 64
  const stripes = Array.from({ length: span / stripe }, (_, s) =>
    Array.from({ length: k + m }, (_, i) => {
      const start = s * stripe + i * (blockSize + 64) + 16
      return memory.subarray(start, start + blockSize)
    }))
  const sets = stripes.map((blocks) => ({ data: blocks.slice(0, k), parity: blocks.slice(k) }))
  return rate(ms, k * blockSize, (turn) => {
    const set = sets[turn % sets.length]
    if (set !== undefined) encode(k, m, blockSize, set.data, set.parity)
  }, Math.max(16, sets.length))
}

function ask(child: ChildProcess, cell: Cell, ms: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const gone = (): void => { reject(new Error('the measuring process ended')) }
    child.once('exit', gone)
    child.once('message', (answer) => {
      child.off('exit', gone)
      resolve(Number(answer))
    })
    child.send({ cell, ms })
  })
}

/** The grid, measured in processes of its own: about `ms` milliseconds for every cell and kernel. */
export function benchGrid(ms: number): GridRow[] {
  const run = spawnSync(process.execPath, [fileURLToPath(import.meta.url), String(ms), '--json'], { encoding: 'utf8' })
  if (run.status !== 0) throw new Error(`the kernel grid failed: ${run.stderr}`)
  return JSON.parse(run.stdout) as GridRow[]
}

function print(rows: readonly GridRow[]): void {
  for (const { name, best, isal } of rows) {
    process.stdout.write(`${name.padEnd(18)} ${best.toFixed(1).padStart(6)} ${isal.toFixed(1).padStart(6)} ` +
      `${(best / isal).toFixed(2).padStart(6)}\n`)
  }
  process.stdout.write(`least: ${Math.min(...rows.map(({ best, isal }) => best / isal)).toFixed(2)}\n`)
}

async function measureGrid(ms: number): Promise<GridRow[]> {
  const [best, isal] = ['native', 'isal'].map((cpu) =>
    fork(fileURLToPath(import.meta.url), ['--serve'], { env: { ...process.env, OSTRAKA_CPU: cpu } }))
  if (best === undefined || isal === undefined) return []
  try {
    const rows: GridRow[] = []
    for (const [k, m] of GEOMETRIES) {
      for (const { name, stripe, span } of SIZES) {
        const row = { name: `${k}+${m}, ${name}`, best: 0, isal: 0 }
        for (let round = 0; round < ROUNDS; round++) {
          row.best = Math.max(row.best, await ask(best, { k, m, stripe, span }, ms / ROUNDS))
          row.isal = Math.max(row.isal, await ask(isal, { k, m, stripe, span }, ms / ROUNDS))
        }
        rows.push(row)
      }
    }
    return rows
  } finally {
    best.kill()
    isal.kill()
  }
}

if (process.argv[2] === '--serve') {
  const memory = new Uint8Array(Math.max(...SIZES.map(({ span }) => span))).fill(3)
  process.on('message', (message) => {
    const { cell, ms } = message as { cell: Cell; ms: number }
    process.send?.(measure(cell, ms, memory))
  })
  process.on('disconnect', () => process.exit())
} else if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const rows = await measureGrid(Number(process.argv[2] ?? 50))
  if (process.argv[3] === '--json') process.stdout.write(JSON.stringify(rows))
  else print(rows)
}
