/**
 * Goes through all stripes of a part in order and reads every shard that can be read, for heal and scrub: bounded
 * memory, throttled, and with a cross-check. Checksums prove that a block is what was once written for its place;
 * the cross-check proves that the shards belong together (parity agrees with data).
 */
import { blockCount, blockSizeAt } from '../drive/drive.js'
import type { Geometry } from '../drive/drive.js'
import { reconstruct } from '../native/erasure.js'
import { ErasureError } from './erasure_set.js'
import type { ShardSources } from './shard_sources.js'
import { blockIn } from './shard_sources.js'

export interface SweepOptions {
  /** Bytes of part data read at a time; one stripe at least. */
  groupBytes: number
  /** Resolves when so many bytes may be read or written; rejects to stop. */
  permit: (bytes: number) => Promise<void>
}

export interface SweptStripe {
  stripe: number
  blockSize: number
  /** By shard number; null where no good block could be read. */
  blocks: (Uint8Array | null)[]
}

/** Opens every usable shard, so that what is missing is known (and reported) before anything is read. */
export async function openAll(sources: ShardSources): Promise<void> {
  await Promise.allSettled(sources.usableShards().map((shard) => sources.read(shard, 0, 0)))
}

/** Yields every stripe once. A stripe with too few good blocks is yielded too: the caller decides. */
export async function* sweep(sources: ShardSources, options: SweepOptions): AsyncGenerator<SweptStripe> {
  const { geometry } = sources
  const stripes = blockCount(geometry)
  const most = Math.max(1, Math.floor(options.groupBytes / geometry.stripeSize))
  for (let first = 0; first < stripes; first += most) {
    const count = Math.min(most, stripes - first)
    const cells = await readAll(sources, options, first, count)
    if (cells !== undefined) {
      for (let index = 0; index < count; index++) yield swept(geometry, cells, first, index)
      continue
    }
    // Some shard has a bad block in this group: its other blocks are good.
    for (let index = 0; index < count; index++) {
      const single = await readAll(sources, options, first + index, 1)
      if (single !== undefined) yield swept(geometry, single, first + index, 0)
    }
  }
}

/** Undefined when a shard failed that may still be good for some of the stripes. */
async function readAll(
  sources: ShardSources,
  options: SweepOptions,
  first: number,
  count: number,
): Promise<(Uint8Array | null)[] | undefined> {
  const shards = sources.usableShards()
  const { geometry } = sources
  await options.permit(Math.ceil((count * geometry.stripeSize * shards.length) / geometry.k))
  const cells: (Uint8Array | null)[] = sources.location.drives.map(() => null)
  let partly = false
  await Promise.all(
    shards.map(async (shard) => {
      try {
        cells[shard] = await sources.read(shard, first, count)
      } catch {
        if (sources.usable(shard)) partly = true
      }
    }),
  )
  return partly && count > 1 ? undefined : cells
}

function swept(geometry: Geometry, cells: (Uint8Array | null)[], first: number, index: number): SweptStripe {
  return {
    stripe: first + index,
    blockSize: blockSizeAt(geometry, first + index),
    blocks: cells.map((buffer) => (buffer === null ? null : blockIn(geometry, buffer, first, index))),
  }
}

/**
 * Compares what is there beyond k blocks with what the others imply. The number of the one block that disagrees with
 * all others, undefined when all agree. ErasureError 'inconsistent' when it cannot be told which is wrong.
 */
export function oddShard(geometry: Geometry, swept: SweptStripe): number | undefined {
  const { blocks } = swept
  const present = blocks.flatMap((block, shard) => (block === null ? [] : [shard]))
  if (agree(geometry, swept, present)) return undefined
  const suspects: number[] = []
  if (present.length >= geometry.k + 2) {
    for (const shard of present) {
      const rest = present.filter((other) => other !== shard)
      if (agree(geometry, swept, rest)) suspects.push(shard)
    }
  }
  const [odd, ...others] = suspects
  if (odd !== undefined && others.length === 0) return odd
  throw new ErasureError('inconsistent', `the shards of stripe ${String(swept.stripe)} are intact but disagree`)
}

/** True when the blocks of these shards are those of one stripe; nothing to say for k of them or fewer. */
function agree(geometry: Geometry, swept: SweptStripe, shards: readonly number[]): boolean {
  const { k, m } = geometry
  if (shards.length <= k) return true
  const { blocks, blockSize } = swept
  const given = blocks.map((block, shard) => (shards.indexOf(shard) >= 0 && shards.indexOf(shard) < k ? block : null))
  const rest = shards.slice(k)
  const out = rest.map(() => Buffer.allocUnsafeSlow(blockSize))
  reconstruct(k, m, blockSize, given, rest, out)
  return rest.every((shard, at) => Buffer.compare(out[at] as Uint8Array, blocks[shard] as Uint8Array) === 0)
}
