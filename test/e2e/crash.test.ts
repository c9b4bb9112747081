import assert from 'node:assert/strict'
import { test } from 'node:test'

import { DeleteObjectCommand } from '@aws-sdk/client-s3'
import type { S3Client } from '@aws-sdk/client-s3'

import { LONG, get, listAll, makeBucket, put, randomBody, sdkClient, sha256 } from './clients.js'
import { ServerProcess, makeDrives } from '../../bench/load/server_process.js'

const ROUNDS = LONG ? 60 : 4
const WRITERS = 6
const COMPACTING = ['--log-level', 'warn', '--compaction-threshold', '1', '--collect-grace', '0s']

/**
 * What a key may hold. `certain`: the last acknowledged state (a hash, or undefined for absent); `possible`: states of
 * writes whose outcome is not known.
 */
interface Expectation {
  certain: string | undefined
  possible: (string | undefined)[]
}

/** One writer owns its keys: writes, overwrites and deletes them until the server is gone. */
async function writer(
  s3: S3Client,
  name: string,
  model: Map<string, Expectation>,
  stopped: () => boolean,
): Promise<number> {
  let acknowledged = 0
  for (let n = 0; !stopped(); n++) {
    const key = `${name}/${String(n % 15)}`
    const expected = model.get(key) ?? { certain: undefined, possible: [] }
    model.set(key, expected)
    const remove = n % 7 === 6
    const body = randomBody([10, 5000, 300_000, 1_300_000][n % 4] ?? 1)
    const state = remove ? undefined : sha256(body)
    expected.possible.push(state)
    try {
      if (remove) await s3.send(new DeleteObjectCommand({ Bucket: 'crash', Key: key }))
      else await put(s3, 'crash', key, body)
    } catch {
      continue
    }
    expected.certain = state
    expected.possible = []
    acknowledged += 1
  }
  return acknowledged
}

/** Segments that compaction has dropped. */
async function compacted(server: ServerProcess): Promise<number> {
  const text = await (await fetch(`${server.adminEndpoint}/metrics`)).text()
  const line = text.split('\n').find((row) => row.includes('job="compaction"') && row.includes('counter="segments"'))
  return Number(line?.split(' ').at(-1) ?? 0)
}

async function check(s3: S3Client, model: Map<string, Expectation>): Promise<void> {
  const listed = new Set(await listAll(s3, 'crash'))
  for (const [key, expected] of model) {
    const found = listed.has(key) ? sha256(await get(s3, 'crash', key)) : undefined
    const allowed = [expected.certain, ...expected.possible]
    assert.ok(allowed.includes(found), `${key} holds ${String(found)}, allowed ${JSON.stringify(allowed)}`)
    model.set(key, { certain: found, possible: [] })
    listed.delete(key)
    if (found === undefined) await assert.rejects(get(s3, 'crash', key), { name: 'NoSuchKey' })
  }
  assert.deepEqual([...listed], [], 'keys that nobody wrote')
}

test(`kill -9 under load, ${String(ROUNDS)} times: what was acknowledged is there, the rest is absent or whole`, async () => {
  const place = makeDrives(4)
  const model = new Map<string, Expectation>()
  let total = 0
  // Requests that a dead server left are settled by timers of the client, which alone do not keep the process going.
  const going = setInterval(() => undefined, 1000)
  try {
    for (let round = 0; round < ROUNDS; round++) {
      const server = await ServerProcess.start({
        drives: place.drives,
        args: ['--workers', String(1 + (round % 2)), ...COMPACTING],
      })
      const s3 = sdkClient(server)
      if (round === 0) await makeBucket(s3, 'crash')
      await check(s3, model)
      let stop = false
      const writers = Array.from({ length: WRITERS }, (_, i) =>
        writer(s3, `w${String(i)}`, model, () => stop),
      )
      await new Promise((resolve) => setTimeout(resolve, 300 + Math.random() * 1500))
      const killed = server.stop('SIGKILL')
      stop = true
      for (const count of await Promise.all(writers)) total += count
      s3.destroy()
      await killed
    }
    const compacting = await ServerProcess.start({ drives: place.drives, args: COMPACTING })
    for (let i = 0; (await compacted(compacting)) === 0; i++) {
      assert.ok(i < 600, 'nothing was compacted')
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
    await compacting.stop('SIGKILL')
    const server = await ServerProcess.start({ drives: place.drives })
    const s3 = sdkClient(server)
    await check(s3, model)
    s3.destroy()
    assert.deepEqual(await server.stop(), { code: 0, signal: null }, server.output)
    assert.ok(total > ROUNDS, 'hardly anything was written')
  } finally {
    clearInterval(going)
    place.remove()
  }
})
