import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { cutAt, seededDraw } from './image.js'
import { Recording } from './recording.js'

const SEED = Number(process.env['OSTRAKA_SEED'] ?? Date.now() % 1_000_000)
const recording = new Recording()
after(() => {
  recording.remove()
})

/** Writes 30 files with tmp + sync + rename + directory sync, and one log in place; prints what is durable when. */
const PROGRAM = `
const fs = require('node:fs')
const root = process.env.RECORDER_ROOT
const position = () => fs.statSync(process.env.RECORDER_TRACE).size
const syncDir = (path) => { const d = fs.openSync(path, 'r'); fs.fsyncSync(d); fs.closeSync(d) }
fs.mkdirSync(root + '/d'); syncDir(root)
const log = fs.openSync(root + '/d/log', 'w'); syncDir(root + '/d')
const facts = []
for (let i = 0; i < 30; i++) {
  const content = String(i).repeat(400 + i * 37)
  const started = position()
  fs.writeFileSync(root + '/d/tmp' + i, content)
  const f = fs.openSync(root + '/d/tmp' + i, 'r'); fs.fsyncSync(f); fs.closeSync(f)
  fs.renameSync(root + '/d/tmp' + i, root + '/d/file' + i)
  syncDir(root + '/d')
  fs.writeSync(log, content, i * 2000); fs.fdatasyncSync(log)
  facts.push({ i, content, started, durable: position() })
  fs.writeSync(log, 'unsynced', 100000 + i * 600)
}
console.log(JSON.stringify(facts))
`

interface Fact {
  i: number
  content: string
  started: number
  durable: number
}

test(`after a cut, what was synced is there and what was not begun is not (seed ${String(SEED)})`, () => {
  const env = { ...process.env, ...recording.environment() }
  const facts = JSON.parse(execFileSync(process.execPath, ['-e', PROGRAM], { env, encoding: 'utf8' })) as Fact[]
  const draw = seededDraw(SEED)
  const trace = recording.trace()
  let lostSomething = 0
  let keptUnsynced = 0
  for (let round = 0; round < 120; round++) {
    const cut = draw(trace.bytes.length + 1)
    const image = mkdtempSync(join(recording.directory, 'image-'))
    cutAt(trace, cut, image, draw)
    const names = existsSync(join(image, 'd')) ? readdirSync(join(image, 'd')) : []
    for (const fact of facts) {
      const name = `file${String(fact.i)}`
      if (cut >= fact.durable) {
        assert.equal(readFileSync(join(image, 'd', name), 'utf8'), fact.content, `${name} at cut ${String(cut)}`)
        const log = readFileSync(join(image, 'd', 'log'), 'utf8')
        assert.equal(
          log.slice(fact.i * 2000, fact.i * 2000 + fact.content.length).slice(0, 2000),
          fact.content.slice(0, 2000),
        )
      } else if (cut < fact.started) assert.ok(!names.includes(name))
      else if (names.includes(name)) {
        assert.equal(readFileSync(join(image, 'd', name), 'utf8'), fact.content, 'synced before it was renamed')
        keptUnsynced++
      } else lostSomething++
    }
    rmSync(image, { recursive: true })
  }
  assert.ok(lostSomething > 0 && keptUnsynced >= 0, 'some cut fell between a write and its sync')
})
