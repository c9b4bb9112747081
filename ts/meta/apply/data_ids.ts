/**
 * Data ids: owned once for ever, fenced by epoch, and handed to the collector.
 *
 * The record (set, data id) says who owns a data id. When it becomes garbage the record stays, marked, until the
 * collector reports the shards gone: so nothing can take a data id that is about to be deleted.
 */
import type { DriveNumber } from '../../drive/drive.js'
import type { PartLocation } from '../../layout/part_location.js'
import { epochKey, garbageKey, healKey, ownerKey } from '../keys.js'
import type { HealEntry, WriterEpochRecord } from '../schema.js'
import { refuse } from './context.js'
import type { Context } from './context.js'

/** In place of a bucket: nobody ever owned the data id, since the command that carried it was refused. */
export const NO_BUCKET = 0

/** Whose a data id is; uploadId '' for a part that is a whole object. */
export interface OwnerRecord {
  bucketId: number
  key: string
  uploadId: string
  partNumber: number
  /** Waiting to be collected. */
  garbage?: boolean
}

export interface GarbageRecord {
  set: number
  drives: DriveNumber[]
}

/** The first six bytes of a data id. */
export function epochOf(dataId: Uint8Array): number {
  const bytes = Buffer.from(dataId.buffer, dataId.byteOffset, dataId.byteLength)
  return bytes.readUIntBE(0, 6)
}

/** Refuses data ids of epochs that are fenced or were never opened, and data ids that were used before. */
export function checkDataId(context: Context, location: PartLocation): void {
  if (location.dataId.length !== 16) refuse('InvalidRequest', 'a data id has 16 bytes')
  const epoch = context.tx.readFlat<WriterEpochRecord>(epochKey(epochOf(location.dataId)))
  if (epoch === undefined || epoch.fenced) refuse('EpochFenced', `writer epoch ${String(epochOf(location.dataId))}`)
  if (context.tx.get(ownerKey(location.set, location.dataId)) !== undefined) {
    refuse('Conflict', 'the data id was used before')
  }
}

/** Takes a checked data id; positions that were never written become a heal intent. */
export function own(context: Context, location: PartLocation, owner: OwnerRecord, nowMs: number): void {
  context.tx.put(ownerKey(location.set, location.dataId), owner)
  const shards = location.drives.flatMap((drive, shard) => (drive === 0 ? [shard] : []))
  if (shards.length === 0) return
  const heal: Omit<HealEntry, 'set' | 'dataId'> = { shards, cause: 'missing', queuedMs: nowMs }
  context.tx.put(healKey(location.set, location.dataId), heal)
  context.tx.addTotals({ heals: 1 })
}

/** Hands an owned data id to the collector. */
export function disown(context: Context, location: PartLocation): void {
  const key = ownerKey(location.set, location.dataId)
  const owner = context.tx.read<OwnerRecord>(key)
  if (owner === undefined || owner.garbage === true) return
  const heal = healKey(location.set, location.dataId)
  const healing = context.tx.get(heal) !== undefined
  if (healing) context.tx.remove(heal)
  queue(context, location, owner)
  context.tx.addTotals({ garbage: 1, heals: healing ? -1 : 0 })
}

/**
 * The shards of a refused command: garbage, unless somebody owns the data id (the command came twice) or it is
 * garbage already.
 */
export function discard(context: Context, location: PartLocation): void {
  if (location.dataId.length !== 16) return
  if (context.tx.get(ownerKey(location.set, location.dataId)) !== undefined) return
  queue(context, location, { bucketId: NO_BUCKET, key: '', uploadId: '', partNumber: 0 })
  context.tx.addTotals({ garbage: 1 })
}

function queue(context: Context, location: PartLocation, owner: OwnerRecord): void {
  context.tx.put(ownerKey(location.set, location.dataId), { ...owner, garbage: true })
  const entry: GarbageRecord = { set: location.set, drives: location.drives.filter((drive) => drive !== 0) }
  context.tx.put(garbageKey(context.order, location.dataId), entry)
}
