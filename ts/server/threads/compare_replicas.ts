/**
 * The replicas compared with each other: do all hold the same records at the same position? A checksum cannot tell,
 * since what was applied differently has good checksums everywhere.
 *
 * The leader takes a snapshot of what it has just applied and asks the others for their hash at that position, which
 * they reach a moment later. A member that passes over it, since it applied several entries at once, is asked again
 * for another one. Hashing reads everything, so it begins only where the position was met.
 */
import { z } from 'zod'

import { readApplied } from '../../meta/apply/apply.js'
import { CheckedView } from '../../meta/chain.js'
import type { ReplicatedEngine } from '../../meta/raft/replica/replicated_engine.js'
import { RpcError } from '../../rpc/errors.js'
import { digestOfSnapshot } from './digest.js'
import type { Digest } from './digest.js'

/** What was found the last time. */
export interface Comparison {
  /** Other members that hold what the leader holds, and those that do not. */
  equal: number[]
  different: number[]
  /** Members that could not be compared. */
  missed: number[]
}

/** Asks a member for its digest at a position; undefined when it passed over it. Rejects with RpcError. */
export type AskDigest = (node: number, position: number) => Promise<Digest | undefined>

/** Time in which a member reaches a position. */
const REACH_MS = 2_000
const wanted: z.ZodType<{ position: number }> = z.strictObject({ position: z.int().min(0) })
const TRIES = 30
const PAUSE_MS = 200

/** Undefined on a node that does not lead, or leads no longer. */
export async function compareReplicas(
  engine: Pick<ReplicatedEngine, 'isLeader' | 'snapshot'>,
  others: readonly number[],
  ask: AskDigest,
): Promise<Comparison | undefined> {
  let left = [...others]
  const equal: number[] = []
  const different: number[] = []
  for (let attempt = 0; attempt < TRIES && left.length > 0; attempt++) {
    if (!engine.isLeader) return undefined
    if (attempt > 0) await new Promise((resolve) => setTimeout(resolve, PAUSE_MS))
    const snapshot = engine.snapshot()
    const { index } = readApplied(new CheckedView(snapshot))
    const found = await Promise.all(left.map((node) => ask(node, index).catch(refused)))
    if (found.every((answer) => answer === undefined)) {
      snapshot.release()
      continue
    }
    const { digest } = await digestOfSnapshot(snapshot)
    for (const [at, answer] of found.entries()) {
      if (answer === undefined) continue
      const same = answer.digest === digest && answer.position === index
      ;(same ? equal : different).push(left[at]!)
    }
    left = left.filter((_, at) => found[at] === undefined)
  }
  return { equal, different, missed: left }
}

/** What a leader asks of this node. */
export async function answerDigest(engine: ReplicatedEngine, body: Uint8Array): Promise<Digest | undefined> {
  const wish = wanted.safeParse(JSON.parse(Buffer.from(body).toString('utf8')))
  if (!wish.success) throw new RpcError('refused', 'expected a position')
  const snapshot = await engine.snapshotAt(wish.data.position, REACH_MS)
  return snapshot === undefined ? undefined : digestOfSnapshot(snapshot)
}

function refused(error: unknown): undefined {
  if (!(error instanceof RpcError)) throw error
  return undefined
}
