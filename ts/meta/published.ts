/**
 * What the engine tells every thread of the process, in one SharedArrayBuffer:
 *
 *   0   sequence    i32  odd while the path is being changed
 *   4   generation  i32  grows with every change of the primary view
 *   8   applied     i64  newest applied log index
 *   16  copy        i32  drive number of the primary
 *   20  length      i32  bytes of the path
 *   24  path             of the primary view, UTF-8, at most 4096 bytes
 *   4120 replicated i32  1: reads that must be new enough have to ask the engine
 */
const PATH = 24
const MAX_PATH = 4096
const SIZE = PATH + MAX_PATH + 4

export interface PrimaryView {
  generation: number
  drive: number
  path: string
}

export class Published {
  readonly buffer: SharedArrayBuffer
  readonly #words: Int32Array
  readonly #applied: BigInt64Array
  readonly #path: Uint8Array

  constructor(buffer: SharedArrayBuffer = new SharedArrayBuffer(SIZE)) {
    this.buffer = buffer
    this.#words = new Int32Array(buffer, 0, 6)
    this.#applied = new BigInt64Array(buffer, 8, 1)
    this.#path = new Uint8Array(buffer, PATH, MAX_PATH)
  }

  get applied(): number {
    return Number(Atomics.load(this.#applied, 0))
  }

  setApplied(index: number): void {
    Atomics.store(this.#applied, 0, BigInt(index))
  }

  get replicated(): boolean {
    return Atomics.load(new Int32Array(this.buffer, PATH + MAX_PATH, 1), 0) === 1
  }

  setReplicated(): void {
    Atomics.store(new Int32Array(this.buffer, PATH + MAX_PATH, 1), 0, 1)
  }

  get generation(): number {
    return Atomics.load(this.#words, 1)
  }

  setPrimary(drive: number, path: string): void {
    const bytes = Buffer.from(path, 'utf8')
    if (bytes.length > MAX_PATH) throw new RangeError('the path of a view is too long')
    Atomics.add(this.#words, 0, 1)
    this.#path.set(bytes)
    Atomics.store(this.#words, 5, bytes.length)
    Atomics.store(this.#words, 4, drive)
    Atomics.add(this.#words, 1, 1)
    Atomics.add(this.#words, 0, 1)
  }

  primary(): PrimaryView {
    for (;;) {
      const before = Atomics.load(this.#words, 0)
      const length = Atomics.load(this.#words, 5)
      const path = Buffer.from(this.#path.subarray(0, length)).toString('utf8')
      const view = { generation: this.generation, drive: Atomics.load(this.#words, 4), path }
      if (before % 2 === 0 && Atomics.load(this.#words, 0) === before) return view
    }
  }
}
