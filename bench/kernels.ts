/**
 * Speed of the native kernels, in a process of its own so that OSTRAKA_CPU can choose them: run with `--run <ms>`, it
 * prints KernelResult as JSON. Figures are GB (1e9 bytes) of part data per second on one thread: encode and
 * reconstruct count the k data blocks, checksums the bytes hashed, memcpy the bytes copied.
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { fileURLToPath } from 'node:url'

import { encode, erasureKernel, reconstruct, sealBlock, sealStripe } from '../ts/native/erasure.js'
import { crc32c, crc64nvme, xxh3_128 } from '../ts/native/hash.js'
import { md5Start, md5Update } from '../ts/native/md5.js'
import { benchGrid, leastOf, type Grid } from './kernel_grid.js'
import { measurePipeline, pipelineRatios } from './pipeline.js'
import { TURNS, rate } from './rate.js'

export interface KernelResult {
  kernel: string
  gbPerSecond: Record<string, number>
}

export interface KernelFigures {
  results: KernelResult[]
  grid: Grid
}

const STRIPE = 1 << 20
/** Kernels to compare, as OSTRAKA_CPU names them; those that the CPU lacks are left out. */
const LEVELS = ['portable', 'ssse3', 'avx2', 'gfni256', 'gfni512', 'neon', 'isal', 'native']
/** Each kernel's turn comes this often, and its best counts: a busy neighbour then spoils one turn, not one kernel. */
const ROUNDS = 3

export function benchKernels(quick: boolean): KernelFigures {
  const measureMs = quick ? 30 : 300
  const best = new Map<string, KernelResult>()
  for (let round = 0; round < ROUNDS; round++) {
    for (const cpu of LEVELS) {
      const result = runLevel(cpu, Math.ceil(measureMs / 10))
      if (result === undefined) continue
      const before = best.get(cpu)?.gbPerSecond ?? {}
      const entries = Object.entries(result.gbPerSecond)
      const gbPerSecond = Object.fromEntries(entries.map(([name, rate]) => [name, Math.max(rate, before[name] ?? 0)]))
      best.set(cpu, { kernel: cpu === 'native' ? `best (${result.kernel})` : cpu, gbPerSecond })
    }
  }
  const results = [...best.values()]
  const of = (kernel: string): Record<string, number> =>
    results.find((result) => result.kernel.startsWith(kernel))?.gbPerSecond ?? {}
  const grid = benchGrid(quick)
  for (const [name, rate] of grid) {
    const row = /^(.*): (best|isal)$/.exec(name)
    if (row !== null) of(row[2] ?? '')[`grid: ${row[1] ?? ''}`] = rate
  }
  return { results, grid }
}

function runLevel(cpu: string, measureMs: number): KernelResult | undefined {
  const run = spawnSync(process.execPath, [fileURLToPath(import.meta.url), '--run', String(measureMs)], {
    env: { ...process.env, OSTRAKA_CPU: cpu }, encoding: 'utf8',
  })
  if (run.status === 0) return JSON.parse(run.stdout) as KernelResult
  if (run.stderr.includes('this CPU lacks')) return undefined
  throw new Error(`the ${cpu} kernels failed\n${run.stderr}`)
}

/** What the kernels promise, as quotients of figures of the same run. */
export function kernelRatios({ results, grid }: KernelFigures): Record<string, number> {
  const of = (kernel: string): Record<string, number> =>
    results.find((result) => result.kernel.startsWith(kernel))?.gbPerSecond ?? {}
  const best = of('best')
  const quotient = (a: number | undefined, b: number | undefined): number => (a ?? NaN) / (b ?? NaN)
  return {
    'encode, least of the grid, best to ISA-L': leastOf(grid, ': ratio'),
    'encode 8+4 in L2, best to ISA-L': leastOf(grid, '8+4, L2: ratio'),
    'encode 8+4 out of L2, best to ISA-L': leastOf(grid, '8+4, out of L2: ratio', '8+4, out of L3: ratio'),
    'decode 8+4, 4 lost, to encode 8+4': leastOf(grid, '8+4, L2: to encode', '8+4, out of L2: to encode'),
    'encode 8+4 to memcpy': quotient(best['encode 8+4'], best['memcpy']),
    'seal 8+4 to encode and checksums apart': quotient(best[sealed('8+4')], best[apart('8+4')]),
    ...pipelineRatios(best),
    'MD5 of 16 streams to one OpenSSL stream': quotient(best['MD5, 16 streams'], best['MD5, OpenSSL']),
    'MD5 of one stream to OpenSSL': quotient(best['MD5, 1 stream'], best['MD5, OpenSSL']),
    'CRC32C to memcpy': quotient(best['CRC32C'], best['memcpy']),
    'CRC64NVME to memcpy': quotient(best['CRC64NVME'], best['memcpy']),
  }
}

