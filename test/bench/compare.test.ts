/** Comparing two results: what counts as a change, and what as a regression. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import fc from 'fast-check'
import { compare, compareTable, regressions } from '../../bench/compare.js'
import { directionOf, flatten, unitOf } from '../../bench/metrics.js'
import { examples, resultOf } from './results.js'

const main = fileURLToPath(new URL('../../bench/main.js', import.meta.url))

function verdicts(before: Record<string, number>, after: Record<string, number>, noise = 5): Record<string, string> {
  const { changes } = compare(resultOf(before), resultOf(after), noise)
  return Object.fromEntries(changes.map(({ name, verdict }) => [name, verdict]))
}

test('more is better of rates, less of times, and neither of cores', () => {
  const before = { 'a.ops_per_s': 100, 'a.p99_ms': 100, 'a.server_cores': 1, 'x.ratio': 1, 'x.times': 1 }
  const after = { 'a.ops_per_s': 120, 'a.p99_ms': 120, 'a.server_cores': 2, 'x.ratio': 2, 'x.times': 2 }
  assert.deepEqual(verdicts(before, after), {
    'a.ops_per_s': 'better', 'a.p99_ms': 'worse', 'a.server_cores': 'changed', 'x.ratio': 'better', 'x.times': 'worse',
  })
})

test('a change within the noise, or within the spread of either run, is none', () => {
  assert.deepEqual(verdicts({ 'a.ns': 100 }, { 'a.ns': 104 }), { 'a.ns': 'same' })
  assert.deepEqual(verdicts({ 'a.ns': 100 }, { 'a.ns': 106 }), { 'a.ns': 'worse' })
  const before = resultOf({ 'a.ns': 100 }, { spread: { 'a.ns': 0.2 } })
  const [change] = compare(before, resultOf({ 'a.ns': 115 }), 5).changes
  assert.deepEqual([change?.verdict, change?.noise], ['same', 20])
})

test('from nothing to something is a change without end, and nothing to nothing none', () => {
  const [change] = compare(resultOf({ 'a.errors': 0 }), resultOf({ 'a.errors': 3 }), 5).changes
  assert.deepEqual([change?.percent, change?.verdict], [Infinity, 'worse'])
  assert.deepEqual(verdicts({ 'a.errors': 0 }, { 'a.errors': 0 }), { 'a.errors': 'same' })
})

test('regressions are those beyond the threshold in the bad direction', () => {
  const before = { 'a.ops_per_s': 100, 'b.ops_per_s': 100, 'c.ops_per_s': 100, 'd.cores': 1 }
  const after = { 'a.ops_per_s': 92, 'b.ops_per_s': 85, 'c.ops_per_s': 150, 'd.cores': 9 }
  const comparison = compare(resultOf(before), resultOf(after), 5)
  assert.deepEqual(regressions(comparison, 10).map(({ name }) => name), ['b.ops_per_s'])
})

test('figures of one run only, and other machines, are named', () => {
  const after = resultOf({ 'b.ns': 1, 'c.ns': 1 })
  const elsewhere = { ...after, environment: { ...after.environment, cpu: 'other' } }
  const comparison = compare(resultOf({ 'a.ns': 1, 'b.ns': 1 }), elsewhere, 5)
  assert.deepEqual([comparison.gone, comparison.come], [['a.ns'], ['c.ns']])
  assert.match(compareTable(comparison, true), /Beware: cpu differs/)
})

test('a result compared with itself shows nothing', () => {
  const metrics = fc.dictionary(fc.constantFrom(...Object.keys(examples)), fc.double({ noNaN: true }))
  fc.assert(fc.property(metrics, (some) => {
    const comparison = compare(resultOf(some), resultOf(some), 0)
    assert.ok(comparison.changes.every(({ verdict }) => verdict === 'same'))
    assert.deepEqual(regressions(comparison, 0), [])
  }))
})

test('the unit is the longest ending, and every unit of a part has one', () => {
  assert.equal(unitOf('s3.put.4KiB.32clients.ops_per_s'), 'ops_per_s')
  assert.equal(unitOf('s3.put.4KiB.32clients.percent_of_bare'), 'percent_of_bare')
  assert.equal(unitOf('placement.slots.10.select_ns'), 'ns')
  assert.equal(unitOf('nothing'), undefined)
  assert.equal(directionOf('nothing'), 'neutral')
  assert.deepEqual(flatten({ 'a.b': { value: 2, unit: 'x ideal' } }), { 'a.b_times': 2 })
  assert.throws(() => flatten({ 'a.b': { value: 2, unit: 'furlongs' } }), /furlongs/)
})

test('the command exits with 1 on a regression, with 0 without one, and with 1 for what is no result', () => {
  const folder = mkdtempSync(join(tmpdir(), 'ostraka-compare-'))
  try {
    const file = (name: string, value: unknown): string => {
      writeFileSync(join(folder, name), JSON.stringify(value))
      return join(folder, name)
    }
    const [good, bad] = [file('a', resultOf({ 'a.ops_per_s': 100 })), file('b', resultOf({ 'a.ops_per_s': 80 }))]
    const run = (...args: string[]) => spawnSync(process.execPath, [main, 'compare', ...args], { encoding: 'utf8' })
    const regressed = run(good, bad, '--threshold', '10')
    assert.equal(regressed.status, 1)
    assert.match(regressed.stderr, /regressed by more than 10 %: a\.ops_per_s \(-20\.0 %\)/)
    assert.match(regressed.stdout, /a\.ops_per_s \|\s+100 \|\s+80\.0 \| ops\/s \|\s+-20\.0 /)
    assert.equal(run(good, bad, '--threshold', '30').status, 0)
    assert.equal(run(good, bad).status, 0)
    assert.equal(run(bad, good, '--threshold', '10').status, 0)
    for (const wrong of [{}, { ...resultOf({}), format: 2 }, { ...resultOf({}), metrics: { a: 'b' } }]) {
      const refused = run(good, file('c', wrong))
      assert.equal(refused.status, 1)
      assert.match(refused.stderr, /is not a result/)
    }
  } finally {
    rmSync(folder, { recursive: true })
  }
})
