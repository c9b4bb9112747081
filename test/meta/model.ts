/** The metadata as plain JavaScript, to compare the real one with; and random commands over few names. */
import assert from 'node:assert/strict'
import type { Command, CommandResult } from '../../ts/meta/command.js'
import type { ListPage, ListQuery } from '../../ts/meta/reader.js'
import type { ViewReader } from '../../ts/meta/view_reader.js'
import { randomInteger } from '../../ts/util/random.js'
import type { Random } from '../../ts/util/random.js'
import { ATTRIBUTES, dataId, part, putObject } from './support.js'

const KEYS = [
  'a',
  'a/',
  'a/b',
  'a/b/c',
  'a/c',
  'a0',
  'b',
  'b//',
  'b/\u00e9',
  'b/\uffff',
  'b/\u{1f600}',
  'c',
  'c|d',
  'c|d|e',
  '\u0001',
  '\u007f/x',
]
export const BUCKETS = [1, 2]

interface ModelObject {
  etag: string
  dataIds: string[]
  size: number
}

interface ModelUpload {
  bucketId: number
  key: string
  parts: Map<number, { dataId: string; size: number; md5: string }>
}

/** Applies what the real one said it did, and says itself what must be there. */
export class Model {
  readonly objects = new Map<number, Map<string, ModelObject>>(
    BUCKETS.map((id) => [id, new Map<string, ModelObject>()]),
  )
  readonly uploads = new Map<string, ModelUpload>()
  /** What completed uploads were completed with: the same again is answered again. */
  readonly completed = new Map<string, string>()
  readonly garbage = new Set<string>()
  readonly owned = new Set<string>()

  /** Judges a result and follows it. */
  take(command: Command, result: CommandResult): void {
    switch (command.kind) {
      case 'putObject':
        return this.#put(command, result)
      case 'deleteObject':
        return this.#delete(command, result)
      case 'createUpload': {
        assert.equal(result.ok, true)
        this.uploads.set(command.uploadId, { bucketId: command.bucketId, key: command.key, parts: new Map() })
        return
      }
      case 'putPart':
        return this.#part(command, result)
      case 'completeUpload':
        return this.#complete(command, result)
      case 'abortUpload': {
        const upload = this.uploads.get(command.uploadId)
        assert.equal(result.ok, upload !== undefined)
        for (const one of upload?.parts.values() ?? []) this.#toGarbage(one.dataId)
        this.uploads.delete(command.uploadId)
        return
      }
      case 'collected': {
        assert.ok(result.ok)
        for (const { dataId: id } of command.entries) this.garbage.delete(hex(id))
        return
      }
      default:
        assert.fail(command.kind)
    }
  }

