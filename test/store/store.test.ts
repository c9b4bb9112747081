import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MetadataError } from '../../ts/meta/engine.js'
import type { ByteRange, PutResult } from '../../ts/store/object_store.js'
import { S3Error, type S3ErrorCode } from '../../ts/store/errors.js'
import { toHex } from '../../ts/store/digests.js'
import { md5Hex, randomBody, readAll, TestBody } from '../support/bodies.js'
import { PLAIN, SimulatedStore } from '../support/simulated_store.js'

const bucket = 'bucket'

async function start(options: Partial<Parameters<typeof SimulatedStore.create>[0]> = {}): Promise<SimulatedStore> {
  const sim = await SimulatedStore.create({ seed: 11, ...options })
  await sim.run(sim.store.createBucket(bucket, 'owner', 'eu'))
  return sim
}

function put(sim: SimulatedStore, key: string, body: Uint8Array, more: object = {}): Promise<PutResult> {
  const request = { bucket, key, ownerId: 'owner', body: new TestBody(body), attributes: PLAIN, ...more }
  return sim.run(sim.store.putObject(request))
}

async function get(sim: SimulatedStore, key: string, offset = 0, length?: number): Promise<Buffer> {
  const handle = sim.store.openObject(bucket, key)
  try {
    const range = { offset, length: length ?? handle.object.size - offset }
    return await sim.run(readAll(handle.read(range)))
  } finally {
    handle.release()
  }
}

function fails(code: S3ErrorCode): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof S3Error, String(error))
    assert.equal(error.code, code)
    return true
  }
}

test('objects of every size class read back, whole and by range, with their digests', async () => {
  const sim = await start()
  for (const size of [0, 1, 100, 4095, 4096, 4097, 50_000]) {
    const body = randomBody(sim.random, size)
    const result = await put(sim, `size-${String(size)}`, body)
    assert.equal(result.etag, md5Hex(body))
    assert.equal(result.checksum?.algorithm, 'CRC64NVME')
    assert.deepEqual(await get(sim, `size-${String(size)}`), body)
    if (size > 10) assert.deepEqual(await get(sim, `size-${String(size)}`, 7, size - 9), body.subarray(7, size - 2))
  }
  assert.equal(sim.board.oldest(), Infinity)
})

test('overwriting replaces, deleting is idempotent, and collection leaves no shard of what is gone', async () => {
  const sim = await start()
  const body = randomBody(sim.random, 9000)
  await put(sim, 'a', randomBody(sim.random, 5000))
  await put(sim, 'a', body)
  assert.deepEqual(await get(sim, 'a'), body)
  await sim.runJob(sim.background.collector)
  assert.equal(sim.shards(1).size, 1)
  await sim.run(sim.store.deleteObject(bucket, 'a'))
  await sim.run(sim.store.deleteObject(bucket, 'a'))
  assert.throws(() => sim.store.openObject(bucket, 'a'), fails('NoSuchKey'))
  await sim.runJob(sim.background.collector)
  for (const number of sim.drives.keys()) assert.equal(sim.shards(number).size, 0)
  assert.equal(sim.reader.counts().garbage, 0)
})

test('an open handle keeps the shards of a deleted object until it is released', async () => {
  const sim = await start()
  const body = randomBody(sim.random, 9000)
  await put(sim, 'a', body)
  const handle = sim.store.openObject(bucket, 'a')
  await sim.run(sim.store.deleteObject(bucket, 'a'))
  await sim.runJob(sim.background.collector)
  assert.deepEqual(await sim.run(readAll(handle.read({ offset: 0, length: body.length }))), body)
  handle.release()
  handle.release()
  await sim.runJob(sim.background.collector)
  assert.equal(sim.shards(1).size, 0)
})

test('garbage waits for the grace time', async () => {
  const sim = await start({ background: { collector: { graceMs: 10_000 } } })
  await put(sim, 'a', randomBody(sim.random, 100))
  await sim.run(sim.store.deleteObject(bucket, 'a'))
  await sim.runJob(sim.background.collector)
  sim.clock.advance(9_000)
  await sim.runJob(sim.background.collector)
  assert.equal(sim.shards(1).size, 1)
  sim.clock.advance(3_000)
  await sim.runJob(sim.background.collector)
  assert.equal(sim.shards(1).size, 0)
})

