/**
 * How new the metadata must be that a request reads: what it asks for in `x-ostraka-consistency`, else the setting.
 *
 *   x-ostraka-consistency: linearizable | eventual | bounded | bounded=500ms
 */
import type { ReadConsistency } from '../../meta/engine.js'
import { S3Error } from '../../store/errors.js'
import type { Config } from '../config/settings.js'

export const CONSISTENCY_HEADER = 'x-ostraka-consistency'

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000 }
const MAX_MS = 3_600_000

export function defaultConsistency(config: Pick<Config, 'readConsistency' | 'readMaxStaleness'>): ReadConsistency {
  return config.readConsistency === 'bounded' ? { boundedMs: config.readMaxStaleness } : config.readConsistency
}

/** Throws InvalidArgument. */
export function parseConsistency(
  text: string | undefined,
  config: Pick<Config, 'readConsistency' | 'readMaxStaleness'>,
): ReadConsistency {
  if (text === undefined) return defaultConsistency(config)
  if (text === 'linearizable' || text === 'eventual') return text
  if (text === 'bounded') return { boundedMs: config.readMaxStaleness }
  const match = /^bounded=(\d{1,7})(ms|s|m)$/.exec(text)
  const boundedMs = Number(match?.[1]) * (UNITS[match?.[2] ?? ''] ?? NaN)
  if (boundedMs >= 1 && boundedMs <= MAX_MS) return { boundedMs }
  throw new S3Error(
    'InvalidArgument',
    'Expected linearizable, eventual, bounded or bounded=<time>, such as bounded=500ms.',
    {
      ArgumentName: CONSISTENCY_HEADER,
      ArgumentValue: text.slice(0, 100),
    },
  )
}
