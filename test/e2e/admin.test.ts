import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdirSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

import { ROOT_KEYS, ServerProcess, makeDrives } from '../../bench/load/server_process.js'
import type { DriveReport, MetadataReport, StatusReport } from '../../ts/server/admin/api.js'
import { EXIT } from '../../ts/server/exit_codes.js'
import { eventually, get, makeBucket, put, randomBody, sdkClient, sha256 } from './clients.js'

const main = fileURLToPath(new URL('../../ts/cli/main.js', import.meta.url))
const places: { remove(): void }[] = []
after(() => {
  for (const place of places) place.remove()
})

function makePlace(): ReturnType<typeof makeDrives> {
  const place = makeDrives(4)
  places.push(place)
  return place
}

/** The command as an operator runs it; rejects with its exit code. */
async function ostraka(...args: string[]): Promise<string> {
  const env = {
    PATH: process.env.PATH,
    OSTRAKA_ROOT_ACCESS_KEY: ROOT_KEYS.accessKey,
    OSTRAKA_ROOT_SECRET_KEY: ROOT_KEYS.secretKey,
  }
  return (await promisify(execFile)(process.execPath, [main, ...args], { env })).stdout
}

test('the admin command shows status, drives, heals, scrubs and metadata, as text and as JSON', async () => {
  const place = makePlace()
  const server = await ServerProcess.start({ drives: place.drives })
  const at = ['--admin-listen', new URL(server.adminEndpoint).host]
  const s3 = sdkClient(server)
  await makeBucket(s3, 'admin')
  await put(s3, 'admin', 'k', randomBody(100_000))
  assert.match(await ostraka('admin', 'status', ...at), /1 buckets, 1 objects/)
  const status = JSON.parse(await ostraka('admin', 'status', '--json', ...at)) as StatusReport
  assert.deepEqual([status.counts.objects, status.counts.bytes, status.notReady], [1, 100_000, []])
  assert.match(await ostraka('admin', 'heal', 'start', '--watch', ...at), /presence/)
  assert.match(await ostraka('admin', 'scrub', 'start', '--watch', ...at), /scrubber/)
  const metadata = JSON.parse(await ostraka('admin', 'metadata', 'status', '--json', ...at)) as MetadataReport
  assert.equal(metadata.status.copies.length, 3)
  await ostraka('admin', 'drive', 'take-out', '4', ...at)
  const state = async (): Promise<string | undefined> => {
    const drives = JSON.parse(await ostraka('admin', 'drive', 'list', '--json', ...at)) as DriveReport[]
    return drives.find((drive) => drive.number === 4)?.health.state
  }
  assert.equal(await state(), 'offline')
  await put(s3, 'admin', 'k2', randomBody(100_000))
  await ostraka('admin', 'drive', 'bring-back', '4', ...at)
  await eventually('the drive is used again', async () => (await state()) === 'online')
  await assert.rejects(ostraka('admin', 'drive', 'take-out', '99', ...at), { code: EXIT.failure })
  for (const number of ['x', '1.5']) {
    await assert.rejects(ostraka('admin', 'drive', 'take-out', number, ...at), { code: EXIT.usage })
  }
  s3.destroy()
  await server.stop()
})

test('metadata is backed up while serving, restored offline, and collected again only when confirmed', async () => {
  const place = makePlace()
  const server = await ServerProcess.start({ drives: place.drives })
  const at = ['--admin-listen', new URL(server.adminEndpoint).host]
  const s3 = sdkClient(server)
  await makeBucket(s3, 'kept')
  const body = randomBody(300_000)
  await put(s3, 'kept', 'k', body)
  const backup = join(place.folder, 'backup')
  assert.match(await ostraka('admin', 'metadata', 'backup', backup, '--watch', ...at), /done/)
  await assert.rejects(ostraka('admin', 'metadata', 'backup', backup, ...at), /exists already/)
  await assert.rejects(ostraka('admin', 'metadata', 'backup', join(backup, 'a', 'b'), ...at), /there is no directory/)
  s3.destroy()
  await server.stop()
  const drives = ['--drives', place.drives.join(',')]
  await assert.rejects(ostraka('restore-metadata', backup, ...drives), { code: EXIT.failure })
  const lost = join(place.folder, 'lost')
  mkdirSync(lost)
  for (const [i, drive] of place.drives.entries()) {
    renameSync(join(drive, 'meta-copies.json'), join(lost, `copies${String(i)}`))
    if (i < 3) renameSync(join(drive, 'meta'), join(lost, `meta${String(i)}`))
  }
  assert.match(await ostraka('restore-metadata', backup, ...drives), /restored \d+ records/)
  const again = await ServerProcess.start({ drives: place.drives })
  const client = sdkClient(again)
  assert.equal(sha256(await get(client, 'kept', 'k')), sha256(body))
  const enabled = async (): Promise<boolean> =>
    ((await again.admin('GET', '/admin/v1/metadata')) as MetadataReport).status.collectionEnabled
  assert.equal(await enabled(), false)
  await ostraka('admin', 'metadata', 'enable-collection', '--admin-listen', new URL(again.adminEndpoint).host)
  assert.equal(await enabled(), true)
  client.destroy()
  assert.deepEqual(await again.stop(), { code: EXIT.ok, signal: null }, again.output)
})