test('conditions on writes hold, and one that fails early does not read the body', async () => {
  const sim = await start()
  const body = randomBody(sim.random, 2000)
  const { etag } = await put(sim, 'a', body, { condition: { ifNoneMatch: '*' } })
  const unread = new TestBody(body)
  unread.before = () => assert.fail('the body was read')
  const again = put(sim, 'a', body, { condition: { ifNoneMatch: '*' }, body: unread })
  await assert.rejects(again, fails('PreconditionFailed'))
  await assert.rejects(put(sim, 'a', body, { condition: { ifMatch: 'other' } }), fails('PreconditionFailed'))
  await assert.rejects(put(sim, 'b', body, { condition: { ifMatch: etag } }), fails('NoSuchKey'))
  await put(sim, 'a', randomBody(sim.random, 10), { condition: { ifMatch: etag } })
  await assert.rejects(sim.run(sim.store.deleteObject(bucket, 'a', { ifMatch: etag })), fails('PreconditionFailed'))
})

test('of two writers with If-None-Match one wins, and the shards of the other are collected', async () => {
  const sim = await start()
  const bodies = [randomBody(sim.random, 3000), randomBody(sim.random, 3001)]
  const condition = { ifNoneMatch: '*' as const }
  const requests = bodies.map((body) =>
    sim.store.putObject({ bucket, key: 'a', ownerId: 'o', body: new TestBody(body), attributes: PLAIN, condition }),
  )
  const results = await sim.run(Promise.allSettled(requests))
  assert.deepEqual(results.map((result) => result.status).sort(), ['fulfilled', 'rejected'])
  const winner = results.findIndex((result) => result.status === 'fulfilled')
  assert.deepEqual(await get(sim, 'a'), bodies[winner])
  await sim.runJob(sim.background.collector)
  assert.equal(sim.shards(1).size, 1)
})

test('a body that fails, ends early, or goes on leaves nothing behind', async () => {
  const sim = await start()
  const bytes = randomBody(sim.random, 9000)
  const failing = new TestBody(bytes)
  failing.before = (at) => {
    if (at === bytes.length) throw new S3Error('BadDigest')
  }
  await assert.rejects(put(sim, 'a', bytes, { body: failing }), fails('BadDigest'))
  await assert.rejects(put(sim, 'a', bytes, { body: new TestBody(bytes, 1500, 9001) }), fails('IncompleteBody'))
  await assert.rejects(put(sim, 'a', bytes, { body: new TestBody(bytes, 1500, 8999) }), fails('IncompleteBody'))
  await assert.rejects(put(sim, 'a', bytes, { body: new TestBody(bytes, 1500, 0) }), fails('IncompleteBody'))
  assert.throws(() => sim.store.openObject(bucket, 'a'), fails('NoSuchKey'))
  for (const number of sim.drives.keys()) {
    assert.equal(sim.shards(number).size, 0)
    assert.ok(sim.drive(number).disk.files().every(({ path }) => !path.startsWith('tmp/')))
  }
})

test('a command that was certainly not proposed takes its shards back; an unknown outcome leaves them', async () => {
  const sim = await start()
  const body = randomBody(sim.random, 100)
  await put(sim, 'first', body)
  sim.metadata.before = (command) => {
    if (command.kind === 'putObject') throw new MetadataError('overloaded', 'queue full')
  }
  await assert.rejects(put(sim, 'a', body), fails('SlowDown'))
  sim.metadata.before = (command) => {
    if (command.kind === 'putObject') throw new MetadataError('unavailable', 'no copy')
  }
  await assert.rejects(put(sim, 'a', body), fails('ServiceUnavailable'))
  assert.equal(sim.shards(1).size, 1)
  sim.metadata.before = () => undefined
  sim.metadata.loseAnswer = (command) => command.kind === 'putObject'
  await assert.rejects(put(sim, 'a', body), fails('InternalError'))
  sim.metadata.loseAnswer = () => false
  assert.deepEqual(await get(sim, 'a'), body)
})

