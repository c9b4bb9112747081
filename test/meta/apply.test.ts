import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, it } from 'node:test'
import { crc32 } from 'node:zlib'
import type { Command } from '../../ts/meta/command.js'
import { verifyView } from '../../ts/meta/verify.js'
import { crc32c, crc64nvme } from '../../ts/native/hash.js'
import { crcCombine } from '../../ts/util/crc_combine.js'
import { ATTRIBUTES, createBucket, dataId, Machine, machineWithBucket, part, putObject } from './support.js'

const MIB = 1 << 20

function createUpload(key: string, uploadId: string): Command {
  return { kind: 'createUpload', bucketId: 1, key, uploadId, ownerId: 'owner', nowMs: 2, attributes: ATTRIBUTES }
}

function complete(
  key: string,
  uploadId: string,
  parts: { partNumber: number; etag: string }[],
): Command & { kind: 'completeUpload' } {
  return {
    kind: 'completeUpload',
    bucketId: 1,
    key,
    uploadId,
    versionId: 'null',
    nowMs: 9,
    parts,
    minPartSize: 5 * MIB,
  }
}

const hexOf = (fill: number): string => Buffer.alloc(16, fill).toString('hex')

describe('apply: buckets', () => {
  it('gives every bucket its own id, and never the id of a deleted one', () => {
    const machine = new Machine()
    assert.equal(machine.ok(createBucket('a')).bucketId, 1)
    machine.ok({ kind: 'deleteBucket', name: 'a' })
    assert.equal(machine.ok(createBucket('a')).bucketId, 2)
    assert.equal(machine.refused(createBucket('a')), 'BucketAlreadyOwnedByYou')
    assert.equal(machine.refused(createBucket('a', 'other')), 'BucketAlreadyExists')
    assert.equal(machine.refused({ kind: 'deleteBucket', name: 'x' }), 'NoSuchBucket')
  })

  it('keeps a bucket that holds objects, and aborts the open uploads of one that is deleted', () => {
    const machine = machineWithBucket()
    machine.ok(putObject(1, 'k'))
    assert.equal(machine.refused({ kind: 'deleteBucket', name: 'b' }), 'BucketNotEmpty')
    machine.ok({ kind: 'deleteObject', bucketId: 1, key: 'k' })
    machine.ok(createUpload('u', 'id'))
    machine.ok({
      kind: 'putPart',
      bucketId: 1,
      key: 'u',
      uploadId: 'id',
      partNumber: 1,
      nowMs: 3,
      part: part(dataId(1), 10),
    })
    machine.ok({ kind: 'deleteBucket', name: 'b' })
    assert.equal(machine.reader.garbage(10).length, 1)
    assert.equal(machine.reader.counts().buckets, 0)
  })
})

