/**
 * The answers of `MetadataReader` from one verified state. What snapshot that is, and when it changes, is the
 * business of the class that extends this (`client.ts`, `local_engine.ts`).
 */
import { PlacementTable } from '../layout/table.js'
import { readApplied } from './apply/apply.js'
import { NO_BUCKET } from './apply/data_ids.js'
import type { GarbageRecord, OwnerRecord } from './apply/data_ids.js'
import { readSlots } from './apply/layout.js'
import { readCollectionEnabled, readTotals } from './apply/transaction.js'
import type { Entry, StateReader } from './chain.js'
import * as keys from './keys.js'
import { listObjects, listUploads } from './list.js'
import type { ListPage, ListQuery, MetadataReader, UploadListPage, UploadListQuery } from './reader.js'
import { unpack } from './record.js'
import type {
  BucketRecord,
  ClusterRecord,
  DataOwner,
  DriveRecord,
  GarbageEntry,
  HealEntry,
  LayoutRecord,
  LeaseRecord,
  NodeRecord,
  ObjectRecord,
  OrderKey,
  SetRecord,
  UploadPartRecord,
  UploadRecord,
  WriterEpochRecord,
} from './schema.js'

const DATA_ID = 16

/** Buckets of one snapshot that are kept decoded: every request asks for one. */
const KNOWN_BUCKETS = 256

export abstract class ViewReader implements MetadataReader {
  readonly #buckets = new Map<string, BucketRecord>()
  #bucketsOf: StateReader | undefined

  /** The state of the current snapshot. */
  protected abstract state(): StateReader
  /** Called with every error that says the view is damaged, before it is thrown on. */
  protected abstract doubt(error: unknown): void
  abstract refresh(): void
  abstract get publishedPosition(): number

  get position(): number {
    return this.#read((state) => readApplied(state).index)
  }

  cluster(): ClusterRecord | undefined {
    return this.#get<ClusterRecord>(keys.CLUSTER_KEY)
  }

  sets(): SetRecord[] {
    return this.#all<SetRecord>(keys.systemKey(keys.SYSTEM.set))
  }

  drives(): DriveRecord[] {
    return this.#all<DriveRecord>(keys.systemKey(keys.SYSTEM.drive))
  }

  layout(): LayoutRecord | undefined {
    return this.#get<LayoutRecord>(keys.LAYOUT_KEY)
  }

