import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { fileURLToPath } from 'node:url'

import { checksum64 } from '../../ts/native/hash.js'
import { EXIT } from '../../ts/server/exit_codes.js'
import { get, listAll, makeBucket, put, randomBody, sdkClient, sha256 } from './clients.js'
import { ServerProcess, StartFailure, makeDrives } from '../../bench/load/server_process.js'

const places: { remove(): void }[] = []
after(() => {
  for (const place of places) place.remove()
})

function drives(count: number): ReturnType<typeof makeDrives> {
  const place = makeDrives(count)
  places.push(place)
  return place
}

async function refused(options: Parameters<typeof ServerProcess.start>[0], code: number): Promise<string> {
  try {
    const server = await ServerProcess.start(options)
    await server.stop()
  } catch (error) {
    assert.ok(error instanceof StartFailure, String(error))
    assert.equal(error.exit.code, code, error.output)
    return error.output
  }
  return assert.fail('the server started')
}

/** Starts, stores one object, stops. */
async function fill(place: ReturnType<typeof makeDrives>): Promise<Buffer> {
  const server = await ServerProcess.start({ drives: place.drives })
  const body = randomBody(1_500_000)
  const s3 = sdkClient(server)
  await makeBucket(s3, 'kept')
  await put(s3, 'kept', 'object', body)
  s3.destroy()
  assert.deepEqual(await server.stop(), { code: EXIT.ok, signal: null }, server.output)
  return body
}

test('a second start on the same drives serves the same data, with any number of workers', async () => {
  const place = drives(4)
  const body = await fill(place)
  for (const workers of ['1', '3']) {
    const server = await ServerProcess.start({
      drives: place.drives,
      args: ['--workers', workers],
    })
    const s3 = sdkClient(server)
    assert.deepEqual(await listAll(s3, 'kept'), ['object'])
    assert.equal(sha256(await get(s3, 'kept', 'object')), sha256(body))
    s3.destroy()
    assert.deepEqual(await server.stop('SIGINT'), { code: EXIT.ok, signal: null }, server.output)
  }
})

test('drives in use by a running server are refused', async () => {
  const place = drives(4)
  const server = await ServerProcess.start({ drives: place.drives })
  assert.match(await refused({ drives: place.drives }, EXIT.drives), /lock|in use/)
  await server.stop()
})

test('an address in use is refused, although ports are shared by workers', async () => {
  const [first, second] = [drives(1), drives(1)]
  const server = await ServerProcess.start({ drives: first.drives })
  const port = new URL(server.endpoint).port
  assert.match(
    await refused({ drives: second.drives, args: ['--listen', `127.0.0.1:${port}`] }, EXIT.address),
    /another process listens/,
  )
  await server.stop()
})

test('a drive of another cluster is refused', async () => {
  const [mine, other] = [drives(4), drives(4)]
  await fill(mine)
  await fill(other)
  const mixed = [...mine.drives.slice(0, 3), other.drives[3] ?? '']
  assert.match(await refused({ drives: mixed }, EXIT.drives), /cluster/)
})

/** The file as a later version would write it: the checksum over all else is the last member. */
function asNewer(text: string): string {
  const members = JSON.parse(text) as Record<string, unknown>
  delete members.checksum
  members.version = 99
  const checksum = Buffer.alloc(8)
  checksum64(checksum, 0, [Buffer.from(JSON.stringify(members))], 0x464f_524d)
  return `${JSON.stringify({ ...members, checksum: checksum.toString('hex') }, null, 2)}\n`
}

test('a drive whose format is newer than the program is refused', async () => {
  const place = drives(4)
  await fill(place)
  for (const name of ['format.json', 'format.copy.json']) {
    const file = join(place.drives[1] ?? '', name)
    writeFileSync(file, asNewer(readFileSync(file, 'utf8')))
  }
  assert.match(await refused({ drives: place.drives }, EXIT.drives), /newer version/)
})

test('a directory that is missing at first start is refused with its name', async () => {
  const place = drives(3)
  const absent = join(place.folder, 'absent')
  const said = await refused({ drives: [...place.drives, absent] }, EXIT.drives)
  assert.ok(said.includes(absent), said)
})

test('fewer drives than can serve are refused', async () => {
  const place = drives(4)
  await fill(place)
  await refused({ drives: place.drives.slice(0, 1) }, EXIT.drives)
})