describe('apply: objects and data ids', () => {
  it('replaces an object, hands the old part to the collector, and counts', () => {
    const machine = machineWithBucket()
    const first = dataId(1)
    machine.ok(putObject(1, 'k', part(first, 100)))
    machine.ok(putObject(1, 'k', part(dataId(1), 30)))
    assert.deepEqual(machine.reader.garbage(10).map((entry) => entry.dataId), [first])
    assert.deepEqual(machine.reader.garbage(10)[0]?.drives, [1, 2, 3, 4])
    assert.equal(machine.reader.owner(1, first), undefined)
    assert.equal(machine.reader.bucket('b')?.byteCount, 30)
    assert.deepEqual(machine.reader.counts(), { garbage: 1, heals: 0, objects: 1, bytes: 30, buckets: 1 })
  })

  it('refuses data ids of fenced and unknown epochs and collects what they carried', () => {
    const machine = machineWithBucket()
    machine.ok({ kind: 'fenceEpochs', epochs: [1] })
    assert.equal(machine.refused(putObject(1, 'k', part(dataId(1), 5))), 'EpochFenced')
    assert.equal(machine.refused(putObject(1, 'k', part(dataId(77), 5))), 'EpochFenced')
    assert.equal(machine.reader.garbage(10).length, 2)
    assert.equal(machine.reader.object(1, 'k'), undefined)
  })

  it('lets a data id be owned once, and never collects it for a command that came twice', () => {
    const machine = machineWithBucket()
    const id = dataId(1)
    machine.ok(putObject(1, 'k', part(id, 5)))
    assert.equal(machine.refused(putObject(1, 'k', part(id, 5))), 'Conflict')
    assert.equal(machine.reader.garbage(10).length, 0)
    machine.ok({ kind: 'deleteObject', bucketId: 1, key: 'k' })
    assert.equal(machine.refused(putObject(1, 'k', part(id, 5))), 'Conflict')
    assert.equal(machine.reader.garbage(10).length, 1)
    const [entry] = machine.reader.garbage(1)
    assert.ok(entry)
    assert.equal(machine.ok({ kind: 'collected', entries: [entry] }).count, 1)
    assert.deepEqual(machine.reader.garbage(10), [])
  })

  it('checks conditions in apply', () => {
    const machine = machineWithBucket()
    const put = putObject(1, 'k', undefined, 'one')
    assert.equal(machine.refused({ ...put, condition: { ifMatch: 'one' } }), 'NoSuchKey')
    machine.ok({ ...put, condition: { ifNoneMatch: '*' } })
    assert.equal(machine.refused({ ...put, condition: { ifNoneMatch: '*' } }), 'PreconditionFailed')
    assert.equal(machine.refused({ ...put, condition: { ifMatch: 'two' } }), 'PreconditionFailed')
    machine.ok({ ...put, condition: { ifMatch: 'one' } })
    assert.equal(
      machine.refused({ kind: 'deleteObject', bucketId: 1, key: 'k', condition: { ifMatch: 'two' } }),
      'PreconditionFailed',
    )
    assert.equal(machine.ok({ kind: 'deleteObject', bucketId: 1, key: 'k', condition: { ifMatch: '*' } }).count, 1)
    assert.equal(machine.ok({ kind: 'deleteObject', bucketId: 1, key: 'k' }).count, 0)
  })

  it('answers a request id with the first result, also within one batch', () => {
    const machine = machineWithBucket()
    const command = createBucket('once')
    const [first, second] = machine.batch([{ command, requestId: 'r' }, { command, requestId: 'r' }])
    assert.deepEqual(second, first)
    assert.deepEqual(machine.propose(command, 'r'), first)
    assert.equal(machine.refused(command), 'BucketAlreadyOwnedByYou')
  })

  it('forgets request ids after a day', () => {
    const machine = machineWithBucket()
    machine.batch([{ command: createBucket('x'), requestId: 'r' }], 1000)
    machine.batch([{ command: createBucket('y'), requestId: 's' }], 1000 + 25 * 3600 * 1000)
    assert.equal(machine.propose(createBucket('x'), 'r').ok, false)
  })

  it('refuses a command that makes no sense instead of failing', () => {
    const machine = machineWithBucket()
    const command = { ...putObject(1, 'k', part(dataId(1), 5)), part: { size: 0 } } as unknown as Command
    assert.equal(machine.refused(command), 'InvalidRequest')
    assert.equal(machine.refused({ kind: 'deleteObjects', bucketId: 1 } as unknown as Command), 'InvalidRequest')
    verifyView(machine.view)
  })

  it('keeps keys out that could not be told from other records', () => {
    const machine = machineWithBucket()
    machine.ok(putObject(1, 'a'))
    for (const key of ['', 'a\0', '\0', 'x'.repeat(1025)]) {
      assert.equal(machine.refused(putObject(1, key)), 'InvalidRequest')
      assert.equal(machine.refused(createUpload(key, 'id')), 'InvalidRequest')
    }
    machine.ok(putObject(1, 'x'.repeat(1024)))
    const query = { bucketId: 1, delimiter: '', after: '', limit: 10 }
    assert.deepEqual(machine.reader.list({ ...query, prefix: 'a\0\x10' }).entries, [])
    assert.equal(machine.reader.list({ ...query, prefix: '', after: 'a\0\x10' }).entries.length, 1)
    assert.equal(machine.reader.object(1, 'a\0'), undefined)
    assert.equal(machine.reader.object(1, ''), undefined)
  })

  it('queues a heal for positions that were never written, and ends it when they are healed', () => {
    const machine = machineWithBucket()
    const id = dataId(1)
    const record = part(id, 5)
    machine.ok(putObject(1, 'k', { ...record, location: { ...record.location, drives: [1, 0, 3, 0] } }))
    assert.deepEqual(machine.reader.heals(5)[0]?.shards, [1, 3])
    machine.ok({ kind: 'healed', set: 1, dataId: id, shards: [{ shard: 1, drive: 9 }], left: [3] })
    assert.deepEqual(machine.reader.heals(5)[0]?.shards, [3])
    machine.ok({ kind: 'healed', set: 1, dataId: id, shards: [{ shard: 3, drive: 8 }], left: [] })
    assert.deepEqual(machine.reader.heals(5), [])
    const body = machine.reader.object(1, 'k')?.body
    assert.deepEqual(body?.kind === 'part' && body.part.location.drives, [1, 9, 3, 8])
    assert.equal(machine.reader.counts().heals, 0)
  })
})

