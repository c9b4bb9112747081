/**
 * format.json: what makes a directory a drive of a cluster. Two copies are kept, `format.json` and
 * `format.copy.json`, so that one damaged byte does not cost a drive; `readFormat` says which copy is bad,
 * `repairFormat` rewrites it.
 *
 * The file is one JSON object, for people to read, whose last member is a checksum over all others (XXH3-64, hex, of
 * the same text without it). Each copy is written to a temporary name, synced, renamed, and the directory synced.
 *
 * A drive is 'initialising' from its first format until the metadata of its new cluster is durable, then a
 * 'member'. Formats that never became members may be written anew: nothing was ever acknowledged on them.
 */
import { type DriveIo, IoError, type IoOp, LAST_OPENED } from './io.js'
import { prepareLayout } from './layout.js'
import { checksum64 } from '../native/hash.js'

export const DRIVE_FORMAT_VERSION = 1
const FILES = ['format.json', 'format.copy.json'] as const
const MAX_SIZE = 16 * 1024
const FORMAT_SEED = 0x464f_524d

export interface DriveFormat {
  /** UUID. */
  clusterId: string
  /** UUID, given once, for life. */
  driveId: string
  /** The drive's number in the cluster, 1..65535. */
  number: number
  pool: number
  /** Counted within the node that the drives belong to. */
  set: number
  position: number
  /** Starts at 1 and grows each time the place goes to another drive. */
  epoch: number
  /** The layout of the pool, so that any one drive tells it. */
  setCount: number
  setSize: number
  parity: number
  state: 'initialising' | 'member'
}

/** What is at the root of a drive. */
export type FoundFormat =
  /** `damaged`: one copy is bad or missing and can be repaired from the other. */
  | { kind: 'format'; format: DriveFormat; damaged: boolean }
  /** Nothing of ours is there: may become a drive. */
  | { kind: 'blank' }
  | { kind: 'newer'; version: number }
  /** Something is there, but no usable format: never taken for blank. */
  | { kind: 'damaged'; detail: string }

/** What a new drive may hold: our own empty directories after a first start that was cut short, and what mkfs makes. */
const BLANK_ENTRIES: readonly string[] = [
  'lock', 'lost+found', 'tmp', 'segments', 'shards', ...FILES.map((name) => `${name}.new`),
  // Small files that every drive is given: one may land on a blank disk before anybody has seen that it is one.
  'meta-copies.json', 'meta-copies.json.tmp', 'scrub.json', 'scrub.json.tmp',
]

/** Reads both copies. Rejects with IoError when the drive cannot be read. */
export async function readFormat(io: DriveIo, deadlineMs: number): Promise<FoundFormat> {
  const [names] = await io.run([{ op: 'list', path: '.' }], { deadlineMs }) as [string[]]
  const read = async (path: string): Promise<FoundFormat | undefined> =>
    names.includes(path) ? readCopy(io, path, deadlineMs) : undefined
  const copies = await Promise.all(FILES.map(read))
  const good = copies.filter((copy) => copy?.kind === 'format')
  const newer = copies.find((copy) => copy?.kind === 'newer')
  if (newer !== undefined) return newer
  const [first, second] = good
  if (first?.kind === 'format') {
    // A crash between the two leaves the copy with an older text: the first one counts.
    const same = second?.kind === 'format' && formatText(second.format) === formatText(first.format)
    return { ...first, damaged: !same }
  }
  const damaged = copies.find((copy) => copy !== undefined)
  if (damaged !== undefined) return damaged
  const strange = names.filter((name) => !BLANK_ENTRIES.includes(name))
  if (strange.length > 0) return { kind: 'damaged', detail: `no format.json, but ${strange.slice(0, 3).join(', ')}` }
  if (await holdsShards(io, names, deadlineMs)) return { kind: 'damaged', detail: 'no format.json, but shards' }
  return { kind: 'blank' }
}

/** Makes the directories of the drive, then writes both copies, durably. */
export async function writeFormat(io: DriveIo, format: DriveFormat): Promise<void> {
  await prepareLayout(io)
  await repairFormat(io, format)
}

/** Writes both copies again. */
export async function repairFormat(io: DriveIo, format: DriveFormat): Promise<void> {
  const bytes = new TextEncoder().encode(formatText(format))
  const write = (path: string): IoOp[] => [
    { op: 'unlink', path: `${path}.new` },
    { op: 'open', path: `${path}.new`, mode: 'create' },
    { op: 'write', file: LAST_OPENED, offset: 0, from: [bytes] },
    { op: 'sync', file: LAST_OPENED },
    { op: 'close', file: LAST_OPENED },
    { op: 'rename', from: `${path}.new`, to: path },
    { op: 'syncDir', path: '.' },
  ]
  await io.run(FILES.flatMap(write), { deadlineMs: 60_000 })
}

