/**
 * The pipeline of a stripe, from pieces as a socket brings them to k+m cells with checksums: by one call, and by the
 * separate calls for each step (a copy for each piece, `encode`, `sealBlock` for each shard). GB of part data per
 * second.
 *
 * Beside them what limits it: `only moved` is the same bytes moved by plain copies (every piece into its cell, then as
 * many more as the parity has), with nothing computed, in the same places; `only computed` is parity and checksums of
 * a stripe that is in place and in the second-level cache. Both together are what a call takes that moves each byte
 * once and finds everything else in that cache.
 *
 * Stripes come from one buffer, which a cache may hold, and from so many in turn that no cache holds them, as a server
 * with many uploads sees it. The ways take turns, each time with other buffers, and the median of each counts.
 */
import { encode, sealBlock, sealStripe, slabMemory } from '../ts/native/erasure.js'
import { rate } from './rate.js'

const [K, M] = [8, 4]
const PIECE = 64 * 1024
const SUM = 16
const ROUNDS = 7
/** Stripes up to this are computed in a second-level cache of 512 KiB or more. */
const COMPUTED = 256 << 10
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
  const stride = strideOf(stripe)
  const slab = slabMemory(stride * (K + M)).fill(fill)
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

const strideOf = (stripe: number): number => Math.ceil((SUM + stripe / K) / 64) * 64

function waysOf(stripe: number, work: readonly Work[]): Record<string, (turn: number) => void> {
  const dataId = new Uint8Array(16)
  const shapeOf = (bytes: number) => ({ k: K, m: M, blockSize: bytes / K, stride: strideOf(bytes) })
  const [shape, computed] = [shapeOf(stripe), shapeOf(Math.min(stripe, COMPUTED))]
  const inPlace = slabMemory(computed.stride * (K + M)).fill(1)
  const at = (turn: number): Work => work[turn % work.length] as Work
  return {
    'one call': (turn) => { sealStripe(at(turn).slab, shape, dataId, 0, at(turn).pieces) },
    'separate calls': (turn) => {
      const { blocks, cells } = at(turn)
      split(at(turn))
      encode(K, M, shape.blockSize, blocks.slice(0, K), blocks.slice(K))
      for (const [shard, cell] of cells.entries()) sealBlock(cell, dataId, shard, 0)
    },
    'only moved': (turn) => {
      const { blocks } = at(turn)
      split(at(turn))
      for (let i = 0; i < M; i++) blocks[K + i]?.set(blocks[i] ?? dataId)
    },
    [ONLY_COMPUTED]: () => { sealStripe(inPlace, computed, dataId, 0) },
  }
}

const ONLY_COMPUTED = 'only computed'

/** Rows named `seal 8+4 from pieces, <place>: one call | separate calls | only moved | only computed`. */
export function measurePipeline(measureMs: number, out: Record<string, number>): void {
  for (const { name, stripe, stripes } of PLACES) {
    const rates = new Map<string, number[]>()
    let work: Work[] = []
    for (let round = 0; round < ROUNDS; round++) {
      if (stripes === 1 || round === 0) work = Array.from({ length: Math.ceil(stripes) }, (_, i) => lay(stripe, i))
      for (const [way, once] of Object.entries(waysOf(stripe, work))) {
        const bytes = way === ONLY_COMPUTED ? Math.min(stripe, COMPUTED) : stripe
        const turns = way === ONLY_COMPUTED ? 16 : Math.max(16, work.length)
        rates.set(way, [...rates.get(way) ?? [], rate(measureMs / ROUNDS, bytes, once, turns)])
      }
    }
    for (const [way, found] of rates) out[pipelineRow(name, way)] = found.sort((a, b) => a - b)[ROUNDS >> 1] ?? NaN
  }
}

const pipelineRow = (place: string, way: string): string => `seal ${K}+${M} from pieces, ${place}: ${way}`

/**
 * For every place: what the one call gains over the separate ones, and how near it comes to only moving the bytes and
 * to moving them and computing one after the other. `worst`: the least, over all places, of what is promised, twice
 * the separate calls or four fifths of moving and computing, whichever is less; 1 keeps the promise.
 */
export function pipelineRatios(of: Record<string, number>): Record<string, number> {
  const ratios: Record<string, number> = {}
  let worst = Infinity
  for (const { name } of PLACES) {
    const [one, apart, moved, computed] = ['one call', 'separate calls', 'only moved', ONLY_COMPUTED]
      .map((way) => of[pipelineRow(name, way)] ?? NaN) as [number, number, number, number]
    const both = one * (1 / moved + 1 / computed)
    ratios[`seal from pieces to separate calls, ${name}`] = one / apart
    ratios[`seal from pieces to moving and computing, ${name}`] = both
    ratios[`seal from pieces to only moving, ${name}`] = one / moved
    worst = Math.min(worst, Math.max(one / apart / 2, both / 0.8))
  }
  ratios['seal from pieces, worst'] = worst
  return ratios
}
