/**
 * `npm run bench [-- options]`: the first set of measurements. Prints tables and writes bench/results/<time>.json.
 *
 *   --quick        seconds instead of minutes, to see that everything runs
 *   --only a,b     of: kernels, index, placement, http, flushes
 *   --drives-in D  make the drives below this directory (default: the system's directory for temporary files)
 *   --out FILE     where the JSON goes
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

import { environment } from './environment.js'
import { benchFlushes } from './flushes.js'
import { benchHttp } from './http.js'
import type { HttpPlan } from './http.js'
import { indexTable, run as benchIndex } from './index.js'
import { benchKernels } from './kernels.js'
import { placementPlot, placementTable, run as benchPlacement } from './placement.js'
import { flushTable, httpTable, kernelTable } from './tables.js'

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    only: { type: 'string', default: 'kernels,index,placement,http,flushes' },
    'drives-in': { type: 'string' },
    out: { type: 'string' },
  },
})

const quick = values.quick
const only = values.only.split(',')
const where = environment()
const results: Record<string, unknown> = { environment: where, quick }
const print = (text: string): void => {
  process.stdout.write(`${text}\n`)
}

const plan: HttpPlan = {
  sizes: [4096, 256 * 1024, 10 * 1024 * 1024],
  listKeys: quick ? 2000 : 20_000,
  connections: 32,
  warmUpMs: quick ? 200 : 2000,
  measureMs: quick ? 1500 : 8000,
  workers: availableParallelism(),
  folder: values['drives-in'],
}

print(
  `${where.cpu}, ${String(where.cores)} cores, ${String(where.memoryGiB)} GiB, ${where.system}, Node ${where.node}, commit ${where.commit}\n`,
)
if (only.includes('kernels')) {
  const kernels = benchKernels(quick ? 30 : 300)
  results.kernels = kernels
  print(kernelTable(kernels))
}
if (only.includes('index')) {
  const index = await benchIndex(quick)
  results.index = index
  print(indexTable(index))
}
if (only.includes('placement')) {
  const placement = await benchPlacement(quick)
  results.placement = placement
  results.placementPlot = placementPlot(placement)
  print(placementTable(placement))
}
if (only.includes('http')) {
  const http = await benchHttp(plan, (line) => {
    process.stderr.write(`${line}\n`)
  })
  results.http = http
  print(httpTable(http))
}
if (only.includes('flushes')) {
  const flushes = await benchFlushes(plan, quick ? 50 : 400)
  results.flushes = flushes
  print(flushTable(flushes))
}
const root = fileURLToPath(new URL('../../', import.meta.url))
const file = values.out ?? join(root, 'bench', 'results', `${where.date.replace(/[:.]/g, '-')}.json`)
mkdirSync(dirname(file), { recursive: true })
writeFileSync(file, `${JSON.stringify(results, null, 2)}\n`)
print(`written to ${file}`)