test('a PUT whose answer was lost is told that it was applied, though its object was replaced meanwhile', async () => {
  const sim = await start({ workers: 2, unknownRetryMs: [0] })
  const request = { bucket, ownerId: 'o', attributes: PLAIN }
  const bodies = [randomBody(sim.random, 5000), randomBody(sim.random, 6000)] as const
  let answers = 0
  sim.metadata.loseAnswer = (command) => command.kind === 'putObject' && answers++ === 0
  let resume: () => void = () => undefined
  const held = new Promise<void>((holding) => {
    let attempts = 0
    sim.metadata.before = (command) => {
      if (command.kind !== 'putObject' || ++attempts !== 2) return
      holding()
      return new Promise<void>((resolve) => { resume = resolve })
    }
  })
  const first = sim.store.putObject({ ...request, key: 'a', body: new TestBody(bodies[0]) })
  await sim.run(held)
  const other = sim.workers[1] ?? assert.fail()
  await sim.run(other.store.putObject({ ...request, key: 'a', body: new TestBody(bodies[1]) }))
  await sim.runJob(sim.background.collector)
  assert.equal(sim.reader.counts().garbage, 1, 'what the retry is judged by is kept')
  resume()
  assert.equal((await sim.run(first)).etag, md5Hex(bodies[0]))
  assert.deepEqual(await get(sim, 'a'), bodies[1])
  await sim.runJob(sim.background.collector)
  assert.equal(sim.reader.counts().garbage, 0)
  assert.equal(sim.shards(1).size, 1)
  assert.equal(sim.board.oldest(), Infinity)
})

test('a PUT is unknown when its refusal was lost, and refused when none was', async () => {
  const sim = await start({ workers: 2, unknownRetryMs: [0, 0] })
  const body = randomBody(sim.random, 5000)
  const request = { bucket, ownerId: 'o', attributes: PLAIN }
  let lose = 0
  let quick = false
  sim.metadata.before = async (command) => {
    if (command.kind !== 'putObject' || command.condition === undefined || quick) return
    quick = true
    await sim.workers[1]?.store.putObject({ ...request, key: 'a', body: new TestBody(body) })
  }
  sim.metadata.loseAnswer = (command) => command.kind === 'putObject' && command.condition !== undefined && lose-- > 0
  const slow = (key: string): Promise<unknown> =>
    sim.run(sim.store.putObject({ ...request, key, body: new TestBody(body), condition: { ifNoneMatch: '*' } }))
  lose = 1
  await assert.rejects(slow('a'), fails('InternalError'))
  lose = 1
  await slow('b')
  quick = false
  await sim.run(sim.store.deleteObject(bucket, 'a'))
  await assert.rejects(slow('a'), fails('PreconditionFailed'))
  await sim.runJob(sim.background.collector)
  assert.equal(sim.shards(1).size, 2)
})

test('a writer paused for longer than any grace time between shards and command is refused and swept', async () => {
  const sim = await start({ workers: 2, epochIds: 1 })
  let resume: () => void = () => undefined
  let held = false
  sim.metadata.before = (command) => {
    if (command.kind !== 'putObject' || held) return
    held = true
    return new Promise<void>((resolve) => {
      resume = resolve
    })
  }
  const body = randomBody(sim.random, 5000)
  const request = { bucket, ownerId: 'o', attributes: PLAIN }
  const paused = sim.store.putObject({ ...request, key: 'slow', body: new TestBody(body) })
  paused.catch(() => undefined)
  const other = sim.store.putObject({ ...request, key: 'quick', body: new TestBody(body) })
  await sim.run(other)
  assert.ok(held)
  // One data id per epoch: the next writes rotate it, and the epoch of the paused writer drains.
  await put(sim, 'third', body)
  await put(sim, 'fourth', body)
  await sim.settleBackground(3)
  assert.equal(sim.shards(1).size, 3, 'the shards of the paused writer are deleted')
  resume()
  await assert.rejects(sim.run(paused), fails('ServiceUnavailable'))
  assert.throws(() => sim.store.openObject(bucket, 'slow'), fails('NoSuchKey'))
  await sim.settleBackground(2)
  for (const key of ['quick', 'third', 'fourth']) assert.deepEqual(await get(sim, key), body)
  assert.equal(sim.reader.counts().garbage, 0)
})

