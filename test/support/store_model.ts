/**
 * A store under random load, and a model of what it may answer. Several lanes work at the same time; each has keys of
 * its own and does one operation after the other, so the model knows what every key may hold: one value after an
 * acknowledged operation, two while an outcome is unknown (a crash, an InternalError).
 */
import assert from 'node:assert/strict'
import { S3Error } from '../../ts/store/errors.js'
import type { ObjectHandle } from '../../ts/store/object_store.js'
import type { Store } from '../../ts/store/store.js'
import { randomInteger, type Random } from '../../ts/util/random.js'
import { md5Hex, randomBody, readAll, TestBody } from './bodies.js'
import { PLAIN, type SimulatedStore } from './simulated_store.js'

export const MODEL_BUCKET = 'model'
const KEYS_PER_LANE = 4

/** undefined: absent. */
type Value = Buffer | undefined

interface ModelUpload {
  key: string
  uploadId: string
  parts: Map<number, Buffer>
}

/** True for errors after which the operation certainly changed nothing. */
function changedNothing(error: unknown): boolean {
  return error instanceof S3Error && error.code !== 'InternalError'
}

export class StoreModel {
  readonly sim: SimulatedStore
  readonly #random: Random
  readonly #lanes: number
  /** What each key may hold. */
  readonly possible = new Map<string, Value[]>()
  readonly uploads: (ModelUpload | undefined)[] = []
  /** Changes when the process does: lanes of an older life stop. */
  #life = 0
  operations = 0
  /** Operations that failed, by S3 code. */
  readonly failures = new Map<string, number>()
  maxBody = 9000

  constructor(sim: SimulatedStore, lanes: number) {
    this.sim = sim
    this.#random = sim.random
    this.#lanes = lanes
    for (let lane = 0; lane < lanes; lane++) {
      for (let i = 0; i < KEYS_PER_LANE; i++) this.possible.set(`lane-${String(lane)}/key-${String(i)}`, [undefined])
    }
  }

  async start(): Promise<void> {
    await this.sim.run(this.sim.store.createBucket(MODEL_BUCKET, 'owner', 'r'))
  }