const sealed = (name: string): string => `seal (encode and checksums) ${name}`
const apart = (name: string): string => `encode, then checksums ${name}`

function measureCode(k: number, m: number, measureMs: number, out: Record<string, number>): void {
  const blockSize = Math.ceil(STRIPE / k)
  const sets = Array.from({ length: TURNS }, (_, t) =>
    Array.from({ length: k + m }, (_, i) => new Uint8Array(blockSize).fill(t + i)),
  )
  const dataOf = (turn: number): Uint8Array[] => (sets[turn] ?? []).slice(0, k)
  const parityOf = (turn: number): Uint8Array[] => (sets[turn] ?? []).slice(k)
  const name = `${String(k)}+${String(m)}`
  out[`encode ${name}`] = rate(measureMs, STRIPE, (t) => {
    encode(k, m, blockSize, dataOf(t), parityOf(t))
  })
  const lost = Array.from({ length: Math.min(m, k) }, (_, i) => i)
  const rebuilt = lost.map(() => new Uint8Array(blockSize))
  out[`reconstruct ${name}, ${String(lost.length)} lost`] = rate(measureMs, STRIPE, (t) => {
    const blocks = (sets[t] ?? []).map((block, i) => (lost.includes(i) ? null : block))
    reconstruct(k, m, blockSize, blocks, lost, rebuilt)
  })
  const stride = 16 + blockSize
  const slabs = Array.from({ length: TURNS }, (_, t) => new Uint8Array(stride * (k + m)).fill(t))
  const dataId = new Uint8Array(16)
  out[sealed(name)] = rate(measureMs, STRIPE, (t) => {
    const slab = slabs[t]
    if (slab !== undefined) sealStripe(slab, { k, m, blockSize, stride }, dataId, 0)
  })
  const cells = slabs.map((slab) =>
    Array.from({ length: k + m }, (_, i) => slab.subarray(i * stride, (i + 1) * stride)))
  const blocks = cells.map((row) => row.map((cell) => cell.subarray(16)))
  out[apart(name)] = rate(measureMs, STRIPE, (t) => {
    const row = blocks[t] ?? []
    encode(k, m, blockSize, row.slice(0, k), row.slice(k))
    for (const [i, cell] of (cells[t] ?? []).entries()) sealBlock(cell, dataId, i, 0)
  })
}

/** Pieces of 64 KiB, as sockets bring them. */
function measureMd5(measureMs: number, out: Record<string, number>): void {
  const pieces = Array.from({ length: 16 }, (_, i) => new Uint8Array(65536).fill(i))
  const hash = createHash('md5')
  const piece = new Uint8Array(65536)
  out['MD5, OpenSSL'] = rate(measureMs, piece.length, () => { hash.update(piece) })
  for (const streams of [1, 4, 16]) {
    const states = Array.from({ length: streams }, () => md5Start())
    const turn = pieces.slice(0, streams)
    const name = streams === 1 ? 'MD5, 1 stream' : `MD5, ${String(streams)} streams`
    out[name] = rate(measureMs, streams * piece.length, () => { md5Update(states, turn) })
  }
}

function measureAll(measureMs: number): KernelResult {
  const out: Record<string, number> = {}
  for (const [k, m] of [
    [2, 2],
    [4, 2],
    [8, 4],
    [12, 4],
  ] as const)
    measureCode(k, m, measureMs, out)
  if (process.env['OSTRAKA_CPU'] === 'native') measurePipeline(measureMs * 3, out)
  measureMd5(measureMs, out)
  const buffers = Array.from({ length: TURNS }, (_, t) => new Uint8Array(STRIPE).fill(t))
  const at = (turn: number): Uint8Array => buffers[turn] ?? new Uint8Array(0)
  const digest = new Uint8Array(16)
  out['XXH3-128'] = rate(measureMs, STRIPE, (t) => {
    xxh3_128(at(t), 1n, digest)
  })
  out['CRC32C'] = rate(measureMs, STRIPE, (t) => {
    crc32c(at(t))
  })
  out['CRC64NVME'] = rate(measureMs, STRIPE, (t) => {
    crc64nvme(at(t))
  })
  const target = new Uint8Array(STRIPE)
  out['memcpy'] = rate(measureMs, STRIPE, (t) => {
    target.set(at(t))
  })
  return { kernel: erasureKernel(), gbPerSecond: out }
}

if (process.argv[2] === '--run') process.stdout.write(JSON.stringify(measureAll(Number(process.argv[3]))))