test('shards that wait for their command are left alone as long as their writer epoch is open', async () => {
  const sim = await start()
  let resume: () => void = () => undefined
  sim.metadata.before = (command) => {
    if (command.kind !== 'putObject') return
    return new Promise<void>((resolve) => {
      resume = resolve
    })
  }
  const body = randomBody(sim.random, 5000)
  const waiting = sim.store.putObject({ bucket, key: 'a', ownerId: 'o', body: new TestBody(body), attributes: PLAIN })
  while (sim.shards(1).size === 0) await new Promise((resolve) => setImmediate(resolve))
  await sim.settleBackground(3)
  for (const number of sim.drives.keys()) assert.equal(sim.shards(number).size, 1)
  assert.ok((sim.background.orphanSearch.progress().counters['waiting'] ?? 0) > 0)
  resume()
  await sim.run(waiting)
  assert.deepEqual(await get(sim, 'a'), body)
})

test('copying gives an independent object; copying to itself unchanged is refused', async () => {
  const sim = await start()
  const body = randomBody(sim.random, 9000)
  const attributes = { ...PLAIN, userMetadata: { colour: 'red' } }
  const { etag } = await put(sim, 'a', body, { attributes })
  const copy = (more: object): ReturnType<typeof sim.store.copyObject> =>
    sim.run(sim.store.copyObject({
      source: { bucket, key: 'a' }, bucket, key: 'b', ownerId: 'o', metadata: 'COPY', attributes: PLAIN,
      ...more,
    }))
  const result = await copy({})
  assert.equal(result.etag, etag)
  await sim.run(sim.store.deleteObject(bucket, 'a'))
  await sim.runJob(sim.background.collector)
  assert.deepEqual(await get(sim, 'b'), body)
  const handle = sim.store.openObject(bucket, 'b')
  assert.deepEqual(handle.object.attributes.userMetadata, { colour: 'red' })
  handle.release()
  const itself = { source: { bucket, key: 'b' }, key: 'b' }
  await assert.rejects(copy(itself), fails('InvalidRequest'))
  await copy({ ...itself, metadata: 'REPLACE', attributes: { ...PLAIN, userMetadata: { colour: 'blue' } } })
  assert.deepEqual(await get(sim, 'b'), body)
  const source = { bucket, key: 'b' }
  await assert.rejects(copy({ source: { ...source, ifMatch: ['x'] }, key: 'c' }), fails('PreconditionFailed'))
  await assert.rejects(copy({ source: { ...source, ifNoneMatch: [etag] }, key: 'c' }), fails('PreconditionFailed'))
  await copy({ source: { ...source, ifMatch: ['x', etag], ifUnmodifiedSinceMs: 0 }, key: 'c' })
  await assert.rejects(copy({ source: { ...source, ifUnmodifiedSinceMs: 0 }, key: 'd' }), fails('PreconditionFailed'))
  await assert.rejects(copy({ source: { bucket, key: 'none' } }), fails('NoSuchKey'))
  assert.equal(sim.board.oldest(), Infinity)
})

