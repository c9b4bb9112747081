/**
 * Exactly once, for batches: a replica numbers the batches that it proposes and may propose one again, because it
 * cannot know what became of it. Each replica has one record, so the table does not grow with traffic.
 *
 *   boot      number of the replica's start; batches of an earlier start are late and take no effect
 *   floor     batches below it are settled: their proposer has seen them, or given them up
 *   seen      batches at or above the floor that took effect
 */
import { sessionKey } from '../keys.js'
import type { Transaction } from './transaction.js'

/** Batches of one replica that may be on their way at a time. */
export const MAX_SEEN = 1024

export interface Origin {
  node: number
  boot: number
  sequence: number
  /** The lowest batch that the proposer has not settled. */
  floor: number
}

interface SessionRecord {
  boot: number
  floor: number
  seen: number[]
}

/** True the first time that a batch comes. */
export function firstTime(tx: Transaction, origin: Origin): boolean {
  const { node, boot, sequence } = origin
  const old = tx.read<SessionRecord>(sessionKey(node))
  if (old !== undefined && boot < old.boot) return false
  const session = old?.boot === boot ? old : { boot, floor: 0, seen: [] }
  const floor = Math.max(session.floor, origin.floor)
  const fresh = sequence >= session.floor && !session.seen.includes(sequence)
  if (fresh && session.seen.length >= MAX_SEEN) return false
  const seen = fresh ? [...session.seen, sequence] : session.seen
  tx.put(sessionKey(node), { boot, floor, seen: seen.filter((one) => one >= floor) } satisfies SessionRecord)
  return fresh
}
