/**
 * The copy set: which drives hold a metadata copy that can be trusted. It is written to every reachable drive
 * before anything is acknowledged without a copy, so that a copy that was left behind is known as stale by any
 * drive that stayed.
 */
import { createHash } from 'node:crypto'
import type { DriveNumber } from '../drive/drive.js'
import { readSmall, replaceFile } from './drive_files.js'
import type { MetaDrive } from './drive_files.js'

const FILE = 'meta-copies.json'
const FORMAT = 1
const LARGEST = 1 << 16

export interface CopySet {
  generation: number
  members: DriveNumber[]
}

function digest(set: CopySet): string {
  const text = JSON.stringify([FORMAT, set.generation, set.members])
  return createHash('sha256').update(text).digest('hex')
}

export function encodeCopySet(set: CopySet): Buffer {
  return Buffer.from(`${JSON.stringify({ format: FORMAT, ...set, sha256: digest(set) })}\n`)
}

/** A copy set, or in words what is wrong. */
export function decodeCopySet(bytes: Buffer): CopySet | string {
  let value: unknown
  try {
    value = JSON.parse(bytes.toString('utf8'))
  } catch {
    return 'it is not JSON'
  }
  const { format, generation, members, sha256 } = (value ?? {}) as Record<string, unknown>
  if (typeof format === 'number' && format > FORMAT)
    return `it has format ${String(format)}, known is ${String(FORMAT)}`
  if (typeof generation !== 'number' || !Array.isArray(members)) return 'it has no generation or members'
  if (!members.every((member) => typeof member === 'number')) return 'its members are not drive numbers'
  const set: CopySet = { generation, members }
  return sha256 === digest(set) ? set : 'its checksum does not hold'
}

export interface CopySetsFound {
  newest: CopySet | undefined
  /** What could not be read, in words, by drive. */
  problems: Map<DriveNumber, string>
}

/** The newest copy set of any of these drives. */
export async function readCopySets(drives: readonly MetaDrive[]): Promise<CopySetsFound> {
  const found: CopySetsFound = { newest: undefined, problems: new Map() }
  await Promise.all(
    drives.map(async (drive) => {
      try {
        const bytes = await readSmall(drive.io, FILE, LARGEST)
        if (bytes === undefined) return
        const set = decodeCopySet(bytes)
        if (typeof set === 'string') found.problems.set(drive.number, `${FILE}: ${set}`)
        else if (found.newest === undefined || set.generation > found.newest.generation) found.newest = set
      } catch (error) {
        found.problems.set(drive.number, `${FILE}: ${String(error)}`)
      }
    }),
  )
  return found
}

/** Writes it durably to all drives at once; the drives that could not take it. */
export async function writeCopySet(
  drives: readonly MetaDrive[],
  set: CopySet,
  deadlineMs: number,
): Promise<Map<DriveNumber, unknown>> {
  const bytes = encodeCopySet(set)
  const failed = new Map<DriveNumber, unknown>()
  await Promise.all(
    drives.map(async (drive) => {
      await replaceFile(drive.io, FILE, Buffer.from(bytes), deadlineMs).catch((error: unknown) => {
        failed.set(drive.number, error)
      })
    }),
  )
  return failed
}
