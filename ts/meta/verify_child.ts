/**
 * Verifies a view in a process of its own: LMDB may read outside its map on a damaged page, which kills the
 * process. With a target, it writes what it verified to a new view there: LMDB's own structures (heads of pages,
 * list of free pages) have no checksums either, and what is damaged in them may show only at a later write.
 *
 * Run as a program: arguments = path of the view, and path and position of the target; sends its progress; exit
 * code 0 when everything holds.
 */
import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { awakeTimer } from '../util/awake_timer.js'
import { cloneView } from './clone.js'
import { plainDurability } from './drive_files.js'
import { MetadataError } from './engine.js'
import { LmdbReader, LmdbView } from './lmdb_view.js'
import { verifyView } from './verify.js'

/** A child that reports no progress for this long is stopped. */
const SILENCE_MS = 60_000

interface Report {
  records?: number
  error?: string
}

/** Throws MetadataError 'corrupt' when the view is damaged or its check died. */
export function verifyInChild(path: string, onProgress?: (records: number) => void): Promise<void> {
  return runChild([path], onProgress)
}

/** Verifies a view and makes a new one with the same records in the directory `target`, flushed at `position`. */
export function remakeInChild(
  path: string,
  target: string,
  position: number,
  onProgress?: (records: number) => void,
): Promise<void> {
  return runChild([path, target, String(position)], onProgress)
}

function runChild(args: string[], onProgress?: (records: number) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = fork(fileURLToPath(import.meta.url), args, { stdio: 'ignore', execArgv: [] })
    let said: string | undefined
    let cancel = awakeTimer(stop, SILENCE_MS)
    function stop(): void {
      said = 'its check did not answer'
      child.kill('SIGKILL')
    }
    child.on('message', (report: Report) => {
      cancel()
      cancel = awakeTimer(stop, SILENCE_MS)
      if (report.error !== undefined) said = report.error
      if (report.records !== undefined) onProgress?.(report.records)
    })
    child.on('error', (error) => {
      cancel()
      reject(new MetadataError('corrupt', `a view cannot be checked: ${error.message}`, { cause: error }))
    })
    child.on('exit', (code, signal) => {
      cancel()
      if (code === 0) resolve()
      else reject(new MetadataError('corrupt', said ?? `its check ended with ${String(signal ?? code)}`))
    })
  })
}

async function main([path = '', target, position]: string[]): Promise<void> {
  const report = (records: number): void => {
    process.send?.({ records })
  }
  try {
    const snapshot = new LmdbReader(path).snapshot()
    if (target === undefined) {
      verifyView(snapshot, report)
    } else {
      const view = LmdbView.create(plainDurability(target))
      await cloneView(snapshot, view, report)
      await view.flush(Number(position))
      await view.close()
    }
    process.exit(0)
  } catch (error) {
    process.send?.({ error: error instanceof Error ? error.message : String(error) }, () => process.exit(1))
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url) && process.send !== undefined) void main(process.argv.slice(2))
