/**
 * `npm run test:fuzz [-- --seconds N] [--target NAME] [--seed N]`: random changes of known inputs against every parser of
 * outside bytes, for N seconds together (default 30). An input that a parser answers in a way it does not document is
 * written to test/fuzz/corpus/<target>/ and ends the run; inputs there are tried first in every run.
 */
import { createHash, randomInt } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

import { FuzzRandom, mutate } from './mutate.js'
import { TARGETS, type FuzzTarget } from './targets.js'

const CORPUS = fileURLToPath(new URL('../../../test/fuzz/corpus/', import.meta.url))
/** An input that takes longer than this is a finding too. */
const SLOW_MS = 2000
/** Inputs made from others that are kept to be changed further. */
const MOST_KEPT = 500

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '30' }, target: { type: 'string' }, seed: { type: 'string' },
  },
})
const seconds = Number(values.seconds)
const seed = values.seed === undefined ? randomInt(1, 2 ** 31) : Number(values.seed)
const targets = TARGETS.filter(({ name }) => values.target === undefined || name === values.target)
if (!(seconds > 0) || !Number.isInteger(seed) || targets.length === 0) {
  throw new Error('usage: [--seconds N] [--target NAME] [--seed N]')
}

function folderOf(target: FuzzTarget): string {
  return join(CORPUS, target.name.replace(/[^a-z]/g, '_'))
}

function corpusOf(target: FuzzTarget): Buffer[] {
  const folder = folderOf(target)
  const stored = existsSync(folder) ? readdirSync(folder).sort().map((name) => readFileSync(join(folder, name))) : []
  return [...stored, ...target.seeds]
}

async function attempt(target: FuzzTarget, input: Buffer): Promise<void> {
  const started = performance.now()
  try {
    await target.run(input)
    const taken = performance.now() - started
    if (taken > SLOW_MS) throw new Error(`took ${taken.toFixed(0)} ms`)
  } catch (error) {
    const folder = folderOf(target)
    mkdirSync(folder, { recursive: true })
    const file = join(folder, `found-${createHash('sha256').update(input).digest('hex').slice(0, 16)}`)
    writeFileSync(file, input)
    process.stderr.write(`${target.name}: finding, seed ${String(seed)}, input in ${file}\n`)
    throw error
  }
}

async function fuzz(target: FuzzTarget, random: FuzzRandom, until: number): Promise<number> {
  const inputs = corpusOf(target)
  for (const input of inputs) await attempt(target, input)
  if (inputs.length === 0) inputs.push(Buffer.alloc(256))
  let runs = inputs.length
  const pick = (): Buffer => inputs[random.below(inputs.length)] ?? Buffer.alloc(0)
  while (performance.now() < until) {
    const input = mutate(pick(), pick(), random)
    await attempt(target, input)
    if (inputs.length < MOST_KEPT && random.below(50) === 0) inputs.push(input)
    runs += 1
  }
  return runs
}

process.stdout.write(`seed ${String(seed)}\n`)
const share = (seconds * 1000) / targets.length
for (const target of targets) {
  const runs = await fuzz(target, new FuzzRandom(seed), performance.now() + share)
  process.stdout.write(`${target.name}: ${String(runs)} inputs, no finding\n`)
}
