/**
 * The package for npm, made and installed as its users install it: offline, without install scripts, and with nothing
 * but node on the PATH. Needs the package registry (or what an earlier run kept of it) to prime npm's cache once.
 */
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, realpathSync } from 'node:fs'
import { rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'

import { ServerProcess } from '../../bench/load/server_process.js'
import { get, makeBucket, put, randomBody, sdkClient } from './clients.js'

const root = fileURLToPath(new URL('../../../', import.meta.url))
const here = `linux-${process.arch}`
const machines: Readonly<Record<string, number>> = { x64: 62, arm64: 183 }

let work = ''
let tarball = ''
/** The tarball's folder `package/`, unpacked, with the repository's dependencies beside it. */
let unpacked = ''
/** A folder with node and nothing else, for the PATH. */
let nodeOnly = ''

before(() => {
  work = mkdtempSync(join(tmpdir(), 'ostraka-package-'))
  const made = execFileSync(process.execPath, [join(root, 'scripts', 'package.mjs'), '--as-built'], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  tarball = made.trim().split('\n').at(-1) ?? ''
  // In a folder of its own: npm takes a folder above that has node_modules for the one to install into.
  mkdirSync(join(work, 'unpacked'))
  execFileSync('tar', ['-xzf', tarball, '-C', join(work, 'unpacked')])
  unpacked = join(work, 'unpacked', 'package')
  symlinkSync(realpathSync(join(root, 'node_modules')), join(work, 'unpacked', 'node_modules'))
  nodeOnly = join(work, 'bin')
  mkdirSync(nodeOnly)
  symlinkSync(process.execPath, join(nodeOnly, 'node'))
})

after(() => {
  rmSync(work, { recursive: true, force: true })
})

function onPath(name: string): string | undefined {
  const folders = (process.env.PATH ?? '').split(delimiter)
  return folders.map((folder) => join(folder, name)).find((path) => existsSync(path))
}

function filesBelow(folder: string, prefix = ''): string[] {
  return readdirSync(join(folder, prefix), { withFileTypes: true }).flatMap((entry) => {
    const name = prefix === '' ? entry.name : `${prefix}/${entry.name}`
    return entry.isDirectory() ? filesBelow(folder, name) : [name]
  })
}

interface Manifest {
  scripts?: Record<string, string>
  devDependencies?: unknown
  version: string
  bin: Record<string, string>
}

function manifestOf(folder: string): Manifest {
  return JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Manifest
}

test('the tarball holds what is needed to run and nothing else', () => {
  const files = filesBelow(unpacked)
  const alone = ['LICENSE', 'README.md', 'THIRD_PARTY_LICENCES.md', 'package.json']
  const wanted = /^dist\/ts\/[\w/]+\.js$|^prebuilds\/linux-(x64|arm64)\/ostraka\.(glibc|musl)\.node$/
  assert.deepEqual(
    files.filter((name) => !wanted.test(name) && !alone.includes(name)),
    [],
  )
  for (const name of [...alone, 'dist/ts/cli/main.js']) assert.ok(files.includes(name), name)
  assert.ok(files.some((name) => name.startsWith(`prebuilds/${here}/`)))
  const manifest = manifestOf(unpacked)
  assert.equal(manifest.scripts, undefined)
  assert.equal(manifest.devDependencies, undefined)
  assert.deepEqual(manifest.bin, { ostraka: 'dist/ts/cli/main.js' })
  const licences = readFileSync(join(unpacked, 'THIRD_PARTY_LICENCES.md'), 'utf8')
  for (const name of ['isa-l', 'zstd', 'xxhash', 'node-addon-api']) assert.match(licences, new RegExp(`^## ${name} `, 'm'))
})

test('each binary is for the processor that its folder names', () => {
  for (const platform of readdirSync(join(unpacked, 'prebuilds'))) {
    for (const file of readdirSync(join(unpacked, 'prebuilds', platform))) {
      const head = readFileSync(join(unpacked, 'prebuilds', platform, file)).subarray(0, 20)
      assert.equal(head.subarray(0, 4).toString('latin1'), '\x7fELF')
      assert.equal(head.readUInt16LE(18), machines[platform.replace('linux-', '')], `${platform}/${file}`)
    }
  }
})

/** Loads a binary and uses it, in one line whose numbers are the same on every processor. */
const exercise = `
  const addon = require(process.argv[1]);
  const text = Buffer.from('123456789');
  const again = addon.zstdDecompress(addon.zstdCompress(Buffer.alloc(100000, 7), 3), 200000);
  const data = [0, 1, 2, 3].map((n) => Buffer.alloc(4096, n + 1));
  const parity = [Buffer.alloc(4096), Buffer.alloc(4096)];
  addon.encode(4, 2, 4096, data, parity);
  const slab = Buffer.alloc(12 * 4112, 5);
  addon.sealStripe(slab, 8, 4, 4096, 4112, Buffer.alloc(16, 1), 3);
  const large = Buffer.alloc(1000000, 'large');
  const state = Buffer.alloc(88);
  const digest = Buffer.alloc(16);
  addon.md5Start(state);
  addon.md5Update([state], [large]);
  addon.md5Digest(state, digest);
  const sums = [Buffer.concat(parity), slab, large].map((bytes) => addon.xxh3_64(bytes, 0n).toString(16));
  const crcs = [addon.crc32c(text, 0), addon.crc32c(large, 0), addon.crc64nvme(large, 0n)];
  console.log(addon.erasureKernel(4, 2), again.length, ...sums, ...crcs, digest.toString('hex'));`

function exerciseUnder(command: readonly string[], binary: string): string {
  const [program = '', ...before] = command
  const { status, stdout, stderr } = spawnSync(program, [...before, '-e', exercise, binary], { encoding: 'utf8' })
  assert.equal(status, 0, stderr)
  return stdout.trim()
}

function binaryFor(platform: string): string | undefined {
  const folder = join(unpacked, 'prebuilds', platform)
  const file = existsSync(folder) ? readdirSync(folder)[0] : undefined
  return file === undefined ? undefined : join(folder, file)
}

test('the x64 binary runs on a processor without any of the newer instructions', (context) => {
  const emulator = onPath('qemu-x86_64')
  const binary = binaryFor('linux-x64')
  if (process.arch !== 'x64' || emulator === undefined || binary === undefined) {
    context.skip('needs x64 and qemu-x86_64 (Debian package qemu-user)')
    return
  }
  const expected = exerciseUnder([process.execPath], binary).replace(/^\w+/, 'portable')
  assert.equal(exerciseUnder([emulator, '-cpu', 'qemu64', process.execPath], binary), expected)
})

test('the arm64 binary computes what the one of this machine does', (context) => {
  // The Node for arm64 is named by OSTRAKA_ARM64_NODE; without one, only the kind of file is checked (above).
  const node = process.env.OSTRAKA_ARM64_NODE
  const [emulator, binary, own] = [onPath('qemu-aarch64'), binaryFor('linux-arm64'), binaryFor(here)]
  if (node === undefined || emulator === undefined || binary === undefined || own === undefined) {
    context.skip('needs OSTRAKA_ARM64_NODE (a Node for arm64) and qemu-aarch64')
    return
  }
  const expected = exerciseUnder([process.execPath], own).replace(/^\w+/, 'neon')
  assert.equal(exerciseUnder([emulator, '-L', '/usr/aarch64-linux-gnu', node], binary), expected)
})

/** What `ostraka --version` says in a process that `hook` makes believe it runs elsewhere. */
function versionElsewhere(hook: string): { status: number | null; stderr: string } {
  const file = join(work, 'hook.cjs')
  writeFileSync(file, hook)
  const main = join(unpacked, 'dist', 'ts', 'cli', 'main.js')
  return spawnSync(process.execPath, ['--require', file, main, '--version'], { encoding: 'utf8' })
}

function assertAdvice({ status, stderr }: { status: number | null; stderr: string }, parts: readonly RegExp[]): void {
  assert.equal(status, 1, stderr)
  assert.doesNotMatch(stderr, /^\s+at /m)
  for (const part of parts) assert.match(stderr, part)
}

test('a processor without a binary is told what there is and how to build one', () => {
  const there = versionElsewhere(`Object.defineProperty(process, 'arch', { value: 'riscv64' })`)
  const brings = new RegExp(`brings it for: .*${here} \\(glibc\\)`)
  assertAdvice(there, [/missing for linux-riscv64 with glibc/, brings, /npm run build/, /g\+\+ 12/, /npm run package/])
})

test('a musl system is told that the binaries are for glibc', () => {
  const node = join(work, 'musl-node')
  writeFileSync(node, '\x7fELF /lib/ld-musl-x86_64.so.1')
  const there = versionElsewhere(`process.execPath = ${JSON.stringify(node)}`)
  assertAdvice(there, [new RegExp(`missing for ${here} with musl`), /ostraka\.musl\.node/, /npm run build/])
})

test('a system that is not Linux is told so', () => {
  const there = versionElsewhere(`Object.defineProperty(process, 'platform', { value: 'darwin' })`)
  assertAdvice(there, [/missing for darwin-/, /run it on Linux/])
})

test('a binary that does not load is said with the reason and what to do', () => {
  const folder = join(work, 'unpacked', 'damaged')
  cpSync(unpacked, folder, { recursive: true })
  for (const name of readdirSync(join(folder, 'prebuilds', here))) {
    writeFileSync(join(folder, 'prebuilds', here, name), 'not a binary')
  }
  const main = join(folder, 'dist', 'ts', 'cli', 'main.js')
  const there = spawnSync(process.execPath, [main, '--version'], { encoding: 'utf8' })
  assertAdvice(there, [/does not load on linux-/, /npm run build/])
})

test('a missing binary of the database is said with what to do', () => {
  const hook = `require('node:module')._load = new Proxy(require('node:module')._load, {
    apply(load, self, args) {
      if (/lmdb.*\\.node$/.test(args[0])) throw Object.assign(new Error('too old'), { code: 'ERR_DLOPEN_FAILED' });
      return Reflect.apply(load, self, args);
    },
  })`
  assertAdvice(versionElsewhere(hook), [/lmdb package .* does not load here: too old/, /glibc 2\.34/])
})

function npm(args: readonly string[], cwd: string, path: string): ReturnType<typeof spawnSync> {
  const beside = join(dirname(process.execPath), 'npm')
  const program = realpathSync(existsSync(beside) ? beside : (onPath('npm') ?? 'npm'))
  const quiet = ['--no-audit', '--no-fund', '--no-update-notifier', '--fetch-retries=0', '--fetch-timeout=60000']
  return spawnSync(process.execPath, [program, ...args, ...quiet], {
    ...{ cwd, encoding: 'utf8', timeout: 120_000 },
    env: { ...process.env, PATH: path },
  })
}

/** Makes npm's cache hold what the package asks for; says why not where that cannot be done. */
function primeCache(cache: string): string | undefined {
  const folder = join(work, 'primed')
  mkdirSync(folder)
  const options = ['--ignore-scripts', '--prefer-offline', '--cache', cache]
  const { status, stderr } = npm(['install', ...options, tarball], folder, process.env.PATH ?? '')
  if (status === 0) return undefined
  const reason = String(stderr)
  const unreachable = /ENOTFOUND|ECONNREFUSED|EAI_AGAIN|ETIMEDOUT|ECONNRESET|ENETUNREACH|ENOTCACHED|network/
  assert.match(reason, unreachable, 'priming failed for another reason than the network')
  return `the package registry cannot be reached: ${reason.split('\n')[0]}`
}

test('installed offline without scripts or compilers, it serves and stores an object', async (context) => {
  const cache = join(root, '.cache', 'npm')
  const hindrance = primeCache(cache)
  if (hindrance !== undefined) {
    context.skip(hindrance)
    return
  }
  const folder = join(work, 'empty')
  mkdirSync(folder)
  const installed = npm(['install', '--offline', '--ignore-scripts', '--cache', cache, tarball], folder, nodeOnly)
  assert.equal(installed.status, 0, String(installed.stderr))

  const withScript = filesBelow(join(folder, 'node_modules'))
    .filter((name) => /^(@[^/]+\/)?[^/]+\/package\.json$/.test(name))
    .filter((name) => manifestOf(join(folder, 'node_modules', dirname(name))).scripts?.install !== undefined)
  // Both look for a platform package first, which npm installs without a script.
  assert.deepEqual(withScript, ['lmdb/package.json', 'msgpackr-extract/package.json'])

  const env = { PATH: nodeOnly, HOME: folder }
  const command = join(folder, 'node_modules', '.bin', 'ostraka')
  const version = spawnSync(command, ['--version'], { encoding: 'utf8', env })
  assert.equal(version.stdout.trim(), manifestOf(root).version, version.stderr)

  const drives = [1, 2, 3, 4].map((number) => join(folder, 'drives', String(number)))
  for (const drive of drives) mkdirSync(drive, { recursive: true })
  const server = await ServerProcess.start({ drives, env, main: realpathSync(command) })
  try {
    const client = sdkClient(server)
    const body = randomBody(300_000)
    await makeBucket(client, 'first')
    await put(client, 'first', 'object', body)
    assert.ok(body.equals(await get(client, 'first', 'object')))
    client.destroy()
  } finally {
    assert.deepEqual(await server.stop(), { code: 0, signal: null })
  }
})