test('a multipart upload: parts in any order, re-uploaded, left out; ranges; retries of completion', async () => {
  const sim = await start()
  const upload = await sim.run(sim.store.createUpload({ bucket, key: 'big', ownerId: 'o', attributes: PLAIN }))
  const { uploadId } = upload
  const bodies = new Map<number, Buffer>()
  const uploadPart = (partNumber: number, body: Buffer): ReturnType<typeof sim.store.uploadPart> =>
    sim.run(sim.store.uploadPart({ bucket, key: 'big', uploadId, partNumber, body: new TestBody(body) }))
  for (let i = 150; i >= 1; i--) {
    const body = randomBody(sim.random, 1000 + i)
    bodies.set(i, body)
    await uploadPart(i, body)
  }
  const replaced = randomBody(sim.random, 1234)
  bodies.set(5, replaced)
  await uploadPart(5, replaced)
  bodies.delete(7)
  bodies.set(200, Buffer.alloc(0))
  await uploadPart(200, Buffer.alloc(0))
  const numbers = [...bodies.keys()].sort((a, b) => a - b)
  const parts = numbers.map((partNumber) => ({ partNumber, etag: md5Hex(bodies.get(partNumber)!) }))
  assert.equal(sim.store.listParts(bucket, 'big', uploadId, 0, 1000).length, 151)
  const complete = (): ReturnType<typeof sim.store.completeUpload> =>
    sim.run(sim.store.completeUpload({ bucket, key: 'big', uploadId, parts }))
  const wrong = parts.map((part) => (part.partNumber === 3 ? { ...part, etag: '0'.repeat(32) } : part))
  await assert.rejects(
    sim.run(sim.store.completeUpload({ bucket, key: 'big', uploadId, parts: wrong })), fails('InvalidPart'))
  const first = await complete()
  const second = await complete()
  assert.deepEqual({ ...second, modifiedMs: 0 }, { ...first, modifiedMs: 0 })
  assert.match(first.etag, /^[0-9a-f]{32}-150$/)
  const whole = Buffer.concat(numbers.map((number) => bodies.get(number)!))
  assert.equal(first.size, whole.length)
  assert.deepEqual(await get(sim, 'big'), whole)
  for (let i = 0; i < 20; i++) {
    const offset = Math.floor(sim.random() * whole.length)
    const length = Math.floor(sim.random() * Math.min(5000, whole.length - offset))
    assert.deepEqual(await get(sim, 'big', offset, length), whole.subarray(offset, offset + length))
  }
  const handle = sim.store.openObject(bucket, 'big')
  assert.equal(handle.partCount, 150)
  let offset = 0
  for (const [ordinal, number] of numbers.entries()) {
    const size = bodies.get(number)!.length
    const part = handle.part(ordinal)!
    assert.deepEqual(part.range, { offset, length: size })
    offset += size
  }
  assert.equal(handle.part(150), undefined)
  const reading = handle.read({ offset: 0, length: whole.length })
  await sim.run(sim.store.deleteObject(bucket, 'big'))
  await sim.runJob(sim.background.collector)
  assert.deepEqual(await sim.run(readAll(reading)), whole, 'a read that has begun goes on')
  sim.store.buckets()
  // The thread's snapshot has moved on: a new read of the old object is refused, not mixed.
  assert.throws(() => handle.read({ offset: 0, length: 1 }), fails('ServiceUnavailable'))
  handle.release()
  await sim.runJob(sim.background.collector)
  assert.equal(sim.shards(1).size, 0)
  assert.equal(sim.reader.counts().garbage, 0)
})

test('uploads that are absent, aborted or completed are refused before the body is read', async () => {
  const sim = await start()
  const upload = { bucket, key: 'k', ownerId: 'o', attributes: PLAIN }
  const { uploadId } = await sim.run(sim.store.createUpload(upload))
  const part = (id: string, partNumber = 1): Promise<unknown> => {
    const body = new TestBody(Buffer.from('x'))
    body.before = () => assert.fail('the body was read')
    return sim.run(sim.store.uploadPart({ bucket, key: 'k', uploadId: id, partNumber, body }))
  }
  await assert.rejects(part('nothing'), fails('NoSuchUpload'))
  await assert.rejects(part(uploadId.replace(/.$/, 'x')), fails('NoSuchUpload'))
  await assert.rejects(part(uploadId, 0), fails('InvalidArgument'))
  await assert.rejects(part(uploadId, 10_001), fails('InvalidArgument'))
  const request = { bucket, key: 'k', uploadId, partNumber: 2, body: new TestBody(Buffer.from('y')) }
  await sim.run(sim.store.uploadPart(request))
  await sim.run(sim.store.abortUpload(bucket, 'k', uploadId))
  await assert.rejects(part(uploadId), fails('NoSuchUpload'))
  await assert.rejects(sim.run(sim.store.abortUpload(bucket, 'k', uploadId)), fails('NoSuchUpload'))
  await sim.runJob(sim.background.collector)
  assert.equal(sim.shards(1).size, 0)
})

