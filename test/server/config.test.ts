import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'

import fc from 'fast-check'

import { settingsTable } from '../../ts/server/config/docs.js'
import { expandDrivePatterns } from '../../ts/server/config/drive_patterns.js'
import { ConfigError, loadConfig } from '../../ts/server/config/load.js'
import { flagOf, settings, variableOf } from '../../ts/server/config/settings.js'
import type { Config, Setting } from '../../ts/server/config/settings.js'
import { nearest } from '../../ts/server/config/suggest.js'
import { duration, showDuration, showSize, size } from '../../ts/server/config/units.js'

const folder = mkdtempSync(join(tmpdir(), 'ostraka-config-'))
after(() => { rmSync(folder, { recursive: true, force: true }) })

function yamlFile(text: string): string {
  const file = join(folder, `${String(Math.random()).slice(2)}.yaml`)
  writeFileSync(file, text)
  return file
}

function problemsOf(sources: {
  flags?: Record<string, string>
  env?: Record<string, string>
  file?: string
}): readonly string[] {
  try {
    loadConfig({
      flags: sources.flags ?? {},
      env: sources.env ?? {},
      ...(sources.file === undefined ? {} : { file: sources.file }),
    })
  } catch (error) {
    assert.ok(error instanceof ConfigError)
    return error.problems
  }
  return []
}

test('without any source every setting has its default', () => {
  const { config, origins } = loadConfig({ flags: {}, env: {} })
  assert.deepEqual(config.listen, { host: '127.0.0.1', port: 9000 })
  assert.equal(config.drives, '')
  assert.ok(Object.isFrozen(config))
  assert.deepEqual(new Set(Object.values(origins)), new Set(['default']))
})

test('a flag goes before a variable, a variable before YAML, YAML before the default', () => {
  const file = yamlFile('region: from-yaml\nworkers: 3\nlisten: 0.0.0.0:1\n')
  const { config, origins } = loadConfig({
    flags: { listen: '0.0.0.0:3' },
    env: { OSTRAKA_LISTEN: '0.0.0.0:2', OSTRAKA_WORKERS: '2' },
    file,
  })
  assert.equal(config.listen.port, 3)
  assert.equal(config.workers, 2)
  assert.equal(config.region, 'from-yaml')
  assert.deepEqual([origins.listen, origins.workers, origins.region], ['--listen', 'OSTRAKA_WORKERS', file])
})

test('YAML may nest keys or dot them, and may give lists', () => {
  const nested = loadConfig({
    flags: {},
    env: {},
    file: yamlFile('metadata:\n  copies: 2\ndrives: [/a, "/b{1...2}"]\n'),
  })
  assert.equal(nested.config.metadataCopies, 2)
  assert.equal(nested.config.drives, '/a,/b{1...2}')
  const dotted = loadConfig({ flags: {}, env: {}, file: yamlFile('metadata.copies: 2\n') })
  assert.equal(dotted.config.metadataCopies, 2)
})

test('a wrong value is reported with its key, source, expectation and what was given', () => {
  const [problem] = problemsOf({ env: { OSTRAKA_WORKERS: 'many' } })
  assert.equal(
    problem,
    'workers (from OSTRAKA_WORKERS): expected auto, or a whole number from 1 to 64, was given "many"',
  )
})

test('every setting refuses a value of no meaning and none echoes a secret', () => {
  for (const name of Object.keys(settings) as (keyof Config)[]) {
    const setting: Setting<unknown> = settings[name]
    const bad = 'no\0sense'
    const [problem] = problemsOf({ flags: { [flagOf(setting)]: bad } })
    assert.ok(
      problem !== undefined && problem.startsWith(`${setting.key} (from --${flagOf(setting)}): expected `),
      setting.key,
    )
    if (setting.secret === true) assert.ok(!problem.includes('sense'))
  }
})

test('all problems are reported at once', () => {
  const file = yamlFile('regoin: x\nlimits:\n  memory: tiny\n')
  const problems = problemsOf({ flags: { listen: 'here' }, env: { OSTRAKA_PARTIY: '1' }, file })
  assert.equal(problems.length, 4, problems.join('\n'))
})

test('unknown names are refused, with the near miss named', () => {
  const file = yamlFile('limits:\n  memroy: 64MiB\n')
  assert.match(problemsOf({ file })[0] ?? '', /unknown key limits\.memroy .*did you mean limits\.memory\?/)
  assert.match(problemsOf({ env: { OSTRAKA_DRIVE: '/a' } })[0] ?? '', /did you mean OSTRAKA_DRIVES\?/)
  assert.equal(nearest('zzzzzzz', ['drives', 'listen']), undefined)
})

test('unreadable, malformed, bomb-like and non-mapping YAML is refused', () => {
  assert.match(problemsOf({ file: join(folder, 'absent.yaml') })[0] ?? '', /cannot be read/)
  assert.match(problemsOf({ file: yamlFile('a: [1') })[0] ?? '', /not valid YAML/)
  assert.match(problemsOf({ file: yamlFile('- a\n- b\n') })[0] ?? '', /expected a mapping/)
  assert.match(problemsOf({ file: yamlFile('region: a\nregion: b\n') })[0] ?? '', /not valid YAML/)
  assert.match(problemsOf({ file: yamlFile('region: &a x\nlisten: *a\n') })[0] ?? '', /\.yaml cannot be used: Alias/)
})

