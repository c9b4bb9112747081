/**
 * The request-id table: the results of recent commands that carried a request id, for a day of the proposer's
 * clock and at most MAX_REQUESTS of them. It makes a retry safe.
 */
import type { CommandResult } from '../command.js'
import { requestKey, requestOrderKey, SYSTEM, systemKey } from '../keys.js'
import { unpack } from '../record.js'
import type { Context } from './context.js'

export const MAX_REQUESTS = 100_000
export const MAX_REQUEST_ID = 128
const KEEP_MS = 24 * 3600 * 1000
/** More than one goes for each that comes, so that the table shrinks by age too. */
const DROP_EACH = 2

interface RequestRecord {
  result: CommandResult
}

export function rememberedResult(context: Context, requestId: string): CommandResult | undefined {
  return context.tx.read<RequestRecord>(requestKey(requestId))?.result
}

export function remember(context: Context, requestId: string, result: CommandResult): void {
  context.tx.put(requestKey(requestId), { result })
  context.tx.put(requestOrderKey(context.order), { requestId, atMs: context.batchMs })
  const total = context.tx.totals().requests + 1
  const dropped = dropOld(context, total)
  context.tx.addTotals({ requests: 1 - dropped })
}

function dropOld(context: Context, total: number): number {
  // All commands of a batch have the same time: what the first of them found too young to go stays so.
  if (context.tx.oldRequestsGone && total <= MAX_REQUESTS) return 0
  const old: { key: Buffer; requestId: string }[] = []
  const from = systemKey(SYSTEM.requestOrder)
  for (const entry of context.tx.scan(from, systemKey(SYSTEM.requestOrder + 1))) {
    const { requestId, atMs } = unpack(entry.payload) as { requestId: string; atMs: number }
    const tooMany = total - old.length > MAX_REQUESTS
    const young = !tooMany && atMs > context.batchMs - KEEP_MS
    if (young) context.tx.oldRequestsGone = true
    if (old.length === DROP_EACH || young) break
    old.push({ key: entry.key, requestId })
  }
  for (const { key, requestId } of old) {
    context.tx.remove(key)
    context.tx.remove(requestKey(requestId))
  }
  return old.length
}
