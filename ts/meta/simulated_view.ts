/**
 * A view in memory that loses what a power cut may lose: after `cut`, it is back at the state of the last flush
 * that resolved or at any later commit. Flushes resolve in a later turn, so that cuts can fall into them.
 */
import { SortedMap } from './sorted_map.js'
import type { RawEntry, RawWrite, ViewSnapshot, ViewStore } from './view_store.js'

type State = SortedMap<Buffer>

/** What is left of a simulated view when its process ends. */
export class SimulatedViewMedium {
  /** The last flushed state, and every commit since. */
  flushed: { state: State; position: number } = { state: new SortedMap(), position: 0 }
  commits: (readonly RawWrite[])[] = []
  /** Grows with every cut: what a view of an earlier life still commits reaches nothing. */
  life = 0

  /** The power goes: `kept` of the commits since the last flush survive (all of them by default: a killed process). */
  cut(kept: number = this.commits.length): void {
    const state = this.flushed.state.clone()
    for (const writes of this.commits.slice(0, kept)) applyWrites(state, writes)
    this.flushed = { state, position: this.flushed.position }
    this.commits = []
    this.life++
  }
}

export class SimulatedView implements ViewStore {
  readonly #medium: SimulatedViewMedium
  readonly #life: number
  #state: State
  #closed = false
  /** Set to make the next commit or flush fail. */
  failure: Error | undefined

  constructor(medium: SimulatedViewMedium) {
    this.#medium = medium
    medium.cut()
    this.#life = medium.life
    this.#state = medium.flushed.state.clone()
  }

  get flushedPosition(): number {
    return this.#medium.flushed.position
  }

  get(key: Buffer): Buffer | undefined {
    this.#check()
    const value = this.#state.get(key.toString('latin1'))
    return value === undefined ? undefined : Buffer.from(value)
  }

  ascend(from: Buffer): Iterable<RawEntry> {
    this.#check()
    return ascendState(this.#state, from)
  }

  keyFrom(from: Buffer): Buffer | undefined {
    this.#check()
    return keyFromIn(this.#state, from)
  }

  before(key: Buffer): RawEntry | undefined {
    this.#check()
    return beforeIn(this.#state, key)
  }

  lastTwo(key: Buffer): RawEntry[] {
    this.#check()
    return lastTwoIn(this.#state, key)
  }

  commit(writes: readonly RawWrite[]): void {
    this.#check()
    const copy = writes.map(({ key, value }) => ({ key: Buffer.from(key), value: value && Buffer.from(value) }))
    applyWrites(this.#state, copy)
    if (this.#medium.life === this.#life) this.#medium.commits.push(copy)
  }

  async flush(position: number): Promise<void> {
    this.#check()
    if (this.#medium.life !== this.#life) throw new Error('the power is off')
    const count = this.#medium.commits.length
    const commits = this.#medium.commits
    await new Promise((resolve) => setImmediate(resolve))
    if (this.#closed || commits !== this.#medium.commits) throw new Error('the view was closed during a flush')
    for (const writes of commits.splice(0, count)) applyWrites(this.#medium.flushed.state, writes)
    this.#medium.flushed.position = position
  }

  snapshot(): ViewSnapshot & { release(): void } {
    const state = this.#state.clone()
    return {
      get: (key) => state.get(key.toString('latin1')),
      ascend: (from) => ascendState(state, from),
      keyFrom: (from) => keyFromIn(state, from),
      before: (key) => beforeIn(state, key),
      lastTwo: (key) => lastTwoIn(state, key),
      release: () => undefined,
    }
  }

  sizeBytes(): number {
    let bytes = 0
    for (const [key, value] of this.#state.entries()) bytes += key.length + value.length
    return bytes
  }

  count(): number {
    return this.#state.size
  }

  close(): Promise<void> {
    this.#closed = true
    return Promise.resolve()
  }

  #check(): void {
    if (this.#closed) throw new Error('the view is closed')
    if (this.failure !== undefined) throw this.failure
  }
}

function applyWrites(state: State, writes: readonly RawWrite[]): void {
  for (const { key, value } of writes) {
    if (value === undefined) state.delete(key.toString('latin1'))
    else state.set(key.toString('latin1'), value)
  }
}

function* ascendState(state: State, from: Buffer): Generator<RawEntry> {
  for (const key of state.keysFrom(from.toString('latin1'))) {
    yield { key: Buffer.from(key, 'latin1'), value: Buffer.from(state.get(key) as Buffer) }
  }
}

function keyFromIn(state: State, from: Buffer): Buffer | undefined {
  const found = state.ceiling(from.toString('latin1'))
  return found === undefined ? undefined : Buffer.from(found, 'latin1')
}

function lastTwoIn(state: State, key: Buffer): RawEntry[] {
  const last = beforeIn(state, Buffer.concat([key, Buffer.of(0)]))
  const previous = last && beforeIn(state, last.key)
  return [last, previous].filter((entry) => entry !== undefined)
}

function beforeIn(state: State, key: Buffer): RawEntry | undefined {
  const found = state.lower(key.toString('latin1'))
  return found === undefined
    ? undefined
    : { key: Buffer.from(found, 'latin1'), value: Buffer.from(state.get(found) as Buffer) }
}
