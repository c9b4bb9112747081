import assert from 'node:assert/strict'
import { test } from 'node:test'

import { Again } from '../../ts/util/again.js'

/** Work that a test ends, and what it was done for. */
class Work {
  readonly begun: number[] = []
  #end: () => void = () => undefined

  readonly do = (of: number): Promise<void> => {
    this.begun.push(of)
    return new Promise((resolve) => {
      this.#end = resolve
    })
  }

  end(): void {
    this.#end()
  }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

test('work begins at once, and is done once more for all that was asked meanwhile', async () => {
  const work = new Work()
  const again = new Again(work.do)
  again.ask(1)
  assert.deepEqual(work.begun, [1])
  again.ask(2)
  again.ask(3)
  assert.deepEqual(work.begun, [1], 'once at a time')
  work.end()
  await turn()
  assert.deepEqual(work.begun, [1, 3])
  work.end()
  await turn()
  assert.deepEqual(work.begun, [1, 3])
  again.ask(4)
  assert.deepEqual(work.begun, [1, 3, 4])
})

test('nothing is overlooked that is asked for in the moment when the work ends', async () => {
  for (let microtasks = 0; microtasks < 8; microtasks++) {
    const work = new Work()
    const again = new Again(work.do)
    again.ask(1)
    work.end()
    for (let i = 0; i < microtasks; i++) await Promise.resolve()
    again.ask(2)
    await turn()
    assert.deepEqual(work.begun, [1, 2], `${String(microtasks)} microtasks later`)
  }
})
