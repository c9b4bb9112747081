/**
 * The parts that need no server, each run in a process of its own (`parts.js <name> <quick|full> [folder]`): what one
 * part leaves in the heap or teaches the compiler does not touch the next, and an interrupt can end it at any time.
 * The process prints PartResult as JSON.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { fileURLToPath, pathToFileURL } from 'node:url'

import { runDrive } from './drive.js'
import { run as runIndex, targets as indexTargets } from './index.js'
import { benchKernels, kernelRatios } from './kernels.js'
import { interrupted } from './lifetime.js'
import { flatten, slug } from './metrics.js'
import type { Metrics } from './metrics.js'
import { run as runPlacement } from './placement.js'
import type { Verdict } from './targets.js'

export interface PartResult {
  metrics: Metrics
  /** What is worth knowing and is no number. */
  notes: Record<string, string>
  /** Promises that the part judges itself. */
  targets?: Verdict[]
}

type Part = (quick: boolean, folder: string) => Promise<PartResult>

const PARTS: Record<string, Part | undefined> = {
  kernels: async (quick) => kernels(quick),
  index: async (quick) => index(quick),
  placement: async (quick) => ({ metrics: flatten(await runPlacement(quick)), notes: {} }),
  drive: async (quick, folder) => ({ metrics: await runDrive(quick, folder), notes: {} }),
}

function kernels(quick: boolean): PartResult {
  const figures = benchKernels(quick)
  const metrics: Metrics = {}
  const notes: Record<string, string> = {}
  for (const { kernel, gbPerSecond } of figures.results) {
    const name = kernel.startsWith('best') ? 'best' : kernel
    if (name !== kernel) notes['kernels.best'] = kernel
    for (const [what, rate] of Object.entries(gbPerSecond)) metrics[`kernels.${slug(what)}.${name}.GB_per_s`] = rate
  }
  for (const [what, ratio] of Object.entries(kernelRatios(figures)))
    if (!Number.isNaN(ratio)) metrics[`kernels.${slug(what)}.ratio`] = ratio
  return { metrics, notes }
}

async function index(quick: boolean): Promise<PartResult> {
  const metrics = await runIndex(quick)
  const targets = indexTargets(metrics).map(({ name, figure, limit, unit, atLeast, met }): Verdict => {
    const shown = Number(limit.toPrecision(3))
    const about = { section: 'index', text: name.replace(/, at (least|most)$/, ''), unit, figure }
    return { ...about, limit: `${atLeast ? 'at least' : 'at most'} ${String(shown)}`, met: met ? 'met' : 'not met' }
  })
  return { metrics: flatten(metrics), notes: {}, targets }
}

/** Rejects with the part's own words, or with an AbortError when the run is interrupted. */
export async function runPart(name: string, quick: boolean, folder = ''): Promise<PartResult> {
  interrupted.throwIfAborted()
  const program = fileURLToPath(import.meta.url)
  const child = spawn(process.execPath, [program, name, quick ? 'quick' : 'full', folder], {
    stdio: ['ignore', 'pipe', 'inherit'], detached: true,
  })
  const kill = (): void => {
    try {
      // Its own children are of its group.
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL')
    } catch {
      // Gone already.
    }
  }
  interrupted.addEventListener('abort', kill)
  process.once('exit', kill)
  try {
    const closed = once(child, 'close') as Promise<[number | null]>
    const [output, [code]] = await Promise.all([text(child.stdout), closed])
    interrupted.throwIfAborted()
    if (code !== 0) throw new Error(`the part ${name} failed`)
    return JSON.parse(output) as PartResult
  } finally {
    interrupted.removeEventListener('abort', kill)
    process.off('exit', kill)
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const [, , name = '', mode, folder = ''] = process.argv
  const part = PARTS[name]
  if (part === undefined) throw new Error(`there is no part ${name}`)
  process.stdout.write(JSON.stringify(await part(mode === 'quick', folder)))
}
