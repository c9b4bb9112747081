import assert from 'node:assert/strict'
import { test } from 'node:test'

import { Coverage } from './coverage.js'
import { instrument } from './instrument.js'
import { FuzzRandom, mutate } from './mutate.js'

const SOURCE = `
export const pick = (n) => (n > 3 ? 'big' : n === 0 ? 'zero' : 'small')
export function sum(list) {
  let total = 0
  for (const n of list) { if (n < 0) continue; total += n }
  return total
}
export function kind(text) {
  switch (text) { case 'a': return 1; case 'b': { return 2 } default: return text ?? 0 }
}
export class Box {
  #v
  constructor(v) { this.#v = v }
  get v() { try { return this.#v.x && this.#v.x.y } catch { return 9 } }
}
export function deep(bytes) {
  if (bytes[0] !== 0x4f) return 0
  if (bytes[1] !== 0x53) return 1
  if (bytes[2] !== 0x42) return 2
  if (bytes.readUInt32LE(3) !== 305419896) return 3
  return 4
}
`

interface Sample {
  pick: (n: number) => string
  sum: (list: number[]) => number
  kind: (text: string | undefined) => unknown
  Box: new (v: unknown) => { v: unknown }
  deep: (bytes: Buffer) => number
}

const load = async (code: string): Promise<Sample> => (
  await import(`data:text/javascript;base64,${Buffer.from(code).toString('base64')}`) as Sample)

test('an instrumented module answers like the original, and counts what it reached', async () => {
  const coverage = new Coverage()
  globalThis.ostrakaFuzz = coverage
  const { code, counters } = instrument('sample', SOURCE)
  const [plain, counted] = [await load(SOURCE), await load(code)]
  assert.equal(coverage.counters, counters)
  const all = (m: Sample): unknown[] => [
    m.pick(0), m.pick(2), m.pick(5), m.sum([1, -2, 3]), m.kind('a'), m.kind('b'), m.kind(undefined), m.kind('c'),
    new m.Box({ x: { y: 7 } }).v, new m.Box({}).v, new m.Box(undefined).v, m.deep(Buffer.alloc(8)),
  ]
  assert.deepEqual(all(counted), all(plain))
  coverage.reset()
  counted.pick(5)
  assert.ok(coverage.takeNew(), 'an arm that was not taken before is new')
  coverage.clear()
  counted.pick(5)
  assert.ok(!coverage.takeNew(), 'the same way again is not')
  coverage.clear()
  counted.pick(0)
  assert.ok(coverage.takeNew(), 'another arm is')
})

test('inputs that reach something new are the way to a place that chance alone does not find', async () => {
  const coverage = new Coverage()
  globalThis.ostrakaFuzz = coverage
  const { deep } = await load(`${instrument('deep', SOURCE).code}\n// again`)
  const random = new FuzzRandom(7)
  const kept: Buffer[] = [Buffer.alloc(16)]
  const pick = (): Buffer => kept[random.below(kept.length)] ?? Buffer.alloc(0)
  let deepest = 0
  for (let run = 0; run < 200_000 && deepest < 4; run++) {
    const input = mutate(pick(), pick(), random, coverage.words)
    if (input.length < 7) continue
    coverage.clear()
    deepest = Math.max(deepest, deep(input))
    if (coverage.takeNew()) kept.push(input)
  }
  assert.equal(deepest, 4)
})