test('other geometry than the cluster was made with is refused', async () => {
  const place = drives(4)
  await fill(place)
  await refused({ drives: place.drives, args: ['--parity', '1'] }, EXIT.drives)
})

test('drives in the wrong positions are refused, whether named in another order or moved', async () => {
  const place = drives(4)
  await fill(place)
  const [a = '', b = ''] = place.drives
  assert.match(await refused({ drives: [...place.drives].reverse() }, EXIT.drives), /position/)
  renameSync(a, `${a}-away`)
  renameSync(b, a)
  renameSync(`${a}-away`, b)
  assert.match(await refused({ drives: place.drives }, EXIT.drives), /position/)
})

test('several erasure sets are made, and all of them hold data', async () => {
  const place = drives(8)
  const server = await ServerProcess.start({ drives: place.drives, args: ['--set-size', '4'] })
  const s3 = sdkClient(server)
  await makeBucket(s3, 'sets')
  const bodies = new Map(Array.from({ length: 24 }, (_, i) => [`k${String(i)}`, randomBody(2000)]))
  for (const [key, body] of bodies) await put(s3, 'sets', key, body)
  for (const [key, body] of bodies) assert.equal(sha256(await get(s3, 'sets', key)), sha256(body))
  const status = (await server.admin('GET', '/admin/v1/status')) as { sets: unknown[] }
  assert.equal(status.sets.length, 2)
  s3.destroy()
  await server.stop()
})

test('without credentials given they are made in a file of mode 0600, and kept', async () => {
  const place = drives(1)
  const env = { OSTRAKA_ROOT_ACCESS_KEY: '', OSTRAKA_ROOT_SECRET_KEY: '' }
  const file = join(place.folder, 'credentials')
  const first = await ServerProcess.start({ drives: place.drives, env })
  assert.ok(first.output.includes(file), first.output)
  await first.stop()
  const made = readFileSync(file, 'utf8')
  assert.equal(statSync(file).mode & 0o777, 0o600)
  assert.ok(
    !first.output.includes(/secret_access_key = (\S+)/.exec(made)?.[1] ?? '?'),
    'the secret was printed',
  )
  const second = await ServerProcess.start({ drives: place.drives, env })
  await second.stop()
  assert.equal(readFileSync(file, 'utf8'), made)
})

test('the command reports wrong usage and unreachable servers by its exit code', () => {
  const main = fileURLToPath(new URL('../../ts/cli/main.js', import.meta.url))
  const run = (...args: string[]): number => {
    try {
      execFileSync(process.execPath, [main, ...args], { stdio: 'pipe', env: { PATH: process.env.PATH } })
      return 0
    } catch (error) {
      return (error as { status: number }).status
    }
  }
  const place = drives(1)
  writeFileSync(
    join(place.folder, 'credentials'),
    '[default]\naws_access_key_id = someone\naws_secret_access_key = something\n',
    { mode: 0o600 },
  )
  assert.equal(run('--help'), EXIT.ok)
  assert.equal(run('--version'), EXIT.ok)
  assert.equal(run('serve', '--no-such-flag'), EXIT.usage)
  assert.equal(run('serve', '--workers', 'many'), EXIT.usage)
  assert.equal(
    run('admin', 'status', '--drives', place.drives.join(','), '--admin-listen', '127.0.0.1:1'),
    EXIT.unreachable,
  )
})

test('stopping twice at once, and during work, still ends in order', async () => {
  const place = drives(4)
  const server = await ServerProcess.start({ drives: place.drives })
  const s3 = sdkClient(server)
  await makeBucket(s3, 'busy')
  const puts = Array.from({ length: 20 }, (_, i) =>
    put(s3, 'busy', `k${String(i)}`, randomBody(500_000)).then(
      () => true,
      () => false,
    ),
  )
  const exit = await server.stop()
  assert.deepEqual(exit, { code: EXIT.ok, signal: null }, server.output)
  const done = await Promise.all(puts)
  s3.destroy()
  const again = await ServerProcess.start({ drives: place.drives })
  const reader = sdkClient(again)
  const listed = new Set(await listAll(reader, 'busy'))
  done.forEach((ok, i) => {
    if (ok) assert.ok(listed.has(`k${String(i)}`), 'an acknowledged object is gone')
  })
  reader.destroy()
  await again.stop()
})
