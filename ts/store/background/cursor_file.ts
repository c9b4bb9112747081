/**
 * The scrub cursor as a small file on drives, so that it survives a restart: `scrub.json` in the drive's
 * root, written as tmp + sync + rename + directory sync on each drive in turn until one has taken it. Loading
 * takes the newest of those that check out; anything else is as if there were none.
 */
import { createHash } from 'node:crypto'
import type { DriveIo, FileStat, IoOp } from '../../drive/io.js'
import { IoError, LAST_OPENED } from '../../drive/io.js'
import type { CursorStore, ScrubCursor } from './scrubber.js'

const FILE = 'scrub.json'
const TEMPORARY = 'scrub.json.tmp'
const MAX_SIZE = 4096
const OPTIONS = { deadlineMs: 5_000, background: true }

interface Saved {
  version: 1
  /** Grows with every save. */
  count: number
  cursor: ScrubCursor | null
}

export class CursorFile implements CursorStore {
  readonly #drives: () => readonly DriveIo[]
  #count = 0

  constructor(drives: () => readonly DriveIo[]) {
    this.#drives = drives
  }

  async load(): Promise<ScrubCursor | undefined> {
    let newest: Saved | undefined
    for (const drive of this.#drives()) {
      const saved = await readSaved(drive).catch(() => undefined)
      if (saved !== undefined && saved.count > (newest?.count ?? -1)) newest = saved
    }
    this.#count = newest?.count ?? 0
    return newest?.cursor ?? undefined
  }

  /** Rejects when no drive took it. */
  async save(cursor: ScrubCursor | undefined): Promise<void> {
    this.#count++
    const saved: Saved = { version: 1, count: this.#count, cursor: cursor ?? null }
    const body = JSON.stringify(saved)
    const bytes = Buffer.from(`${digest(body)}\n${body}\n`)
    let last: unknown = new IoError('ENODEV', -1, 'save')
    for (const drive of this.#drives()) {
      try {
        await drive.run(writeOps(bytes), OPTIONS)
        return
      } catch (error) {
        last = error
      }
    }
    throw last
  }
}

function writeOps(bytes: Uint8Array): IoOp[] {
  return [
    { op: 'unlink', path: TEMPORARY },
    { op: 'open', path: TEMPORARY, mode: 'create' },
    { op: 'write', file: LAST_OPENED, offset: 0, from: [bytes] },
    { op: 'sync', file: LAST_OPENED },
    { op: 'close', file: LAST_OPENED },
    { op: 'rename', from: TEMPORARY, to: FILE },
    { op: 'syncDir', path: '.' },
  ]
}

async function readSaved(drive: DriveIo): Promise<Saved | undefined> {
  const [stat] = (await drive.run([{ op: 'stat', path: FILE }], OPTIONS)) as [FileStat | undefined]
  if (stat?.kind !== 'file' || stat.size > MAX_SIZE) return undefined
  const into = new Uint8Array(stat.size)
  await drive.run(
    [
      { op: 'open', path: FILE, mode: 'read' },
      { op: 'read', file: LAST_OPENED, offset: 0, into },
      { op: 'close', file: LAST_OPENED },
    ],
    OPTIONS,
  )
  const [sum, body = ''] = Buffer.from(into).toString('utf8').split('\n')
  if (sum !== digest(body)) return undefined
  const saved = JSON.parse(body) as Partial<Saved>
  if (saved.version !== 1 || typeof saved.count !== 'number' || saved.cursor === undefined) return undefined
  return { version: 1, count: saved.count, cursor: saved.cursor }
}

function digest(body: string): string {
  return createHash('sha256').update(body).digest('hex')
}
