/** The command line of `npm run bench`: three commands, everything checked before anything runs. */
import { parseArgs } from 'node:util'

import { nameProblem, parseOperation } from '../ts/cli/load/s3_bench.js'
import { parseClients, parseList, parseSize } from '../ts/cli/load/sizes.js'
import { parseEndpoint } from '../ts/cli/load/target.js'
import type { S3Target } from '../ts/cli/load/target.js'
import type { Operation } from '../ts/cli/load/workload.js'

/** In the order in which they run: what computes first, so that the drives' writes cannot disturb it. */
export const PARTS = ['kernels', 'index', 'placement', 'drive', 'flushes', 'memory', 'metadata', 's3'] as const
export type Part = (typeof PARTS)[number]

/** Names for several parts. */
const GROUPS: Record<string, readonly Part[]> = { native: ['kernels', 'index'], all: PARTS }

export interface RunOptions {
  command: 'run'
  quick: boolean
  only: readonly Part[]
  json: string | undefined
  html: string | undefined
  drivesIn: string | undefined
  others: S3Target[]
  /** Undefined: what the mode chooses. */
  operations: readonly Operation[] | undefined
  sizes: readonly number[] | undefined
  clients: readonly number[] | undefined
  seconds: number | undefined
  rounds: number | undefined
  workers: number | undefined
}

export type Options =
  | RunOptions
  | { command: 'help' }
  | { command: 'compare'; before: string; after: string; threshold: number | undefined; noise: number; all: boolean }
  | { command: 'report'; file: string; html: string }

/** The command line is wrong; the message says how. */
export class UsageError extends Error {}

export const HELP = `npm run bench -- [options]                         measure
npm run bench -- compare BEFORE.json AFTER.json    compare two results
npm run bench -- report RESULT.json --html FILE    make the page of a result again

  --quick             every figure that has a target, in less than four minutes
  --only a,b          of: ${PARTS.join(', ')}; native is kernels and index
  --json FILE         where the result goes (default: bench/results/<time>.json)
  --html FILE         where the report goes (default: beside the result)
  --drives-in DIR     make the drives below this folder (default: the system's for temporary files)
  --operations a,b    S3: put, get, head, list, delete, mixed
  --sizes a,b         S3: such as 4KiB,10MiB
  --clients a,b       S3: such as 1,32
  --seconds N         S3: measured time of each round
  --rounds N          S3: how often each cell is measured; the best round counts
  --workers N         threads of our server and of the bare one (default: one for each core)

Another S3 server in the same run; --endpoint may come several times, and each of the others as often:
  --endpoint URL --name NAME --access-key KEY --secret-key KEY
                      (keys default to AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)
  --region NAME       of all endpoints (default us-east-1)
  --insecure          any TLS certificate will do

compare:
  --threshold P       exit with 1 when a figure got worse by more than P percent
  --noise P           changes up to P percent are noise (default 5); the rounds' own spread counts besides
  --all               show figures that stayed the same too

Progress goes to stderr, tables to stdout. Exit codes: 0 done, 1 failed or regressed, 2 wrong command line,
130 interrupted. docs/benchmarks.md says how to read the figures.
`

const OPTIONS = {
  help: { type: 'boolean', short: 'h', default: false },
  quick: { type: 'boolean', default: false },
  only: { type: 'string' },
  json: { type: 'string' },
  html: { type: 'string' },
  'drives-in': { type: 'string' },
  operations: { type: 'string' },
  sizes: { type: 'string' },
  clients: { type: 'string' },
  seconds: { type: 'string' },
  rounds: { type: 'string' },
  workers: { type: 'string' },
  endpoint: { type: 'string', multiple: true },
  name: { type: 'string', multiple: true },
  'access-key': { type: 'string', multiple: true },
  'secret-key': { type: 'string', multiple: true },
  region: { type: 'string' },
  insecure: { type: 'boolean', default: false },
  threshold: { type: 'string' },
  noise: { type: 'string' },
  all: { type: 'boolean', default: false },
} as const

/** Options that say something to `compare` and `report`; the others belong to a run. */
const OF_COMMAND: Record<string, readonly string[]> = {
  compare: ['threshold', 'noise', 'all'],
  report: ['html'],
}

