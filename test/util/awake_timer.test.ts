import assert from 'node:assert/strict'
import { test } from 'node:test'
import { awakeTimer, type TimeSource } from '../../ts/util/awake_timer.js'

/** Time that the test moves; what is due runs then, and learns how late it is. */
class Time implements TimeSource {
  #now = 0
  #due: { at: number; fire: () => void } | undefined

  now(): number {
    return this.#now
  }

  after = (fire: () => void, ms: number): (() => void) => {
    this.#due = { at: this.#now + ms, fire }
    return () => { this.#due = undefined }
  }

  pass(ms: number): void {
    this.#now += ms
    const due = this.#due
    if (due === undefined || due.at > this.#now) return
    this.#due = undefined
    due.fire()
  }
}

test('a deadline passes when it is due, and not twice', () => {
  const time = new Time()
  let fired = 0
  awakeTimer(() => { fired++ }, 5000, time)
  time.pass(4999)
  assert.equal(fired, 0)
  time.pass(1)
  assert.equal(fired, 1)
  time.pass(100_000)
  assert.equal(fired, 1)
})

test('a deadline that passed while the process was stopped begins again when it goes on, every time', () => {
  const time = new Time()
  let fired = 0
  awakeTimer(() => { fired++ }, 5000, time)
  for (let i = 0; i < 3; i++) {
    time.pass(60_000)
    assert.equal(fired, 0)
    time.pass(4999)
    assert.equal(fired, 0)
  }
  time.pass(1)
  assert.equal(fired, 1)
})

test('a deadline that was called off does not pass, not after a stop either', () => {
  const time = new Time()
  const cancel = awakeTimer(() => { assert.fail() }, 5000, time)
  time.pass(60_000)
  cancel()
  time.pass(60_000)
})
