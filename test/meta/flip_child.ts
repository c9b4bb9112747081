/**
 * Opens stores of which one byte was changed, in a process that may die of it. Takes jobs by message, answers each
 * with what a client would have seen.
 *
 * Job: { image, work, file, at, mask, live }: copies image to work, changes the byte (before opening, or under the
 * running engine), reads everything, and closes. `again` opens the work directory as it is.
 */
import { closeSync, cpSync, openSync, readdirSync, readSync, rmSync, writeSync } from 'node:fs'
import type { MetaDrive } from '../../ts/meta/drive_files.js'
import { MetadataError } from '../../ts/meta/engine.js'
import { LocalEngine } from '../../ts/meta/local_engine.js'
import { FileIo } from './file_io.js'
import { putObject } from './support.js'

export interface FlipJob {
  image: string
  work: string
  file: string
  at: number
  mask: number
  live: boolean
  again: boolean
  /** What must be there: [key, etag], in order. */
  expected: [string, string][]
}

export interface FlipAnswer {
  outcome: 'right' | 'refused' | 'wrong'
  /** Reads that said 'corrupt' before one was right. */
  corrupt: number
  detail: string
}

/** A process that died may have taken the bad copy out: the next one is to wait for no drive to come back. */
function openEngine(work: string, notes: string[]): Promise<LocalEngine> {
  const numbers = readdirSync(work).map(Number).sort((a, b) => a - b)
  const drives = numbers.map((number): MetaDrive => ({
    number,
    io: new FileIo(`${work}/${String(number)}`),
    path: `${work}/${String(number)}`,
  }))
  const note = (text: string): void => { notes.push(text) }
  return LocalEngine.open({ drives, copies: 2, log: { fileSize: 1 << 16 }, flushEveryMs: 10, replaceAfterMs: 0, note })
}

function flip({ work, file, at, mask }: FlipJob): void {
  const handle = openSync(`${work}/${file}`, 'r+')
  const byte = Buffer.alloc(1)
  readSync(handle, byte, 0, 1, at)
  byte[0] = (byte[0] as number) ^ mask
  writeSync(handle, byte, 0, 1, at)
  closeSync(handle)
}

/** True when everything is right; false when the view says that it is damaged. Throws when an answer is wrong. */
function check(engine: LocalEngine, expected: FlipJob['expected']): boolean {
  try {
    engine.reader.refresh()
    const found: [string, string][] = []
    let after = ''
    for (;;) {
      const page = engine.reader.list({ bucketId: 1, prefix: '', delimiter: '', after, limit: 97 })
      for (const entry of page.entries) if ('object' in entry) found.push([entry.object.key, entry.object.etag])
      if (!page.truncated) break
      after = page.next
    }
    if (JSON.stringify(found) !== JSON.stringify(expected))
      throw new Error(`a listing of ${String(found.length)} keys is wrong`)
    for (const [key, etag] of expected) {
      if (engine.reader.object(1, key)?.etag !== etag) throw new Error(`the object ${key} is wrong`)
      if (engine.reader.object(1, `${key}-`) !== undefined) throw new Error('an object from nowhere')
    }
    return true
  } catch (error) {
    if (error instanceof MetadataError && error.code === 'corrupt') return false
    throw error
  }
}

async function run(job: FlipJob): Promise<FlipAnswer> {
  const notes: string[] = []
  if (!job.again) {
    rmSync(job.work, { recursive: true, force: true })
    cpSync(job.image, job.work, { recursive: true })
    if (!job.live) flip(job)
  }
  let engine: LocalEngine
  try {
    engine = await openEngine(job.work, notes)
  } catch (error) {
    if (!(error instanceof MetadataError)) throw error
    return { outcome: 'refused', corrupt: 0, detail: `${error.message}; ${notes.join('; ')}` }
  }
  if (job.live && !job.again) {
    check(engine, job.expected)
    flip(job)
  }
  let corrupt = 0
  while (!check(engine, job.expected)) {
    if (++corrupt > 50) return { outcome: 'refused', corrupt, detail: notes.join('; ') }
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  // Writing on a damaged view is answered, or the view is moved away from.
  const again = job.expected.map(([key, etag]) => engine.propose(putObject(1, key, undefined, etag)))
  for (const result of await Promise.all(again))
    if (!result.ok) throw new Error(`not written: ${JSON.stringify(result)}`)
  while (!check(engine, job.expected)) {
    if (++corrupt > 50) return { outcome: 'refused', corrupt, detail: notes.join('; ') }
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  // The scrub finds what reading did not, and a bad copy is remade.
  const first = await engine.compareCopies(() => Promise.resolve())
  for (let tries = 0; tries < 50; tries++) {
    for (const drive of engine.drives) engine.addDrive(drive)
    await engine.flush()
    await engine.remakeCopies()
    const { copies } = await engine.status()
    if (copies.filter(({ state }) => state === 'online').length === 2) break
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  const second = await engine.compareCopies(() => Promise.resolve())
  if (second.bad.length > 0) throw new Error(`still bad: ${JSON.stringify([first.bad, second.bad])}`)
  if (!check(engine, job.expected)) throw new Error('damaged again')
  const { copies } = await engine.status()
  if (copies.length !== 2 || copies.some(({ state }) => state !== 'online'))
    throw new Error(`not healed: ${JSON.stringify(copies)}`)
  await engine.close()
  return { outcome: 'right', corrupt, detail: notes.join('; ') }
}

process.on('message', (job: FlipJob) => {
  run(job).then(
    (answer) => process.send?.(answer),
    (error: unknown) =>
      process.send?.({
        outcome: 'wrong',
        corrupt: 0,
        detail: error instanceof Error ? String(error.stack) : String(error),
      }),
  )
})