  #of(bucketId: number): Map<string, ModelObject> {
    return this.objects.get(bucketId) as Map<string, ModelObject>
  }

  #toGarbage(id: string): void {
    this.owned.delete(id)
    this.garbage.add(id)
  }

  #drop(bucketId: number, key: string): void {
    for (const id of this.#of(bucketId).get(key)?.dataIds ?? []) this.#toGarbage(id)
    this.#of(bucketId).delete(key)
  }

  #put(command: Command & { kind: 'putObject' }, result: CommandResult): void {
    const current = this.#of(command.bucketId).get(command.key)
    const { ifMatch, ifNoneMatch } = command.condition ?? {}
    const expected =
      ifNoneMatch !== undefined && current !== undefined
        ? 'PreconditionFailed'
        : ifMatch !== undefined && current === undefined
          ? 'NoSuchKey'
          : ifMatch !== undefined && ifMatch !== '*' && ifMatch !== current?.etag
            ? 'PreconditionFailed'
            : undefined
    assert.equal(result.ok ? undefined : result.refusal, expected)
    const id = command.part && hex(command.part.location.dataId)
    if (!result.ok) {
      if (id !== undefined) this.garbage.add(id)
      return
    }
    this.#drop(command.bucketId, command.key)
    if (id !== undefined) this.owned.add(id)
    this.#of(command.bucketId).set(command.key, {
      etag: command.etag,
      size: command.size,
      dataIds: id === undefined ? [] : [id],
    })
  }

  #delete(command: Command & { kind: 'deleteObject' }, result: CommandResult): void {
    const current = this.#of(command.bucketId).get(command.key)
    assert.ok(result.ok)
    assert.equal(result.value.count, current === undefined ? 0 : 1)
    this.#drop(command.bucketId, command.key)
  }

  #part(command: Command & { kind: 'putPart' }, result: CommandResult): void {
    const upload = this.uploads.get(command.uploadId)
    assert.equal(result.ok, upload !== undefined)
    const id = hex(command.part.location.dataId)
    if (upload === undefined) {
      this.garbage.add(id)
      return
    }
    const old = upload.parts.get(command.partNumber)
    if (old !== undefined) this.#toGarbage(old.dataId)
    upload.parts.set(command.partNumber, { dataId: id, size: command.part.size, md5: hex(command.part.md5) })
    this.owned.add(id)
  }

  #complete(command: Command & { kind: 'completeUpload' }, result: CommandResult): void {
    const upload = this.uploads.get(command.uploadId)
    const request = JSON.stringify(command.parts)
    if (upload === undefined && this.completed.get(command.uploadId) === request) {
      assert.ok(result.ok)
      return
    }
    const chosen = command.parts.map(({ partNumber, etag }) => {
      const one = upload?.parts.get(partNumber)
      return one?.md5 === etag ? one : undefined
    })
    const right = upload !== undefined && chosen.length > 0 && chosen.every((one) => one !== undefined)
    assert.equal(result.ok, right, JSON.stringify(result))
    if (!result.ok || upload === undefined) return
    const kept = chosen.map((one) => one?.dataId ?? '')
    for (const { dataId: id } of upload.parts.values()) if (!kept.includes(id)) this.#toGarbage(id)
    this.#drop(command.bucketId, command.key)
    const size = chosen.reduce((sum, one) => sum + (one?.size ?? 0), 0)
    assert.equal(result.value.size, size)
    this.#of(command.bucketId).set(command.key, { etag: result.value.etag ?? '', size, dataIds: kept })
    this.uploads.delete(command.uploadId)
    this.completed.set(command.uploadId, request)
  }

  /** What a listing must say. */
  list(query: ListQuery): { entries: string[]; truncated: boolean } {
    const names = [...this.#of(query.bucketId).keys()]
    const sorted = names.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
    const entries: string[] = []
    const { after } = query
    const afterIsPrefix =
      query.delimiter !== '' &&
      after.startsWith(query.prefix) &&
      after.indexOf(query.delimiter, query.prefix.length) === after.length - query.delimiter.length &&
      after.length >= query.prefix.length + query.delimiter.length
    for (const key of sorted) {
      if (!key.startsWith(query.prefix)) continue
      if (
        after !== '' &&
        (Buffer.compare(Buffer.from(key), Buffer.from(after)) <= 0 ||
          (afterIsPrefix && key.startsWith(after)))
      )
        continue
      const at = query.delimiter === '' ? -1 : key.indexOf(query.delimiter, query.prefix.length)
      const entry = at < 0 ? `= ${key}` : `/ ${key.slice(0, at + query.delimiter.length)}`
      if (entries.at(-1) !== entry) entries.push(entry)
    }
    return { entries: entries.slice(0, query.limit), truncated: entries.length > query.limit }
  }

  /** Everything that can be read agrees. */
  compare(reader: ViewReader): void {
    for (const bucketId of BUCKETS) {
      const expected = this.#of(bucketId)
      for (const key of KEYS) {
        const object = reader.object(bucketId, key)
        const model = expected.get(key)
        assert.equal(object?.etag, model?.etag, key)
        assert.equal(object?.size, model?.size)
      }
      const bucket = reader.buckets().find(({ id }) => id === bucketId)
      assert.equal(bucket?.objectCount, expected.size)
      assert.equal(
        bucket.byteCount,
        [...expected.values()].reduce((sum, { size }) => sum + size, 0),
      )
      const uploads = [...this.uploads].filter(([, upload]) => upload.bucketId === bucketId)
      assert.equal(bucket.uploadCount, uploads.length)
      const listed = reader.listUploads({
        bucketId,
        prefix: '',
        delimiter: '',
        keyMarker: '',
        uploadIdMarker: '',
        limit: 1000,
      })
      assert.deepEqual(
        listed.entries.map((entry) => ('upload' in entry ? entry.upload.uploadId : entry.prefix)).sort(),
        uploads.map(([id]) => id).sort(),
      )
    }
    assert.deepEqual(
      reader
        .garbage(100_000)
        .map((entry) => hex(entry.dataId))
        .sort(),
      [...this.garbage].sort(),
    )
    assert.deepEqual(
      reader
        .owners(1, undefined, 100_000)
        .map((entry) => hex(entry.dataId))
        .sort(),
      [...this.owned].sort(),
    )
    assert.equal(reader.counts().garbage, this.garbage.size)
  }
}