/** The text of the file. */
export function formatText(format: DriveFormat): string {
  const { clusterId, driveId, number, pool, set, position, epoch, setCount, setSize, parity, state } = format
  const members = {
    about: 'Ostraka drive. Do not edit or copy.', version: DRIVE_FORMAT_VERSION, clusterId, driveId, number, pool, set,
    position, epoch, setCount, setSize, parity, state,
  }
  return `${JSON.stringify({ ...members, checksum: checksumOf(members) }, null, 2)}\n`
}

/** Pure counterpart of `formatText`. */
export function parseFormat(text: string): FoundFormat {
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch {
    return { kind: 'damaged', detail: 'format.json is not JSON' }
  }
  if (typeof parsed !== 'object' || parsed === null) return { kind: 'damaged', detail: 'format.json is not an object' }
  const { checksum, ...members } = parsed as Record<string, unknown>
  if (checksum !== checksumOf(members)) return { kind: 'damaged', detail: 'the checksum of format.json does not hold' }
  const { version } = members
  if (typeof version === 'number' && version > DRIVE_FORMAT_VERSION) return { kind: 'newer', version }
  const format = formatOf(members)
  // Byte for byte what we write: a flip that JSON does not notice is damage all the same.
  if (format === undefined || formatText(format) !== text) {
    return { kind: 'damaged', detail: 'format.json is not as written' }
  }
  return { kind: 'format', format, damaged: false }
}

function formatOf(members: Record<string, unknown>): DriveFormat | undefined {
  const text = (key: string): string | undefined => typeof members[key] === 'string' ? members[key] : undefined
  const whole = (key: string): number => {
    const value = members[key]
    return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 ? value : NaN
  }
  const clusterId = text('clusterId')
  const driveId = text('driveId')
  const state = text('state')
  if (clusterId === undefined || driveId === undefined) return undefined
  if (state !== 'initialising' && state !== 'member') return undefined
  const format: DriveFormat = {
    clusterId, driveId, state, number: whole('number'), pool: whole('pool'), set: whole('set'),
    position: whole('position'), epoch: whole('epoch'), setCount: whole('setCount'), setSize: whole('setSize'),
    parity: whole('parity'),
  }
  const { set, position, setCount, setSize, parity } = format
  const sound = Object.values(format).every((value) => !Number.isNaN(value)) && set < setCount && position < setSize &&
    parity < setSize
  return sound ? format : undefined
}

async function readCopy(io: DriveIo, path: string, deadlineMs: number): Promise<FoundFormat> {
  const into = new Uint8Array(MAX_SIZE)
  try {
    const [, size] = await io.run([
      { op: 'open', path, mode: 'read' }, { op: 'read', file: LAST_OPENED, offset: 0, into },
      { op: 'close', file: LAST_OPENED },
    ], { deadlineMs }) as [number, number]
    return parseFormat(Buffer.from(into.buffer, 0, size).toString('utf8'))
  } catch (error) {
    // One bad sector must not cost the drive while the other copy is good. Anything wider fails the listing too.
    if (error instanceof IoError && error.code !== 'ETIMEDOUT')
      return { kind: 'damaged', detail: `${path}: ${error.code}` }
    throw error
  }
}

async function holdsShards(io: DriveIo, names: readonly string[], deadlineMs: number): Promise<boolean> {
  if (names.includes('segments')) {
    const [segments] = await io.run([{ op: 'list', path: 'segments' }], { deadlineMs }) as [string[]]
    if (segments.length > 0) return true
  }
  if (!names.includes('shards')) return false
  const [directories] = await io.run([{ op: 'list', path: 'shards' }], { deadlineMs }) as [string[]]
  if (directories.length > 256) return true
  const lists = await io.run(directories.map((name): IoOp => ({ op: 'list', path: `shards/${name}` })), { deadlineMs })
  return lists.some((list) => Array.isArray(list) && list.length > 0)
}

function checksumOf(members: Record<string, unknown>): string {
  const out = Buffer.alloc(8)
  checksum64(out, 0, [new TextEncoder().encode(JSON.stringify(members))], FORMAT_SEED)
  return out.toString('hex')
}