  /** Random operations in all lanes until each has done `count`, or the life ends. */
  async load(count: number): Promise<void> {
    const life = this.#life
    await Promise.all(
      Array.from({ length: this.#lanes }, async (_, lane) => {
        for (let i = 0; i < count && life === this.#life; i++) await this.#operation(lane, life)
      }),
    )
  }

  /** The process is gone. */
  endLife(): void {
    this.#life++
  }

  /** Checks every key against the model, the listing against the keys, and settles what was unknown. */
  async check(): Promise<void> {
    const { store } = this.sim
    const present: string[] = []
    for (const [key, values] of this.possible) {
      const found = await this.#read(store, key)
      const match = values.findIndex((value) => same(value, found))
      const sizes = values.map((value) => (value === undefined ? 'absent' : String(value.length)))
      const held = found === undefined ? 'nothing' : `${String(found.length)} bytes`
      assert.ok(match >= 0, `${key} holds ${held}, not ${sizes.join(' or ')}`)
      this.possible.set(key, [found])
      if (found !== undefined) present.push(key)
    }
    assert.deepEqual(this.#list(store), present.sort())
    this.#checkDelimited(store, present)
    const record = store.bucket(MODEL_BUCKET)
    const bytes = [...this.possible.values()].reduce((sum, [value]) => sum + (value?.length ?? 0), 0)
    assert.equal(record.objectCount, present.length)
    assert.equal(record.byteCount, bytes)
  }

  /** Ends all uploads, after checking that their acknowledged parts are there. */
  async endUploads(): Promise<void> {
    const { store } = this.sim
    for (const upload of this.uploads) {
      if (upload === undefined) continue
      const listed = store.listParts(MODEL_BUCKET, upload.key, upload.uploadId, 0, 1000)
      for (const [number, body] of upload.parts) {
        const part = listed.find(({ partNumber }) => partNumber === number)
        assert.equal(Buffer.from(part!.md5).toString('hex'), md5Hex(body))
      }
    }
    this.uploads.length = 0
    const query = { prefix: '', delimiter: '', keyMarker: '', uploadIdMarker: '', limit: 1000 }
    for (const entry of store.listUploads(MODEL_BUCKET, query).entries) {
      if (!('upload' in entry)) continue
      await this.sim.run(store.abortUpload(MODEL_BUCKET, entry.upload.key, entry.upload.uploadId))
    }
  }

  /** Exactly the shards that metadata places are on the drives, all of them good. */
  async checkDrives(): Promise<void> {
    const { sim } = this
    const expected = new Map<number, Set<string>>()
    for (const location of sim.locations()) {
      const id = Buffer.from(location.dataId).toString('hex')
      for (const drive of location.drives) {
        assert.notEqual(drive, 0, 'a shard was never healed')
        expected.set(drive, (expected.get(drive) ?? new Set()).add(id))
      }
      if (location.drives.length === 0) continue
      const damage = await sim.run(sim.worker().sets.get(location.set)!.verify(location, { medium: true }))
      assert.equal(damage, undefined, 'a shard is bad')
    }
    for (const { number } of sim.members()) {
      const held = [...sim.shards(number).keys()].sort()
      assert.deepEqual(held, [...(expected.get(number) ?? [])].sort(), `shards of drive ${String(number)}`)
    }
    const { garbage, heals } = sim.reader.counts()
    assert.deepEqual({ garbage, heals }, { garbage: 0, heals: 0 })
  }

  #list(store: Store): string[] {
    const keys: string[] = []
    let after = ''
    for (;;) {
      const limit = 1 + randomInteger(this.#random, 5)
      const page = store.listObjects(MODEL_BUCKET, { prefix: '', delimiter: '', after, limit })
      for (const entry of page.entries) if ('object' in entry) keys.push(entry.object.key)
      if (!page.truncated) return keys
      after = page.next
    }
  }

  /** The listing by delimiter: every lane with a key once, in order, page by page. */
  #checkDelimited(store: Store, present: readonly string[]): void {
    const prefixes: string[] = []
    let after = ''
    for (;;) {
      const page = store.listObjects(MODEL_BUCKET, { prefix: 'lane-', delimiter: '/', after, limit: 1 })
      for (const entry of page.entries) if ('prefix' in entry) prefixes.push(entry.prefix)
      if (!page.truncated) break
      after = page.next
    }
    const lanes = new Set(present.map((key) => key.slice(0, key.indexOf('/') + 1)))
    assert.deepEqual(prefixes, [...lanes].sort())
  }

  async #read(store: Store, key: string): Promise<Value> {
    let handle: ObjectHandle
    try {
      handle = store.openObject(MODEL_BUCKET, key)
    } catch (error) {
      if (error instanceof S3Error && error.code === 'NoSuchKey') return undefined
      throw error
    }
    try {
      const body = await this.sim.run(readAll(handle.read({ offset: 0, length: handle.object.size })))
      if (handle.object.body.kind !== 'parts') assert.equal(handle.object.etag, md5Hex(body))
      return body
    } finally {
      handle.release()
    }
  }