  placementTable(layout: LayoutRecord): PlacementTable {
    const table = PlacementTable.create(layout.slots, layout.version)
    table.sets.set(this.#read((state) => readSlots(state, layout)))
    return table
  }

  bucket(name: string): BucketRecord | undefined {
    const state = this.#read((current) => current)
    if (state !== this.#bucketsOf) {
      this.#buckets.clear()
      this.#bucketsOf = state
    }
    const known = this.#buckets.get(name)
    if (known !== undefined) return known
    const found = this.#get<{ id: number }>(keys.bucketNameKey(name))
    const bucket = found === undefined ? undefined : this.#get<BucketRecord>(keys.bucketKey(found.id))
    if (bucket !== undefined && this.#buckets.size < KNOWN_BUCKETS) this.#buckets.set(name, Object.freeze(bucket))
    return bucket
  }

  buckets(): BucketRecord[] {
    const names = this.#all<{ id: number }>(keys.systemKey(keys.SYSTEM.bucketName))
    return names.flatMap(({ id }) => this.#get<BucketRecord>(keys.bucketKey(id)) ?? [])
  }

  object(bucketId: number, key: string): ObjectRecord | undefined {
    const prefix = keys.objectPrefix(bucketId, key, keys.KIND.object)
    const entry = this.#read((state) => state.first(prefix))
    return entry === undefined ? undefined : (unpack(entry.payload) as ObjectRecord)
  }

  list(query: ListQuery): ListPage {
    return this.#read((state) => listObjects(state, query))
  }

  upload(bucketId: number, key: string, uploadId: string): UploadRecord | undefined {
    return this.#get<UploadRecord>(keys.uploadKey(bucketId, key, uploadId))
  }

  listUploads(query: UploadListQuery): UploadListPage {
    return this.#read((state) => listUploads(state, query))
  }

  parts(bucketId: number, key: string, uploadId: string, after: number, limit: number): UploadPartRecord[] {
    const prefix = keys.partPrefix(bucketId, key, uploadId)
    if (after >= 0xffff) return []
    const from = Buffer.concat([prefix, keys.u16(after + 1)])
    return this.#page(prefix, from, limit).map(({ payload }) => unpack(payload) as UploadPartRecord)
  }

  owner(set: number, dataId: Uint8Array): DataOwner | undefined {
    const record = this.#get<OwnerRecord>(keys.ownerKey(set, dataId))
    return record === undefined || record.garbage === true ? undefined : toOwner(set, dataId, record)
  }

  dataState(set: number, dataId: Uint8Array): 'owned' | 'garbage' | 'unknown' {
    const record = this.#get<OwnerRecord>(keys.ownerKey(set, dataId))
    if (record === undefined) return 'unknown'
    return record.garbage === true ? 'garbage' : 'owned'
  }

  wasOwned(set: number, dataId: Uint8Array): boolean {
    const bucketId = this.#get<OwnerRecord>(keys.ownerKey(set, dataId))?.bucketId
    return bucketId !== undefined && bucketId !== NO_BUCKET
  }

  owners(set: number, after: Uint8Array | undefined, limit: number): DataOwner[] {
    const prefix = keys.systemKey(keys.SYSTEM.owner, keys.u32(set))
    const from = after === undefined ? prefix : Buffer.concat([prefix, after, Buffer.of(0)])
    return this.#read((state) => {
      const found: DataOwner[] = []
      for (const { key, payload } of state.scan(from, keys.afterPrefix(prefix))) {
        if (found.length >= limit) break
        const record = unpack(payload) as OwnerRecord
        if (record.garbage !== true) found.push(toOwner(set, key.subarray(key.length - DATA_ID), record))
      }
      return found
    })
  }

  garbage(limit: number, after?: { order: OrderKey; dataId: Uint8Array }): GarbageEntry[] {
    const prefix = keys.systemKey(keys.SYSTEM.garbage)
    const from = after === undefined ? prefix : behind(keys.garbageKey(after.order, after.dataId))
    return this.#page(prefix, from, limit).map(({ key, payload }) => {
      const order = { index: keys.readU64(key, prefix.length), offset: key.readUInt32BE(prefix.length + 8) }
      return { order, dataId: key.subarray(key.length - DATA_ID), ...(unpack(payload) as GarbageRecord) }
    })
  }

  heals(limit: number, after?: { set: number; dataId: Uint8Array }): HealEntry[] {
    const prefix = keys.systemKey(keys.SYSTEM.heal)
    const from = after === undefined ? prefix : behind(keys.healKey(after.set, after.dataId))
    return this.#page(prefix, from, limit).map(({ key, payload }) => {
      const value = unpack(payload) as Omit<HealEntry, 'set' | 'dataId'>
      return { set: key.readUInt32BE(prefix.length), dataId: key.subarray(key.length - DATA_ID), ...value }
    })
  }

  epochs(): WriterEpochRecord[] {
    return this.#all<WriterEpochRecord>(keys.systemKey(keys.SYSTEM.epoch))
  }

  counts(): { garbage: number; heals: number; objects: number; bytes: number; buckets: number } {
    const { garbage, heals, objects, bytes, buckets } = this.#read(readTotals)
    return { garbage, heals, objects, bytes, buckets }
  }

  nodes(): NodeRecord[] {
    return this.#all<NodeRecord>(keys.systemKey(keys.SYSTEM.node))
  }

  lease(name: string): LeaseRecord | undefined {
    return this.#get<LeaseRecord>(keys.leaseKey(name))
  }

  collectionEnabled(): boolean {
    return this.#read(readCollectionEnabled)
  }

  #read<T>(question: (state: StateReader) => T): T {
    try {
      return question(this.state())
    } catch (error) {
      this.doubt(error)
      throw error
    }
  }

  #get<T>(key: Buffer): T | undefined {
    const payload = this.#read((state) => state.get(key))
    return payload === undefined ? undefined : (unpack(payload) as T)
  }

  #page(prefix: Buffer, from: Buffer, limit: number): Entry[] {
    return this.#read((state) => {
      const found: Entry[] = []
      if (limit <= 0) return found
      for (const entry of state.scan(from, keys.afterPrefix(prefix))) {
        found.push(entry)
        if (found.length >= limit) break
      }
      return found
    })
  }

  #all<T>(prefix: Buffer): T[] {
    return this.#page(prefix, prefix, Infinity).map(({ payload }) => unpack(payload) as T)
  }
}

function toOwner(set: number, dataId: Uint8Array, record: OwnerRecord): DataOwner {
  const { bucketId, key, uploadId, partNumber } = record
  return { set, dataId, bucketId, key, uploadId, partNumber }
}

function behind(key: Buffer): Buffer {
  return Buffer.concat([key, Buffer.of(0)])
}
