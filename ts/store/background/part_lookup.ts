/** From a data id to the part record that owns it, in the reader's current snapshot. */
import type { PartLocation } from '../../erasure/erasure_set.js'
import type { MetadataReader } from '../../meta/reader.js'
import type { DataOwner, DriveRecord, PartRecord } from '../../meta/schema.js'

/** The part that the owner record points to; undefined when it no longer holds this data id. */
export function partOf(reader: MetadataReader, owner: DataOwner): PartRecord | undefined {
  const part = storedPart(reader, owner)
  const same = part !== undefined && Buffer.compare(part.location.dataId, owner.dataId) === 0
  return same && part.location.set === owner.set ? part : undefined
}

function storedPart(reader: MetadataReader, owner: DataOwner): PartRecord | undefined {
  const { bucketId, key, uploadId, partNumber } = owner
  if (uploadId !== '') {
    const [part] = reader.parts(bucketId, key, uploadId, partNumber - 1, 1)
    return part?.partNumber === partNumber ? part : undefined
  }
  const body = reader.object(bucketId, key)?.body
  return body?.kind === 'part' ? body.part : undefined
}

/** The part of a data id, undefined when nothing references it. */
export function findPart(reader: MetadataReader, set: number, dataId: Uint8Array): PartRecord | undefined {
  const owner = reader.owner(set, dataId)
  return owner === undefined ? undefined : partOf(reader, owner)
}

export function hexId(dataId: Uint8Array): string {
  return Buffer.from(dataId.buffer, dataId.byteOffset, dataId.byteLength).toString('hex')
}

/** Shards that a location places on no member of the set: never written, or on a drive that was replaced. */
export function homelessShards(location: PartLocation, drives: ReadonlyMap<number, DriveRecord>): number[] {
  return location.drives.flatMap((number, shard) =>
    number === 0 || drives.get(number)?.state !== 'member' ? [shard] : [],
  )
}

export function driveMap(reader: MetadataReader): Map<number, DriveRecord> {
  return new Map(reader.drives().map((drive) => [drive.number, drive]))
}

/** Bytes that the shards of a part occupy, roughly: what reading or rewriting all of it moves. */
export function storedBytes(location: PartLocation): number {
  const { k, m, partSize } = location.geometry
  return Math.ceil((partSize * (k + m)) / k)
}
