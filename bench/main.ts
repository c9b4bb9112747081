/** `npm run bench`: runs what its options ask for, prints tables, and writes the result and its report. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

import { compare, compareTable, regressions } from './compare.js'
import { environment } from './environment.js'
import { runFlushes } from './flushes.js'
import { runMemory } from './memory.js'
import { runMetadata } from './metadata/run.js'
import { catchInterrupts, interrupted, withDrives } from './lifetime.js'
import { HELP, UsageError, parseOptions } from './options.js'
import type { Options, Part, RunOptions } from './options.js'
import { runPart } from './parts.js'
import { flushPlan, metadataPlan, s3Cells } from './plans.js'
import { report } from './report.js'
import { readResult } from './result.js'
import type { Result } from './result.js'
import { runS3 } from './s3.js'
import { markdown, tablesOf, targetTable } from './tables.js'
import { judge } from './targets.js'
import type { Verdict } from './targets.js'

const EXIT = { ok: 0, failure: 1, usage: 2, interrupted: 130 } as const

interface PartOutcome {
  metrics: Result['metrics']
  spread?: Result['spread']
  notes?: Result['notes']
  targets?: Verdict[]
}

function say(line: string): void {
  process.stderr.write(`${line}\n`)
}

async function run(options: RunOptions): Promise<number> {
  const started = performance.now()
  const where = environment(options.drivesIn)
  const outcomes: PartOutcome[] = []
  for (const part of options.only) {
    say(`${part}, ${String(Math.round((performance.now() - started) / 1000))} s after the begin`)
    outcomes.push(await runOne(part, options))
  }
  const metrics = Object.assign({}, ...outcomes.map((outcome) => outcome.metrics)) as Result['metrics']
  const result: Result = {
    format: 1, date: where.date, environment: where, quick: options.quick,
    seconds: Math.round((performance.now() - started) / 100) / 10,
    metrics,
    spread: Object.assign({}, ...outcomes.map(({ spread }) => spread ?? {})) as Result['spread'],
    notes: Object.assign({}, ...outcomes.map(({ notes }) => notes ?? {})) as Result['notes'],
    targets: [...outcomes.flatMap(({ targets }) => targets ?? []), ...judge(metrics)]
      .filter(({ section }) => options.only.some((part) => part === section)),
  }
  write(options, result)
  return EXIT.ok
}

async function runOne(part: Part, options: RunOptions): Promise<PartOutcome> {
  const { quick, drivesIn } = options
  const workers = options.workers ?? availableParallelism()
  switch (part) {
    case 's3':
      return runS3({ cells: s3Cells(options), workers, drivesIn, others: options.others, say })
    case 'flushes':
      return { metrics: await runFlushes({ ...flushPlan(quick), workers, drivesIn, say }) }
    case 'memory':
      return { metrics: await runMemory({ objects: quick ? 5000 : 50_000, workers, drivesIn, say }) }
    case 'metadata':
      return runMetadata({ ...metadataPlan(quick), drivesIn, say })
    case 'drive':
      return withDrives(1, drivesIn, ([folder]) => runPart(part, quick, folder))
    case 'kernels':
    case 'index':
    case 'placement':
      return runPart(part, quick)
  }
}

function write(options: RunOptions, result: Result): void {
  const { environment: e } = result
  const folder = fileURLToPath(new URL('../../bench/results/', import.meta.url))
  const json = options.json ?? join(folder, `${result.date.replace(/[:.]/g, '-')}.json`)
  const html = options.html ?? `${json.replace(/\.json$/, '')}.html`
  process.stdout.write(`${e.cpu}, ${String(e.cores)} cores, ${String(e.memoryGiB)} GiB, ${e.kernel}, Node ${e.node}, ` +
    `drives on ${e.fileSystem}, commit ${e.commit}, ${String(result.seconds)} s\n\n`)
  process.stdout.write(`${markdown([...tablesOf(result), targetTable(result.targets)])}\n`)
  for (const [file, text] of [[json, `${JSON.stringify(result, null, 2)}\n`], [html, report(result)]] as const) {
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, text)
    say(`written: ${file}`)
  }
}

function runCompare(options: Extract<Options, { command: 'compare' }>): number {
  const comparison = compare(readResult(options.before), readResult(options.after), options.noise)
  process.stdout.write(compareTable(comparison, options.all))
  const { threshold } = options
  if (threshold === undefined) return EXIT.ok
  const worse = regressions(comparison, threshold)
  for (const { name, percent } of worse) say(`regressed by more than ${String(threshold)} %: ${name} (${percent.toFixed(1)} %)`)
  return worse.length > 0 ? EXIT.failure : EXIT.ok
}

async function main(): Promise<number> {
  let options: Options
  try {
    options = parseOptions(process.argv.slice(2), process.env)
  } catch (error) {
    if (!(error instanceof UsageError)) throw error
    say(`bench: ${error.message}\n\n${HELP}`)
    return EXIT.usage
  }
  switch (options.command) {
    case 'help':
      process.stdout.write(HELP)
      return EXIT.ok
    case 'compare':
      return runCompare(options)
    case 'report': {
      writeFileSync(options.html, report(readResult(options.file)))
      return EXIT.ok
    }
    case 'run':
      catchInterrupts()
      return run(options)
  }
}

try {
  process.exitCode = await main()
} catch (error) {
  // A signal that came with the failure is told in the next turn of the loop.
  await new Promise((resolve) => setImmediate(resolve))
  if (!interrupted.aborted) say(`bench: ${(error as Error).message}`)
  process.exitCode = interrupted.aborted ? EXIT.interrupted : EXIT.failure
}
