/**
 * The real server under the recorder: LMDB, the command log and native I/O with their real system calls. From the
 * trace, disks are rebuilt as power cuts at random moments may have left them, and the server is started on each.
 *
 * What must hold at a cut: every write acknowledged before it reads back bit for bit; a write that had begun is whole
 * or absent; one that had not begun is absent; the listing agrees with the reads.
 */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'

import { DeleteObjectCommand } from '@aws-sdk/client-s3'
import type { S3Client } from '@aws-sdk/client-s3'

import { ServerProcess } from '../../bench/load/server_process.js'
import { get, listAll, LONG, makeBucket, put, sdkClient } from '../e2e/clients.js'
import { cutAt, seededDraw } from './image.js'
import { Recording } from './recording.js'

const SEED = Number(process.env.OSTRAKA_SEED ?? Date.now() % 1_000_000)
const CUTS = LONG ? 200 : 10
const WRITERS = 4
const KEYS_PER_WRITER = 6
const ROUNDS = 12
const DRIVES = ['d1', 'd2', 'd3', 'd4']
const ARGS = ['--workers', '1']

const recording = new Recording()
const draw = seededDraw(SEED)
after(() => {
  recording.remove()
})

/** One write to a key: where the trace stood when it began and when it was acknowledged; '' is a delete. */
interface Write {
  began: number
  acknowledged: number
  digest: string
}

const history = new Map<string, Write[]>()

function digestOf(data: Uint8Array): string {
  return createHash('sha256').update(data).digest('hex')
}

/** Its keys belong to this writer alone, so that its writes to a key come one after the other. */
async function writer(client: S3Client, number: number): Promise<void> {
  for (let round = 0; round < ROUNDS; round++) {
    const key = `writer ${String(number)}/key ${String(draw(KEYS_PER_WRITER))}`
    const writes = history.get(key) ?? []
    history.set(key, writes)
    const write: Write = { began: recording.position(), acknowledged: Infinity, digest: '' }
    writes.push(write)
    if (draw(5) === 0) await client.send(new DeleteObjectCommand({ Bucket: 'cuts', Key: key }))
    else {
      const body = randomBytes([0, 1, 700, 4096, 70_000, 1_300_000][draw(6)] ?? 0)
      write.digest = digestOf(body)
      await put(client, 'cuts', key, body)
    }
    write.acknowledged = recording.position()
  }
}

async function record(): Promise<number> {
  const drives = DRIVES.map((name) => recording.makeDirectory(name))
  const env = recording.environment()
  let bucketMade = 0
  for (const end of ['SIGKILL', 'SIGTERM'] as const) {
    const server = await ServerProcess.start({ drives, env, args: ARGS })
    const client = sdkClient(server)
    try {
      if (bucketMade === 0) {
        await makeBucket(client, 'cuts')
        bucketMade = recording.position()
      }
      await Promise.all(Array.from({ length: WRITERS }, (_, number) => writer(client, number)))
    } finally {
      client.destroy()
      await server.stop(end)
    }
  }
  return bucketMade
}

/** What a key may hold after a cut: the last acknowledged write, or any that had begun since. */
function allowed(writes: readonly Write[], cut: number): Set<string> {
  const begun = writes.filter((write) => write.began <= cut)
  const last = begun.findLastIndex((write) => write.acknowledged <= cut)
  return new Set([begun[last]?.digest ?? '', ...begun.slice(last + 1).map((write) => write.digest)])
}

async function check(cut: number, image: string): Promise<void> {
  const server = await ServerProcess.start({ drives: DRIVES.map((name) => join(image, name)), args: ARGS })
  const client = sdkClient(server)
  try {
    const listed = new Set(await listAll(client, 'cuts'))
    for (const [key, writes] of history) {
      const found = listed.has(key) ? digestOf(await get(client, 'cuts', key)) : ''
      const right = allowed(writes, cut).has(found)
      assert.ok(right, `${key} at cut ${String(cut)}: ${found === '' ? 'absent' : 'wrong bytes'}`)
      listed.delete(key)
    }
    assert.deepEqual([...listed], [], 'nothing is listed that was never written')
  } finally {
    client.destroy()
    await server.stop()
  }
}

test(`after a power cut at any system call, what was acknowledged is there (seed ${String(SEED)})`, async (t) => {
  const bucketMade = await record()
  const trace = recording.trace()
  t.diagnostic(`trace of ${String(trace.bytes.length)} bytes, the bucket was there at ${String(bucketMade)}`)
  for (let round = 0; round < CUTS; round++) {
    // The last cut is after everything: only what no sync covers may be lost.
    const span = trace.bytes.length - bucketMade
    const cut = round === CUTS - 1 ? trace.bytes.length : bucketMade + Math.floor((draw(1_000_000) / 1_000_000) * span)
    const image = mkdtempSync(join(recording.directory, 'image-'))
    cutAt(trace, cut, image, draw)
    await check(cut, image)
    rmSync(image, { recursive: true })
  }
})
