import assert from 'node:assert/strict'
import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  statSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'

import type { S3Client } from '@aws-sdk/client-s3'

import type { StatusReport } from '../../ts/server/admin/api.js'
import { LONG, eventually, get, listAll, makeBucket, put, randomBody, sdkClient, sha256 } from './clients.js'
import { ServerProcess, makeDrives } from '../../bench/load/server_process.js'

const places: { remove(): void }[] = []
after(() => {
  for (const place of places) place.remove()
})

/** Probes often, so that what happens to drives is seen within the patience of a test. */
/** As the SDK does by default, and more: the moment a drive goes may cost a request a retry, never more. */
const PATIENT = { maxAttempts: 6 }

const QUICK = ['--drive-check-interval', '500ms', '--collect-grace', '1s', '--metadata-replace-after', '1s']

function makePlace(count: number): ReturnType<typeof makeDrives> {
  const place = makeDrives(count)
  places.push(place)
  return place
}

async function fill(s3: S3Client, count: number, prefix: string, model: Map<string, string>): Promise<void> {
  const sizes = [0, 100, 70_000, 1_100_000, 2_600_000]
  for (let i = 0; i < count; i++) {
    const body = randomBody(sizes[i % sizes.length] ?? 0)
    const key = `${prefix}/${String(i).padStart(4, '0')}`
    await put(s3, 'loss', key, body)
    model.set(key, sha256(body))
  }
}

async function checkAll(s3: S3Client, model: Map<string, string>): Promise<void> {
  assert.deepEqual(await listAll(s3, 'loss'), [...model.keys()].sort())
  for (const [key, hash] of model) assert.equal(sha256(await get(s3, 'loss', key)), hash, key)
}

async function status(server: ServerProcess): Promise<StatusReport> {
  return (await server.admin('GET', '/admin/v1/status')) as StatusReport
}

function copiesOnline({ metadata }: Pick<StatusReport, 'metadata'>): number {
  return metadata.copies.filter((copy) => copy.state === 'online').length
}

async function healed(server: ServerProcess): Promise<void> {
  await eventually(
    'everything is healed',
    async () => {
      const { counts, drives, metadata } = await status(server)
      const whole = drives.every((drive) => drive.health.state === 'online' && !drive.healing)
      return counts.heals === 0 && whole && copiesOnline({ metadata }) === 3
    },
    120_000,
  )
}

test('any two of four drives lost while the server runs: all reads, and new writes bear two more losses', async () => {
  const place = makePlace(4)
  const model = new Map<string, string>()
  const server = await ServerProcess.start({ drives: place.drives, args: QUICK })
  const s3 = sdkClient(server, PATIENT)
  await makeBucket(s3, 'loss')
  await fill(s3, 15, 'before', model)
  const away = place.drives.slice(0, 1)
  for (const drive of away) renameSync(drive, `${drive}-away`)
  await checkAll(s3, model)
  await eventually('the drive is seen to be gone', async () =>
    (await status(server)).drives.some((drive) => drive.health.state === 'offline'),
  )
  await fill(s3, 10, 'during', model)
  await checkAll(s3, model)
  await eventually('the metadata has all its copies again', async () => copiesOnline(await status(server)) === 3)
  // New parts keep their full parity: two more drives may go, and everything written since still reads.
  const more = place.drives.slice(1, 3)
  for (const drive of more) renameSync(drive, `${drive}-away`)
  for (const [key, hash] of model)
    if (key.startsWith('during/')) assert.equal(sha256(await get(s3, 'loss', key)), hash, key)
  for (const drive of [...away, ...more]) renameSync(`${drive}-away`, drive)
  await healed(server)
  await checkAll(s3, model)
  s3.destroy()
  assert.deepEqual(await server.stop(), { code: 0, signal: null }, server.output)
})

