/** `ostraka bench`: puts load on an S3 endpoint, ours or another, and prints what it did. */
import { writeFileSync } from 'node:fs'

import type { Command } from 'commander'

import { readCredentials } from '../server/credentials.js'
import { EXIT } from '../server/exit_codes.js'
import { allCells, benchS3, nameOf, parseOperation, s3Metrics } from './load/s3_bench.js'
import type { Row } from './load/s3_bench.js'
import { parseClients, parseList, parseSize } from './load/sizes.js'
import { parseEndpoint } from './load/target.js'
import type { S3Target } from './load/target.js'
import { table } from './render.js'

interface BenchFlags {
  endpoint: string
  credentials?: string
  region: string
  insecure: boolean
  operations: string
  sizes: string
  clients: string
  seconds: string
  rounds: string
  listKeys: string
  json?: string
}

const INTERRUPTED = 130
const NAME = 'endpoint'

export function addBenchCommand(parent: Command): void {
  const command = parent
    .command('bench')
    .description('measure an S3 endpoint; makes a bucket of its own there and removes it at the end')
    .requiredOption('--endpoint <url>', 'such as http://127.0.0.1:9000')
    .option(
      '--credentials <file>',
      'AWS shared credentials file; default: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, else AWS_SHARED_CREDENTIALS_FILE',
    )
    .option('--region <name>', 'region of the signature', process.env['AWS_REGION'] ?? 'us-east-1')
    .option('--insecure', 'any TLS certificate will do', false)
    .option('--operations <list>', 'of put, get, head, list, delete, mixed', 'put,get,head,list,delete')
    .option('--sizes <list>', 'sizes of objects', '4KiB,10MiB')
    .option('--clients <list>', 'numbers of connections', '1,32')
    .option('--seconds <n>', 'measured time of each round', '5')
    .option('--rounds <n>', 'how often each figure is measured; the best counts', '1')
    .option('--list-keys <n>', 'keys to list among', '2000')
    .option('--json <file>', 'write the figures as JSON')
  command.action(async () => {
    process.exitCode = await bench(command, command.opts<BenchFlags>())
  })
}

async function bench(command: Command, flags: BenchFlags): Promise<number> {
  const { target, cells } = checked(command, flags)
  const controller = new AbortController()
  const interrupt = (): void => {
    // The second time, the bucket stays.
    if (controller.signal.aborted) process.exit(INTERRUPTED)
    process.stderr.write('stopping\n')
    controller.abort()
  }
  process.on('SIGINT', interrupt)
  process.on('SIGTERM', interrupt)
  try {
    const say = (line: string): void => { process.stderr.write(`${line}\n`) }
    const rows = await benchS3([target], cells, { signal: controller.signal, say })
    process.stdout.write(`${resultTable(rows)}\n`)
    if (flags.json !== undefined) {
      const result = { date: new Date().toISOString(), endpoint: flags.endpoint, metrics: s3Metrics(rows, NAME) }
      writeFileSync(flags.json, `${JSON.stringify(result, null, 2)}\n`)
    }
    return EXIT.ok
  } catch (error) {
    if (controller.signal.aborted) return INTERRUPTED
    throw error
  } finally {
    process.off('SIGINT', interrupt)
    process.off('SIGTERM', interrupt)
  }
}

/** Ends the command with a usage error for the first thing that is wrong. */
function checked(command: Command, flags: BenchFlags): { target: S3Target; cells: ReturnType<typeof allCells> } {
  const number = (name: string, text: string, least: number, most: number): number => {
    const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : NaN
    if (value >= least && value <= most) return value
    throw new Error(`--${name}: "${text}" is not a number from ${String(least)} to ${String(most)}`)
  }
  try {
    const windowMs = 1000 * number('seconds', flags.seconds, 0.1, 3600)
    const cells = allCells(
      {
        operations: parseList('--operations', flags.operations, parseOperation),
        sizes: parseList('--sizes', flags.sizes, parseSize),
        clients: parseList('--clients', flags.clients, parseClients),
        listKeys: Math.floor(number('list-keys', flags.listKeys, 1, 1e6)),
      },
      { rounds: Math.floor(number('rounds', flags.rounds, 1, 100)), warmUpMs: Math.min(500, windowMs / 4), windowMs },
    )
    const keys = { ...credentials(flags.credentials), region: flags.region }
    return { target: { name: NAME, address: parseEndpoint(flags.endpoint, flags.insecure), keys }, cells }
  } catch (error) {
    return command.error(`ostraka: ${(error as Error).message}`, { exitCode: EXIT.usage })
  }
}

function credentials(file: string | undefined): { accessKey: string; secretKey: string } {
  if (file !== undefined) return readCredentials(file)
  const [accessKey, secretKey] = [process.env['AWS_ACCESS_KEY_ID'], process.env['AWS_SECRET_ACCESS_KEY']]
  if (accessKey !== undefined && secretKey !== undefined) return { accessKey, secretKey }
  const shared = process.env['AWS_SHARED_CREDENTIALS_FILE']
  if (shared !== undefined) return readCredentials(shared)
  throw new Error(
    'no keys: give --credentials, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SHARED_CREDENTIALS_FILE',
  )
}

function resultTable(rows: readonly Row[]): string {
  const head = ['', 'ops/s', 'MB/s', 'p50 ms', 'p90 ms', 'p99 ms', 'max ms', 'errors']
  const lines = rows.map((row) => {
    const { best } = row
    const figures = [best.p50Ms, best.p90Ms, best.p99Ms, best.maxMs].map((ms) => ms.toFixed(2))
    const moved = best.bytesPerSecond > 0 ? (best.bytesPerSecond / 1e6).toFixed(1) : '-'
    return [nameOf(row).replaceAll('.', ' '), best.rate.toFixed(1), moved, ...figures, String(best.errors)]
  })
  const errors = rows.flatMap(({ best }) => (best.firstError === '' ? [] : [best.firstError]))
  return [table([head, ...lines]), ...(errors.length > 0 ? [`first error: ${errors[0] ?? ''}`] : [])].join('\n')
}
