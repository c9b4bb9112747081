import assert from 'node:assert/strict'
import {
  closeSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { after, describe, it } from 'node:test'
import { plainDurability } from '../../ts/meta/drive_files.js'
import { MetadataError } from '../../ts/meta/engine.js'
import { LmdbView } from '../../ts/meta/lmdb_view.js'
import { verifyView } from '../../ts/meta/verify.js'
import { randomInteger, seededRandom } from '../../ts/util/random.js'
import { dataId, Machine, machineWithBucket, part, putObject } from './support.js'

const SEED = Number(process.env.OSTRAKA_TEST_SEED ?? randomInteger(Math.random, 2 ** 31))
const CUTS = process.env.OSTRAKA_TEST_LONG === undefined ? 40 : 1000
const SECTOR = 512
const root = mkdtempSync(`${tmpdir()}/ostraka-lmdb-`)
after(() => {
  rmSync(root, { recursive: true, force: true })
})

/** Random puts and deletes over few keys, so that pages are freed and used again. */
function change(machine: Machine, random: () => number, batches: number): void {
  for (let at = 0; at < batches; at++) {
    machine.batch(
      Array.from({ length: 1 + randomInteger(random, 8) }, () => {
        const key = `key-${String(randomInteger(random, 300))}`
        if (random() < 0.4) return { command: { kind: 'deleteObject', bucketId: 1, key } }
        return { command: putObject(1, key, part(dataId(1), 10), 'e'.repeat(1 + randomInteger(random, 3000))) }
      }),
    )
  }
}

describe('LMDB view', () => {
  it(`is after a power cut what the last flush made durable, whatever sectors the medium kept (seed ${String(SEED)})`, async () => {
    const random = seededRandom(SEED)
    const path = `${root}/view`
    const view = LmdbView.create(plainDurability(path))
    const machine = machineWithBucket(view)
    for (let cut = 0; cut < CUTS; cut++) {
      change(machine, random, randomInteger(random, 20))
      await view.flush(machine.index)
      const { digest } = verifyView(view)
      const durable = readFileSync(`${path}/data.mdb`)
      change(machine, random, randomInteger(random, 40))
      const live = readFileSync(`${path}/data.mdb`)
      // Every sector is what it was at the sync or what was written since; the file may have grown or not.
      const image = Buffer.from(random() < 0.5 ? live : live.subarray(0, durable.length))
      const newer = random()
      for (let at = 0; at < durable.length; at += SECTOR) {
        if (random() >= newer) durable.copy(image, at, at, at + SECTOR)
      }
      const after = `${root}/after`
      rmSync(after, { recursive: true, force: true })
      mkdirSync(after)
      writeFileSync(`${after}/data.mdb`, image)
      cpSync(`${path}/flushed`, `${after}/flushed`)
      const again = LmdbView.open(plainDurability(after))
      assert.equal(verifyView(again).digest, digest, `cut ${String(cut)}`)
      // It can be written on.
      const next = Object.assign(Object.create(Machine.prototype) as Machine, {
        view: again,
        index: again.flushedPosition,
      })
      change(next, random, 3)
      verifyView(again)
      await again.close()
    }
    await view.close()
  })

  it('refuses a view that was never flushed, or whose flushed state is damaged', async () => {
    const path = `${root}/refused`
    const view = LmdbView.create(plainDurability(path))
    const machine = machineWithBucket(view)
    assert.throws(() => LmdbView.recover(path), MetadataError)
    await view.flush(machine.index)
    await view.close()
    assert.equal(LmdbView.recover(path), machine.index)
    const file = openSync(`${path}/flushed`, 'r+')
    writeSync(file, Buffer.of(99), 0, 1, 100)
    closeSync(file)
    assert.throws(() => LmdbView.recover(path), MetadataError)
    assert.ok(existsSync(`${path}/data.mdb`))
  })

  it('keeps a snapshot as it was while the view changes', async () => {
    const view = LmdbView.create(plainDurability(`${root}/snapshot`))
    const machine = machineWithBucket(view)
    change(machine, seededRandom(SEED), 10)
    const before = verifyView(view)
    const snapshot = view.snapshot()
    change(machine, seededRandom(SEED + 1), 20)
    await new Promise((resolve) => setTimeout(resolve, 5))
    assert.deepEqual(verifyView(snapshot), before)
    assert.notEqual(verifyView(view).digest, before.digest)
    snapshot.release()
    await view.close()
  })

  it('is written back while it grows, one time after the other, and no worse for a time that fails', async () => {
    const asked: ((error?: Error) => void)[] = []
    const view = LmdbView.create({
      ...plainDurability(`${root}/back`),
      writeBack: (name) => {
        assert.equal(name, 'data.mdb')
        return new Promise((resolve, reject) => {
          asked.push((error) => { if (error === undefined) resolve(); else reject(error) })
        })
      },
    })
    const machine = machineWithBucket(view)
    const grow = (): void => { change(machine, seededRandom(SEED), 300) }
    change(machine, seededRandom(SEED), 1)
    assert.equal(asked.length, 0, 'little is left to the next flush')
    grow()
    assert.equal(asked.length, 1)
    asked[0]?.(new Error('the drive is busy'))
    await new Promise((resolve) => { setImmediate(resolve) })
    grow()
    assert.equal(asked.length, 2)
    await view.flush(machine.index)
    asked[1]?.()
    await view.close()
    assert.equal(LmdbView.recover(`${root}/back`), machine.index)
  })
})
