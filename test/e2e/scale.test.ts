import assert from 'node:assert/strict'
import { test } from 'node:test'

import {
  GetObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  paginateListObjectsV2,
} from '@aws-sdk/client-s3'
import type { ListObjectsV2CommandInput, S3Client } from '@aws-sdk/client-s3'
import { Upload } from '@aws-sdk/lib-storage'

import { ROOT_KEYS, ServerProcess, makeDrives } from '../../bench/load/server_process.js'
import { runGenerator } from '../../ts/cli/load/run_generator.js'
import { parseEndpoint } from '../../ts/cli/load/target.js'
import {
  LONG,
  REGION,
  makeBucket,
  patternHash,
  patternStream,
  put,
  sdkClient,
  streamHash,
} from './clients.js'

const MiB = 1 << 20

/** Largest anonymous resident memory while `work` goes on. */
async function peakMemory(server: ServerProcess, work: () => Promise<void>): Promise<number> {
  let peak = 0
  const sampler = setInterval(() => {
    peak = Math.max(peak, server.anonymousMemory())
  }, 50)
  try {
    await work()
  } finally {
    clearInterval(sampler)
  }
  return peak
}

async function withServer(work: (server: ServerProcess, s3: S3Client) => Promise<void>): Promise<void> {
  const place = makeDrives(4)
  const server = await ServerProcess.start({ drives: place.drives, args: ['--log-level', 'warn'] })
  const s3 = sdkClient(server)
  try {
    await makeBucket(s3, 'scale')
    await work(server, s3)
    s3.destroy()
    assert.deepEqual(await server.stop(), { code: 0, signal: null }, server.output)
  } finally {
    server.child.kill('SIGKILL')
    place.remove()
  }
}

const BIG = LONG ? 2048 * MiB : 200 * MiB

test(`an object of ${String(BIG / MiB)} MiB goes up and down with less than 400 MiB of memory`, async (t) => {
  await withServer(async (server, s3) => {
    const hash = patternHash(BIG)
    const peak = await peakMemory(server, async () => {
      await s3.send(
        new PutObjectCommand({ Bucket: 'scale', Key: 'big', Body: patternStream(BIG), ContentLength: BIG }),
      )
      const got = await s3.send(new GetObjectCommand({ Bucket: 'scale', Key: 'big' }))
      assert.deepEqual(await streamHash(got.Body as AsyncIterable<Uint8Array>), { hash, size: BIG })
      await new Upload({
        client: s3,
        params: { Bucket: 'scale', Key: 'parts', Body: patternStream(BIG) },
        partSize: 16 * MiB,
      }).done()
      const parts = await s3.send(new GetObjectCommand({ Bucket: 'scale', Key: 'parts' }))
      assert.deepEqual(await streamHash(parts.Body as AsyncIterable<Uint8Array>), { hash, size: BIG })
    })
    t.diagnostic(`peak ${String(Math.round(peak / MiB))} MiB`)
    assert.ok(peak < 400 * MiB, `${String(Math.round(peak / MiB))} MiB`)
  })
})

const UPLOADS = LONG ? 64 : 16

test(`${String(UPLOADS)} uploads of 64 MiB at once stay below 700 MiB of memory`, async (t) => {
  await withServer(async (server) => {
    const peak = await peakMemory(server, async () => {
      await runGenerator({
        address: parseEndpoint(server.endpoint),
        keys: { ...ROOT_KEYS, region: REGION },
        operation: 'PUT',
        bucket: 'scale',
        prefix: 'up',
        objects: UPLOADS,
        size: 64 * MiB,
        connections: UPLOADS,
        warmUpMs: 0,
        measureMs: 0,
      })
    })
    t.diagnostic(`peak ${String(Math.round(peak / MiB))} MiB`)
    assert.ok(peak < 700 * MiB, `${String(Math.round(peak / MiB))} MiB`)
  })
})

const KEYS = LONG ? 200_000 : 5_000

function keyOf(n: number): string {
  return `list/${String(n).padStart(8, '0')}`
}

async function paginate(s3: S3Client, input: Partial<ListObjectsV2CommandInput>): Promise<string[]> {
  const keys: string[] = []
  for await (const page of paginateListObjectsV2({ client: s3 }, { Bucket: 'scale', ...input })) {
    for (const object of page.Contents ?? []) keys.push(object.Key ?? '')
  }
  return keys
}

test(`a listing of ${String(KEYS)} keys is complete and in order, in every form and under writes`, async (t) => {
  await withServer(async (server, s3) => {
    await runGenerator({
      address: parseEndpoint(server.endpoint),
      keys: { ...ROOT_KEYS, region: REGION },
      operation: 'PUT',
      bucket: 'scale',
      prefix: 'list',
      objects: KEYS,
      size: 10,
      connections: 64,
      warmUpMs: 0,
      measureMs: 0,
    })
    const expected = Array.from({ length: KEYS }, (_, n) => keyOf(n))
    const started = performance.now()
    assert.deepEqual(await paginate(s3, {}), expected)
    const rate = KEYS / ((performance.now() - started) / 1000)
    t.diagnostic(`${String(Math.round(rate))} keys/s through the SDK's paginator`)
    assert.deepEqual(await paginate(s3, { StartAfter: keyOf(KEYS / 2) }), expected.slice(KEYS / 2 + 1))
    assert.deepEqual(
      await paginate(s3, { Prefix: 'list/00000' }),
      expected.filter((key) => key.startsWith('list/00000')),
    )
    const folders = await s3.send(new ListObjectsV2Command({ Bucket: 'scale', Delimiter: '/' }))
    assert.deepEqual([folders.CommonPrefixes?.map((p) => p.Prefix), folders.Contents], [['list/'], undefined])
    // Keys that come and go between those that stay must not disturb the listing of those.
    let stop = false
    const writer = (async () => {
      for (let n = 0; !stop; n++) await put(s3, 'scale', `${keyOf((n * 7919) % KEYS)}.new`, Buffer.from('x'))
    })()
    const during = await paginate(s3, {})
    stop = true
    await writer
    assert.deepEqual(
      during.filter((key) => !key.endsWith('.new')),
      expected,
    )
    assert.ok(
      during.every((key, i) => i === 0 || (during[i - 1] ?? '') < key),
      'out of order',
    )
  })
})
