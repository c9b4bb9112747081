import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { IoError } from '../../../../ts/drive/io.js'
import { SimulatedDisk, SimulatedDrive } from '../../../../ts/drive/simulated_io.js'
import { CommandLog, LogCorrupt } from '../../../../ts/meta/log/command_log.js'
import type { LogOptions } from '../../../../ts/meta/log/command_log.js'
import { encodeFileHeader, encodeFrame, FILE_HEADER, RECORD_COMMANDS } from '../../../../ts/meta/log/frame.js'
import type { Entry } from '../../../../ts/meta/raft/core/types.js'
import type { LogRecord, RecoveredLog } from '../../../../ts/meta/raft/host/environment.js'
import { systemClock } from '../../../../ts/meta/raft/replica/engine_settings.js'
import { recoverLog, ReplicaLog, toEntry, toFrameRecords } from '../../../../ts/meta/raft/replica/replica_log.js'
import { randomInteger, seededRandom } from '../../../../ts/util/random.js'
import type { Random } from '../../../../ts/util/random.js'

const SEED = Number(process.env.OSTRAKA_TEST_SEED ?? randomInteger(Math.random, 2 ** 31))
const OPTIONS: LogOptions = { fileSize: 2048, deadlineMs: 10_000, replicated: true }
const DIRECTORY = 'log'

function entry(index: number, term: number, size = 10, type: Entry['type'] = 'EntryNormal'): Entry {
  return { type, index, term, data: Buffer.alloc(size, `${String(term)}/${String(index)} `) }
}

function entries(from: number, count: number, term: number, size?: number): Entry[] {
  return Array.from({ length: count }, (_, at) => entry(from + at, term, size))
}

function step(fields: Partial<LogRecord>): LogRecord {
  return { hardState: undefined, reset: undefined, entries: [], ...fields }
}

async function append(log: CommandLog, ...records: LogRecord[]): Promise<void> {
  await log.append(toFrameRecords(0, records))
}

async function readAll(log: CommandLog): Promise<Entry[]> {
  const found: Entry[] = []
  for await (const record of log.read(log.firstIndex)) found.push(toEntry(record))
  return found
}

function plain(list: readonly Entry[]): string[] {
  return list.map(
    ({ type, term, index, data }) =>
      `${type} ${String(term)}/${String(index)} ${Buffer.from(data).toString()}`,
  )
}

/**
 * A process that ends with a failed sync, and one that opens what it finds in the page cache: that must be durable
 * then.
 */
async function afterFailedSync(log: CommandLog, drive: SimulatedDrive): Promise<CommandLog> {
  if (log.firstIndex === 0) log.startAt(1)
  const clear = drive.addFault({ op: 'sync', background: false, fault: { error: 'EIO' } })
  await assert.rejects(append(log, step({ entries: entries(log.lastIndex + 1, 2, log.lastTerm + 1) })), IoError)
  clear()
  drive.kill()
  const again = await CommandLog.open(drive.connect(), DIRECTORY, OPTIONS)
  if (again.firstIndex === 0) again.startAt(1)
  const before = plain(await readAll(again))
  drive.powerCut()
  const last = await CommandLog.open(drive.connect(), DIRECTORY, OPTIONS)
  if (last.firstIndex === 0) last.startAt(1)
  const found = plain(await readAll(last))
  assert.deepEqual(found, before)
  return last
}

/** What a log should hold: the meaning of host records, said once more. */
class Model {
  hardState: RecoveredLog['hardState'] | undefined
  before = { index: 0, term: 0 }
  list: Entry[] = []

  get last(): number {
    return this.before.index + this.list.length
  }

  take(records: readonly LogRecord[]): Model {
    const next = new Model()
    Object.assign(next, { hardState: this.hardState, before: this.before, list: [...this.list] })
    for (const { hardState, reset, entries: fresh } of records) {
      next.hardState = hardState ?? next.hardState
      if (reset !== undefined) Object.assign(next, { before: reset, list: [] })
      const first = fresh[0]
      if (first !== undefined) next.list = [...next.list.slice(0, first.index - next.before.index - 1), ...fresh]
    }
    return next
  }
}

