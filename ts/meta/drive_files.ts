/**
 * Where metadata lies on a drive, and small durable files.
 *
 *   meta-copies.json   the copy set (copy_set.ts), on every drive
 *   meta/log/          the command log of a copy
 *   meta/view-<n>/     its view; n is never used again
 *   meta/unclean       there while the copy is in use
 *   meta/replica.json  there when the copy is a replica of a group (raft/replica/replica_files.ts)
 */
import { mkdirSync } from 'node:fs'
import { open, rename } from 'node:fs/promises'
import type { DriveNumber } from '../drive/drive.js'
import type { DriveIo, FileStat, IoOp } from '../drive/io.js'
import { IoError, LAST_OPENED } from '../drive/io.js'
import type { ViewDurability } from './lmdb_view.js'

export const META = 'meta'
export const LOG = 'meta/log'
export const UNCLEAN = 'meta/unclean'
export const REPLICA = 'meta/replica.json'

/** A drive that metadata may use. */
export interface MetaDrive {
  number: DriveNumber
  io: DriveIo
  /** Its root on the file system: LMDB opens its files itself. */
  path: string
}

export interface IoLimits {
  deadlineMs: number
}

/** Puts a small file in place atomically and durably. */
export async function replaceFile(io: DriveIo, path: string, bytes: Buffer, deadlineMs?: number): Promise<void> {
  const temporary = `${path}.tmp`
  const ops: IoOp[] = [
    { op: 'unlink', path: temporary },
    { op: 'open', path: temporary, mode: 'create' },
    { op: 'write', file: LAST_OPENED, offset: 0, from: [bytes] },
    { op: 'sync', file: LAST_OPENED },
    { op: 'close', file: LAST_OPENED },
    { op: 'rename', from: temporary, to: path },
    { op: 'syncDir', path: parent(path) },
  ]
  await io.run(ops, deadlineMs === undefined ? {} : { deadlineMs })
}

/** A whole small file; undefined when it is not there. Throws IoError, RangeError when it is larger than `most`. */
export async function readSmall(io: DriveIo, path: string, most: number): Promise<Buffer | undefined> {
  try {
    const [stat] = (await io.run([{ op: 'stat', path }])) as [FileStat]
    if (stat.size > most) throw new RangeError(`${path} has ${String(stat.size)} bytes`)
    const bytes = Buffer.alloc(stat.size)
    await io.run([
      { op: 'open', path, mode: 'read' },
      { op: 'read', file: LAST_OPENED, offset: 0, into: bytes },
      { op: 'close', file: LAST_OPENED },
    ])
    return bytes
  } catch (error) {
    if (error instanceof IoError && error.code === 'ENOENT') return undefined
    throw error
  }
}

export async function exists(io: DriveIo, path: string): Promise<boolean> {
  try {
    await io.run([{ op: 'stat', path }])
    return true
  } catch (error) {
    if (error instanceof IoError && error.code === 'ENOENT') return false
    throw error
  }
}

export async function listNames(io: DriveIo, path: string): Promise<string[]> {
  if (!(await exists(io, path))) return []
  const [names] = (await io.run([{ op: 'list', path }])) as [string[]]
  return names
}

export async function makeDirectory(io: DriveIo, path: string): Promise<void> {
  await io.run([
    { op: 'makeDir', path },
    { op: 'syncDir', path: parent(path) },
  ])
}

/** Removes a directory and the files in it (no directories inside). */
export async function removeDirectory(io: DriveIo, path: string): Promise<void> {
  if (!(await exists(io, path))) return
  const names = await listNames(io, path)
  const ops = names.map((name): IoOp => ({ op: 'unlink', path: `${path}/${name}` }))
  await io.run([...ops, { op: 'removeDir', path }, { op: 'syncDir', path: parent(path) }])
}

export function driveDurability(drive: MetaDrive, directory: string): ViewDurability {
  return {
    path: `${drive.path}/${directory}`,
    sync: async (name) => {
      await drive.io.run([
        { op: 'open', path: `${directory}/${name}`, mode: 'write' },
        { op: 'sync', file: LAST_OPENED },
        { op: 'close', file: LAST_OPENED },
      ])
    },
    writeBack: async (name) => {
      const path = `${directory}/${name}`
      const ops: IoOp[] = [
        { op: 'open', path, mode: 'write' },
        { op: 'writeBack', file: LAST_OPENED },
        { op: 'close', file: LAST_OPENED },
      ]
      await drive.io.run(ops, { background: true })
    },
    replace: (name, bytes) => replaceFile(drive.io, `${directory}/${name}`, bytes),
  }
}

/** For a directory that is on no drive: a backup. */
export function plainDurability(path: string): ViewDurability {
  mkdirSync(path, { recursive: true })
  const sync = async (name: string): Promise<void> => {
    const file = await open(`${path}/${name}`, 'r')
    try {
      await file.sync()
    } finally {
      await file.close()
    }
  }
  return {
    path,
    sync,
    replace: async (name, bytes) => {
      const file = await open(`${path}/${name}.tmp`, 'w')
      try {
        await file.writeFile(bytes)
        await file.sync()
      } finally {
        await file.close()
      }
      await rename(`${path}/${name}.tmp`, `${path}/${name}`)
      await sync('.')
    },
  }
}

function parent(path: string): string {
  const slash = path.lastIndexOf('/')
  return slash < 0 ? '.' : path.slice(0, slash)
}
