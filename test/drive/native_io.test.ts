import assert from 'node:assert/strict'
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import {
  existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { Worker } from 'node:worker_threads'
import fc from 'fast-check'
import { ShardError } from '../../ts/drive/drive.js'
import { IoError, type IoOp, LAST_OPENED } from '../../ts/drive/io.js'
import { LocalDrive, prepareLayout } from '../../ts/drive/local_drive.js'
import { NativeDriveIo } from '../../ts/drive/native_io.js'
import { shardPath } from '../../ts/drive/shard_file.js'
import { SimulatedDisk, SimulatedDrive } from '../../ts/drive/simulated_io.js'
import { seededRandom } from '../../ts/util/random.js'
import { makeShard, readShard } from './shards.js'

const root = mkdtempSync(join(tmpdir(), 'ostraka-native-io-'))
const nativeModule = new URL('../../ts/drive/native_io.js', import.meta.url).href
let drives = 0

after(() => { rmSync(root, { recursive: true, force: true }) })

function newRoot(): string {
  const path = join(root, String(++drives))
  mkdirSync(path)
  return path
}

function code(expected: string, opIndex?: number): (error: unknown) => boolean {
  return (error) =>
    error instanceof IoError &&
    error.code === expected &&
    (opIndex === undefined || error.opIndex === opIndex)
}

const bytes = (length: number, seed: number): Uint8Array => {
  const random = seededRandom(seed)
  return Uint8Array.from({ length }, () => random() * 256)
}

describe('native DriveIo', () => {
  it('does what the simulated one does, for any operations', async () => {
    const path = fc.constantFrom('a', 'b', 'd', 'd/a', 'd/b', 'e', 'e/a', '.')
    const op = fc.oneof(
      fc.record({ op: fc.constant('makeDir' as const), path }),
      fc.record({ op: fc.constant('removeDir' as const), path: fc.constantFrom('d', 'e', 'a') }),
      fc.record({ op: fc.constant('unlink' as const), path: fc.constantFrom('a', 'b', 'd/a', 'd/b', 'e/a') }),
      fc.record({
        op: fc.constant('rename' as const),
        from: fc.constantFrom('a', 'b', 'd/a'),
        to: fc.constantFrom('a', 'b', 'd/b'),
      }),
      fc.record({ op: fc.constant('list' as const), path }),
      fc.record({ op: fc.constant('stat' as const), path }),
      fc.record({ op: fc.constant('syncDir' as const), path }),
      fc.record({
        op: fc.constant('open' as const),
        path: fc.constantFrom('a', 'b', 'd/a', 'd'),
        mode: fc.constantFrom('read' as const, 'write' as const, 'create' as const),
      }),
      fc.record({
        op: fc.constant('write' as const),
        file: fc.constant(LAST_OPENED),
        offset: fc.nat(3000),
        from: fc.array(fc.uint8Array({ maxLength: 2000 }), { maxLength: 3 }),
      }),
      fc.record({
        op: fc.constant('read' as const),
        file: fc.constant(LAST_OPENED),
        offset: fc.nat(3000),
        into: fc.nat(4000).map((length) => new Uint8Array(length)),
      }),
      fc.record({
        op: fc.constant('writeZeros' as const),
        file: fc.constant(LAST_OPENED),
        offset: fc.nat(3000),
        size: fc.nat(4000),
      }),
      fc.record({ op: fc.constant('truncate' as const), file: fc.constant(LAST_OPENED), size: fc.nat(4000) }),
      fc.constantFrom<IoOp>(
        ...(['size', 'sync', 'writeBack', 'close'] as const).map((kind) => ({ op: kind, file: LAST_OPENED })),
      ),
    )
    const openAfter = (ops: IoOp[]): IoOp[] => [{ op: 'open', path: 'a', mode: 'write' }, ...ops]
    const batch = fc.oneof(fc.array(op, { minLength: 1, maxLength: 6 }), fc.array(op, { maxLength: 6 }).map(openAfter))
    await fc.assert(fc.asyncProperty(fc.array(batch, { maxLength: 8 }), async (batches) => {
      const native = new NativeDriveIo(newRoot())
      const simulated = new SimulatedDrive(new SimulatedDisk()).connect()
      const outcome = async (io: NativeDriveIo | typeof simulated, ops: readonly IoOp[]): Promise<unknown> => {
        for (const item of ops) if (item.op === 'read') item.into.fill(0)
        try {
          const results = await io.run(ops)
          return ops.map((item, at) => {
            const result = results[at]
            if (item.op === 'open') return 'handle'
            return item.op === 'read'
              ? [result, Buffer.from(item.into)]
              : Array.isArray(result)
                ? result.sort()
                : result
          })
        } catch (error) {
          // Which error a wrong kind of node gives differs in places; where it fails does not.
          return error instanceof IoError ? `${error.op} ${String(error.opIndex)}` : error
        }
      }
      for (const ops of batches) assert.deepEqual(await outcome(native, ops), await outcome(simulated, ops))
      await native.close()
    }), { numRuns: process.env.OSTRAKA_TEST_LONG === undefined ? 150 : 3000 })
  })

  it('reads past the page cache at any offset, as the cache reads', async () => {
    const path = newRoot()
    const io = new NativeDriveIo(path)
    const data = bytes(40_000, 4)
    writeFileSync(join(path, 'x'), data)
    for (const [offset, length] of [
      [0, 40_000],
      [1, 1],
      [4095, 2],
      [8192, 4096],
      [30_000, 20_000],
      [40_000, 5],
      [90_000, 5],
    ] as const) {
      const into = new Uint8Array(length)
      const ops = (direct: boolean): IoOp[] => [
        { op: 'open', path: 'x', mode: 'read', direct },
        { op: 'read', file: LAST_OPENED, offset, into },
        { op: 'close', file: LAST_OPENED },
      ]
      for (const direct of [true, false]) {
        const results = await io.run(ops(direct)).catch((error: unknown) => {
          assert.ok(direct && code('EINVAL')(error), 'only a file system without O_DIRECT may refuse')
          return undefined
        })
        if (results === undefined) continue
        assert.equal(results[1], Math.max(0, Math.min(length, data.length - offset)))
        assert.deepEqual(into.subarray(0, results[1]), data.subarray(offset, offset + length))
      }
    }
    const dropped = await io.run([
      { op: 'open', path: 'x', mode: 'read' },
      { op: 'sync', file: LAST_OPENED },
      { op: 'dropCache', file: LAST_OPENED },
    ])
    assert.ok(dropped[2] === 0 || dropped[2] === 1)
    await io.close()
  })

  it('begins to write a file back, whether it may be written through this handle or not', async () => {
    const io = new NativeDriveIo(newRoot())
    const written = bytes(100_000, 6)
    const [file] = (await io.run([
      { op: 'open', path: 'x', mode: 'create' }, { op: 'write', file: LAST_OPENED, offset: 0, from: [written] },
      { op: 'writeBack', file: LAST_OPENED },
    ])) as [number]
    const into = new Uint8Array(written.length)
    await io.run([
      { op: 'open', path: 'x', mode: 'read' }, { op: 'writeBack', file: LAST_OPENED },
      { op: 'read', file: LAST_OPENED, offset: 0, into },
    ])
    assert.deepEqual(into, written)
    await io.run([{ op: 'close', file }])
    await assert.rejects(io.run([{ op: 'writeBack', file }]), code('EBADF', 0))
    await io.close()
  })

  it('writes many and large buffers, more than one native call takes', async () => {
    const io = new NativeDriveIo(newRoot())
    const from = Array.from({ length: 1000 }, (_, at) => bytes(at, at))
    const expected = Buffer.concat(from)
    const into = new Uint8Array(expected.length)
    await io.run([
      { op: 'open', path: 'x', mode: 'create' }, { op: 'write', file: LAST_OPENED, offset: 0, from },
      { op: 'write', file: LAST_OPENED, offset: expected.length, from: [bytes(5, 5)] },
      { op: 'read', file: LAST_OPENED, offset: 0, into },
    ])
    assert.ok(expected.equals(into))
    await io.close()
  })

  it('refuses to leave the drive, by paths or by links', async () => {
    const path = newRoot()
    const io = new NativeDriveIo(path)
    symlinkSync('/etc/passwd', join(path, 'link'))
    await assert.rejects(io.run([{ op: 'open', path: 'link', mode: 'read' }]), code('ELOOP', 0))
    for (const wrong of ['../x', '/etc/passwd', 'a/../../b', '', 'x\0y']) {
      await assert.rejects(io.run([{ op: 'open', path: wrong, mode: 'read' }]), code('EINVAL', 0))
    }
    await io.close()
  })

  it('fails at once for a FIFO in place of a shard, which counts as a bad shard', async () => {
    const path = newRoot()
    const io = new NativeDriveIo(path)
    await prepareLayout(io)
    const drive = new LocalDrive({ io, number: 1, set: 0, position: 0, segments: { threshold: 0 } })
    const shard = makeShard(seededRandom(1), { k: 1, m: 0, stripeSize: 50_000, partSize: 120_000 })
    await drive.putShard(shard.header, shard.cells)
    assert.deepEqual(Buffer.from(await readShard(drive, shard.header.dataId, true)), Buffer.concat(shard.cells))
    assert.notEqual(drive.row.mediumReads, 'unknown')
    const place = join(path, shardPath(shard.header.dataId))
    rmSync(place)
    execFileSync('mkfifo', [place])
    for (const mode of ['read', 'write'] as const) {
      await assert.rejects(io.run([{ op: 'open', path: shardPath(shard.header.dataId), mode }]), code('EISNAM'))
    }
    await assert.rejects(
      drive.openShard(shard.header.dataId),
      (error) => error instanceof ShardError && error.code === 'corrupt',
    )
    assert.equal(drive.health.state, 'online')
    await drive.putShard(shard.header, shard.cells)
    assert.deepEqual(Buffer.from(await readShard(drive, shard.header.dataId)), Buffer.concat(shard.cells))
    assert.equal(await drive.deleteShard(shard.header.dataId), true)
    assert.equal(existsSync(place), false)
    await drive.close()
  })

  it('reports ENOSPC of a full file system, and deletes there', (context) => {
    const path = newRoot()
    if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', path]).status !== 0) {
      context.skip('mounting a small tmpfs needs root')
      return
    }
    return fullDrive(path).finally(() => spawnSync('umount', ['-l', path]))
  })

  it('reports the size limit of the process as an error of the write', () => {
    const source = `
      import { NativeDriveIo } from ${JSON.stringify(nativeModule)}
      const io = new NativeDriveIo(${JSON.stringify(newRoot())})
      const from = [new Uint8Array(100_000)]
      const ops = [{ op: 'open', path: 'x', mode: 'create' }, { op: 'write', file: -1, offset: 0, from }]
      console.log(await io.run(ops).catch((error) => error.code + error.opIndex))
      await io.close()`
    const { stdout } = spawnSync('sh', [
      '-c',
      'ulimit -f 8; exec "$0" --input-type=module -e "$1"',
      process.execPath,
      source,
    ])
    assert.equal(String(stdout).trim(), 'EFBIG1')
  })

  it('is locked for other processes until the holder closes or is killed', async () => {
    const path = newRoot()
    const source = `
      import { NativeDriveIo } from ${JSON.stringify(nativeModule)}
      console.log(await new NativeDriveIo(${JSON.stringify(path)}).lock())
      setInterval(() => {}, 1000)`
    const run = async (): Promise<[string, () => Promise<void>]> => {
      const child = spawn(process.execPath, ['--input-type=module', '-e', source], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      const gone = new Promise<void>((resolve) => child.once('exit', () => { resolve() }))
      const text = await new Promise<string>((resolve) =>
        child.stdout.once('data', (data) => {
          resolve(String(data).trim())
        }),
      )
      return [text, () => { child.kill('SIGKILL'); return gone }]
    }
    const [held, kill] = await run()
    assert.equal(held, 'true')
    const io = new NativeDriveIo(path)
    assert.equal(await io.lock(), false)
    await kill()
    assert.equal(await io.lock(), true)
    assert.equal(await io.lock(), true)
    const [other, killOther] = await run()
    assert.equal(other, 'false')
    await killOther()
    await io.close()
    const [again, killAgain] = await run()
    assert.equal(again, 'true')
    await killAgain()
  })

  it('finds a drive again that was replaced under its path', async () => {
    const path = newRoot()
    const io = new NativeDriveIo(path)
    await io.run([{ op: 'makeDir', path: 'old' }])
    renameSync(path, `${path}.away`)
    await assert.rejects(io.refresh(), code('ENOENT'))
    mkdirSync(join(path, 'new'), { recursive: true })
    assert.deepEqual((await io.run([{ op: 'list', path: '.' }]))[0], ['old'])
    await io.refresh()
    assert.deepEqual((await io.run([{ op: 'list', path: '.' }]))[0], ['new'])
    await io.close()
  })

  it('shares a drive among threads, but not its handles', async () => {
    const path = newRoot()
    const io = new NativeDriveIo(path)
    const [file] = await io.run([{ op: 'open', path: 'x', mode: 'create' }]) as [number]
    const source = `
      import { parentPort, workerData } from 'node:worker_threads'
      const { NativeDriveIo } = await import(workerData.nativeModule)
      const io = new NativeDriveIo(workerData.path)
      const stolen = await io.run([{ op: 'size', file: workerData.file }]).catch((error) => error.code)
      await io.run([{ op: 'makeDir', path: 'from-worker' }])
      parentPort.postMessage(stolen)`
    const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(source)}`), {
      workerData: { nativeModule, path, file },
    })
    // The last message may come in the same turn as the end: wait for both from the start.
    const ended = new Promise((resolve) => worker.once('exit', resolve))
    assert.equal(await new Promise((resolve) => worker.once('message', resolve)), 'EBADF')
    await ended
    const [size, names] = await io.run([{ op: 'size', file }, { op: 'list', path: '.' }]) as [number, string[]]
    assert.deepEqual([size, names.sort()], [0, ['from-worker', 'x']])
    await io.close()
  })

  it('reads at once what the page cache holds, and leaves everything else to the drive', async (context) => {
    const path = newRoot()
    const io = new NativeDriveIo(path)
    const other = new NativeDriveIo(path)
    const written = bytes(10_000, 5)
    const [file] = await io.run([
      { op: 'open', path: 'x', mode: 'create' }, { op: 'write', file: LAST_OPENED, offset: 0, from: [written] },
      { op: 'sync', file: LAST_OPENED },
    ]) as [number]
    const into = new Uint8Array(5000)
    if (!io.readNow(file, 3000, into)) context.diagnostic('this file system cannot read without waiting')
    else assert.deepEqual(into, written.slice(3000, 8000))
    assert.equal(io.readNow(file, 5001, into), false, 'beyond the end')
    assert.equal(other.readNow(file, 0, into), false, 'the file of another client')
    assert.equal(io.readNow(file + 1000, 0, into), false, 'no file')
    await io.run([{ op: 'dropCache', file }])
    // Asking for what is not cached may make the kernel fetch it, so that a moment later it is.
    if (io.readNow(file, 0, into)) assert.deepEqual(into, written.slice(0, 5000))
    assert.equal((await io.run([{ op: 'read', file, offset: 0, into }]))[0], 5000)
    assert.deepEqual(into, written.slice(0, 5000))
    const [direct] = await io.run([{ op: 'open', path: 'x', mode: 'read', direct: true }]).catch(() => [undefined])
    if (typeof direct === 'number') assert.equal(io.readNow(direct, 0, into), false, 'past the cache')
    await io.run([{ op: 'close', file }])
    assert.equal(io.readNow(file, 0, into), false, 'closed')
    await io.close()
    assert.equal(io.readNow(file, 0, into), false)
    await other.close()
  })

  it('closes files and takes nothing more once it is closed', async () => {
    const path = newRoot()
    const io = new NativeDriveIo(path)
    const work = Promise.all(
      Array.from({ length: 20 }, (_, at) =>
        io.run([
          { op: 'open', path: String(at), mode: 'create' },
          { op: 'write', file: LAST_OPENED, offset: 0, from: [bytes(9, at)] },
        ]),
      ),
    )
    const closed = io.close()
    await assert.rejects(io.run([{ op: 'space' }]), code('ESHUTDOWN'))
    await Promise.all([work, closed])
    assert.equal(io.pending, 0)
    assert.equal(statSync(join(path, '19')).size, 9)
    assert.deepEqual(readFileSync(join(path, '7')), Buffer.from(bytes(9, 7)))
  })
})

async function fullDrive(path: string): Promise<void> {
  const io = new NativeDriveIo(path)
  await prepareLayout(io)
  const drive = new LocalDrive({ io, number: 1, set: 0, position: 0, segments: { threshold: 0 } })
  const geometry = { k: 1, m: 0, stripeSize: 65_536, partSize: 65_536 }
  const put: Uint8Array[] = []
  for (let seed = 1; ; seed++) {
    const shard = makeShard(seededRandom(seed), geometry)
    try {
      await drive.putShard(shard.header, shard.cells)
      put.push(shard.header.dataId)
    } catch (error) {
      assert.ok(error instanceof ShardError && error.code === 'driveFull', String(error))
      break
    }
  }
  assert.ok(put.length >= 1)
  assert.equal(drive.health.state, 'full')
  for (const dataId of put) {
    await readShard(drive, dataId)
    assert.equal(await drive.deleteShard(dataId), true)
  }
  assert.deepEqual((await io.run([{ op: 'list', path: 'tmp' }]))[0], [])
  await drive.close()
}
