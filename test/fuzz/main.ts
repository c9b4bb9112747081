/**
 * `npm run test:fuzz`: random changes of known inputs against every parser of outside bytes, kept and changed further
 * when they reach something new in the code (coverage.ts), for a bounded time.
 *
 *   --seconds N    for all targets together (default 45, or OSTRAKA_FUZZ_SECONDS)
 *   --target NAME  only this one
 *   --seed N       the same random choices again; how far they get depends on the machine
 *   --replay FILE  runs one input through the target (or the files of a folder) and nothing else
 *   --minimise     afterwards writes the smallest inputs that reach all places to the corpus
 *
 * An input that a parser answers in a way it does not document is written to test/fuzz/findings/<target>/ and ends the
 * run with how to replay it. test/fuzz/corpus/<target>/ is tried first in every run; put findings there when they are
 * mended.
 */
import { createHash, randomInt } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { register } from 'node:module'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

import { coverage } from './coverage.js'
import { FuzzRandom, mutate } from './mutate.js'
import type { FuzzTarget } from './target.js'

const HERE = fileURLToPath(new URL('../../../test/fuzz/', import.meta.url))
/** An input that takes longer than this is a finding too. */
const SLOW_MS = 2000
/** Inputs that are kept to be changed further, and the longest of them. */
const MOST_KEPT = 2000
const LONGEST_KEPT = 16 * 1024
/** Of the inputs that `--minimise` writes. */
const LONGEST_STORED = 4096

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: process.env['OSTRAKA_FUZZ_SECONDS'] ?? '45' }, target: { type: 'string' },
    seed: { type: 'string' }, replay: { type: 'string' }, minimise: { type: 'boolean', default: false },
  },
})
const seconds = Number(values.seconds)
const seed = values.seed === undefined ? randomInt(1, 2 ** 31) : Number(values.seed)

register('./hooks.js', import.meta.url)
const { TARGETS } = await import('./targets.js')
const targets = TARGETS.filter(({ name }) => values.target === undefined || name === values.target)
if (!(seconds > 0) || !Number.isInteger(seed) || targets.length === 0) {
  throw new Error(`usage: [--seconds N] [--target NAME] [--seed N] [--replay FILE] [--minimise], where NAME is one of ${
    TARGETS.map(({ name }) => `'${name}'`).join(', ')}`)
}

function folderOf(target: FuzzTarget, kind: 'corpus' | 'findings'): string {
  return join(HERE, kind, target.name.replace(/[^a-z]/g, '_'))
}

function filesIn(folder: string): Buffer[] {
  return existsSync(folder) ? readdirSync(folder).sort().map((name) => readFileSync(join(folder, name))) : []
}

const digest = (input: Buffer): string => createHash('sha256').update(input).digest('hex').slice(0, 16)

/** Runs the target on a copy, since targets may write to their input. */
async function attempt(target: FuzzTarget, input: Buffer): Promise<void> {
  const started = performance.now()
  coverage.clear()
  try {
    await target.run(Buffer.from(input))
    const taken = performance.now() - started
    if (taken > SLOW_MS) throw new Error(`took ${taken.toFixed(0)} ms`)
  } catch (error) {
    const folder = folderOf(target, 'findings')
    mkdirSync(folder, { recursive: true })
    const file = join(folder, digest(input))
    writeFileSync(file, input)
    const shown = relative(process.cwd(), file)
    process.stderr.write(`${target.name}: finding, seed ${String(seed)}; again with\n  ` +
      `npm run test:fuzz -- --target '${target.name}' --replay ${shown}\n`)
    throw error
  }
}

interface Outcome {
  runs: number
  kept: Buffer[]
}

async function fuzz(target: FuzzTarget, random: FuzzRandom, ms: number): Promise<Outcome> {
  coverage.reset()
  const until = performance.now() + ms
  const kept: Buffer[] = []
  let runs = 0
  const keepIfNew = async (input: Buffer): Promise<void> => {
    await attempt(target, input)
    runs++
    // A target whose code has no counters (the addon's) keeps what chance chooses.
    const isNew = coverage.takeNew() || (coverage.places() === 0 && random.below(50) === 0)
    if (isNew && kept.length < MOST_KEPT && input.length <= LONGEST_KEPT) kept.push(input)
  }
  const known = [...filesIn(folderOf(target, 'corpus')), ...target.seeds]
  for (const input of known.length === 0 ? [Buffer.alloc(256)] : known) await keepIfNew(input)
  if (kept.length === 0) kept.push(known[0] ?? Buffer.alloc(256))
  // What came last has seen the least.
  const pick = (): Buffer => kept[random.below(2) === 0 ? random.below(kept.length)
    : kept.length - 1 - random.below(Math.min(kept.length, 16))] ?? Buffer.alloc(0)
  while (performance.now() < until) await keepIfNew(mutate(pick(), pick(), random, coverage.words))
  return { runs, kept }
}

/** The shortest inputs first, each that reaches a place that those before it do not. */
async function minimise(target: FuzzTarget, kept: readonly Buffer[]): Promise<void> {
  const places = new Set<number>()
  for (const input of target.seeds) {
    await attempt(target, input)
    coverage.addPlaces(places)
  }
  const folder = folderOf(target, 'corpus')
  const stored = filesIn(folder)
  for (const name of existsSync(folder) ? readdirSync(folder) : []) {
    if (/^[0-9a-f]{16}$/.test(name)) rmSync(join(folder, name))
  }
  for (const input of filesIn(folder)) {
    await attempt(target, input)
    coverage.addPlaces(places)
  }
  for (const input of [...kept, ...stored].sort((a, b) => a.length - b.length)) {
    if (input.length > LONGEST_STORED) break
    await attempt(target, input)
    if (coverage.addPlaces(places) === 0) continue
    mkdirSync(folder, { recursive: true })
    writeFileSync(join(folder, digest(input)), input)
  }
}

process.stdout.write(`seed ${String(seed)}\n`)
for (const target of targets) {
  if (values.replay !== undefined) {
    await attempt(target, readFileSync(values.replay))
    process.stdout.write(`${target.name}: ${values.replay} is answered as documented\n`)
    continue
  }
  const { runs, kept } = await fuzz(target, new FuzzRandom(seed), (seconds * 1000) / targets.length)
  process.stdout.write(`${target.name}: ${String(runs)} inputs, ${String(coverage.places())} places reached, ` +
    `${String(kept.length)} inputs kept, no finding\n`)
  if (values.minimise) await minimise(target, kept)
}
