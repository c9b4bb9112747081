import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { IoError, type IoOp, LAST_OPENED } from '../../ts/drive/io.js'
import { SimulatedDisk, SimulatedDrive } from '../../ts/drive/simulated_io.js'
import { seededRandom } from '../../ts/util/random.js'
import type { Timer } from '../../ts/util/awake_timer.js'

const bytes = (length: number, value: number): Uint8Array => new Uint8Array(length).fill(value)

function drive(seed = 1): SimulatedDrive {
  return new SimulatedDrive(new SimulatedDisk(), { random: seededRandom(seed) })
}

function put(path: string, data: Uint8Array, ...then: IoOp[]): IoOp[] {
  return [
    { op: 'open', path, mode: 'create' },
    { op: 'write', file: LAST_OPENED, offset: 0, from: [data] },
    ...then,
    { op: 'close', file: LAST_OPENED },
  ]
}

const sync: IoOp = { op: 'sync', file: LAST_OPENED }

function code(expected: string): (error: unknown) => boolean {
  return (error) => error instanceof IoError && error.code === expected
}

async function readAll(target: SimulatedDrive, path: string, direct = false): Promise<Uint8Array> {
  const io = target.connect()
  const into = new Uint8Array(1 << 16)
  const results = await io.run([
    { op: 'open', path, mode: 'read', direct },
    { op: 'read', file: LAST_OPENED, offset: 0, into },
    { op: 'close', file: LAST_OPENED },
  ])
  return into.slice(0, results[1] as number)
}

