/** What heal and collection report: heal entries, proved shards, collected garbage. */
import type { Command } from '../command.js'
import type { PartLocation } from '../../layout/part_location.js'
import { afterPrefix, COLLECTION_KEY, garbageKey, healKey, KIND, objectPrefix, ownerKey, partKey } from '../keys.js'
import { unpack } from '../record.js'
import type { HealEntry, ObjectRecord, PartRecord, UploadPartRecord } from '../schema.js'
import type { Context, Handled } from './context.js'
import type { GarbageRecord, OwnerRecord } from './data_ids.js'

type HealValue = Omit<HealEntry, 'set' | 'dataId'>

/** Entries of data ids that nothing references are left out. */
export function queueHeal(context: Context, command: Extract<Command, { kind: 'queueHeal' }>): Handled {
  let count = 0
  for (const { set, dataId, shards, cause, queuedMs } of command.entries) {
    const owner = context.tx.read<OwnerRecord>(ownerKey(set, dataId))
    if (owner === undefined || owner.garbage === true || shards.length === 0) continue
    const key = healKey(set, dataId)
    const old = context.tx.read<HealValue>(key)
    const all = [...new Set([...(old?.shards ?? []), ...shards])].sort((a, b) => a - b)
    const merged: HealValue = { shards: all, cause, queuedMs: old?.queuedMs ?? queuedMs }
    context.tx.put(key, merged)
    if (old === undefined) context.tx.addTotals({ heals: 1 })
    count++
  }
  return { count }
}

export function healed(context: Context, command: Extract<Command, { kind: 'healed' }>): Handled {
  const { set, dataId, shards, left } = command
  const owner = context.tx.read<OwnerRecord>(ownerKey(set, dataId))
  if (owner === undefined || owner.garbage === true) return { count: 0 }
  moveShards(context, owner, dataId, shards)
  const key = healKey(set, dataId)
  const old = context.tx.read<HealValue>(key)
  // Shards queued while the heal ran stay queued.
  const done = new Set(shards.map(({ shard }) => shard))
  const remaining = new Set([...(old?.shards ?? []).filter((shard) => !done.has(shard)), ...left])
  if (remaining.size > 0) {
    const queuedMs = old?.queuedMs ?? context.batchMs
    context.tx.put(key, { shards: [...remaining].sort((a, b) => a - b), cause: old?.cause ?? 'missing', queuedMs })
    if (old === undefined) context.tx.addTotals({ heals: 1 })
  } else if (old !== undefined) {
    context.tx.remove(key)
    context.tx.addTotals({ heals: -1 })
  }
  return { count: shards.length }
}

/** Writes the drives of healed shards into the record that holds the part. */
function moveShards(
  context: Context,
  owner: OwnerRecord,
  dataId: Uint8Array,
  shards: readonly { shard: number; drive: number }[],
): void {
  const moved = <T extends PartRecord>(part: T): T => ({ ...part, location: withDrives(part.location, shards) })
  const isIt = (location: PartLocation): boolean => Buffer.compare(location.dataId, dataId) === 0
  if (owner.uploadId !== '') {
    const key = partKey(owner.bucketId, owner.key, owner.uploadId, owner.partNumber)
    const part = context.tx.read<UploadPartRecord>(key)
    if (part !== undefined && isIt(part.location)) context.tx.put(key, moved(part))
    return
  }
  const prefix = objectPrefix(owner.bucketId, owner.key, KIND.object)
  for (const entry of [...context.tx.scan(prefix, afterPrefix(prefix))]) {
    const object = unpack(entry.payload) as ObjectRecord
    if (object.body.kind !== 'part' || !isIt(object.body.part.location)) continue
    context.tx.put(entry.key, { ...object, body: { kind: 'part', part: moved(object.body.part) } })
    return
  }
}

function withDrives(location: PartLocation, shards: readonly { shard: number; drive: number }[]): PartLocation {
  const drives = location.drives.slice()
  for (const { shard, drive } of shards) if (shard >= 0 && shard < drives.length) drives[shard] = drive
  return { ...location, drives }
}

export function collected(context: Context, command: Extract<Command, { kind: 'collected' }>): Handled {
  let count = 0
  for (const { order, dataId } of command.entries) {
    const key = garbageKey(order, dataId)
    const entry = context.tx.read<GarbageRecord>(key)
    if (entry === undefined) continue
    context.tx.remove(key)
    context.tx.remove(ownerKey(entry.set, dataId))
    count++
  }
  if (count > 0) context.tx.addTotals({ garbage: -count })
  return { count }
}

export function setCollection(context: Context, command: Extract<Command, { kind: 'setCollection' }>): Handled {
  context.tx.put(COLLECTION_KEY, { enabled: command.enabled })
  return {}
}