function draw(random: Random, model: Model, lowest: number): LogRecord[] {
  const term = (model.list.at(-1)?.term ?? model.before.term) + randomInteger(random, 2)
  const records: LogRecord[] = []
  if (random() < 0.3) records.push(step({ hardState: { term, vote: randomInteger(random, 4), commit: model.last } }))
  if (random() < 0.03) {
    const reset = { index: model.last + 1 + randomInteger(random, 5), term: term + 1 }
    return [...records, step({ reset, entries: entries(reset.index + 1, randomInteger(random, 3), term + 1) })]
  }
  const back = random() < 0.2 ? randomInteger(random, Math.max(1, Math.min(8, model.last - lowest))) : 0
  const size = randomInteger(random, 200)
  // What replaces is of a later term.
  records.push(
    step({
      entries: entries(model.last + 1 - back, 1 + randomInteger(random, 6), term + (back > 0 ? 1 : 0), size),
    }),
  )
  return records
}

describe('the log of a replica', () => {
  it(`holds what was acknowledged, or all of the write under way, after power cuts (seed ${String(SEED)})`, async () => {
    const lives = process.env.OSTRAKA_TEST_LONG === undefined ? 150 : 3000
    const random = seededRandom(SEED)
    const drive = new SimulatedDrive(new SimulatedDisk(), { random: seededRandom(SEED + 1) })
    let log = await CommandLog.create(drive.connect(), DIRECTORY, 1, OPTIONS)
    await drive.connect().run([{ op: 'syncDir', path: '.' }])
    let model = new Model()
    let released = 0
    for (let life = 0; life < lives; life++) {
      let left = randomInteger(random, 60)
      let cut = false
      drive.beforeOperation = () => {
        if (cut || left-- > 0) return
        cut = true
        drive.powerCut()
      }
      let going = model
      try {
        while (!cut) {
          const records = draw(random, model, Math.max(released, model.before.index))
          going = model.take(records)
          await append(log, ...records)
          model = going
          if (random() > 0.1) continue
          released = Math.max(released, model.last - 10)
          await log.release(released, 0)
        }
      } catch (error) {
        assert.ok(error instanceof IoError || /failed/.test(String(error)), String(error))
      }
      drive.beforeOperation = undefined
      drive.powerCut()
      log = await CommandLog.open(drive.connect(), DIRECTORY, OPTIONS)
      if (log.firstIndex === 0) log.startAt(1)
      const found = plain(await readAll(log))
      const shows = ({ list, hardState, last }: Model): boolean =>
        log.lastIndex === last &&
        JSON.stringify(found) ===
          JSON.stringify(plain(list.filter(({ index }) => index >= log.firstIndex))) &&
        JSON.stringify(log.hardState) === JSON.stringify(hardState)
      const text = `seed ${String(SEED)}, life ${String(life)}`
      assert.ok(
        shows(model) || shows(going),
        [text, log.firstIndex, JSON.stringify([log.hardState, found, model, going])].join('\n'),
      )
      if (!shows(model)) model = going
      assert.ok(log.firstIndex <= Math.max(released, model.before.index) + 1, text)
    }
  })

  it(`builds only on what is durable, after a sync that failed (seed ${String(SEED)})`, async () => {
    for (let seed = SEED; seed < SEED + 40; seed++) {
      const drive = new SimulatedDrive(new SimulatedDisk(), { random: seededRandom(seed) })
      let log = await CommandLog.create(drive.connect(), DIRECTORY, 1, OPTIONS)
      await drive.connect().run([{ op: 'syncDir', path: '.' }])
      for (let life = 0; life < 4; life++) {
        log = await afterFailedSync(log, drive)
        await append(log, step({ entries: entries(log.lastIndex + 1, 2, log.lastTerm + 1) }))
      }
    }
  })

  it('releases files oldest first, over calls that overlap and over one that fails', async () => {
    for (let seed = SEED; seed < SEED + 40; seed++) {
      const drive = new SimulatedDrive(new SimulatedDisk(), { random: seededRandom(seed) })
      const log = await CommandLog.create(drive.connect(), DIRECTORY, 1, OPTIONS)
      await drive.connect().run([{ op: 'syncDir', path: '.' }])
      for (let index = 1; index <= 60; index++) await append(log, step({ entries: entries(index, 1, 1, 300) }))
      const random = seededRandom(seed)
      const path = /[0-9a-f]\.log$/
      const after = randomInteger(random, 6)
      const clear = drive.addFault({ op: 'unlink', path, after, times: 1, fault: { error: 'EIO' } })
      const stop = randomInteger(random, 40)
      let left = stop
      drive.beforeOperation = () => {
        if (left-- === 0) drive.kill()
      }
      const release = (upTo: number): Promise<void> => log.release(upTo, 0).catch(() => undefined)
      await Promise.all([release(15), release(25), release(35)])
      await Promise.all([release(45), release(55)])
      clear()
      await release(55)
      drive.beforeOperation = undefined
      drive.kill()
      const again = await CommandLog.open(drive.connect(), DIRECTORY, OPTIONS)
      const text = `seed ${String(seed)}, killed after ${String(stop)} operations`
      assert.deepEqual([again.firstIndex <= 56, again.lastIndex], [true, 60], text)
      if (left >= 0) assert.equal(again.firstIndex, log.firstIndex, text)
    }
  })

  it('opens when its last write replaced what files held that are released, and later ones are still there', async () => {
    const drive = new SimulatedDrive(new SimulatedDisk())
    const log = await CommandLog.create(drive.connect(), DIRECTORY, 1, OPTIONS)
    await drive.connect().run([{ op: 'syncDir', path: '.' }])
    for (let index = 1; index <= 30; index++) await append(log, step({ entries: entries(index, 1, 1, 300) }))
    // One frame that puts other entries in the place of 4 and all behind it, and of some of these again.
    await append(log, step({ entries: entries(4, 3, 2) }), step({ entries: entries(5, 2, 3) }))
    const clear = drive.addFault({ op: 'unlink', after: 1, fault: { error: 'EIO' } })
    await log.release(3, 0).catch(() => undefined)
    clear()
    drive.kill()
    const again = await CommandLog.open(drive.connect(), DIRECTORY, OPTIONS)
    const found = (await readAll(again)).filter(({ index }) => index > 3)
    assert.deepEqual(found.map(({ term, index }) => `${String(term)}/${String(index)}`), ['2/4', '3/5', '3/6'])
  })

  it('opens when only a last write is left of it, behind a torn tail that was cut before', async () => {
    const drive = new SimulatedDrive(new SimulatedDisk())
    const log = await CommandLog.create(drive.connect(), DIRECTORY, 1, OPTIONS)
    await drive.connect().run([{ op: 'syncDir', path: '.' }])
    for (let index = 1; index <= 3; index++) await append(log, step({ entries: entries(index, 1, 1, 500) }))
    const files = (): string[] => drive.disk.list(DIRECTORY).sort().map((name) => `${DIRECTORY}/${name}`)
    const newest = (): string => files().at(-1) ?? ''
    drive.kill()
    drive.disk.flip(newest(), FILE_HEADER, 1)
    // Takes its last frame into a third file, and lets go of the first one; the second holds the torn tail alone.
    const second = await CommandLog.open(drive.connect(), DIRECTORY, OPTIONS)
    const clear = drive.addFault({ op: 'unlink', after: 1, fault: { error: 'EIO' } })
    await second.release(3, 0).catch(() => undefined)
    clear()
    for (let life = 0; life < 3; life++) {
      drive.kill()
      if (life > 0) drive.disk.flip(newest(), FILE_HEADER, 1)
      const again = await CommandLog.open(drive.connect(), DIRECTORY, OPTIONS)
      assert.deepEqual((await readAll(again)).map(({ index }) => index), [3, 4, 5].slice(0, life + 1))
      await append(again, step({ entries: entries(4 + life, 1, 1) }))
    }
  })

  it('reads what a local engine wrote as the log of one voter, and goes on in the same place', async () => {
    const drive = new SimulatedDrive(new SimulatedDisk())
    const io = drive.connect()
    const local = await CommandLog.create(io, DIRECTORY, 1, { ...OPTIONS, replicated: false })
    for (let index = 1; index <= 20; index++) {
      const payload = Buffer.from(`batch ${String(index)}`)
      await local.append([{ type: RECORD_COMMANDS, group: 0, epoch: 0, term: index < 10 ? 1 : 2, index, payload }])
    }
    await local.close()
    const log = await CommandLog.open(io, DIRECTORY, OPTIONS)
    const recovered = await recoverLog(log, { applied: { index: 20, term: 2 }, after: 15, keepBytes: 1 << 20 })
    assert.deepEqual(recovered.hardState, { term: 2, vote: 0, commit: 20 })
    assert.deepEqual(recovered.before, { index: 15, term: 2 })
    assert.deepEqual(recovered.entries.map(({ data }) => Buffer.from(data).toString()).at(-1), 'batch 20')
    await append(log, step({ hardState: { term: 3, vote: 1, commit: 20 }, entries: entries(21, 2, 3) }))
    await log.close()
    await assert.rejects(CommandLog.open(io, DIRECTORY, { ...OPTIONS, replicated: false }), LogCorrupt)
    const again = await CommandLog.open(io, DIRECTORY, OPTIONS)
    assert.equal((await readAll(again)).length, 22)
    assert.deepEqual(again.hardState, { term: 3, vote: 1, commit: 20 })
  })

  it('keeps few applied entries in memory, and every entry that is not applied', async () => {
    const log = await CommandLog.create(new SimulatedDrive(new SimulatedDisk()).connect(), DIRECTORY, 1, OPTIONS)
    for (let at = 0; at < 30; at++) await append(log, step({ entries: entries(1 + 100 * at, 100, 1, 100) }))
    const recovered = await recoverLog(log, { applied: { index: 2900, term: 1 }, after: 0, keepBytes: 30_000 })
    assert.equal(recovered.before.index, 2700)
    assert.equal(recovered.before.index + recovered.entries.length, 3000)
    assert.equal(recovered.entries[0]?.index, 2701)
    const behind = await recoverLog(log, { applied: { index: 10, term: 1 }, after: 0, keepBytes: 30_000 })
    assert.deepEqual([behind.before.index, behind.entries.length], [10, 2990])
  })

  it('stops for good at damage below what was known durable, also after a silence behind the last write', async () => {
    const disk = new SimulatedDisk()
    const io = new SimulatedDrive(disk).connect()
    const log = await CommandLog.create(io, DIRECTORY, 1, OPTIONS)
    const replica = new ReplicaLog(
      0,
      { append: (records) => log.append(records), release: () => undefined },
      systemClock,
      1,
    )
    await new Promise<void>((resolve, reject) => {
      replica.write([step({ entries: entries(1, 3, 1) })], (error) => { if (error) reject(error); else resolve() })
    })
    await new Promise((resolve) => setTimeout(resolve, 30))
    await replica.close()
    const [names] = (await io.run([{ op: 'list', path: DIRECTORY }])) as [string[]]
    disk.flip(`${DIRECTORY}/${String(names.sort()[0])}`, 64 + 100, 1)
    await assert.rejects(CommandLog.open(io, DIRECTORY, OPTIONS), LogCorrupt)
  })

  it('stops for good when a sync fails, and acknowledges nothing afterwards', async () => {
    const drive = new SimulatedDrive(new SimulatedDisk())
    const log = await CommandLog.create(drive.connect(), DIRECTORY, 1, OPTIONS)
    await append(log, step({ entries: entries(1, 1, 1) }))
    const clear = drive.addFault({ op: 'sync', background: false, times: 1, fault: { error: 'EIO' } })
    await assert.rejects(append(log, step({ entries: entries(2, 1, 1) })), IoError)
    clear()
    await assert.rejects(append(log, step({ entries: entries(2, 1, 1) })), /failed/)
    assert.equal(log.lastIndex, 1)
  })

  it('refuses gaps, and a form that is newer', async () => {
    const drive = new SimulatedDrive(new SimulatedDisk())
    const io = drive.connect()
    const log = await CommandLog.create(io, DIRECTORY, 1, OPTIONS)
    await append(log, step({ entries: entries(1, 2, 1) }))
    await assert.rejects(append(log, step({ entries: entries(4, 1, 1) })), /out of order/)
    const other = await CommandLog.create(io, 'other', 1, OPTIONS)
    await other.close()
    await io.run([
      { op: 'open', path: 'other/00000000ffff.log', mode: 'create' },
      { op: 'write', file: -1, offset: 0, from: [encodeFileHeader({ version: 3, number: 0xffff, seed: 1 })] },
    ])
    await assert.rejects(CommandLog.open(io, 'other', OPTIONS), /version 3/)
  })
})

