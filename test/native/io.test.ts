/** The native side of drive I/O by itself: argument checks, threads that hang, environments that go away. */
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import {
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { Worker } from 'node:worker_threads'
import { addon } from '../../ts/native/addon.js'
import { closeDrive, Flag, IoBatch, Kind, openDrive, RawIoError, submit } from '../../ts/native/io.js'

const root = mkdtempSync(join(tmpdir(), 'ostraka-io-'))
const ioModule = new URL('../../ts/native/io.js', import.meta.url).href
const releases: number[] = []
let drives = 0

after(() => {
  for (const fd of releases) closeSync(fd)
  rmSync(root, { recursive: true, force: true })
})

function newRoot(): string {
  const path = join(root, String(++drives))
  mkdirSync(path)
  return path
}

/** A drive with a FIFO that nobody writes to: opening it with mayBlock hangs until `release`. */
function hangingDrive(threads = 2, queueLength = 8): { path: string; client: number; release: () => void } {
  const path = newRoot()
  execFileSync('mkfifo', [join(path, 'fifo')])
  const release = (): void => {
    // Opening for reading and writing never waits, and lets every reader go, however late he comes.
    releases.push(openSync(join(path, 'fifo'), constants.O_RDWR | constants.O_NONBLOCK))
  }
  return { path, client: openDrive(path, threads, queueLength), release }
}

function blocking(): IoBatch {
  const batch = new IoBatch(1)
  batch.open('fifo', Flag.read | Flag.mayBlock)
  return batch
}

function listing(path = '.'): IoBatch {
  const batch = new IoBatch(1)
  batch.onPath(Kind.list, path)
  return batch
}

function code(expected: string): (error: unknown) => boolean {
  return (error) => error instanceof RawIoError && error.code === expected
}

describe('native drive I/O', { timeout: 120_000 }, () => {
  it('throws typed errors for wrong arguments and never crashes', async () => {
    const client = openDrive(newRoot(), 1, 4)
    const one = (numbers: number[]): Float64Array => Float64Array.from(numbers)
    const good = one([Kind.list, -1, 0, 0, 0, 0])
    const detached = new Uint8Array(8)
    structuredClone(detached, { transfer: [detached.buffer] })
    const write = one([Kind.write, 1, 0, 0, 0, 1])
    const bad: unknown[][] = [
      [],
      ['x'],
      [client, 0, 0, -1, good, '.', []],
      [client, 1e9, 2, -1, good, '.', []],
      [client, 1e9, 0, -2, good, '.', []],
      [client, 1e9, 0, -1, [...good], '.', []],
      [client, 1e9, 0, -1, new Float32Array(6), '.', []],
      [client, 1e9, 0, -1, new Float64Array(0), '.', []],
      [client, 1e9, 0, -1, new Float64Array(7), '.', []],
      [client, 1e9, 0, -1, new Float64Array(6 * 1025), '.', []],
      [client, 1e9, 0, -1, good, 7, []],
      [client, 1e9, 0, -1, good, '', []],
      [client, 1e9, 0, -1, good, '../x', []],
      [client, 1e9, 0, -1, good, '/etc', []],
      [client, 1e9, 0, -1, good, 'a//b', []],
      [client, 1e9, 0, -1, good, '.', 'x'],
      [client, 1e9, 0, -1, good, '.', [new Uint8Array(1)]],
      [client, 1e9, 0, -1, write, '', []],
      [client, 1e9, 0, -1, write, '', [7]],
      [client, 1e9, 0, -1, write, '', [new Float64Array(1)]],
      [client, 1e9, 0, -1, write, '', new Array(257).fill(new Uint8Array(1))],
      [client, 1e9, 0, -1, one([99, -1, 0, 0, 0, 0]), '', []],
      [client, 1e9, 0, -1, one([NaN, -1, 0, 0, 0, 0]), '', []],
      [client, 1e9, 0, -1, one([Kind.read, 1, 0, 2 ** 40, 0, 0]), '', []],
      [client, 1e9, 0, -1, one([Kind.read, 1, -1, 5, 0, 0]), '', []],
      [client, 1e9, 0, -1, one([Kind.read, 0.5, 0, 5, 0, 0]), '', []],
      [client, 1e9, 0, -1, one([Kind.open, -1, 0, 0, 3, 0]), 'x', []],
      [client, 1e9, 0, -1, one([Kind.rename, -1, 0, 0, 0, 0]), 'x', []],
    ]
    const isArgumentError = (error: unknown): boolean =>
      error instanceof Error && 'code' in error && error.code === 'ERR_OSTRAKA_ARGUMENT'
    const anything = addon as unknown as Record<'ioSubmit' | 'ioOpen' | 'ioExit', (...args: unknown[]) => unknown>
    for (const args of bad) assert.throws(() => anything.ioSubmit(...args), isArgumentError, JSON.stringify(args))
    assert.throws(() => anything.ioOpen('relative', 1, 1), isArgumentError)
    assert.throws(() => anything.ioOpen(root, 0, 1), isArgumentError)
    assert.throws(() => { addon.ioConnect(() => undefined) }, isArgumentError)
    assert.throws(() => { addon.ioTake(1, []) }, isArgumentError)
    assert.throws(() => anything.ioExit('0'), isArgumentError)
    const empty = new IoBatch(1)
    empty.write(1, 0, [detached])
    await assert.rejects(submit(client, empty, false, undefined), isArgumentError)
    await assert.rejects(submit(client + 1000, listing(), false, undefined), code('ESHUTDOWN'))
    closeDrive(client)
    await assert.rejects(submit(client, listing(), false, undefined), code('ESHUTDOWN'))
  })

  it('rejects at the deadline while the thread hangs, and other threads go on', async () => {
    const { client, release } = hangingDrive(2)
    await assert.rejects(submit(client, blocking(), false, 20), code('ETIMEDOUT'))
    assert.deepEqual((await submit(client, listing(), false, 30_000)).names, [['fifo']])
    release()
    closeDrive(client)
  })

  it('keeps many deadlines at once, whatever their order, and none where there is none', async () => {
    const { client, release } = hangingDrive(5)
    const ended: string[] = []
    const hang = (name: string, deadlineMs: number | undefined): Promise<unknown> =>
      submit(client, blocking(), false, deadlineMs).catch((error: unknown) => {
        ended.push(error instanceof RawIoError && error.code === 'ETIMEDOUT' ? name : String(error))
      })
    const without = hang('without', undefined)
    const long = hang('long', 3_600_000)
    await Promise.all([hang('later', 150), hang('sooner', 20), hang('soonest', 0)])
    assert.deepEqual(ended, ['soonest', 'sooner', 'later'])
    // What is left ends when the FIFO lets it go.
    release()
    await Promise.all([without, long])
    assert.deepEqual(ended.slice(3), ['RawIoError: EISNAM', 'RawIoError: EISNAM'])
    closeDrive(client)
  })

  it('fails fast when every thread is stuck past its deadline, and works again when they are free', async () => {
    const { client, release } = hangingDrive(2)
    const stuck = await Promise.allSettled([blocking(), blocking()].map((batch) => submit(client, batch, false, 20)))
    assert.ok(stuck.every((item) => item.status === 'rejected' && code('ETIMEDOUT')(item.reason)))
    // Without a deadline of its own: it would wait for ever if it were queued.
    await assert.rejects(submit(client, listing(), false, undefined), code('ETIMEDOUT'))
    release()
    for (;;) {
      const listed = await submit(client, listing(), false, undefined).catch(() => undefined)
      if (listed !== undefined) break
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    closeDrive(client)
  })

  it('bounds its queues, and never starts what expired in one', async () => {
    const { path, client, release } = hangingDrive(1, 2)
    const taken = new IoBatch(2)
    taken.onPath(Kind.makeDir, 'taken')
    taken.open('fifo', Flag.read | Flag.mayBlock)
    const first = submit(client, taken, false, undefined)
    while (!existsSync(join(path, 'taken'))) await new Promise((resolve) => setTimeout(resolve, 5))
    const makeDir = new IoBatch(1)
    makeDir.onPath(Kind.makeDir, 'late')
    const expired = submit(client, makeDir, false, 20)
    const waiting = submit(client, listing(), false, undefined)
    await assert.rejects(submit(client, listing(), false, undefined), code('EAGAIN'))
    await assert.rejects(expired, code('ETIMEDOUT'))
    release()
    await assert.rejects(first, code('EISNAM'))
    assert.deepEqual((await waiting).names.map((names) => names.sort()), [['fifo', 'taken']])
    assert.deepEqual(readdirSync(path).sort(), ['fifo', 'taken'])
    closeDrive(client)
  })

  it('stops a batch that expired before its next operation, and closes what it had opened', async () => {
    const { path, client, release } = hangingDrive(1)
    writeFileSync(join(path, 'file'), 'x')
    const batch = new IoBatch(3)
    batch.open('file', Flag.read)
    batch.open('fifo', Flag.read | Flag.mayBlock)
    batch.onPath(Kind.makeDir, 'late')
    await assert.rejects(submit(client, batch, false, 30), code('ETIMEDOUT'))
    release()
    while ((await submit(client, listing(), false, undefined).catch(() => undefined)) === undefined) {
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    assert.deepEqual(readdirSync(path).sort(), ['fifo', 'file'])
    assert.ok(!openPaths().includes(join(path, 'file')))
    closeDrive(client)
  })

  it('lets background work take at most half of the threads', async () => {
    const { client, release } = hangingDrive(2)
    const hung = [blocking(), blocking(), blocking()].map((batch) => submit(client, batch, true, 10_000))
    assert.deepEqual((await submit(client, listing(), false, 10_000)).names, [['fifo']])
    release()
    await Promise.allSettled(hung)
    closeDrive(client)
  })

  it('survives workers that end while their operations hang or complete', async () => {
    const { path, client, release } = hangingDrive(4, 64)
    const source = `
      import { parentPort, workerData } from 'node:worker_threads'
      const { IoBatch, Kind, Flag, openDrive, submit } = await import(workerData.ioModule)
      const client = openDrive(workerData.path, 4, 64)
      const hang = new IoBatch(2)
      hang.write(1, 0, [new Uint8Array(100_000)])
      const blocked = new IoBatch(1)
      blocked.open('fifo', Flag.read | Flag.mayBlock)
      submit(client, blocked, false, 60_000).catch(() => {})
      for (let i = 0; ; i++) {
        const batch = new IoBatch(2)
        batch.onPath(Kind.list, '.')
        batch.onPath(Kind.stat, 'fifo')
        await submit(client, batch, false, undefined)
        if (i === 20) parentPort.postMessage('busy')
      }`
    for (let round = 0; round < 3; round++) {
      const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(source)}`), {
        workerData: { ioModule, path },
      })
      await new Promise((resolve, reject) => {
        worker.once('message', resolve)
        worker.once('error', reject)
      })
      await worker.terminate()
    }
    assert.deepEqual((await submit(client, listing(), false, undefined)).names, [['fifo']])
    release()
    closeDrive(client)
  })

  it('does not keep a process from ending while a thread hangs', async () => {
    const { path } = hangingDrive()
    for (const [end, expected] of [['exitNow(7)', 7], ['process.exit(8)', 8], ['process.exitCode = 9', 9]] as const) {
      const source = `
        import { IoBatch, Flag, openDrive, submit, exitNow } from ${JSON.stringify(ioModule)}
        const client = openDrive(${JSON.stringify(path)}, 2, 8)
        const batch = new IoBatch(1)
        batch.open('fifo', Flag.read | Flag.mayBlock)
        await submit(client, batch, false, 50).catch(() => {})
        ${end}`
      const child = spawn(process.execPath, ['--input-type=module', '-e', source], { stdio: 'inherit' })
      const exit = await new Promise((resolve) => child.once('exit', (status, signal) => { resolve(status ?? signal) }))
      assert.equal(exit, expected, end)
    }
  })
})

function openPaths(): string[] {
  return readdirSync('/proc/self/fd').map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`)
    } catch {
      return ''
    }
  })
}
