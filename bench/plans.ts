/** Which S3 cells a run measures, and for how long. */
import { allCells } from '../ts/cli/load/s3_bench.js'
import type { Cell } from '../ts/cli/load/s3_bench.js'
import { OPERATIONS } from '../ts/cli/load/workload.js'
import type { RunOptions } from './options.js'

const KiB = 1024
const MiB = 1024 * KiB
const SIZES = [4 * KiB, 256 * KiB, 4 * MiB, 10 * MiB]
const CLIENTS = [1, 8, 32, 64]

export type S3Choice = Pick<RunOptions, 'quick' | 'operations' | 'sizes' | 'clients' | 'seconds' | 'rounds'>

/** In a quick run, without a choice of cells, those that have targets and one of each kind. */
export function s3Cells(choice: S3Choice): Cell[] {
  const { quick } = choice
  const timing = {
    rounds: choice.rounds ?? 1, warmUpMs: quick ? 250 : 500, windowMs: (choice.seconds ?? (quick ? 1.5 : 3)) * 1000,
  }
  const listKeys = quick ? 2000 : 20_000
  if (!quick || choice.operations !== undefined || choice.sizes !== undefined || choice.clients !== undefined) {
    return allCells(
      {
        operations: choice.operations ?? OPERATIONS,
        sizes: choice.sizes ?? SIZES,
        clients: choice.clients ?? CLIENTS,
        listKeys,
      },
      timing,
    )
  }
  // The figures with a target are repeated, so that one moment's noise does not decide.
  const judged = { ...timing, rounds: choice.rounds ?? 3 }
  const read = ['PUT', 'GET'] as const
  return [
    ...allCells({ operations: read, sizes: [4 * KiB], clients: [1], listKeys }, timing),
    ...allCells({ operations: read, sizes: [4 * KiB], clients: [32], listKeys }, judged),
    ...allCells({ operations: ['HEAD', 'MIXED', 'DELETE'], sizes: [4 * KiB], clients: [32], listKeys }, timing),
    ...allCells({ operations: read, sizes: [256 * KiB], clients: [32], listKeys }, timing),
    ...allCells({ operations: read, sizes: [4 * MiB, 10 * MiB], clients: [8], listKeys }, timing),
    ...allCells({ operations: ['LIST'], sizes: [], clients: [8], listKeys }, timing),
  ]
}

/** Sizes, and PUTs counted with one client. */
export function flushPlan(quick: boolean): { sizes: readonly number[]; puts: number } {
  return quick ? { sizes: [4 * KiB], puts: 300 } : { sizes: [4 * KiB, MiB], puts: 1000 }
}

/** A quick run leaves etcd out. */
export function metadataPlan(quick: boolean): { warmUpMs: number; windowMs: number; rounds: number; etcd: boolean } {
  return quick
    ? { warmUpMs: 500, windowMs: 1000, rounds: 1, etcd: false }
    : { warmUpMs: 1000, windowMs: 3000, rounds: 2, etcd: true }
}
