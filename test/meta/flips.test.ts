import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { after, before, describe, it } from 'node:test'
import { LocalEngine } from '../../ts/meta/local_engine.js'
import { randomInteger, seededRandom } from '../../ts/util/random.js'
import type { Random } from '../../ts/util/random.js'
import { FileIo } from './file_io.js'
import type { FlipAnswer, FlipJob } from './flip_child.js'
import { createBucket, dataId, part, putObject } from './support.js'

const FLIPS = Number(process.env.OSTRAKA_TEST_FLIPS ?? (process.env.OSTRAKA_TEST_LONG === undefined ? 8 : 600))
const SEED = Number(process.env.OSTRAKA_TEST_SEED ?? randomInteger(Math.random, 2 ** 31))
const KEYS = 400

const root = mkdtempSync(`${tmpdir()}/ostraka-flips-`)
const expected: [string, string][] = []
const images = { clean: `${root}/clean`, killed: `${root}/killed` }

/** A store on three drives with two copies: as a clean stop leaves it, and as a killed process does. */
before(async () => {
  const work = `${root}/made`
  const drives = [1, 2, 3].map((number) => {
    mkdirSync(`${work}/${String(number)}`, { recursive: true })
    return { number, io: new FileIo(`${work}/${String(number)}`), path: `${work}/${String(number)}` }
  })
  const engine = await LocalEngine.open({
    drives,
    copies: 2,
    log: { fileSize: 1 << 16 },
    trailingLogBytes: 1 << 17,
    flushEveryMs: 5,
  })
  await engine.propose({ kind: 'openEpoch', nowMs: 1, worker: 'w' })
  await engine.propose(createBucket('b'))
  for (let at = 0; at < KEYS; at++) {
    const key = `key-${String(at * 7919 % KEYS).padStart(4, '0')}`
    await engine.propose(putObject(1, key, part(dataId(1), 10), `old-${String(at)}`))
    if (at % 3 === 0) await engine.propose(putObject(1, key, part(dataId(1), 10), `etag-${String(at)}`))
    expected.push([key, at % 3 === 0 ? `etag-${String(at)}` : `old-${String(at)}`])
  }
  expected.sort(([a], [b]) => (a < b ? -1 : 1))
  cpSync(work, images.killed, { recursive: true })
  await engine.close()
  cpSync(work, images.clean, { recursive: true })
})

let child: ChildProcess | undefined

after(() => {
  child?.kill()
  rmSync(root, { recursive: true, force: true })
})

/** The answer, or the signal that ended the process. */
function ask(job: FlipJob): Promise<FlipAnswer | string> {
  child ??= fork(new URL('./flip_child.js', import.meta.url), { stdio: 'ignore' })
  const asked = child
  return new Promise((resolve) => {
    const died = (code: number | null, signal: string | null): void => {
      child = undefined
      resolve(`ended with ${String(signal ?? code)}`)
    }
    asked.once('exit', died)
    asked.once('message', (answer: FlipAnswer) => {
      asked.off('exit', died)
      resolve(answer)
    })
    asked.send(job)
  })
}

function filesOf(directory: string, below = ''): { file: string; size: number }[] {
  return readdirSync(`${directory}/${below}`, { withFileTypes: true }).flatMap((entry) => {
    const file = below === '' ? entry.name : `${below}/${entry.name}`
    return entry.isDirectory() ? filesOf(directory, file) : [{ file, size: statSync(`${directory}/${file}`).size }]
  })
}

/** Anywhere; in LMDB every other time in the head of a page, where its own structure is. */
function place(random: Random, file: string, size: number): number {
  const page = 4096
  if (!file.endsWith('data.mdb') || random() < 0.5) return randomInteger(random, size)
  return randomInteger(random, Math.floor(size / page)) * page + randomInteger(random, 40)
}

describe('one changed byte in any file of the metadata', () => {
  for (const [name, live] of [['clean', false], ['killed', false], ['clean', true]] as const) {
    it(`gives the right answer, after an error or a restart at most, and is healed (${name}, ${live ? 'while running' : 'at rest'}, seed ${String(SEED)})`, async (t) => {
      const random = seededRandom(SEED)
      // While running, only what lies in LMDB is read again; lock.mdb is LMDB's own and made anew at every start.
      const files = filesOf(images[name]).filter(
        ({ file, size }) => size > 0 && !file.endsWith('lock.mdb') && (!live || file.endsWith('data.mdb')),
      )
      const seen = { died: 0, corrupt: 0 }
      for (let flips = 0; flips < FLIPS; flips++) {
        const { file, size } = files[randomInteger(random, files.length)] as { file: string; size: number }
        const job: FlipJob = {
          image: images[name],
          work: `${root}/work`,
          file,
          at: place(random, file, size),
          mask: 1 << randomInteger(random, 8),
          live,
          again: false,
          expected,
        }
        const text = `flip ${String(flips)}: ${file} at ${String(job.at)}, mask ${String(job.mask)}`
        let answer = await ask(job)
        if (typeof answer === 'string') {
          seen.died++
          answer = await ask({ ...job, again: true })
        }
        if (typeof answer === 'string') assert.fail(`${text}: ${answer}`)
        assert.equal(answer.outcome, 'right', `${text}: ${answer.detail}`)
        seen.corrupt += answer.corrupt > 0 ? 1 : 0
      }
      t.diagnostic(
        `${String(seen.died)} processes died, ${String(seen.corrupt)} reads were refused before a right one`,
      )
    })
  }
})