/** Bytes of both forms, as they were when they were frozen. */
describe('log files of both forms', () => {
  it('are read as they were written', async () => {
    for (const [version, base64] of Object.entries(FROZEN)) {
      const io = new SimulatedDrive(new SimulatedDisk()).connect()
      await io.run([
        { op: 'makeDir', path: DIRECTORY },
        { op: 'open', path: `${DIRECTORY}/000000000001.log`, mode: 'create' },
        { op: 'write', file: -1, offset: 0, from: [Buffer.from(base64, 'base64')] },
      ])
      const log = await CommandLog.open(io, DIRECTORY, OPTIONS)
      const found = plain(await readAll(log))
      if (version === '1') assert.deepEqual(found, ['EntryNormal 1/1 1/1 1/1 1/', 'EntryNormal 1/2 1/2 1/2 1/'])
      else {
        assert.deepEqual(found, ['EntryNormal 1/8 1/8 1/8 1/', 'EntryNormal 3/9 3/9 3/9 3/'])
        assert.deepEqual(log.hardState, { term: 3, vote: 2, commit: 8 })
        assert.equal(log.term(7), 1)
      }
    }
  })

  it('are written as they were', () => {
    assert.equal(make(1).toString('base64'), FROZEN[1])
    assert.equal(make(2).toString('base64'), FROZEN[2])
  })
})

