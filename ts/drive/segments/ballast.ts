/**
 * The ballast: bytes kept on a drive that are given up when it is full, so that the tombstones of deletes can still be
 * written, which make room in the end (segment_writer.ts). It is made when the segments have been loaded, and again
 * when a full drive has room once more.
 */
import { IoError, LAST_OPENED } from '../io.js'
import type { DriveAccess } from '../local_drive.js'
import { BALLAST_PATH } from './segment_file.js'

/** A drive with less room than so many times the ballast keeps none. */
const ROOM_TIMES = 64
const QUIETLY = { deadlineMs: 30_000, background: true }

/** Makes it, if it is missing and the drive has room for it. Never fails: a drive without it is only poorer. */
export async function putBallast(drive: DriveAccess, bytes: number): Promise<void> {
  if (bytes === 0 || drive.row.state !== 'online') return
  const stat = drive.io.run([{ op: 'stat', path: BALLAST_PATH }], QUIETLY)
  if (await stat.then(() => true, () => false)) return
  const { totalBytes, freeBytes } = drive.health
  if (totalBytes > 0 && freeBytes < ROOM_TIMES * bytes) return
  try {
    await drive.io.run([
      { op: 'open', path: BALLAST_PATH, mode: 'create' },
      { op: 'write', file: LAST_OPENED, offset: 0, from: [Buffer.alloc(bytes)] },
      { op: 'sync', file: LAST_OPENED }, { op: 'close', file: LAST_OPENED },
    ], QUIETLY)
  } catch (error) {
    // Half of one would pass for all of it.
    if (error instanceof IoError && error.op === 'open') return
    await drive.io.run([{ op: 'unlink', path: BALLAST_PATH }], QUIETLY).catch(() => undefined)
  }
}
