import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'

import type { StatusReport } from '../../ts/server/admin/api.js'
import { ServerProcess, makeDrives } from '../../bench/load/server_process.js'
import { eventually, get, listAll, makeBucket, put, randomBody, sdkClient, sha256 } from './clients.js'

/** Preloaded into every thread: one that is a worker of a pool throws when the file appears, and takes it away. */
const CRASHER = `
const { isMainThread, workerData } = require('node:worker_threads')
const { unlinkSync } = require('node:fs')
const pooled = !isMainThread && (workerData === null || typeof workerData !== 'object' || !('copies' in workerData))
if (pooled) setInterval(() => {
  try { unlinkSync(process.env.CRASH_FILE) } catch { return }
  throw new Error('crashed as asked')
}, 20).unref()
`

test('workers that crash are started again; nothing acknowledged is lost and totals do not fall', async () => {
  const place = makeDrives(4)
  const crashFile = join(place.folder, 'crash')
  const preload = join(place.folder, 'crasher.cjs')
  writeFileSync(preload, CRASHER)
  const server = await ServerProcess.start({
    drives: place.drives,
    args: ['--workers', '2', '--collect-grace', '1s'],
    env: { NODE_OPTIONS: `--require ${preload}`, CRASH_FILE: crashFile },
  })
  try {
    // Both workers may be starting at once, which takes a busy machine seconds: nobody listens then.
    const s3 = sdkClient(server, { maxAttempts: 20 })
    await makeBucket(s3, 'crash')
    const model = new Map<string, string>()
    const restarts = async (): Promise<number> =>
      ((await server.admin('GET', '/admin/v1/status')) as StatusReport).workers.restarts
    const puts = async (): Promise<number> => {
      const text = await (await fetch(`${server.adminEndpoint}/metrics`)).text()
      return Number(/^ostraka_s3_requests_total\{operation="PutObject",status="200",code=""\} (\d+)$/m.exec(text)?.[1])
    }
    for (let round = 1; round <= 3; round++) {
      const before = round === 1 ? 0 : await puts()
      writeFileSync(crashFile, '')
      for (let i = 0; i < 15; i++) {
        const body = randomBody(50_000)
        const key = `${String(round)}/${String(i).padStart(2, '0')}`
        await put(s3, 'crash', key, body)
        model.set(key, sha256(body))
      }
      await eventually('a worker was started again', async () => (await restarts()) >= round)
      assert.ok((await puts()) >= before, 'a total has fallen')
    }
    assert.deepEqual(await listAll(s3, 'crash'), [...model.keys()].sort())
    for (const [key, hash] of model) assert.equal(sha256(await get(s3, 'crash', key)), hash, key)
    s3.destroy()
    assert.deepEqual(await server.stop(), { code: 0, signal: null }, server.output)
  } finally {
    server.child.kill('SIGKILL')
    place.remove()
  }
})
