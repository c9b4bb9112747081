/**
 * Replicated metadata: three nodes on loopback, each a process on a drive of its own, and etcd of three members beside
 * them. The clients are at the leader: ours in the leader's process, in the thread where S3 requests would be; etcd's
 * in this process, over gRPC.
 *
 * Metrics: metadata.<what>.<clients>clients[.etcd].{ops_per_s,p50_ms,p99_ms}, and single figures.
 */
import { interrupted, withDrives } from '../lifetime.js'
import type { Metrics } from '../metrics.js'
import type { LoopPlan, Measured } from './closed_loop.js'
import { Etcd, etcdProgram } from './etcd.js'
import type { EtcdKind } from './etcd.js'
import type { LoadKind, Loaded } from './node.js'
import { withNodes } from './nodes.js'

export interface MetadataPlan {
  windowMs: number
  warmUpMs: number
  /** How often each cell of writes is measured; the best round counts. */
  rounds: number
  etcd: boolean
  drivesIn: string | undefined
  say: (line: string) => void
}

export interface MetadataResult {
  metrics: Metrics
  notes: Record<string, string>
}

const NODES = 3
const WRITERS = [1, 64, 512]
/** Beyond these clients nothing is learned of reads: eventual ones do not wait for anything. */
const READERS: Readonly<Record<'linearizable' | 'eventual', number>> = { linearizable: 64, eventual: 1 }

export async function runMetadata(plan: MetadataPlan): Promise<MetadataResult> {
  const metrics = await withDrives(NODES, plan.drivesIn, (drives) => own(drives, plan))
  const notes: Record<string, string> = {}
  if (plan.etcd) {
    const program = await etcdProgram().catch((error: unknown) => {
      interrupted.throwIfAborted()
      notes['metadata.etcd'] = `not measured: ${(error as Error).message}`
      plan.say(`etcd is ${notes['metadata.etcd']}`)
      return undefined
    })
    if (program !== undefined) {
      await withDrives(NODES, plan.drivesIn, (folders) =>
        Etcd.with(program, folders, (etcd) => others(etcd, plan, metrics)))
    }
  }
  return { metrics, notes }
}

function loop(plan: MetadataPlan, clients: number): LoopPlan {
  return { clients, warmUpMs: plan.warmUpMs, windowMs: plan.windowMs }
}

function own(drives: readonly string[], plan: MetadataPlan): Promise<Metrics> {
  return withNodes(drives, async ([leader, follower]) => {
    const metrics: Metrics = {}
    let bytes = 0
    let lagMs = 0
    const measure = async (what: string, kind: LoadKind, clients: number, node = leader): Promise<Loaded> => {
      interrupted.throwIfAborted()
      const rounds: Loaded[] = []
      const count = kind === 'write' ? plan.rounds : 1
      for (let i = 0; i < count; i++) rounds.push(await node.load(kind, loop(plan, clients)))
      const best = bestOf(rounds)
      put(metrics, `metadata.${what}.${String(clients)}clients`, best, plan.say)
      bytes = Math.max(bytes, ...rounds.map(({ anonymousBytes }) => anonymousBytes))
      return best
    }
    for (const clients of WRITERS) {
      const { logWritesPerOperation, mostLagMs } = await measure('write', 'write', clients)
      metrics[`metadata.write.${String(clients)}clients.log_flushes`] = logWritesPerOperation
      lagMs = Math.max(lagMs, mostLagMs)
    }
    await measure('put_command', 'put', 64)
    metrics['metadata.most_lag_ms'] = lagMs
    metrics['metadata.leader_anonymous_MiB'] = bytes / 2 ** 20
    const readers = READERS.linearizable
    await measure('linearizable_read', 'linearizable', readers)
    if (follower !== undefined) await measure('linearizable_read_follower', 'linearizable', readers, follower)
    await measure('eventual_read', 'eventual', READERS.eventual)
    return metrics
  })
}

async function others(etcd: Etcd, plan: MetadataPlan, metrics: Metrics): Promise<void> {
  const measure = async (what: string, kind: EtcdKind, clients: number): Promise<void> => {
    const rounds: Measured[] = []
    for (let i = 0; i < (kind === 'write' ? plan.rounds : 1); i++) {
      interrupted.throwIfAborted()
      rounds.push(await etcd.load(kind, loop(plan, clients)))
    }
    const base = `metadata.${what}.${String(clients)}clients`
    const best = bestOf(rounds)
    put(metrics, `${base}.etcd`, best, plan.say)
    metrics[`${base}.to_etcd.ratio`] = (metrics[`${base}.ops_per_s`] ?? NaN) / best.opsPerSecond
  }
  for (const clients of WRITERS) await measure('write', 'write', clients)
  await measure('linearizable_read', 'linearizable', READERS.linearizable)
  await measure('eventual_read', 'eventual', READERS.eventual)
}

/** The round with the highest rate, all its figures. */
function bestOf<T extends Measured>(rounds: readonly T[]): T {
  const [first, ...rest] = rounds
  if (first === undefined) throw new Error('no round was measured')
  return rest.reduce((best, one) => (one.opsPerSecond > best.opsPerSecond ? one : best), first)
}

function put(metrics: Metrics, base: string, measured: Measured, say: (line: string) => void): void {
  const { opsPerSecond, p50Ms, p99Ms, errors } = measured
  metrics[`${base}.ops_per_s`] = opsPerSecond
  metrics[`${base}.p50_ms`] = p50Ms
  metrics[`${base}.p99_ms`] = p99Ms
  if (errors > 0) metrics[`${base}.errors`] = errors
  say(`${base}: ${opsPerSecond.toFixed(0)} ops/s, p50 ${p50Ms.toFixed(2)} ms, p99 ${p99Ms.toFixed(2)} ms, ` +
    `${String(errors)} errors`)
}