describe('apply: multipart uploads', () => {
  function withParts(sizes: number[]): Machine {
    const machine = machineWithBucket()
    machine.ok(createUpload('k', 'id'))
    for (const [at, size] of sizes.entries()) {
      const number = at + 1
      machine.ok({
        kind: 'putPart',
        bucketId: 1,
        key: 'k',
        uploadId: 'id',
        partNumber: number,
        nowMs: 3,
        part: part(dataId(1), size, number),
      })
    }
    return machine
  }
  const named = (...numbers: number[]): { partNumber: number; etag: string }[] =>
    numbers.map((partNumber) => ({ partNumber, etag: hexOf(partNumber) }))

  it('completes, leaves parts out, and answers a retry identically', () => {
    const machine = withParts([5 * MIB, 6 * MIB, 7])
    const done = machine.ok(complete('k', 'id', named(1, 3)))
    const md5 = createHash('md5').update(Buffer.alloc(16, 1)).update(Buffer.alloc(16, 3)).digest('hex')
    assert.equal(done.etag, `${md5}-2`)
    assert.equal(done.size, 5 * MIB + 7)
    assert.deepEqual(machine.ok({ ...complete('k', 'id', named(1, 3)), nowMs: 99 }), done)
    assert.equal(machine.refused(complete('k', 'id', named(1))), 'NoSuchUpload')
    assert.equal(machine.reader.garbage(9).length, 1)
    assert.deepEqual(machine.reader.parts(1, 'k', 'id', 0, 9).map((p) => p.partNumber), [1, 3])
    assert.equal(machine.reader.bucket('b')?.uploadCount, 0)
    machine.ok({ kind: 'deleteObject', bucketId: 1, key: 'k' })
    assert.equal(machine.reader.garbage(9).length, 3)
    assert.deepEqual(machine.ok(complete('k', 'id', named(1, 3))), done)
    assert.equal(machine.ok({ kind: 'expireUploads', beforeMs: 10, limit: 5 }).count, 1)
    assert.equal(machine.refused(complete('k', 'id', named(1, 3))), 'NoSuchUpload')
  })

  it('checks order, existence, ETags, sizes and expectations', () => {
    const machine = withParts([5 * MIB, 7, 8])
    assert.equal(machine.refused(complete('k', 'id', named(2, 1))), 'InvalidPartOrder')
    assert.equal(machine.refused(complete('k', 'id', named(1, 1))), 'InvalidPartOrder')
    assert.equal(machine.refused(complete('k', 'id', named(1, 4))), 'InvalidPart')
    assert.equal(machine.refused(complete('k', 'id', [{ partNumber: 1, etag: hexOf(2) }])), 'InvalidPart')
    assert.equal(machine.refused(complete('k', 'id', named(1, 2, 3))), 'EntityTooSmall')
    assert.equal(machine.refused({ ...complete('k', 'id', named(1)), expectedSize: 3 }), 'InvalidRequest')
    assert.equal(machine.refused({ ...complete('k', 'id', named(1)), condition: { ifMatch: 'x' } }), 'NoSuchKey')
    assert.equal(machine.ok({ kind: 'abortUpload', bucketId: 1, key: 'k', uploadId: 'id' }).count, undefined)
    assert.equal(machine.refused(complete('k', 'id', named(1))), 'NoSuchUpload')
    assert.equal(machine.reader.garbage(9).length, 3)
  })

  it('collects a part that was uploaded again', () => {
    const machine = withParts([5])
    const again = part(dataId(1), 9, 1)
    machine.ok({ kind: 'putPart', bucketId: 1, key: 'k', uploadId: 'id', partNumber: 1, nowMs: 3, part: again })
    assert.equal(machine.reader.garbage(9).length, 1)
    assert.equal(machine.ok(complete('k', 'id', named(1))).size, 9)
  })

  it('computes full-object and composite checksums and compares them', () => {
    const pieces = [Buffer.alloc(5 * MIB, 'a'), Buffer.alloc(12345, 'b')]
    const crc = (bytes: Uint8Array): Buffer => {
      const out = Buffer.alloc(4)
      out.writeUInt32BE(crc32(bytes))
      return out
    }
    for (const type of ['FULL_OBJECT', 'COMPOSITE'] as const) {
      const machine = machineWithBucket()
      machine.ok({
        ...(createUpload('k', 'id') as Command & { kind: 'createUpload' }),
        checksumAlgorithm: 'CRC32',
        checksumType: type,
      })
      for (const [at, piece] of pieces.entries()) {
        const record = {
          ...part(dataId(1), piece.length, at + 1),
          checksum: { algorithm: 'CRC32', type: 'FULL_OBJECT', value: crc(piece) } as const,
        }
        machine.ok({
          kind: 'putPart',
          bucketId: 1,
          key: 'k',
          uploadId: 'id',
          partNumber: at + 1,
          nowMs: 3,
          part: record,
        })
      }
      const value = crc(Buffer.concat(type === 'FULL_OBJECT' ? pieces : pieces.map(crc)))
      const wanted = { algorithm: 'CRC32', type, value } as const
      assert.equal(
        machine.refused({
          ...complete('k', 'id', named(1, 2)),
          checksum: { ...wanted, value: Buffer.alloc(4) },
        }),
        'BadDigest',
      )
      const done = machine.ok({ ...complete('k', 'id', named(1, 2)), checksum: wanted })
      assert.deepEqual(Buffer.from(done.checksum?.value ?? []), value)
    }
  })

  it('completes and deletes 10,000 parts without quadratic work', () => {
    const machine = machineWithBucket()
    machine.ok(createUpload('k', 'id'))
    const numbers = Array.from({ length: 10_000 }, (_, at) => at + 1)
    for (let at = 0; at < numbers.length; at += 500) {
      machine.batch(
        numbers.slice(at, at + 500).map((partNumber) => ({
          command: {
            kind: 'putPart',
            bucketId: 1,
            key: 'k',
            uploadId: 'id',
            partNumber,
            nowMs: 3,
            part: part(dataId(1), 5 * MIB, 1),
          },
        })),
      )
    }
    const done = machine.ok(complete('k', 'id', numbers.map((partNumber) => ({ partNumber, etag: hexOf(1) }))))
    assert.equal(done.size, 10_000 * 5 * MIB)
    const body = machine.reader.object(1, 'k')?.body
    assert.ok(body?.kind === 'parts')
    assert.equal(body.marks.length, 157)
    assert.deepEqual(body.marks[2], { ordinal: 128, partNumber: 129, offset: 128 * 5 * MIB })
    machine.ok({ kind: 'deleteObject', bucketId: 1, key: 'k' })
    assert.equal(machine.reader.counts().garbage, 10_000)
    verifyView(machine.view)
  })
})

describe('crcCombine', () => {
  it('gives the CRC of the concatenation for all three CRCs and any lengths', () => {
    const pieces = [0, 1, 7, 255, 65536, 3].map((size, at) => Buffer.alloc(size, at + 17))
    const whole = Buffer.concat(pieces)
    const four = (value: number): Buffer => Buffer.of(value >>> 24, value >>> 16, value >>> 8, value)
    const eight = (value: bigint): Buffer => {
      const out = Buffer.alloc(8)
      out.writeBigUInt64BE(value)
      return out
    }
    const kinds = [
      ['CRC32', (b: Buffer) => four(crc32(b))],
      ['CRC32C', (b: Buffer) => four(crc32c(b))],
      ['CRC64NVME', (b: Buffer) => eight(crc64nvme(b))],
    ] as const
    for (const [kind, crc] of kinds) {
      const sums = pieces.map((piece) => ({ value: crc(piece), size: piece.length }))
      assert.deepEqual(Buffer.from(crcCombine(kind, sums)), crc(whole), kind)
    }
  })
})
