/**
 * Drive I/O below `ts/drive/native_io.ts`: batches of encoded operations for native/io, and their completions.
 *
 * All drives of this thread complete through one native callback, called once for everything that completed together.
 * Written bytes are copied when a batch is submitted, and read bytes when it completes, so buffers are free again as
 * soon as `submit` returned (for reads: settled), whatever a drive does; a thread that hangs holds none of them.
 *
 * Six numbers describe an operation: kind, file, offset, size, flags, count of buffers (native/io/operation.h).
 */
import { constants } from 'node:os'
import { addon } from './addon.js'

export const Kind = {
  open: 1, read: 2, write: 3, sync: 4, dropCache: 5, truncate: 6, size: 7, close: 8, rename: 9, unlink: 10, makeDir: 11,
  removeDir: 12, syncDir: 13, list: 14, stat: 15, space: 16, lock: 17, refresh: 18, writeBack: 19, writeZeros: 20,
} as const
export type Kind = (typeof Kind)[keyof typeof Kind]

export const Flag = {
  read: 0, write: 1, create: 2, direct: 4,
  /** Only for tests of what hangs: opens whatever the name stands for, waiting if that waits. */
  mayBlock: 8,
} as const

/** At most so many buffers go into one batch; join them before. */
export const MAX_BUFFERS = 256
export const MAX_OPERATIONS = 1024
const NUMBERS = 6

/** Numbers of batches are cut from this, as small buffers are from node's pool: no memory of their own for each. */
let pool = new Float64Array(0)
let pooled = 0

function takeNumbers(length: number): Float64Array {
  if (pooled + length > pool.length) {
    pool = new Float64Array(Math.max(4096, length))
    pooled = 0
  }
  pooled += length
  return pool.subarray(pooled - length, pooled)
}

/** Operations on their way into one native call. */
export class IoBatch {
  readonly numbers: Float64Array
  readonly paths: string[] = []
  readonly buffers: Uint8Array[] = []
  /** Where the reads put what they found, in order. */
  readonly into: Uint8Array[] = []
  #length = 0

  constructor(operations: number) {
    this.numbers = takeNumbers(operations * NUMBERS)
  }

  #add(kind: Kind, file = -1, offset = 0, size = 0, flags = 0, buffers = 0): void {
    const { numbers } = this
    let at = this.#length++ * NUMBERS
    numbers[at++] = kind
    numbers[at++] = file
    numbers[at++] = offset
    numbers[at++] = size
    numbers[at++] = flags
    numbers[at] = buffers
  }

  open(path: string, flags: number): void {
    this.paths.push(path)
    this.#add(Kind.open, -1, 0, 0, flags)
  }

  read(file: number, offset: number, into: Uint8Array): void {
    this.into.push(into)
    this.#add(Kind.read, file, offset, into.length)
  }

  write(file: number, offset: number, from: readonly Uint8Array[]): void {
    for (const bytes of from) this.buffers.push(bytes)
    this.#add(Kind.write, file, offset, 0, 0, from.length)
  }

  writeZeros(file: number, offset: number, size: number): void {
    this.#add(Kind.writeZeros, file, offset, size)
  }

  truncate(file: number, size: number): void {
    this.#add(Kind.truncate, file, 0, size)
  }

  onFile(kind: (typeof Kind)['sync' | 'writeBack' | 'dropCache' | 'size' | 'close'], file: number): void {
    this.#add(kind, file)
  }

  rename(from: string, to: string): void {
    this.paths.push(from, to)
    this.#add(Kind.rename)
  }

  onPath(kind: Kind, path: string): void {
    this.paths.push(path)
    this.#add(kind)
  }

  onDrive(kind: typeof Kind.space | typeof Kind.lock | typeof Kind.refresh): void {
    this.#add(kind)
  }
}

/** What one operation gave; `names` only for listings. */
export interface RawResult {
  a: number
  b: number
  c: number
}

export interface RawCompletion {
  results: RawResult[]
  /** One list of names per listing, in order. */
  names: string[][]
}

/** `index` -1: nothing was started. */
export class RawIoError extends Error {
  readonly code: string
  readonly index: number
  constructor(code: string, index: number) {
    super(code)
    this.name = 'RawIoError'
    this.code = code
    this.index = index
  }
}

interface Pending {
  id: number
  batch: IoBatch
  client: number
  /** By `performance.now()`; Infinity: none, or given up in vain since the batch is complete. */
  deadline: number
  resolve: (completion: RawCompletion) => void
  reject: (error: Error) => void
  /** What it is settled with. */
  completion: RawCompletion
  error: Error | undefined
}

const pending = new Map<number, Pending>()
let lastId = 0
let connected = false

/**
 * A client of the drive at this absolute path. `threads` and `queueLength` count for the first client in the process.
 */
export function openDrive(path: string, threads: number, queueLength: number): number {
  if (!connected) {
    addon.ioConnect(receive)
    connected = true
  }
  return addon.ioOpen(path, threads, queueLength)
}

/** Gives up everything that the client has pending (ESHUTDOWN) and closes its files. */
export function closeDrive(client: number): void {
  addon.ioClose(client)
  for (const [id, item] of pending) {
    if (item.client !== client) continue
    pending.delete(id)
    item.reject(new RawIoError('ESHUTDOWN', -1))
  }
}

