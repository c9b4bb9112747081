/**
 * Speed of the native kernels, in a process of its own so that OSTRAKA_CPU can choose them: run with `--run <ms>`, it
 * prints KernelResult as JSON. Figures are GB (1e9 bytes) of part data per second on one thread: encode and
 * reconstruct count the k data blocks, checksums the bytes hashed, memcpy the bytes copied.
 */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'

import { erasureKernel, reconstruct, sealStripe, encode } from '../ts/native/erasure.js'
import { crc32c, crc64nvme, xxh3_128 } from '../ts/native/hash.js'

export interface KernelResult {
  kernel: string
  gbPerSecond: Record<string, number>
}

const STRIPE = 1 << 20
/** Buffers in turn, larger together than the caches of most machines would like. */
const TURNS = 16

/** Kernels to compare, as OSTRAKA_CPU names them. */
export function benchKernels(measureMs: number): KernelResult[] {
  return ['portable', 'native'].map((cpu) => {
    const run = spawnSync(process.execPath, [fileURLToPath(import.meta.url), '--run', String(measureMs)], {
      env: { ...process.env, OSTRAKA_CPU: cpu },
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    if (run.status !== 0) throw new Error(`the ${cpu} kernels failed`)
    return JSON.parse(run.stdout) as KernelResult
  })
}

function rate(measureMs: number, bytes: number, once: (turn: number) => void): number {
  for (let i = 0; i < TURNS; i++) once(i)
  let turns = 0
  const started = performance.now()
  let elapsed = 0
  while (elapsed < measureMs) {
    for (let i = 0; i < TURNS; i++) once(i)
    turns += TURNS
    elapsed = performance.now() - started
  }
  return (turns * bytes) / (elapsed / 1000) / 1e9
}

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
  out[`seal (encode and checksums) ${name}`] = rate(measureMs, STRIPE, (t) => {
    const slab = slabs[t]
    if (slab !== undefined) sealStripe(slab, { k, m, blockSize, stride }, dataId, 0)
  })
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
