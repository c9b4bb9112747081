/**
 * Which drives take a part, and in what geometry.
 *
 * Let n be the number of drives of the set, m the parity asked for, f the drives that are out when the part starts.
 * The part is encoded (n-m-f) + m over the drives that are left, rotated by the data id so that data and parity
 * spread evenly. Refused when fewer drives are left than the set's write quorum.
 */
import type { DataId, Drive, Geometry } from '../drive/drive.js'
import { ErasureError } from './erasure_set.js'

export interface SetShape {
  /** Data and parity of the set's default geometry; k + m drives. */
  k: number
  m: number
}

/** Drives that must hold a durable shard before a write is acknowledged: k, and k + 1 when k = m. */
export function writeQuorum(shape: SetShape): number {
  return shape.k === shape.m ? shape.k + 1 : shape.k
}

export interface WritePlan {
  geometry: Geometry
  /** The drive of each shard. */
  drives: Drive[]
  /** Fewest shards that may become durable for the write to be acknowledged. */
  floor: number
}

/**
 * `parity` 0 means the set's default. Throws ErasureError 'drivesFull' or 'writeQuorum'; RangeError for a parity
 * that the set does not have.
 */
export function planWrite(
  shape: SetShape,
  drives: readonly Drive[],
  { dataId, size, parity = 0 }: { dataId: DataId; size: number; parity?: number },
  stripeSize: number,
): WritePlan {
  const m = parity === 0 ? shape.m : parity
  if (!Number.isSafeInteger(m) || m < 0 || m > shape.m)
    throw new RangeError(`parity ${String(m)} of a set of ${String(shape.m)}`)
  const ordered: Drive[] = []
  for (const drive of drives) if (drive.writable) ordered.push(drive)
  const count = ordered.length
  const quorum = writeQuorum(shape)
  if (count < quorum) {
    const full = drives.filter((drive) => drive.health.state === 'full').length
    const detail = `${String(count)} of ${String(shape.k + shape.m)} drives can be written, ${String(quorum)} are needed`
    throw new ErasureError(count + full >= quorum ? 'drivesFull' : 'writeQuorum', detail)
  }
  for (let left = rotation(dataId, count); left > 0; left--) ordered.push(ordered.shift() as Drive)
  const k = count - m
  return { geometry: { k, m, stripeSize, partSize: size }, drives: ordered, floor: Math.max(quorum, k) }
}

/** The last 32 random bits of the data id, spread over the drives. */
function rotation(dataId: DataId, count: number): number {
  let bits = 0
  for (let i = 12; i < 16; i++) bits = bits * 256 + (dataId[i] ?? 0)
  return bits % count
}
