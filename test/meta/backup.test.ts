import assert from 'node:assert/strict'
import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { after, describe, it } from 'node:test'
import type { MetaDrive } from '../../ts/meta/drive_files.js'
import { LocalEngine } from '../../ts/meta/local_engine.js'
import type { LocalEngineOptions } from '../../ts/meta/local_engine.js'
import { restoreBackup } from '../../ts/meta/restore.js'
import { FileIo } from './file_io.js'
import { createBucket, dataId, part, putObject } from './support.js'

const root = mkdtempSync(`${tmpdir()}/ostraka-backup-`)
after(() => {
  rmSync(root, { recursive: true, force: true })
})

function options(name: string): LocalEngineOptions {
  const drives = [1, 2, 3].map((number): MetaDrive => {
    const path = `${root}/${name}/${String(number)}`
    mkdirSync(path, { recursive: true })
    return { number, io: new FileIo(path), path }
  })
  return { drives, copies: 2, log: { fileSize: 1 << 16 }, flushEveryMs: 10 }
}

function keys(engine: LocalEngine): string[] {
  engine.reader.refresh()
  const page = engine.reader.list({ bucketId: 1, prefix: '', delimiter: '', after: '', limit: 100_000 })
  return page.entries.map((entry) => ('object' in entry ? entry.object.key : ''))
}

async function put(engine: LocalEngine, key: string): Promise<void> {
  assert.ok((await engine.propose(putObject(1, key, part(dataId(1), 10)))).ok)
}

describe('a backup of the metadata', () => {
  it('is one moment of a store that goes on, and restores to it with collection off', async () => {
    const engine = await LocalEngine.open(options('source'))
    await engine.propose({ kind: 'openEpoch', nowMs: 1, worker: 'w' })
    await engine.propose(createBucket('b'))
    await Promise.all(Array.from({ length: 300 }, (_, at) => put(engine, `before-${String(at)}`)))
    const before = keys(engine)
    const backup = engine.backup(`${root}/backup`)
    for (let at = 0; at < 10; at++) await put(engine, `after-${String(at)}`)
    const { position, records } = await backup
    assert.ok(records > 600)
    await engine.close()
    assert.equal((await restoreBackup(`${root}/backup`, options('target'))).position, position)
    const restored = await LocalEngine.open(options('target'))
    assert.deepEqual(keys(restored), before)
    assert.equal((await restored.status()).collectionEnabled, false)
    assert.deepEqual((await restored.compareCopies(() => Promise.resolve())).bad, [])
    await restored.propose({ kind: 'setCollection', enabled: true })
    await put(restored, 'new')
    await restored.close()
    await assert.rejects(restoreBackup(`${root}/backup`, options('target')), { code: 'unavailable' })
  })

  it('is refused when it is damaged or not finished', async () => {
    await assert.rejects(restoreBackup(`${root}/nothing`, options('other')), { code: 'corrupt' })
    const file = openSync(`${root}/backup/view/flushed`, 'r+')
    writeSync(file, Buffer.of(1, 2, 3), 0, 3, 30)
    closeSync(file)
    await assert.rejects(restoreBackup(`${root}/backup`, options('other')), { code: 'corrupt' })
  })
})
