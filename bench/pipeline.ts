/**
 * The pipeline of a stripe, from pieces as a socket brings them to k+m cells with checksums: by one call, and by the
 * separate calls for each step (a copy for each piece, `encode`, `sealBlock` for each shard). GB of part data per
 * second.
 *
 * Beside them the limit: the same bytes moved by plain copies (every piece into its cell, then as many more as the
 * parity has), with nothing computed. Stripes come from one buffer, which a cache may hold, and from so many in turn
 * that no cache holds them, as a server with many uploads sees it. The three take turns, and the best of each counts.
 */
import { encode, sealBlock, sealStripe } from '../ts/native/erasure.js'
import { rate } from './rate.js'

const [K, M] = [8, 4]
const PIECE = 64 * 1024
const SUM = 16
const ROUNDS = 3
/** More than any second- or third-level cache that one core is given. */
const OUT_OF_CACHE = 96 << 20

const PLACES = [
  { name: '4 KiB stripe', stripe: 4096, stripes: 1 },
  { name: '64 KiB stripe', stripe: 65536, stripes: 1 },
  { name: '256 KiB stripe', stripe: 262144, stripes: 1 },
  { name: '1 MiB stripe in cache', stripe: 1 << 20, stripes: 1 },
  { name: '1 MiB stripe out of cache', stripe: 1 << 20, stripes: OUT_OF_CACHE / (5 << 19) },
]

interface Work {
  slab: Uint8Array
  cells: Uint8Array[]
  blocks: Uint8Array[]
  pieces: Uint8Array[]
  /** What lies where: piece by piece, cut at the ends of blocks. */
  cuts: { from: Uint8Array; block: Uint8Array; at: number }[]
}

function lay(stripe: number, fill: number): Work {
  const blockSize = stripe / K
  const stride = Math.ceil((SUM + blockSize) / 64) * 64
  const slab = new Uint8Array(stride * (K + M)).fill(fill)
  const cells = Array.from({ length: K + M }, (_, i) => slab.subarray(i * stride, i * stride + SUM + blockSize))
  const blocks = cells.map((cell) => cell.subarray(SUM))
  const body = new Uint8Array(stripe).fill(fill + 1)
  const pieces: Uint8Array[] = []
  for (let at = 0; at < stripe; at += PIECE) pieces.push(body.subarray(at, at + PIECE))
  const cuts: Work['cuts'] = []
  const step = Math.min(PIECE, blockSize)
  for (let at = 0; at < stripe; at += step) {
    const block = blocks[Math.floor(at / blockSize)] ?? slab
    cuts.push({ from: body.subarray(at, at + step), block, at: at % blockSize })
  }
  return { slab, cells, blocks, pieces, cuts }
}

function split({ cuts }: Work): void {
  for (const { from, block, at } of cuts) block.set(from, at)
}

/** Rows named `seal 8+4 from pieces, <place>: one call | separate calls | only moved`. */
export function measurePipeline(measureMs: number, out: Record<string, number>): void {
  const dataId = new Uint8Array(16)
  for (const { name, stripe, stripes } of PLACES) {
    const blockSize = stripe / K
    const work = Array.from({ length: Math.ceil(stripes) }, (_, i) => lay(stripe, i))
    const shape = { k: K, m: M, blockSize, stride: Math.ceil((SUM + blockSize) / 64) * 64 }
    const at = (turn: number): Work => work[turn % work.length] as Work
    const ways: Record<string, (turn: number) => void> = {
      'one call': (turn) => { sealStripe(at(turn).slab, shape, dataId, 0, at(turn).pieces) },
      'separate calls': (turn) => {
        const { blocks, cells } = at(turn)
        split(at(turn))
        encode(K, M, blockSize, blocks.slice(0, K), blocks.slice(K))
        for (const [shard, cell] of cells.entries()) sealBlock(cell, dataId, shard, 0)
      },
      'only moved': (turn) => {
        const { blocks } = at(turn)
        split(at(turn))
        for (let i = 0; i < M; i++) blocks[K + i]?.set(blocks[i] ?? dataId)
      },
    }
    for (let round = 0; round < ROUNDS; round++) {
      for (const [way, once] of Object.entries(ways)) {
        const row = pipelineRow(name, way)
        out[row] = Math.max(out[row] ?? 0, rate(measureMs / ROUNDS, stripe, once, Math.max(16, work.length)))
      }
    }
  }
}

const pipelineRow = (place: string, way: string): string => `seal ${K}+${M} from pieces, ${place}: ${way}`

/** For every place: what the one call gains over the separate ones, and how near it comes to only moving the bytes. */
export function pipelineRatios(of: Record<string, number>): Record<string, number> {
  const ratios: Record<string, number> = {}
  for (const { name } of PLACES) {
    const one = of[pipelineRow(name, 'one call')] ?? NaN
    ratios[`seal from pieces to separate calls, ${name}`] = one / (of[pipelineRow(name, 'separate calls')] ?? NaN)
    ratios[`seal from pieces to only moving, ${name}`] = one / (of[pipelineRow(name, 'only moved')] ?? NaN)
  }
  return ratios
}
