/** The report: one page that needs nothing else. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SaxesParser } from 'saxes'
import { report } from '../../bench/report.js'
import { barPlot, linePlot } from '../../bench/svg.js'
import { markdown, tablesOf, targetTable } from '../../bench/tables.js'
import { judge } from '../../bench/targets.js'
import { examples, resultOf } from './results.js'

interface Tag {
  name: string
  attributes: Record<string, string>
}

/** The tags of a page; throws where it is not well-formed. */
function tagsOf(page: string): { tags: Tag[]; text: string } {
  const parser = new SaxesParser()
  const tags: Tag[] = []
  let text = ''
  parser.on('error', (error) => { throw error })
  parser.on('opentag', ({ name, attributes }) => { tags.push({ name, attributes: { ...attributes } }) })
  parser.on('text', (more) => { text += more })
  parser.write(page).close()
  return { tags, text }
}

test('the page is well-formed, has no script and asks for nothing from outside', () => {
  const page = report(resultOf(examples, { notes: { 'kernels.best': '<script>' } }))
  const { tags, text } = tagsOf(page)
  assert.ok(tags.some(({ name }) => name === 'svg'))
  assert.deepEqual(tags.filter(({ name }) => ['script', 'link', 'img', 'iframe', 'object', 'use'].includes(name)), [])
  for (const { attributes } of tags)
    for (const [name, value] of Object.entries(attributes)) {
      assert.ok(!name.startsWith('on'), name)
      if (['href', 'src'].includes(name)) assert.match(value, /^#/)
    }
  assert.doesNotMatch(page, /url\(|@import|https?:/)
  assert.match(text, /a <CPU> & "more"/)
})

test('every figure of the result is in the page or in the tables of the terminal', () => {
  const result = resultOf(examples)
  const { text } = tagsOf(report(result))
  const tables = markdown(tablesOf(result))
  for (const part of ['Kernels', 'Shard index', 'Placement', 'One drive', 'Durable flushes', 'S3 PUT', 'S3 LIST']) {
    assert.ok(text.includes(part), `${part} in the page`)
    assert.ok(tables.includes(part), `${part} in the tables`)
  }
  assert.match(tables, /4KiB, 32 clients +\| +o-ther \| +300/)
})

test('a generator that was busy all the time is named', () => {
  const busy = { ...examples, 's3.put.4KiB.32clients.bare.generator_cores': 0.97 }
  assert.match(markdown(tablesOf(resultOf(busy))), /may do more than this: bare at 4KiB, 32 clients\./)
  assert.doesNotMatch(markdown(tablesOf(resultOf(examples))), /may do more/)
})

test('both colour schemes have every colour', () => {
  const page = report(resultOf(examples))
  const [light = '', dark = ''] = page.split('@media (prefers-color-scheme: dark)')
  const used = new Set([...page.matchAll(/var\((--\w+)\)/g)].map((match) => match[1] ?? ''))
  assert.ok(used.size > 10)
  for (const colour of used)
    for (const scheme of [light, dark]) assert.ok(scheme.includes(`${colour}:`), colour)
})

test('a result with nothing in it still makes a page', () => {
  tagsOf(report(resultOf({})))
})

test('plots take missing, zero and infinite figures', () => {
  const plot = {
    title: 'a & b', unit: 'x', labels: ['1', '2', '3'],
    series: [{ name: '<s>', values: [undefined, 0, Infinity] }, { name: 't', values: [1, 2, 1e9] }],
  }
  for (const svg of [
    barPlot(plot),
    linePlot(plot),
    barPlot({ ...plot, log: true }),
    linePlot({ ...plot, series: [] }),
  ]) {
    tagsOf(svg)
    assert.doesNotMatch(svg, /NaN|Infinity|undefined/)
  }
})

test('each target says its limit, its figure and whether it was met', () => {
  const verdicts = judge(examples)
  const of = (text: string) => verdicts.find((verdict) => verdict.text.startsWith(text))
  assert.deepEqual([of('durable flushes')?.met, of('durable flushes')?.limit], ['met', 'at most 0.8'])
  assert.equal(of('PUT of 4 KiB')?.met, 'met')
  assert.equal(of('GET of 4 KiB')?.met, 'not measured')
  assert.equal(of('encode 8+4 out of L2')?.figure, 1.25)
  assert.equal(of('ready with a million')?.figure, 1.001)
  const worse = { ...examples, 'flushes.put.4KiB.32clients.per_put_flushes': 0.9 }
  assert.equal(judge(worse).find(({ section }) => section === 'flushes')?.met, 'not met')
  assert.match(markdown([targetTable(verdicts)]), /not measured/)
})