  async #operation(lane: number, life: number): Promise<void> {
    this.operations++
    const { workers } = this.sim
    const store = workers[randomInteger(this.#random, workers.length)]!.store
    const key = `lane-${String(lane)}/key-${String(randomInteger(this.#random, KEYS_PER_LANE))}`
    const choice = randomInteger(this.#random, 10)
    try {
      if (choice < 4) await this.#put(store, key, life)
      else if (choice < 6) await this.#delete(store, key, life)
      else if (choice === 6) await this.#copy(store, lane, key, life)
      else if (choice === 7) await this.#get(store, key, life)
      else await this.#multipart(store, lane, key, life)
    } catch (error) {
      if (!(error instanceof S3Error)) throw error
      this.failures.set(error.code, (this.failures.get(error.code) ?? 0) + 1)
    }
  }

  /** Runs a change of one key and keeps the model right, whatever becomes of it. */
  async #change(key: string, next: Value, life: number, act: () => Promise<unknown>): Promise<void> {
    const before = this.possible.get(key)!
    // Until it is acknowledged both may be found.
    this.possible.set(key, [...before, next])
    try {
      await act()
      if (life === this.#life) this.possible.set(key, [next])
    } catch (error) {
      if (life === this.#life && changedNothing(error)) this.possible.set(key, before)
      throw error
    }
  }

  #body(): Buffer {
    const size = randomInteger(this.#random, 6) === 0 ? 0 : randomInteger(this.#random, this.maxBody)
    return randomBody(this.#random, size)
  }

  #put(store: Store, key: string, life: number): Promise<void> {
    const body = this.#body()
    const request = { bucket: MODEL_BUCKET, key, ownerId: 'o', body: new TestBody(body), attributes: PLAIN }
    return this.#change(key, body, life, () => store.putObject(request))
  }

  #delete(store: Store, key: string, life: number): Promise<void> {
    if (randomInteger(this.#random, 2) === 0) {
      return this.#change(key, undefined, life, () => store.deleteObjects(MODEL_BUCKET, [{ key }]))
    }
    return this.#change(key, undefined, life, () => store.deleteObject(MODEL_BUCKET, key))
  }

  async #copy(store: Store, lane: number, key: string, life: number): Promise<void> {
    const from = `lane-${String(lane)}/key-${String(randomInteger(this.#random, KEYS_PER_LANE))}`
    const values = this.possible.get(from)!
    const value = values[0]
    if (values.length !== 1 || value === undefined) return
    const source = { bucket: MODEL_BUCKET, key: from }
    const request = { source, bucket: MODEL_BUCKET, key, ownerId: 'o', metadata: 'REPLACE' as const, attributes: PLAIN }
    await this.#change(key, value, life, () => store.copyObject(request))
  }

  async #get(store: Store, key: string, life: number): Promise<void> {
    const values = this.possible.get(key)!
    let handle: ObjectHandle | undefined
    try {
      handle = store.openObject(MODEL_BUCKET, key)
      const { size } = handle.object
      const offset = randomInteger(this.#random, size + 1)
      const length = randomInteger(this.#random, size - offset + 1)
      const found = await readAll(handle.read({ offset, length }))
      const right = values.some(
        (value) => value?.length === size && value.subarray(offset, offset + length).equals(found),
      )
      assert.ok(right || life !== this.#life, `wrong bytes of ${key}`)
    } catch (error) {
      const absent = error instanceof S3Error && error.code === 'NoSuchKey'
      if (!absent) throw error
      assert.ok(values.includes(undefined) || life !== this.#life, `${key} is gone`)
    } finally {
      handle?.release()
    }
  }

  async #multipart(store: Store, lane: number, key: string, life: number): Promise<void> {
    const upload = this.uploads[lane]
    if (upload === undefined) {
      const request = { bucket: MODEL_BUCKET, key, ownerId: 'o', attributes: PLAIN }
      const { uploadId } = await store.createUpload(request)
      if (life === this.#life) this.uploads[lane] = { key, uploadId, parts: new Map() }
      return
    }
    const { uploadId, parts } = upload
    if (parts.size < 3 && randomInteger(this.#random, 8) > 0) {
      const partNumber = 1 + randomInteger(this.#random, 5)
      const body = randomBody(this.#random, 1000 + randomInteger(this.#random, 4000))
      // While it is under way, or after an unknown outcome, this part number holds nobody knows what.
      parts.delete(partNumber)
      const request = { bucket: MODEL_BUCKET, key: upload.key, uploadId, partNumber, body: new TestBody(body) }
      await store.uploadPart(request)
      if (life === this.#life) parts.set(partNumber, body)
      return
    }
    this.uploads[lane] = undefined
    if (parts.size === 0 || randomInteger(this.#random, 5) === 0) {
      await store.abortUpload(MODEL_BUCKET, upload.key, uploadId)
      return
    }
    const numbers = [...parts.keys()].sort((a, b) => a - b)
    const whole = Buffer.concat(numbers.map((number) => parts.get(number)!))
    const named = numbers.map((partNumber) => ({ partNumber, etag: md5Hex(parts.get(partNumber)!) }))
    const request = { bucket: MODEL_BUCKET, key: upload.key, uploadId, parts: named }
    await this.#change(upload.key, whole, life, () => store.completeUpload(request))
  }
}

function same(a: Value, b: Value): boolean {
  return a === undefined || b === undefined ? a === b : a.equals(b)
}