test('any two of four drives lost at rest, metadata copies included: all reads, writes and listings', async () => {
  const place = makePlace(4)
  const model = new Map<string, string>()
  const first = await ServerProcess.start({ drives: place.drives, args: QUICK })
  const s3 = sdkClient(first)
  await makeBucket(s3, 'loss')
  await fill(s3, 15, 'before', model)
  s3.destroy()
  await first.stop()
  const pairs = [
    [0, 1],
    [0, 2],
    [0, 3],
    [1, 2],
    [1, 3],
    [2, 3],
  ]
  for (const pair of LONG ? pairs : pairs.filter((_, i) => i % 2 === 0)) {
    const gone = pair.map((i) => place.drives[i] ?? '')
    for (const drive of gone) renameSync(drive, `${drive}-away`)
    const server = await ServerProcess.start({ drives: place.drives, args: QUICK })
    const client = sdkClient(server, PATIENT)
    await checkAll(client, model)
    client.destroy()
    assert.deepEqual(await server.stop(), { code: 0, signal: null }, server.output)
    for (const drive of gone) renameSync(`${drive}-away`, drive)
    // Full redundancy again before the next pair goes.
    const whole = await ServerProcess.start({ drives: place.drives, args: QUICK })
    await healed(whole)
    await whole.stop()
  }
})

test('two drives replaced by blank ones are healed and proved; the other two may then be lost', async () => {
  const place = makePlace(4)
  const model = new Map<string, string>()
  const server = await ServerProcess.start({ drives: place.drives, args: QUICK })
  const s3 = sdkClient(server, PATIENT)
  await makeBucket(s3, 'loss')
  await fill(s3, 20, 'k', model)
  const [a = '', b = '', c = '', d = ''] = place.drives
  for (const drive of [a, b]) {
    renameSync(drive, `${drive}-dead`)
    mkdirSync(drive)
  }
  await eventually(
    'the blank drives have taken their places',
    async () =>
      (await status(server)).drives.filter((drive) => drive.epoch > 1 && drive.path !== '').length === 2,
  )
  await healed(server)
  for (const drive of [c, d]) renameSync(drive, `${drive}-away`)
  await checkAll(s3, model)
  for (const drive of [c, d]) renameSync(`${drive}-away`, drive)
  s3.destroy()
  assert.deepEqual(await server.stop(), { code: 0, signal: null }, server.output)
  const again = await ServerProcess.start({ drives: [a, b, c, d], args: QUICK })
  const client = sdkClient(again, PATIENT)
  await checkAll(client, model)
  client.destroy()
  await again.stop()
})

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
}

function flipByte(file: string, at: number): void {
  const fd = openSync(file, 'r+')
  try {
    const byte = Buffer.alloc(1)
    if (readSync(fd, byte, 0, 1, at) === 0) return
    byte[0] = (byte[0] ?? 0) ^ (1 << Math.floor(Math.random() * 8))
    writeSync(fd, byte, 0, 1, at)
  } finally {
    closeSync(fd)
  }
}

test('bytes flipped in files of one drive: never a wrong byte or listing, found by scrub, healed', async () => {
  const place = makePlace(4)
  const model = new Map<string, string>()
  const first = await ServerProcess.start({ drives: place.drives, args: QUICK })
  const s3 = sdkClient(first)
  await makeBucket(s3, 'loss')
  await fill(s3, 20, 'k', model)
  s3.destroy()
  await first.stop()
  for (let round = 0; round < (LONG ? 40 : 3); round++) {
    const victim = place.drives[round % 4] ?? ''
    const files = filesBelow(victim).filter((file) => !file.endsWith('format.json') && !file.endsWith('lock'))
    for (let i = 0; i < 12; i++) {
      const file = files[Math.floor(Math.random() * files.length)] ?? ''
      const { size } = statSync(file)
      if (size > 0) flipByte(file, Math.floor(Math.random() * size))
    }
    const server = await ServerProcess.start({ drives: place.drives, args: QUICK })
    const client = sdkClient(server, PATIENT)
    await checkAll(client, model)
    await server.admin('POST', '/admin/v1/scrub', { action: 'start' })
    await eventually('the scrub has ended', async () => {
      const { background } = await status(server)
      const scrubber = background?.jobs.find((job) => job.job === 'scrubber')
      return scrubber !== undefined && scrubber.task === null && scrubber.state !== 'running'
    })
    await healed(server)
    await checkAll(client, model)
    client.destroy()
    assert.deepEqual(await server.stop(), { code: 0, signal: null }, server.output)
  }
})