describe('simulated I/O', () => {
  it('does what a file system does: create, read, rename, list, stat, unlink', async () => {
    const io = drive().connect()
    await io.run([{ op: 'makeDir', path: 'a' }, { op: 'makeDir', path: 'a' }, ...put('a/x', bytes(10, 7))])
    await assert.rejects(io.run(put('a/x', bytes(1, 1))), code('EEXIST'))
    const results = await io.run([
      { op: 'rename', from: 'a/x', to: 'a/y' },
      { op: 'list', path: 'a' },
      { op: 'stat', path: 'a/y' },
      { op: 'unlink', path: 'a/y' },
      { op: 'unlink', path: 'a/y' },
      { op: 'removeDir', path: 'a' },
      { op: 'list', path: '.' },
    ])
    assert.deepEqual(results[1], ['y'])
    assert.deepEqual(results[2], { kind: 'file', size: 10 })
    assert.deepEqual(results[6], [])
  })

  it('refuses paths that leave the drive and handles that are not open', async () => {
    const io = drive().connect()
    for (const path of ['', '/etc', '../x', 'a/../../x', 'a//b', 'a/.', 'x\0y']) {
      await assert.rejects(io.run([{ op: 'stat', path }]), code('EINVAL'), path)
    }
    await assert.rejects(io.run([{ op: 'sync', file: 77 }]), code('EBADF'))
    await assert.rejects(io.run([{ op: 'sync', file: LAST_OPENED }]), code('EBADF'))
  })

  it('names the operation that failed and closes what the batch opened', async () => {
    const io = drive().connect()
    const failed = io.run([...put('x', bytes(1, 1)).slice(0, 2), { op: 'stat', path: 'nothing' }])
    await assert.rejects(failed, (error) => error instanceof IoError && error.opIndex === 2 && error.op === 'stat')
    assert.equal(io.pending, 0)
  })

  it('keeps what was synced, with its synced name, over any power cut', async () => {
    for (let seed = 0; seed < 50; seed++) {
      const target = drive(seed)
      const io = target.connect()
      await io.run([
        { op: 'makeDir', path: 'tmp' }, { op: 'makeDir', path: 'd' }, { op: 'syncDir', path: '.' },
        ...put('tmp/x', bytes(2000, 5), sync), { op: 'rename', from: 'tmp/x', to: 'd/x' }, { op: 'syncDir', path: 'd' },
      ])
      target.powerCut()
      assert.deepEqual(await readAll(target, 'd/x'), bytes(2000, 5))
    }
  })

  it('forgets unsynced bytes and names in every way that sectors and single names allow', async () => {
    const outcomes = new Set<string>()
    for (let seed = 0; seed < 300; seed++) {
      const target = drive(seed)
      await target.connect().run([
        ...put('x', bytes(1024, 1), sync), { op: 'syncDir', path: '.' },
        { op: 'open', path: 'x', mode: 'write' }, { op: 'write', file: LAST_OPENED, offset: 0, from: [bytes(1024, 2)] },
        ...put('y', bytes(3, 3)),
      ])
      target.powerCut()
      const x = await readAll(target, 'x')
      assert.equal(x.length, 1024)
      const halves = [x.subarray(0, 512), x.subarray(512)].map((half) => {
        assert.ok(half.every((value) => value === half[0]), 'a sector is never torn inside')
        return half[0]
      })
      const y = target.disk.lookUp('y')
      outcomes.add(`${halves.join()} ${y === undefined ? 'no y' : `y ${String(target.disk.stat('y').size)}`}`)
    }
    for (const half of ['1,1', '1,2', '2,1', '2,2']) {
      for (const y of ['no y', 'y 0', 'y 3']) assert.ok(outcomes.has(`${half} ${y}`), `${half} ${y}`)
    }
  })

  it('never loses a file by a rename that was not synced', () => {
    fc.assert(fc.property(fc.integer(), fc.boolean(), (seed, syncSource) => {
      const { disk } = drive()
      disk.place('a/x', bytes(1, 1))
      disk.makeDir('b')
      disk.syncDir('.')
      disk.rename('a/x', 'b/x')
      if (syncSource) disk.syncDir('a')
      disk.powerCut(seededRandom(seed))
      assert.ok(disk.lookUp('a/x') !== undefined || disk.lookUp('b/x') !== undefined)
    }))
  })

  it('keeps everything over a kill, and the dead connection changes nothing more', async () => {
    const target = drive()
    const io = target.connect()
    await io.run(put('x', bytes(9, 9)))
    const late = io.run([{ op: 'unlink', path: 'x' }])
    target.kill()
    await assert.rejects(late, code('ESHUTDOWN'))
    await assert.rejects(io.run([{ op: 'list', path: '.' }]), code('ESHUTDOWN'))
    assert.deepEqual(await readAll(target, 'x'), bytes(9, 9))
  })

  it('cuts between any two operations of a batch', async () => {
    const target = drive()
    target.beforeOperation = (op) => { if (op.op === 'sync') target.powerCut() }
    await assert.rejects(target.connect().run(put('x', bytes(9, 9), sync)), code('ESHUTDOWN'))
    target.beforeOperation = undefined
    assert.equal((await target.connect().run([{ op: 'list', path: '.' }])).length, 1)
  })

  it('gives injected errors as often as asked, and a failed sync loses what it should have saved', async () => {
    const target = drive(3)
    const io = target.connect()
    const [x] = await io.run([{ op: 'open', path: 'x', mode: 'create' }, { op: 'syncDir', path: '.' }]) as [number]
    target.addFault({ op: 'sync', times: 1, fault: { error: 'EIO' } })
    await assert.rejects(io.run([
      { op: 'write', file: x, offset: 0, from: [bytes(512 * 64, 1)] }, { op: 'sync', file: x },
    ]), code('EIO'))
    assert.deepEqual(await readAll(target, 'x'), bytes(512 * 64, 1), 'the cache still shows it')
    await io.run([{ op: 'sync', file: x }])
    assert.notDeepEqual(await readAll(target, 'x', true), bytes(512 * 64, 1), 'a second sync saves nothing')
    await io.run([{ op: 'dropCache', file: x }])
    assert.notDeepEqual(await readAll(target, 'x'), bytes(512 * 64, 1))
  })

  it('fails as a full, read-only, missing drive does', async () => {
    const target = drive()
    const io = target.connect()
    target.disk.capacityBytes = 100
    await assert.rejects(io.run(put('x', bytes(101, 1))), code('ENOSPC'))
    await io.run([{ op: 'unlink', path: 'x' }, ...put('y', bytes(100, 1))])
    target.readOnly = true
    await assert.rejects(io.run([{ op: 'unlink', path: 'y' }]), code('EROFS'))
    await io.run([{ op: 'stat', path: 'y' }])
    target.readOnly = false
    target.missing = true
    await assert.rejects(io.run([{ op: 'stat', path: 'y' }]), code('ENOENT'))
  })

  it('holds threads that hang past the deadline, fails fast when all are stuck, and goes on afterwards', async () => {
    const timers: { fire: () => void; ms: number }[] = []
    const timer: Timer = (fire, ms) => {
      const item = { fire, ms }
      timers.push(item)
      return () => { timers.splice(timers.indexOf(item), 1) }
    }
    const target = new SimulatedDrive(new SimulatedDisk(), { timer, threads: 2, queueLength: 1 })
    const io = target.connect()
    const release = target.addFault({ op: 'makeDir', fault: { hang: true } })
    const hung = ['a', 'b', 'c'].map((path, at) => io.run([{ op: 'makeDir', path }], { deadlineMs: at === 2 ? 1 : 2 }))
    const outcomes = Promise.allSettled(hung)
    await assert.rejects(io.run([{ op: 'list', path: '.' }]), code('EAGAIN'))
    await new Promise(setImmediate)
    await new Promise(setImmediate)
    for (const item of timers.slice()) item.fire()
    for (const outcome of await outcomes) assert.ok(outcome.status === 'rejected' && code('ETIMEDOUT')(outcome.reason))
    await assert.rejects(io.run([{ op: 'list', path: '.' }]), code('ETIMEDOUT'))
    assert.equal(io.pending, 2)
    release()
    while (io.pending > 0) await new Promise(setImmediate)
    assert.deepEqual((await io.run([{ op: 'list', path: '.' }]))[0], ['a', 'b'], 'c was never started')
  })

  it('lets one process hold the lock, until it closes or dies', async () => {
    const target = drive()
    const first = target.connect()
    const second = target.connect()
    assert.equal(await first.lock(), true)
    assert.equal(await second.lock(), false)
    await first.close()
    assert.equal(await second.lock(), true)
    target.kill()
    assert.equal(await target.connect().lock(), true)
  })

  it('flips stored bits', async () => {
    const target = drive()
    await target.connect().run(put('x', bytes(3, 0)))
    target.disk.flip('x', 1, 0x10)
    assert.deepEqual(await readAll(target, 'x'), Uint8Array.of(0, 0x10, 0))
  })

  it('may read at once what the drive would read, and never while a fault is in wait', async () => {
    const target = drive(3)
    const io = target.connect()
    const [file] = await io.run(put('x', bytes(3, 7)).slice(0, 2)) as [number]
    const into = new Uint8Array(3)
    const answers = Array.from({ length: 32 }, () => io.readNow(file, 0, into))
    assert.deepEqual([...new Set(answers)].sort(), [false, true])
    assert.deepEqual(into, bytes(3, 7))
    const remove = target.addFault({ op: 'read', fault: { hang: true } })
    assert.ok(Array.from({ length: 32 }, () => io.readNow(file, 0, into)).every((answer) => !answer))
    remove()
    assert.equal(io.readNow(file, 1, into), false)
    io.die()
    assert.equal(io.readNow(file, 0, into), false)
  })

  it('does the same things in the same order with the same seed', async () => {
    const trace = async (): Promise<string> => {
      const target = drive(42)
      const seen: string[] = []
      target.beforeOperation = (op) => { seen.push('path' in op ? op.path : op.op) }
      const io = target.connect()
      await Promise.all(['a', 'b', 'c', 'd'].map((path) => io.run(put(path, bytes(5, 5), sync))))
      return seen.join()
    }
    assert.equal(await trace(), await trace())
  })
})
