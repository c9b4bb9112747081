/** A few seconds of load on the real server, by `ostraka bench` and by the benchmark suite. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { ListBucketsCommand } from '@aws-sdk/client-s3'
import { ROOT_KEYS, ServerProcess, makeDrives } from '../../bench/load/server_process.js'
import { readResult } from '../../bench/result.js'
import { sdkClient } from './clients.js'

const run = promisify(execFile)
const program = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url))

test('ostraka bench does every operation, says the figures, and leaves nothing on the server', async () => {
  const place = makeDrives(4)
  const server = await ServerProcess.start({ drives: place.drives, args: ['--log-level', 'warn'] })
  const s3 = sdkClient(server)
  const file = join(place.folder, 'figures.json')
  try {
    const env = { ...process.env, AWS_ACCESS_KEY_ID: ROOT_KEYS.accessKey, AWS_SECRET_ACCESS_KEY: ROOT_KEYS.secretKey }
    const { stdout } = await run(process.execPath, [
      program('ts/cli/main.js'), 'bench', '--endpoint', server.endpoint, '--sizes', '1KiB', '--clients', '2',
      '--operations', 'put,get,head,list,delete,mixed', '--seconds', '0.2', '--list-keys', '20', '--json', file,
    ], { env })
    const { metrics } = JSON.parse(readFileSync(file, 'utf8')) as { metrics: Record<string, number> }
    for (const name of ['put.1KiB', 'get.1KiB', 'head.1KiB', 'mixed.1KiB', 'delete.1KiB', 'list.20keys']) {
      assert.ok((metrics[`s3.${name}.2clients.ops_per_s`] ?? 0) > 0, name)
      assert.ok(stdout.includes(`${name.replace('.', ' ')} 2clients`), name)
    }
    assert.deepEqual((await s3.send(new ListBucketsCommand({}))).Buckets ?? [], [])
    await assert.rejects(
      run(process.execPath, [program('ts/cli/main.js'), 'bench', '--endpoint', server.endpoint, '--seconds', '0.1'], {
        env: { ...env, AWS_SECRET_ACCESS_KEY: 'wrong' },
      }),
      /making a bucket: 403 SignatureDoesNotMatch/,
    )
  } finally {
    s3.destroy()
    await server.stop()
    place.remove()
  }
})

test('the suite measures the real server beside a bare one and another, and removes what it made', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'ostraka-suite-'))
  const place = makeDrives(4)
  const other = await ServerProcess.start({ drives: place.drives, args: ['--log-level', 'warn'] })
  try {
    const json = join(folder, 'result.json')
    await run(process.execPath, [
      program('bench/main.js'),
      '--quick',
      '--only',
      's3',
      '--operations',
      'put,get',
      '--sizes',
      '4KiB',
      '--clients',
      '2',
      '--seconds',
      '0.2',
      '--rounds',
      '2',
      '--workers',
      '1',
      '--drives-in',
      folder,
      '--json',
      json,
      '--endpoint',
      other.endpoint,
      '--name',
      'twin',
      '--access-key',
      ROOT_KEYS.accessKey,
      '--secret-key',
      ROOT_KEYS.secretKey,
    ])
    const { metrics, spread, environment, targets } = readResult(json)
    for (const operation of ['put', 'get']) {
      for (const server of ['', '.bare', '.twin']) {
        const name = `s3.${operation}.4KiB.2clients${server}`
        assert.ok((metrics[`${name}.ops_per_s`] ?? 0) > 0, name)
        assert.ok(spread[`${name}.ops_per_s`] !== undefined, name)
      }
      assert.ok((metrics[`s3.${operation}.4KiB.2clients.percent_of_bare`] ?? 0) > 0)
    }
    assert.ok((metrics['s3.peak_anonymous_MiB'] ?? 0) > 1)
    assert.notEqual(environment.fileSystem, '')
    assert.ok(targets.every(({ section }) => section === 's3'))
    assert.deepEqual(readdirSync(folder).sort(), ['result.html', 'result.json'])
    const s3 = sdkClient(other)
    assert.deepEqual((await s3.send(new ListBucketsCommand({}))).Buckets ?? [], [])
    s3.destroy()
  } finally {
    await other.stop()
    place.remove()
    rmSync(folder, { recursive: true, force: true })
  }
})
