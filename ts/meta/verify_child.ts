/**
 * Verifies a view in a process of its own: LMDB may read outside its map on a damaged page, which kills the
 * process. Run as a program: argument = path of the view; sends its progress; exit code 0 when everything holds.
 */
import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { MetadataError } from './engine.js'
import { LmdbReader } from './lmdb_view.js'
import { verifyView } from './verify.js'

/** A child that reports no progress for this long is stopped. */
const SILENCE_MS = 60_000

interface Report {
  records?: number
  error?: string
}

/** Throws MetadataError 'corrupt' when the view is damaged or its check died. */
export function verifyInChild(path: string, onProgress?: (records: number) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = fork(fileURLToPath(import.meta.url), [path], { stdio: 'ignore', execArgv: [] })
    let said: string | undefined
    let timer = setTimeout(stop, SILENCE_MS)
    function stop(): void {
      said = 'its check did not answer'
      child.kill('SIGKILL')
    }
    child.on('message', (report: Report) => {
      clearTimeout(timer)
      timer = setTimeout(stop, SILENCE_MS)
      if (report.error !== undefined) said = report.error
      if (report.records !== undefined) onProgress?.(report.records)
    })
    child.on('error', (error) => {
      clearTimeout(timer)
      reject(new MetadataError('corrupt', `a view cannot be checked: ${error.message}`, { cause: error }))
    })
    child.on('exit', (code, signal) => {
      clearTimeout(timer)
      if (code === 0) resolve()
      else reject(new MetadataError('corrupt', said ?? `its check ended with ${String(signal ?? code)}`))
    })
  })
}

function main(path: string): void {
  try {
    const reader = new LmdbReader(path)
    const snapshot = reader.snapshot()
    verifyView(snapshot, (records) => process.send?.({ records }))
    process.exit(0)
  } catch (error) {
    process.send?.({ error: error instanceof Error ? error.message : String(error) }, () => process.exit(1))
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url) && process.send !== undefined) main(process.argv[2] ?? '')