test('UploadPartCopy takes a range of its source', async () => {
  const sim = await start()
  const body = randomBody(sim.random, 20_000)
  await put(sim, 'source', body)
  const upload = { bucket, key: 'k', ownerId: 'o', attributes: PLAIN }
  const { uploadId } = await sim.run(sim.store.createUpload(upload))
  const copy = (partNumber: number, range?: ByteRange): ReturnType<typeof sim.store.uploadPartCopy> =>
    sim.run(sim.store.uploadPartCopy({
      bucket, key: 'k', uploadId, partNumber, source: { bucket, key: 'source' }, ...(range && { range }),
    }))
  const a = await copy(1, { offset: 5000, length: 7000 })
  const b = await copy(2)
  await assert.rejects(copy(3, { offset: 15_000, length: 5001 }), fails('InvalidRange'))
  const parts = [a, b].map((part, i) => ({ partNumber: i + 1, etag: toHex(part.md5) }))
  await sim.run(sim.store.completeUpload({ bucket, key: 'k', uploadId, parts }))
  assert.deepEqual(await get(sim, 'k'), Buffer.concat([body.subarray(5000, 12_000), body]))
})

test('buckets: names, owners, emptiness', async () => {
  const sim = await start()
  const { store } = sim
  await assert.rejects(sim.run(store.createBucket('A', 'owner', '')), fails('InvalidBucketName'))
  await assert.rejects(sim.run(store.createBucket(bucket, 'owner', '')), fails('BucketAlreadyOwnedByYou'))
  await assert.rejects(sim.run(store.createBucket(bucket, 'other', '')), fails('BucketAlreadyExists'))
  await put(sim, 'a', Buffer.from('x'))
  await assert.rejects(sim.run(store.deleteBucket(bucket)), fails('BucketNotEmpty'))
  assert.deepEqual(
    await sim.run(store.deleteObjects(bucket, [{ key: 'a' }, { key: 'none' }, { key: '\u0000' }])),
    [{ key: 'a' }, { key: 'none' }, { key: '\u0000' }])
  await sim.run(store.deleteBucket(bucket))
  assert.throws(() => store.bucket(bucket), fails('NoSuchBucket'))
  assert.throws(() => store.openObject(bucket, 'a'), fails('NoSuchBucket'))
  await assert.rejects(put(sim, 'a', Buffer.from('x')), fails('NoSuchBucket'))
  assert.deepEqual(store.buckets(), [])
})

test('more than one set: parts spread over all, and stay readable by any worker', async () => {
  const sim = await start({ sets: 3, workers: 2, k: 2, m: 1 })
  const bodies = new Map<string, Buffer>()
  for (let i = 0; i < 60; i++) {
    bodies.set(`k${String(i)}`, randomBody(sim.random, 100 + i))
    await put(sim, `k${String(i)}`, bodies.get(`k${String(i)}`)!)
  }
  const used = new Set(sim.locations().map((location) => location.set))
  assert.deepEqual([...used].sort(), [0, 1, 2])
  for (const [key, body] of bodies) {
    const handle = sim.worker(1).store.openObject(bucket, key)
    assert.deepEqual(await sim.run(readAll(handle.read({ offset: 0, length: body.length }))), body)
    handle.release()
  }
})

test('writes go to another set when the chosen one lacks quorum, and fail cleanly when all do', async () => {
  const sim = await start({ sets: 2, k: 2, m: 1 })
  const body = randomBody(sim.random, 500)
  sim.lose(1)
  sim.lose(2)
  for (let i = 0; i < 20; i++) await put(sim, `k${String(i)}`, body)
  assert.ok(sim.locations().every((location) => location.set === 1))
  sim.lose(4)
  sim.lose(5)
  await assert.rejects(put(sim, 'x', body), fails('ServiceUnavailable'))
  assert.ok(sim.store.openObject(bucket, 'k1').object.size === 500)
})