test('one half of the root credentials is refused', () => {
  assert.match(problemsOf({ env: { OSTRAKA_ROOT_ACCESS_KEY: 'someone' } })[0] ?? '', /without root\.secret-key/)
  assert.match(problemsOf({ env: { OSTRAKA_ROOT_SECRET_KEY: 'something' } })[0] ?? '', /without root\.access-key/)
})

test('a set size must divide the number of drives', () => {
  assert.match(
    problemsOf({ flags: { drives: '/d{1...8}', 'set-size': '3' } })[0] ?? '',
    /divisor of the number of drives \(8\)/,
  )
  assert.deepEqual(problemsOf({ flags: { drives: '/d{1...8}', 'set-size': '4' } }), [])
})

test('drive patterns expand ranges, padding, products and lists', () => {
  assert.deepEqual(expandDrivePatterns('/mnt/disk{1...3}'), ['/mnt/disk1', '/mnt/disk2', '/mnt/disk3'])
  assert.deepEqual(expandDrivePatterns('/d{08...10}'), ['/d08', '/d09', '/d10'])
  assert.deepEqual(expandDrivePatterns('/a{1...2}/b{1...2},/c'), ['/a1/b1', '/a1/b2', '/a2/b1', '/a2/b2', '/c'])
})

test('bad drive patterns are refused', () => {
  for (const bad of [
    '',
    '/a,',
    '/a{1..3}',
    '/a{3...1}',
    '/a{',
    '/a}',
    '/a{1...9999}',
    '/a,/a',
    '/a{1...100}{1...100}',
  ]) {
    assert.throws(() => expandDrivePatterns(bad), Error, bad)
  }
})

test('a range of any bounds gives as many drives as it spans, all different', () => {
  fc.assert(
    fc.property(fc.nat(5000), fc.nat(300), (from, count) => {
      const drives = expandDrivePatterns(`/d{${String(from)}...${String(from + count)}}`)
      assert.equal(new Set(drives).size, count + 1)
      assert.equal(drives.at(-1), `/d${String(from + count)}`)
    }),
  )
})

test('sizes and durations read back what they show', () => {
  fc.assert(
    fc.property(fc.nat({ max: 2 ** 31 - 1 }), (n) => {
      assert.equal(size(0, 2 ** 50).schema.parse(showSize(n)), n)
      assert.equal(duration(0, 2 ** 50).schema.parse(showDuration(n)), n)
    }),
  )
  assert.equal(size(0, 1e12).schema.parse('1.5GB'), 1.5e9)
  assert.equal(size(0, 1e12).schema.parse('64 mib'), 64 * 2 ** 20)
  assert.equal(duration(0, 1e12).schema.parse('1.5s'), 1500)
})

test('variables and flags follow from keys, without clashes', () => {
  assert.equal(variableOf(settings.rootAccessKey), 'OSTRAKA_ROOT_ACCESS_KEY')
  assert.equal(flagOf(settings.metadataCopies), 'metadata-copies')
  const all = Object.values(settings) as { key: string }[]
  assert.equal(new Set(all.map(variableOf)).size, all.length)
  assert.equal(new Set(all.map(flagOf)).size, all.length)
})

test('docs/configuration.md holds the table of settings as it is in the code', () => {
  const file = new URL('../../../docs/configuration.md', import.meta.url)
  const text = readFileSync(file, 'utf8')
  const [, table] = /<!-- settings -->\n([\s\S]*)<!-- end of settings -->/.exec(text) ?? []
  assert.equal(table, settingsTable())
})

test('settings of the cluster are checked against each other', () => {
  assert.match(
    problemsOf({ flags: { 'cluster-join': 'a:1' } })[0] ?? '',
    /^cluster.join .*only with metadata.engine replicated/,
  )
  assert.match(
    problemsOf({ flags: { 'cluster-tls-cert': '/c' } })[0] ?? '',
    /cluster.tls.ca: expected all three, or none/,
  )
  const replicated = (copies: string): readonly string[] =>
    problemsOf({ flags: { 'metadata-engine': 'replicated', 'metadata-copies': copies } })
  assert.match(replicated('2')[0] ?? '', /^metadata.copies .*expected auto or 1, was given 2/)
  assert.deepEqual([replicated('1'), replicated('auto')], [[], []])
  assert.match(problemsOf({ flags: { 'cluster-join': 'nowhere' } })[0] ?? '', /expected addresses host:port/)
  assert.match(
    problemsOf({ flags: { 'cluster-advertise': 'host' } })[0] ?? '',
    /cluster.advertise .*expected host:port/,
  )
  assert.deepEqual(problemsOf({ flags: { 'cluster-advertise': '[::1]:9002', 'cluster-name': 'n-1' } }), [])
  const same = problemsOf({ flags: { 'metadata-engine': 'replicated', 'cluster-listen': '127.0.0.1:9000' } })
  assert.ok(same.includes('listen and cluster.listen are the same address (127.0.0.1:9000): expected two'))
})