/** Rejects with RawIoError; throws TypeError or RangeError for a batch that is not well formed. */
export function submit(
  client: number, batch: IoBatch, background: boolean, deadlineMs: number | undefined,
): Promise<RawCompletion> {
  return new Promise((resolve, reject) => {
    const id = ++lastId
    const { numbers, paths, buffers } = batch
    const deadline = deadlineMs === undefined ? -1 : Math.min(Math.max(0, Math.ceil(deadlineMs)), 2 ** 31 - 1)
    const error = addon.ioSubmit(client, id, background ? 1 : 0, deadline, numbers, paths.join('\0'), buffers)
    if (error !== 0) {
      reject(new RawIoError(errorName(error), -1))
      return
    }
    const until = deadline < 0 ? Infinity : performance.now() + deadline
    pending.set(id, {
      id, batch, client, deadline: until, resolve, reject, completion: { results: [], names: [] }, error: undefined,
    })
    wakeBy(until)
  })
}

/**
 * Fills `into` in this thread from what the page cache holds of an open file; false when that would have to wait, or
 * fails: whoever cares why submits the read.
 */
export function readNow(client: number, file: number, offset: number, into: Uint8Array): boolean {
  return addon.ioReadNow(client, file, offset, into)
}

/** Ends the process at once, even while threads hang in system calls. Nothing of JavaScript runs after it. */
export function exitNow(code: number): never {
  addon.ioExit(code)
  throw new Error('unreachable')
}

/**
 * One timer for all deadlines, set for the earliest when it was set: most batches are complete long before theirs, and
 * then it was not touched for them. What is pending keeps the event loop going; the timer need not.
 */
let timer: NodeJS.Timeout | undefined
let timerAt = Infinity

function wakeBy(time: number): void {
  if (time >= timerAt) return
  clearTimeout(timer)
  timerAt = time
  timer = setTimeout(expireDue, Math.max(0, Math.ceil(time - performance.now()))).unref()
}

function expireDue(): void {
  timerAt = Infinity
  const now = performance.now()
  let next = Infinity
  for (const item of pending.values()) {
    if (item.deadline <= now) expire(item)
    else next = Math.min(next, item.deadline)
  }
  wakeBy(next)
}

function expire(item: Pending): void {
  item.deadline = Infinity
  const before = addon.ioExpire(item.client, item.id)
  // Complete: it was only this thread that was late. The completion is on its way.
  if (before === 2) return
  pending.delete(item.id)
  item.reject(new RawIoError('ETIMEDOUT', before === 1 ? 0 : -1))
}

/** For every completion: id, errno, index of the failed operation, count of results, then three numbers for each. */
function receive(numbers: Float64Array, names: string[]): void {
  let nextName = 0
  for (let at = 0; at < numbers.length;) {
    const id = numbers[at++] ?? 0
    const error = numbers[at++] ?? 0
    const failedAt = numbers[at++] ?? 0
    const count = numbers[at++] ?? 0
    const item = pending.get(id)
    pending.delete(id)
    const completion: RawCompletion = { results: [], names: [] }
    for (let i = 0; i < count; i++, at += 3) {
      completion.results.push({ a: numbers[at] ?? 0, b: numbers[at + 1] ?? 0, c: numbers[at + 2] ?? 0 })
      if (item?.batch.numbers[i * NUMBERS] !== Kind.list) continue
      const joined = names[nextName++] ?? ''
      completion.names.push(joined === '' ? [] : joined.split('/'))
    }
    if (item === undefined) continue
    item.completion = completion
    if (error !== 0) item.error = new RawIoError(errorName(error), failedAt)
    else if (item.batch.into.length > 0) take(item)
    settle(item)
  }
}

function take(item: Pending): void {
  try {
    addon.ioTake(item.id, item.batch.into)
  } catch (error) {
    item.error = error as Error
  }
}

/**
 * Node runs up to a thousand native callbacks in one turn of the event loop. Reads that the page cache answers at once
 * would keep one turn going for seconds, with no timer and no socket served, if what waits for them went on in the
 * callback; so it goes on from here, for a bounded number in each turn.
 */
const SETTLED_PER_TURN = 16
const settling: Pending[] = []

function settle(item: Pending): void {
  if (settling.push(item) === 1) setImmediate(settleSome)
}

function settleSome(): void {
  // What is added meanwhile finds the list not empty, and waits for the next turn.
  for (const { error, completion, resolve, reject } of settling.slice(0, SETTLED_PER_TURN)) {
    if (error === undefined) resolve(completion)
    else reject(error)
  }
  settling.splice(0, SETTLED_PER_TURN)
  if (settling.length > 0) setImmediate(settleSome)
}

const ERROR_NAMES = new Map<number, string>([
  ...Object.entries(constants.errno).map(([name, number]): [number, string] => [number, name]),
  [constants.errno.EAGAIN, 'EAGAIN'], [constants.errno.EOPNOTSUPP, 'EOPNOTSUPP'],
  [108, 'ESHUTDOWN'], [117, 'EUCLEAN'], [120, 'EISNAM'], [123, 'ENOMEDIUM'],
])

function errorName(error: number): string {
  return ERROR_NAMES.get(error) ?? `E${String(error)}`
}
