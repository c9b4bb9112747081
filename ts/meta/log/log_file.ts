/** One file of the log on a drive: prepared full of zeros, written frame by frame, read as a whole. */
import type { DriveIo, FileHandle, FileStat, IoOp } from '../../drive/io.js'
import { IoError, LAST_OPENED } from '../../drive/io.js'
import { decodeFileHeader, encodeFileHeader, FILE_HEADER, parseFile } from './frame.js'
import type { FileHeader, ParsedFile } from './frame.js'

/** Zeros are written in pieces of this size. */
const PIECE = 1 << 20
/** No log file is larger: what claims to be is not read. */
const MAX_FILE = 1 << 30

const NAME = /^([0-9a-f]{12})\.log$/

export function fileName(number: number): string {
  return `${number.toString(16).padStart(12, '0')}.log`
}

/** Numbers of the log files in a directory, ascending; leftovers of a preparation are in `others`. */
export async function listFiles(io: DriveIo, directory: string): Promise<{ numbers: number[]; others: string[] }> {
  const [names] = (await io.run([{ op: 'list', path: directory }])) as [string[]]
  const numbers: number[] = []
  const others: string[] = []
  for (const name of names) {
    const match = NAME.exec(name)
    if (match?.[1] === undefined) others.push(name)
    else numbers.push(Number.parseInt(match[1], 16))
  }
  return { numbers: numbers.sort((a, b) => a - b), others }
}

export interface ReadFile extends ParsedFile {
  header: FileHeader
  bytes: number
}

/** Reads and parses a whole file; a string says what is wrong with its header. Throws IoError. */
export async function readFile(io: DriveIo, directory: string, number: number): Promise<ReadFile | string> {
  const path = `${directory}/${fileName(number)}`
  const [stat] = (await io.run([{ op: 'stat', path }])) as [FileStat]
  if (stat.size > MAX_FILE) return `it has ${String(stat.size)} bytes`
  const bytes = Buffer.alloc(stat.size)
  const read: IoOp = { op: 'read', file: LAST_OPENED, offset: 0, into: bytes }
  await io.run([{ op: 'open', path, mode: 'read' }, read, { op: 'close', file: LAST_OPENED }])
  const header = decodeFileHeader(bytes)
  if (typeof header === 'string') return header
  if (header.number !== number) return `it is file ${String(header.number)} under another name`
  return { header, bytes: stat.size, ...parseFile(bytes, header.seed) }
}

export interface OpenFile {
  header: FileHeader
  handle: FileHandle
  size: number
}

/**
 * Makes a file of `size` bytes, durable with its name: header and zeros under a temporary name, then renamed.
 * Frames can then be written without changing anything but data. The zeros go piece by piece: a submission copies what
 * it writes, and a thread that copied a whole file at once would keep every commit waiting.
 */
export async function prepareFile(
  io: DriveIo,
  directory: string,
  header: FileHeader,
  size: number,
  background: boolean,
): Promise<OpenFile> {
  const temporary = `${directory}/prepare.tmp`
  const path = `${directory}/${fileName(header.number)}`
  const zeros = Buffer.alloc(Math.min(PIECE, size))
  const create: IoOp[] = [{ op: 'unlink', path: temporary }, { op: 'open', path: temporary, mode: 'create' }]
  const file = (await io.run(create, { background }))[1] as FileHandle
  try {
    for (let at = 0; at < size; at += PIECE) {
      const from = [zeros.subarray(0, Math.min(PIECE, size - at))]
      await io.run([{ op: 'write', file, offset: at, from }], { background })
      // Not all at the end, where the sync would hold up those of the log. What fails here fails the sync.
      await io.run([{ op: 'writeBack', file }], { background }).catch(() => undefined)
    }
    const head: IoOp = { op: 'write', file, offset: 0, from: [encodeFileHeader(header)] }
    await io.run([head, { op: 'sync', file }], { background })
  } finally {
    await io.run([{ op: 'close', file }], { background }).catch(() => undefined)
  }
  await io.run([{ op: 'rename', from: temporary, to: path }, { op: 'syncDir', path: directory }], { background })
  const [handle] = (await io.run([{ op: 'open', path, mode: 'write' }])) as [FileHandle]
  return { header, handle, size: Math.max(size, FILE_HEADER) }
}

export async function removeFiles(io: DriveIo, directory: string, names: readonly string[]): Promise<void> {
  if (names.length === 0) return
  const unlinks = names.map((name): IoOp => ({ op: 'unlink', path: `${directory}/${name}` }))
  await io.run([...unlinks, { op: 'syncDir', path: directory }])
}

export function isMissing(error: unknown): boolean {
  return error instanceof IoError && error.code === 'ENOENT'
}
