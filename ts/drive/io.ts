/**
 * The one small interface through which everything on a drive is reached: shard files, format.json and the
 * command log. `native_io.ts` implements it over native/io (threads and deadlines per drive), `simulated_io.ts`
 * over memory (forgets unsynced writes and names, tears, fails, hangs, flips bits).
 *
 * Model: a drive is a directory tree. `run` takes one batch of operations, executes them in order on one thread
 * of the drive, and stops at the first that fails; one submission, one completion. Paths are relative to the
 * drive's root, without `..`, and are never taken from a client; '.' is the root itself.
 *
 * Durability, as on Linux: `write` reaches the medium with `sync` of that file; a created, renamed or unlinked
 * name reaches it with `syncDir` of its directory.
 *
 * Invariants: buffers belong to the callee until the batch settles. After a batch that passed its deadline the
 * outcome is unknown and its buffers may still be in use: never reuse them.
 */

/** A file opened by an earlier batch. Numbers are meaningful to the DriveIo that gave them, and never reused. */
export type FileHandle = number

/** In a batch: the file opened by the nearest earlier `open` of the same batch. */
export const LAST_OPENED = -1

export type IoOp =
  | { op: 'open'; path: string; mode: 'read' | 'write' | 'create'; direct?: boolean }
  | { op: 'read'; file: FileHandle; offset: number; into: Uint8Array }
  | { op: 'write'; file: FileHandle; offset: number; from: readonly Uint8Array[] }
  | { op: 'writeZeros'; file: FileHandle; offset: number; size: number }
  | { op: 'sync'; file: FileHandle }
  | { op: 'writeBack'; file: FileHandle }
  | { op: 'dropCache'; file: FileHandle }
  | { op: 'truncate'; file: FileHandle; size: number }
  | { op: 'size'; file: FileHandle }
  | { op: 'close'; file: FileHandle }
  | { op: 'rename'; from: string; to: string }
  | { op: 'unlink'; path: string }
  | { op: 'makeDir'; path: string }
  | { op: 'removeDir'; path: string }
  | { op: 'syncDir'; path: string }
  | { op: 'list'; path: string }
  | { op: 'stat'; path: string }
  | { op: 'space' }
// open 'create' is exclusive (O_EXCL); 'write' opens an existing file for reading and writing. 'read' may return
// fewer bytes only at the end of the file. 'makeDir' of an existing directory, and 'unlink' of a missing name, succeed.
// 'dropCache' gives 1 when the file's pages were seen to be gone, 0 when they stayed or nobody can tell.
// 'writeBack' has the system begin to write what it caches of the file, so that the next 'sync' finds little to do and
// holds up nobody else. It makes nothing durable, and what the medium refuses is said by that 'sync'.
// 'writeZeros' is a 'write' of so many zeros, 256 MiB at most, without a buffer to hold them.
// `direct` asks for O_DIRECT and fails with EINVAL where the file system cannot.

export interface FileStat {
  kind: 'file' | 'directory' | 'other'
  size: number
}

export interface DriveSpace {
  totalBytes: number
  freeBytes: number
  freeFiles: number
}

/** One result per operation: open -> handle, read -> bytes read, size -> bytes, list -> names, others as named. */
export type IoResult = number | string[] | FileStat | DriveSpace | undefined

export interface RunOptions {
  /** Milliseconds until the promise rejects with ETIMEDOUT although the operations may go on. */
  deadlineMs?: number
  /** Background work waits behind foreground work of the same drive. */
  background?: boolean
}

export interface DriveIo {
  /** Rejects with IoError naming the first operation that failed. Files that this batch opened are then closed. */
  run(ops: readonly IoOp[], options?: RunOptions): Promise<IoResult[]>
  /**
   * Fills `into` from an open file in the calling thread if that takes no waiting, as for what the page cache holds.
   * False: nothing is known of `into`, and only `run` can tell what the matter is. Says nothing of the drive's health.
   */
  readNow?(file: FileHandle, offset: number, into: Uint8Array): boolean
  /** Takes the advisory lock of the whole drive (file `lock`), false when another process holds it. */
  lock(): Promise<boolean>
  /**
   * Opens the root again by its path, after the drive was replaced or mounted again. Open files stay what they were.
   */
  refresh(): Promise<void>
  /** Operations submitted and not settled. */
  readonly pending: number
  /** Waits for what is pending, though not beyond timeoutMs, and closes all files. */
  close(timeoutMs?: number): Promise<void>
}

/** A path that `run` accepts: '.' or names separated by single slashes, none of them '.', '..' or longer than 255. */
export function isDrivePath(path: string): boolean {
  if (path === '.') return true
  if (path.length === 0 || path.length > 1024 || path.includes('\0')) return false
  return path.split('/').every((name) => name !== '' && name !== '.' && name !== '..' && name.length <= 255)
}

/**
 * What an operation failed with: the errno name (EIO, ENOSPC, EROFS, ENOENT, ETIMEDOUT, EAGAIN = queue full, ...).
 * ETIMEDOUT with opIndex -1 at once: every thread of the drive is stuck past a deadline; nothing was started.
 */
export class IoError extends Error {
  readonly code: string
  /** Index in the batch, -1 when the batch as a whole was refused. */
  readonly opIndex: number
  readonly op: string

  constructor(code: string, opIndex: number, op: string, detail = '') {
    super(`${op}: ${code}${detail === '' ? '' : ` (${detail})`}`)
    this.name = 'IoError'
    this.code = code
    this.opIndex = opIndex
    this.op = op
  }
}