/** Throws UsageError. */
export function parseOptions(args: readonly string[], env: NodeJS.ProcessEnv): Options {
  try {
    return parse(args, env)
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}

function readArgs(args: readonly string[]) {
  return parseArgs({ args: [...args], options: OPTIONS, allowPositionals: true, tokens: true })
}
type Parsed = ReturnType<typeof readArgs>
type Values = Parsed['values']

function parse(args: readonly string[], env: NodeJS.ProcessEnv): Options {
  const { values, positionals, tokens } = readArgs(args)
  if (values.help) return { command: 'help' }
  const [command, ...files] = positionals
  if (command !== undefined && OF_COMMAND[command] === undefined)
    throw new Error(`there is no command "${command}" (compare, report)`)
  for (const token of tokens) {
    if (token.kind !== 'option') continue
    const belongs = command === undefined
      ? !OF_COMMAND['compare']?.includes(token.name)
      : OF_COMMAND[command]?.includes(token.name) === true
    if (!belongs) throw new Error(`--${token.name} says nothing to ${command === undefined ? 'a run' : command}`)
  }
  if (command === 'compare') return parseCompare(values, files)
  if (command === 'report') {
    const [file, ...more] = files
    if (file === undefined || more.length > 0 || values.html === undefined)
      throw new Error('report takes one result file and --html FILE')
    return { command, file, html: values.html }
  }
  return parseRun(values, env)
}

function parseCompare(values: Values, files: readonly string[]): Options {
  const [before, after, ...more] = files
  if (before === undefined || after === undefined || more.length > 0) throw new Error('compare takes two result files')
  return {
    command: 'compare', before, after, all: values.all,
    threshold: values.threshold === undefined ? undefined : numberOf('--threshold', values.threshold, 0, 1e6),
    noise: values.noise === undefined ? 5 : numberOf('--noise', values.noise, 0, 1e6),
  }
}

function parseRun(values: Values, env: NodeJS.ProcessEnv): RunOptions {
  const whole = (name: string, text: string | undefined, most: number): number | undefined => {
    if (text === undefined) return undefined
    const value = numberOf(name, text, 1, most)
    if (!Number.isInteger(value)) throw new Error(`${name}: "${text}" is not a whole number`)
    return value
  }
  const list = <T>(name: string, text: string | undefined, item: (text: string) => T | undefined): T[] | undefined =>
    text === undefined ? undefined : parseList(name, text, item)
  return {
    command: 'run',
    quick: values.quick,
    only: partsOf(values.only, values.quick === true),
    json: values.json,
    html: values.html,
    drivesIn: values['drives-in'],
    others: othersOf(values, env),
    operations: list('--operations', values.operations, parseOperation),
    sizes: list('--sizes', values.sizes, parseSize),
    clients: list('--clients', values.clients, parseClients),
    seconds: values.seconds === undefined ? undefined : numberOf('--seconds', values.seconds, 0.1, 3600),
    rounds: whole('--rounds', values.rounds, 100),
    workers: whole('--workers', values.workers, 64),
  }
}

function numberOf(name: string, text: string, least: number, most: number): number {
  const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : NaN
  if (!(value >= least && value <= most))
    throw new Error(`${name}: "${text}" is not a number from ${String(least)} to ${String(most)}`)
  return value
}

/** A quick run leaves memory out unless asked: too few objects would tell of the heap instead. */
function partsOf(text: string | undefined, quick: boolean): readonly Part[] {
  if (text === undefined) return quick ? PARTS.filter((part) => part !== 'memory') : PARTS
  const chosen = text.split(',').map((item) => item.trim()).flatMap((item) => {
    const parts = GROUPS[item] ?? PARTS.filter((part) => part === item)
    if (parts.length === 0) throw new Error(`--only: there is no part "${item}" (${PARTS.join(', ')}, native)`)
    return parts
  })
  return PARTS.filter((part) => chosen.includes(part))
}

function othersOf(values: Values, env: NodeJS.ProcessEnv): S3Target[] {
  const endpoints = values.endpoint ?? []
  const each = (option: 'name' | 'access-key' | 'secret-key'): readonly string[] => {
    const given = values[option] ?? []
    if (given.length > endpoints.length) throw new Error(`--${option} comes more often than --endpoint`)
    return given
  }
  const [names, accessKeys, secretKeys] = [each('name'), each('access-key'), each('secret-key')]
  const seen = new Set(['ostraka'])
  return endpoints.map((url, i) => {
    const name = names[i] ?? `other${endpoints.length === 1 ? '' : String(i + 1)}`
    const problem = nameProblem(name)
    if (problem !== undefined) throw new Error(`--name: ${problem}`)
    if (seen.has(name)) throw new Error(`--name: two servers are called ${name}`)
    seen.add(name)
    const accessKey = accessKeys[i] ?? env['AWS_ACCESS_KEY_ID']
    const secretKey = secretKeys[i] ?? env['AWS_SECRET_ACCESS_KEY']
    if (accessKey === undefined || secretKey === undefined)
      throw new Error(`${url} needs --access-key and --secret-key (or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)`)
    const keys = { accessKey, secretKey, region: values.region ?? 'us-east-1' }
    return { name, address: parseEndpoint(url, values.insecure), keys }
  })
}
