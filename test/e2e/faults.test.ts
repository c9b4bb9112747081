import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync, statfsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'

import { DeleteObjectCommand } from '@aws-sdk/client-s3'

import type { StatusReport } from '../../ts/server/admin/api.js'
import { eventually, get, listAll, makeBucket, put, randomBody, sdkClient, sha256 } from './clients.js'
import { ServerProcess, makeDrives } from '../../bench/load/server_process.js'

const QUICK = [
  '--drive-check-interval',
  '500ms',
  '--drive-deadline',
  '1s',
  '--collect-grace',
  '1s',
  '--limits-drain-timeout',
  '2s',
]

function shardFiles(drive: string): string[] {
  return readdirSync(join(drive, 'shards'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
}

test('shards replaced by FIFOs on one drive: reads and writes go on, and SIGTERM still exits', async () => {
  const place = makeDrives(4)
  const server = await ServerProcess.start({ drives: place.drives, args: QUICK })
  try {
    const s3 = sdkClient(server)
    await makeBucket(s3, 'hang')
    const bodies = new Map(Array.from({ length: 12 }, (_, i) => [`k${String(i)}`, randomBody(400_000)]))
    for (const [key, body] of bodies) await put(s3, 'hang', key, body)
    for (const file of shardFiles(place.drives[0] ?? '')) {
      rmSync(file)
      execFileSync('mkfifo', [file])
    }
    for (const [key, body] of bodies) assert.equal(sha256(await get(s3, 'hang', key)), sha256(body), key)
    for (let i = 0; i < 6; i++) await put(s3, 'hang', `new${String(i)}`, randomBody(400_000))
    s3.destroy()
    assert.deepEqual(await server.stop(), { code: 0, signal: null }, server.output)
  } finally {
    server.child.kill('SIGKILL')
    place.remove()
  }
})

/** Small file systems of their own, where this machine lets us mount. */
function tryMount(count: number, size: string): { drives: string[]; remove(): void } | undefined {
  const base = mkdtempSync(join(tmpdir(), 'ostraka-mounts-'))
  const drives: string[] = []
  const remove = (): void => {
    for (const drive of drives) spawnSync('umount', ['-l', drive])
    rmSync(base, { recursive: true, force: true })
  }
  for (let i = 0; i < count; i++) {
    const drive = join(base, `d${String(i + 1)}`)
    mkdirSync(drive)
    if (spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', drive]).status !== 0) {
      remove()
      return undefined
    }
    drives.push(drive)
  }
  return { drives, remove }
}

test('a full drive is left out, full drives refuse cleanly, and deletes make room again', async (t) => {
  const place = tryMount(4, '96m')
  if (place === undefined) {
    t.skip('mounting tmpfs is not allowed here')
    return
  }
  const server = await ServerProcess.start({
    drives: place.drives,
    args: [...QUICK, '--drive-reserve', '16MiB'],
  })
  try {
    const s3 = sdkClient(server)
    await makeBucket(s3, 'full')
    await put(s3, 'full', 'first', randomBody(500_000))
    // One drive full: writes go on without it.
    const { bavail, bsize } = statfsSync(place.drives[0] ?? '')
    writeFileSync(join(place.drives[0] ?? '', 'ballast'), Buffer.alloc(bavail * bsize - 2 * 1024 * 1024))
    await eventually('the full drive is seen', async () => {
      const status = (await server.admin('GET', '/admin/v1/status')) as StatusReport
      return status.drives.some((drive) => drive.health.state === 'full')
    })
    const body = randomBody(900_000)
    await put(s3, 'full', 'while-one-is-full', body)
    assert.equal(sha256(await get(s3, 'full', 'while-one-is-full')), sha256(body))
    rmSync(join(place.drives[0] ?? '', 'ballast'))
    // All drives full: uploads are refused in S3's words, what is there still reads, deletes work.
    const stored: string[] = []
    let refusal: unknown
    for (let i = 0; i < 400 && refusal === undefined; i++) {
      const key = `fill/${String(i).padStart(4, '0')}`
      await put(s3, 'full', key, randomBody(2_000_000)).then(
        () => {
          stored.push(key)
        },
        (error: unknown) => {
          refusal = error
        },
      )
    }
    assert.ok(refusal !== undefined, 'the drives never got full')
    const status = (refusal as { $metadata?: { httpStatusCode?: number } }).$metadata?.httpStatusCode
    assert.ok(status === 503 || status === 507, `answered ${String(status)}`)
    assert.equal(sha256(await get(s3, 'full', 'while-one-is-full')), sha256(body))
    for (const key of stored) await s3.send(new DeleteObjectCommand({ Bucket: 'full', Key: key }))
    assert.deepEqual(await listAll(s3, 'full'), ['first', 'while-one-is-full'])
    await eventually('there is room again', () =>
      put(s3, 'full', 'again', randomBody(1000)).then(
        () => true,
        () => false,
      ),
    )
    s3.destroy()
    assert.deepEqual(await server.stop(), { code: 0, signal: null }, server.output)
  } finally {
    server.child.kill('SIGKILL')
    place.remove()
  }
})

test('too few drives for the quorum: writes and reads are refused cleanly, and serving goes on when they are back', async () => {
  const place = makeDrives(4)
  const server = await ServerProcess.start({ drives: place.drives, args: QUICK })
  try {
    const s3 = sdkClient(server)
    await makeBucket(s3, 'quorum')
    const body = randomBody(700_000)
    await put(s3, 'quorum', 'k', body)
    const gone = place.drives.slice(0, 3)
    for (const drive of gone) renameSync(drive, `${drive}-away`)
    await eventually('writes are refused', () =>
      put(s3, 'quorum', 'x', body).then(
        () => false,
        () => true,
      ),
    )
    // A drive that is not looked at yet still serves what lies in the directory that was moved away.
    await eventually('reads are refused', () =>
      get(s3, 'quorum', 'k').then(
        () => false,
        () => true,
      ),
    )
    assert.equal((await fetch(`${server.adminEndpoint}/health/live`)).status, 200)
    await eventually('the server says that it is not ready', async () => {
      return (await fetch(`${server.adminEndpoint}/health/ready`)).status === 503
    })
    for (const drive of gone) renameSync(`${drive}-away`, drive)
    await eventually('reads work again', async () =>
      get(s3, 'quorum', 'k').then(
        (got) => sha256(got) === sha256(body),
        () => false,
      ),
    )
    await eventually('writes work again', () =>
      put(s3, 'quorum', 'y', body).then(
        () => true,
        () => false,
      ),
    )
    s3.destroy()
    assert.deepEqual(await server.stop(), { code: 0, signal: null }, server.output)
  } finally {
    server.child.kill('SIGKILL')
    place.remove()
  }
})

test('what was deleted is collected from the drives', async () => {
  const place = makeDrives(4)
  const server = await ServerProcess.start({ drives: place.drives, args: QUICK })
  try {
    const s3 = sdkClient(server)
    await makeBucket(s3, 'garbage')
    for (let i = 0; i < 20; i++) await put(s3, 'garbage', 'same key', randomBody(300_000))
    await s3.send(new DeleteObjectCommand({ Bucket: 'garbage', Key: 'same key' }))
    await eventually('no shard is left', () => place.drives.every((drive) => shardFiles(drive).length === 0))
    s3.destroy()
    await server.stop()
  } finally {
    server.child.kill('SIGKILL')
    place.remove()
  }
})

test('metrics and health tell what happened', async () => {
  const place = makeDrives(4)
  const server = await ServerProcess.start({ drives: place.drives, args: ['--workers', '2'] })
  try {
    const s3 = sdkClient(server)
    await makeBucket(s3, 'metrics')
    for (let i = 0; i < 10; i++) await put(s3, 'metrics', `k${String(i)}`, randomBody(1000))
    await assert.rejects(get(s3, 'metrics', 'absent'))
    const text = await (await fetch(`${server.adminEndpoint}/metrics`)).text()
    const total = (pattern: RegExp): number => Number(pattern.exec(text)?.[1] ?? NaN)
    assert.equal(
      total(/^ostraka_s3_requests_total\{operation="PutObject",status="200",code=""\} (\d+)$/m),
      10,
    )
    assert.equal(
      total(/^ostraka_s3_requests_total\{operation="GetObject",status="404",code="NoSuchKey"\} (\d+)$/m),
      1,
    )
    assert.equal(total(/^ostraka_s3_received_bytes_total\{operation="PutObject"\} (\d+)$/m), 10_000)
    assert.equal(total(/^ostraka_objects (\d+)$/m), 10)
    for (const name of [
      'ostraka_drive_state',
      'ostraka_drive_free_bytes',
      'ostraka_metadata_applied',
      'ostraka_event_loop_delay_seconds',
      'ostraka_background_total',
    ]) {
      assert.ok(text.includes(`\n${name}{`) || text.includes(`\n${name} `), `${name} is missing`)
    }
    assert.equal((await fetch(`${server.adminEndpoint}/health/ready`)).status, 200)
    s3.destroy()
    await server.stop()
  } finally {
    server.child.kill('SIGKILL')
    place.remove()
  }
})