function make(version: number): Buffer {
  const header = encodeFileHeader({ version, number: 1, seed: 77 })
  const one = toFrameRecords(0, [step({ entries: entries(1, 2, 1) })])
  if (version === 1) return Buffer.concat([header, encodeFrame(77, 0, 0, one)])
  const two = toFrameRecords(0, [
    step({ hardState: { term: 1, vote: 0, commit: 2 }, reset: { index: 7, term: 1 }, entries: entries(8, 2, 1) }),
  ])
  const frame = encodeFrame(77, 0, 0, two)
  const three = toFrameRecords(0, [step({ hardState: { term: 3, vote: 2, commit: 8 }, entries: [entry(9, 3)] })])
  return Buffer.concat([header, frame, encodeFrame(77, frame.length, frame.length, three)])
}

const FROZEN: Record<number, string> = {
  1:
    'T1NUUktMT0cAAAABAAAAAAAAAAEAAAAAAAAATQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAY99G4E9GUk0AAAABAAAA' +
    'mAAAAAIAAAAAAAAAAAAAAAAAAAAAQ5wcpiSJLoxPUkVDAAAAAQAAAAAAAAAAAAAAAAAAAAEAAAAAAAAAAQAAAApyXbAgMS8xIDEv' +
    'MSAxLwAAAAAAAE9SRUMAAAABAAAAAAAAAAAAAAAAAAAAAQAAAAAAAAACAAAACmOouXMxLzIgMS8yIDEvAAAAAAAAAAAAAAAAAAA=',
  2:
    'T1NUUktMT0cAAAACAAAAAAAAAAEAAAAAAAAATQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAALrjyF09GUk0AAAABAAAA' +
    '8AAAAAQAAAAAAAAAAAAAAAAAAAAABIVJQRDKi+xPUkVDAAAAEQAAAAAAAAAAAAAAAAAAAAEAAAAAAAAABwAAAABojVmAT1JFQwAA' +
    'ABAAAAAAAAAAAAAAAAAAAAABAAAAAAAAAAIAAAAIBDJ1ogAAAAAAAAAAT1JFQwAAAAEAAAAAAAAAAAAAAAAAAAABAAAAAAAAAAgA' +
    'AAAKB5aOmTEvOCAxLzggMS8AAAAAAABPUkVDAAAAAQAAAAAAAAAAAAAAAAAAAAEAAAAAAAAACQAAAAr0YaQHMS85IDEvOSAxLwAA' +
    'AAAAAE9GUk0AAAABAAAAkAAAAAIAAAAAAAAA8AAAAAAAAADwXD+GESlyoORPUkVDAAAAEAAAAAAAAAAAAAAAAAAAAAMAAAAAAAAA' +
    'CAAAAAgdxDucAAAAAAAAAAJPUkVDAAAAAQAAAAAAAAAAAAAAAAAAAAMAAAAAAAAACQAAAApwT1XhMy85IDMvOSAzLwAAAAAAAA==',
}
