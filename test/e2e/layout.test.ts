/** Several erasure sets: the layout that metadata keeps, from the first start on. */
import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'

import { makeDrives, ServerProcess } from '../../bench/load/server_process.js'
import { EXIT } from '../../ts/server/exit_codes.js'
import { get, makeBucket, put, randomBody, sdkClient } from './clients.js'

const place = makeDrives(4)
after(() => {
  place.remove()
})

/** Files below a drive: each stored part leaves at least one. */
function files(drive: string): number {
  return readdirSync(join(drive), { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()).length
}

/** Files of a drive but for those of the metadata, which come and go. */
function parts(drive: string): number {
  return readdirSync(drive, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !`${entry.parentPath}/`.startsWith(`${drive}/meta`)).length
}

test('two sets share new parts by the layout, which the next start finds as it was', async () => {
  const options = { drives: place.drives, args: ['--set-size', '2'] }
  const first = await ServerProcess.start(options)
  assert.match(first.output, /the layout was changed/)
  const empty = place.drives.map(files)
  const s3 = sdkClient(first)
  await makeBucket(s3, 'kept')
  // Larger than what is packed into segments.
  const bodies = Array.from({ length: 24 }, () => randomBody(600_000))
  for (const [at, body] of bodies.entries()) await put(s3, 'kept', String(at), body)
  s3.destroy()
  const added = place.drives.map((drive, at) => files(drive) - (empty[at] ?? 0))
  // 24 parts all in one of two equal sets: once in eight million runs.
  for (const count of added) assert.ok(count > 0, String(added))
  assert.deepEqual(await first.stop(), { code: EXIT.ok, signal: null })

  const second = await ServerProcess.start(options)
  assert.doesNotMatch(second.output, /the layout was changed|could not be brought up to date/)
  const again = sdkClient(second)
  for (const [at, body] of bodies.entries()) assert.ok(body.equals(await get(again, 'kept', String(at))))
  again.destroy()
  assert.deepEqual(await second.stop(), { code: EXIT.ok, signal: null })
})

test('a set that is made read-only takes no new parts, and keeps what it holds', async () => {
  const two = makeDrives(4)
  try {
    const options = { drives: two.drives, args: ['--set-size', '2'] }
    const server = await ServerProcess.start(options)
    const s3 = sdkClient(server)
    await makeBucket(s3, 'kept')
    const body = randomBody(600_000)
    for (let at = 0; at < 12; at++) await put(s3, 'kept', `before-${String(at)}`, body)
    await server.admin('POST', '/admin/v1/sets', { action: 'readOnly', set: 0 })
    const sets = (await server.admin('GET', '/admin/v1/sets')) as { state: string; share: number }[]
    assert.deepEqual(
      sets.map(({ state, share }) => [state, share]),
      [
        ['readOnly', 0],
        ['active', 1],
      ],
    )
    const [drive = ''] = two.drives
    const held = parts(drive)
    for (let at = 0; at < 12; at++) await put(s3, 'kept', `after-${String(at)}`, body)
    assert.equal(parts(drive), held)
    for (let at = 0; at < 12; at++) assert.ok(body.equals(await get(s3, 'kept', `before-${String(at)}`)))
    await assert.rejects(server.admin('POST', '/admin/v1/sets', { action: 'readOnly', set: 1 }), /409|no other set/)
    await assert.rejects(server.admin('POST', '/admin/v1/sets', { action: 'readOnly', set: 9 }), /409|no such set/)
    s3.destroy()
    await server.stop()

    const again = await ServerProcess.start(options)
    const [first] = (await again.admin('GET', '/admin/v1/sets')) as { state: string }[]
    assert.equal(first?.state, 'readOnly')
    await again.admin('POST', '/admin/v1/sets', { action: 'active', set: 0 })
    const shares = ((await again.admin('GET', '/admin/v1/sets')) as { share: number }[]).map(({ share }) => share)
    for (const share of shares) assert.ok(Math.abs(share - 0.5) < 0.001)
    await again.stop()
  } finally {
    two.remove()
  }
})

test('one set has no layout', async () => {
  const alone = makeDrives(2)
  try {
    const server = await ServerProcess.start({ drives: alone.drives })
    assert.doesNotMatch(server.output, /layout/)
    await server.stop()
  } finally {
    alone.remove()
  }
})