export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}

/** The entries of a page as the model writes them. */
export function shown(page: ListPage): string[] {
  return page.entries.map((entry) => ('object' in entry ? `= ${entry.object.key}` : `/ ${entry.prefix}`))
}

/** Walks all pages. */
export function listAll(reader: ViewReader, query: ListQuery): string[] {
  const entries: string[] = []
  let { after } = query
  for (;;) {
    const page = reader.list({ ...query, after })
    assert.ok(page.entries.length <= query.limit)
    entries.push(...shown(page))
    if (!page.truncated) return entries
    after = page.next
  }
}

function pick<T>(random: Random, from: readonly T[]): T {
  return from[randomInteger(random, from.length)] as T
}

export function randomQuery(random: Random): ListQuery {
  return {
    bucketId: pick(random, BUCKETS),
    prefix: pick(random, ['', '', 'a', 'a/', 'b/', 'c|', 'zz']),
    delimiter: pick(random, ['', '/', '|', '//', '/b']),
    after: pick(random, ['', '', ...KEYS, 'a/b/', 'c|', 'b/']),
    limit: 1 + randomInteger(random, 6),
  }
}

let uploadsMade = 0

/** One command that makes sense for the model, or nearly. */
export function randomCommand(random: Random, model: Model): Command {
  const bucketId = pick(random, BUCKETS)
  const key = pick(random, KEYS)
  const upload = pick(random, [
    ...model.uploads,
    ['none', { bucketId, key, parts: new Map() } satisfies ModelUpload] as const,
  ])
  const uploadId: string = upload[0]
  const parts: ModelUpload['parts'] = upload[1].parts
  const where = { bucketId: upload[1].bucketId, key: upload[1].key, uploadId }
  const chance = random()
  if (chance < 0.35) {
    const from = random() < 0.2 ? undefined : part(dataId(1), 1 + randomInteger(random, 1000))
    const current = model.objects.get(bucketId)?.get(key)?.etag
    const condition = pick(random, [
      undefined,
      undefined,
      { ifNoneMatch: '*' as const },
      { ifMatch: '*' },
      { ifMatch: current ?? 'x' },
      { ifMatch: 'x' },
    ])
    const command = putObject(bucketId, key, from, `etag-${String(randomInteger(random, 1e9))}`)
    return condition === undefined ? command : { ...command, condition }
  }
  if (chance < 0.5) return { kind: 'deleteObject', bucketId, key }
  if (chance < 0.6)
    return {
      kind: 'createUpload',
      bucketId,
      key,
      uploadId: `u${String(++uploadsMade)}`,
      ownerId: 'o',
      nowMs: 1,
      attributes: ATTRIBUTES,
    }
  if (chance < 0.8) {
    const md5 = randomInteger(random, 250)
    return {
      kind: 'putPart',
      ...where,
      partNumber: 1 + randomInteger(random, 5),
      nowMs: 2,
      part: part(dataId(1), 1 + randomInteger(random, 100), md5),
    }
  }
  if (chance < 0.9) {
    const chosen = [...parts].filter(() => random() < 0.8).sort(([a], [b]) => a - b)
    const named = chosen.map(([partNumber, { md5 }]) => ({ partNumber, etag: random() < 0.05 ? 'wrong' : md5 }))
    return { kind: 'completeUpload', ...where, versionId: 'null', nowMs: 3, parts: named, minPartSize: 0 }
  }
  if (chance < 0.95) return { kind: 'abortUpload', ...where }
  const entries = [...model.garbage].slice(0, 3)
  return {
    kind: 'collected',
    entries: entries.map((id) => ({ order: { index: 0, offset: 0 }, dataId: Buffer.from(id, 'hex') })),
  }
}
