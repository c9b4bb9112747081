/** The figures that this project has promised, each with its limit, and whether a run met them. */
import type { Metrics } from './metrics.js'

export interface Target {
  section: string
  text: string
  /** Undefined when the run did not measure it. */
  figure: (metrics: Metrics) => number | undefined
  limit: number
  sense: 'at least' | 'at most'
  unit: string
}

export interface Verdict {
  section: string
  text: string
  limit: string
  /** Absent when it was not measured. */
  figure?: number
  unit: string
  met: 'met' | 'not met' | 'not measured'
}

/** The name of a metric, or what is reckoned from several. */
type Figure = string | Target['figure']

type Promised = readonly [section: string, text: string, limit: number, unit: string, of: Figure]

function target(sense: Target['sense'], ...[section, text, limit, unit, of]: Promised): Target {
  return { section, text, limit, unit, sense, figure: typeof of === 'string' ? (metrics) => metrics[of] : of }
}

const atLeast = (...promised: Promised): Target => target('at least', ...promised)
const atMost = (...promised: Promised): Target => target('at most', ...promised)

/** A rate against 15 GB/s or the speed of memory, whichever is less. */
function checksum(name: string): Target['figure'] {
  return (metrics) => {
    const [rate, memory] = [metrics[`kernels.${name}.best.GB_per_s`], metrics['kernels.memcpy.best.GB_per_s']]
    return rate === undefined || memory === undefined ? undefined : rate / Math.min(15, memory)
  }
}

function rebuild(metrics: Metrics): number | undefined {
  const builds = ['build', 'add.rebuild', 'remove.rebuild', 'weight.rebuild']
    .map((what) => metrics[`placement.slots.1000.${what}_ms`])
  return builds.includes(undefined) ? undefined : Math.max(...builds.map((ms) => ms ?? 0))
}

function selectToRead(metrics: Metrics): number | undefined {
  const [select, read] = [metrics['placement.slots.1000.select_ns'], metrics['placement.typedArrayRead_ns']]
  return select === undefined || read === undefined ? undefined : select / read
}

function slotsMovement(metrics: Metrics): number | undefined {
  const moved = Object.entries(metrics).filter(([name]) => /^placement\.slots\.\d+\.\w+\.movement_times$/.test(name))
  return moved.length === 0 ? undefined : Math.max(...moved.map(([, times]) => times))
}

/** Seconds for a million shards: what each of those that there were has added, a million times. */
function startUp(metrics: Metrics): number | undefined {
  const [shards, ready, empty] = ['shards_count', 'ready_ms', 'empty_ms'].map((what) => metrics[`drive.startup.${what}`])
  if (shards === undefined || ready === undefined || empty === undefined) return undefined
  return (empty + Math.max(0, ready - empty) * (1e6 / shards)) / 1000
}

export const TARGETS: readonly Target[] = [
  atLeast('kernels', 'encode 8+4 in L2, best to ISA-L', 1.25, 'x', 'kernels.encode_8+4_in_L2_best_to_ISA-L.ratio'),
  atLeast('kernels', 'encode 8+4 out of L2, best to ISA-L', 1, 'x', 'kernels.encode_8+4_out_of_L2_best_to_ISA-L.ratio'),
  atLeast('kernels', 'decode 8+4 with 4 lost, to encode (1, less 5% noise)', 0.95, 'x', 'kernels.decode_8+4_4_lost_to_encode_8+4.ratio'),
  atLeast('kernels', 'where best does worst against ISA-L, of the grid (1, less 10% noise)', 0.9, 'x', 'kernels.encode_least_of_the_grid_best_to_ISA-L.ratio'),
  atLeast('kernels', 'seal 8+4 from pieces, worst: to 2x the separate calls, or 80% of moving and computing', 1, 'x', 'kernels.seal_from_pieces_worst.ratio'),
  atLeast('kernels', 'MD5 of 16 streams to one OpenSSL stream', 4, 'x', 'kernels.MD5_of_16_streams_to_one_OpenSSL_stream.ratio'),
  atLeast('kernels', 'MD5 of a lone stream to OpenSSL (1, less 3% noise)', 0.97, 'x', 'kernels.MD5_of_one_stream_to_OpenSSL.ratio'),
  atLeast('kernels', 'CRC32C to 15 GB/s, or memory if slower', 1, 'x', checksum('CRC32C')),
  atLeast('kernels', 'CRC64NVME to 15 GB/s, or memory if slower', 1, 'x', checksum('CRC64NVME')),
  atMost('placement', 'select to one read of a typed array', 2, 'x', selectToRead),
  atMost('placement', 'slots: the slowest (re)build, 655,373 slots, 1,000 targets', 200, 'ms', rebuild),
  atMost('placement', 'slots: most movement against the ideal', 1, 'x', slotsMovement),
  atMost('drive', 'ready with a million shards on a drive', 5, 's', startUp),
  atMost('flushes', 'durable flushes per PUT of 4 KiB, 32 at a time', 0.8, 'flushes', 'flushes.put.4KiB.32clients.per_put_flushes'),
  atLeast('metadata', 'replicated writes of 200 bytes, 512 clients', 10_000, 'ops/s', 'metadata.write.512clients.ops_per_s'),
  atMost('metadata', 'the slowest percent of writes, 64 clients', 20, 'ms', 'metadata.write.64clients.p99_ms'),
  atMost('metadata', 'median of a write, 1 client', 10, 'ms', 'metadata.write.1clients.p50_ms'),
  atMost('metadata', 'most lag of a follower under writes', 100, 'ms', 'metadata.most_lag_ms'),
  atMost('metadata', 'anonymous memory of the leader', 1024, 'MiB', 'metadata.leader_anonymous_MiB'),
  atLeast('s3', 'PUT of 4 KiB, 32 clients, of a bare node:http server', 10, '%', 's3.put.4KiB.32clients.percent_of_bare'),
  atLeast('s3', 'GET of 4 KiB, 32 clients, of a bare node:http server', 25, '%', 's3.get.4KiB.32clients.percent_of_bare'),
]

/** In the order of TARGETS. Figures within a thousandth of the limit count as on it. */
export function judge(metrics: Metrics, targets: readonly Target[] = TARGETS): Verdict[] {
  return targets.map(({ section, text, figure, limit, sense, unit }) => {
    const value = figure(metrics)
    const shown = { section, text, unit, limit: `${sense} ${String(limit)}` }
    if (value === undefined || Number.isNaN(value)) return { ...shown, met: 'not measured' }
    const met = sense === 'at least' ? value >= limit * 0.999 : value <= limit * 1.001
    return { ...shown, figure: value, met: met ? 'met' : 'not met' }
  })
}
