/** The file of one run: format 1. Everything else (tables, report, comparison) is made from it. */
import { readFileSync } from 'node:fs'

import type { Environment } from './environment.js'
import type { Metrics } from './metrics.js'
import type { Verdict } from './targets.js'

export interface Result {
  format: 1
  date: string
  environment: Environment
  quick: boolean
  /** How long the run took. */
  seconds: number
  /** Dotted name with its unit -> figure. */
  metrics: Metrics
  /** By metric, where it was measured several times: (most - least) / most. */
  spread: Metrics
  /** What is worth knowing and is no number. */
  notes: Record<string, string>
  targets: Verdict[]
}

/** Throws a sentence for the user when the file is not there or not a result. */
export function readResult(file: string): Result {
  let value: unknown
  try {
    value = JSON.parse(readFileSync(file, 'utf8'))
  } catch (error) {
    throw new Error(`${file} cannot be read: ${(error as Error).message}`, { cause: error })
  }
  if (!isResult(value)) throw new Error(`${file} is not a result of \`npm run bench\``)
  return value
}

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null
const isNumbers = (value: unknown): boolean =>
  isObject(value) && Object.values(value).every((number) => typeof number === 'number')

function isResult(value: unknown): value is Result {
  if (!isObject(value) || value['format'] !== 1) return false
  return isNumbers(value['metrics']) && isNumbers(value['spread']) && isObject(value['environment']) &&
    isObject(value['notes']) && Array.isArray(value['targets'])
}
