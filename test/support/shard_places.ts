/** Where the shards of a simulated drive lie, whether files of their own or records of segments. */
import { decodeRecord } from '../../ts/drive/segments/batch.js'
import { segmentPath, segmentSeed, unpackLocation } from '../../ts/drive/segments/segment_file.js'
import type { SegmentIndex } from '../../ts/drive/segments/segment_index.js'
import type { SimulatedDisk } from '../../ts/drive/simulated_io.js'

export interface ShardPlace {
  path: string
  offset: number
  size: number
}

/** By data id in hex: the shard files there are, and what the index of the segments names. */
export function shardPlaces(disk: SimulatedDisk, index: SegmentIndex, driveId: string): Map<string, ShardPlace> {
  const found = new Map<string, ShardPlace>()
  for (const { path } of disk.files()) {
    const match = /^shards\/.*?([0-9a-f]{32})[^/]*$/.exec(path)
    if (match?.[1] !== undefined) found.set(match[1], { path, offset: 0, size: disk.contents(path).length })
  }
  for (const { id, location } of index.entries()) {
    const { number, offset, dead } = unpackLocation(location)
    if (dead) continue
    const path = segmentPath(number)
    let size = 8
    try {
      size = decodeRecord(disk.contents(path).subarray(offset), offset, segmentSeed(driveId, number)).size
    } catch {
      // Damaged, or gone.
    }
    found.set(id.toString('hex'), { path, offset, size })
  }
  return found
}
