/**
 * DriveIo over native/io: real files, on threads that belong to the drive alone.
 *
 * All threads of the process share the drive's threads and queues (the first one to open a path decides how many);
 * handles belong to the NativeDriveIo that opened them. Written bytes are copied when a batch is submitted, so
 * the rule of `DriveIo` about buffers after a deadline is kept even by callers that forget it.
 */
import { resolve } from 'node:path'
import {
  type DriveIo, type FileHandle, IoError, type IoOp, type IoResult, isDrivePath, type RunOptions,
} from './io.js'
import {
  closeDrive, Flag, IoBatch, Kind, MAX_BUFFERS, MAX_OPERATIONS, openDrive, type RawCompletion, RawIoError, readNow,
  submit,
} from '../native/io.js'

export interface NativeDriveIoOptions {
  /** Threads of the drive (default 4), at most half of them for background work. */
  threads?: number
  /** Batches waiting at most, per queue (default 1024); beyond it, or beyond 512 MiB of bytes, EAGAIN. */
  queueLength?: number
  /** For `lock` and `refresh` (default 10 s). */
  deadlineMs?: number
}

export class NativeDriveIo implements DriveIo {
  /** Absolute. */
  readonly path: string
  readonly #client: number
  readonly #deadlineMs: number
  #pending = 0
  #closed = false
  #idle: (() => void)[] = []

  /** Never waits for the drive: what is wrong with it shows with the first batch. */
  constructor(path: string, options: NativeDriveIoOptions = {}) {
    this.path = resolve(path)
    this.#client = openDrive(this.path, options.threads ?? 4, options.queueLength ?? 1024)
    this.#deadlineMs = options.deadlineMs ?? 10_000
  }

  get pending(): number {
    return this.#pending
  }

  run(ops: readonly IoOp[], options: RunOptions = {}): Promise<IoResult[]> {
    return ops.length === 0 ? Promise.resolve([]) : this.#submit(ops, options)
  }

  readNow(file: FileHandle, offset: number, into: Uint8Array): boolean {
    return !this.#closed && readNow(this.#client, file, offset, into)
  }

  async lock(): Promise<boolean> {
    return (await this.#submit([{ op: 'lock' }], { deadlineMs: this.#deadlineMs }))[0] === 1
  }

  async refresh(): Promise<void> {
    await this.#submit([{ op: 'refresh' }], { deadlineMs: this.#deadlineMs })
  }

  async close(timeoutMs = 10_000): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    if (this.#pending > 0) {
      await new Promise<void>((done) => {
        const timer = setTimeout(done, timeoutMs)
        this.#idle.push(() => {
          clearTimeout(timer)
          done()
        })
      })
    }
    closeDrive(this.#client)
  }

  async #submit(ops: readonly NativeOp[], options: RunOptions): Promise<IoResult[]> {
    const batch = encode(ops)
    if (this.#closed) throw new IoError('ESHUTDOWN', -1, 'run')
    this.#pending++
    try {
      return decode(ops, await submit(this.#client, batch, options.background === true, options.deadlineMs))
    } catch (error) {
      if (!(error instanceof RawIoError)) throw error
      throw new IoError(error.code, error.index, ops[error.index]?.op ?? 'run', this.path)
    } finally {
      this.#pending--
      if (this.#pending === 0) for (const done of this.#idle.splice(0)) done()
    }
  }
}

/** Beside the operations of every DriveIo, what it does by methods of its own. */
type NativeOp = IoOp | { op: 'lock' | 'refresh' }

function encode(ops: readonly NativeOp[]): IoBatch {
  if (ops.length > MAX_OPERATIONS) throw new IoError('EINVAL', -1, 'run', `${String(ops.length)} operations`)
  let reads = 0
  let buffers = 0
  for (const op of ops) {
    if (op.op === 'read') reads++
    else if (op.op === 'write') buffers += op.from.length
  }
  if (reads > MAX_BUFFERS) throw new IoError('EINVAL', -1, 'run', `${String(reads)} reads`)
  const batch = new IoBatch(ops.length)
  let index = 0
  for (const op of ops) {
    if ('path' in op) checkPath(op.path, op, index)
    if (op.op === 'rename') {
      checkPath(op.from, op, index)
      checkPath(op.to, op, index)
    }
    if (op.op === 'write' && buffers > MAX_BUFFERS && op.from.length > 1) {
      buffers -= op.from.length - 1
      batch.write(op.file, op.offset, [Buffer.concat(op.from)])
    } else {
      add(batch, op)
    }
    index++
  }
  return batch
}

function checkPath(path: string, { op }: NativeOp, index: number): void {
  if (!isDrivePath(path)) throw new IoError('EINVAL', index, op, `path ${JSON.stringify(path)}`)
}

function add(batch: IoBatch, op: NativeOp): void {
  switch (op.op) {
    case 'open': {
      const mode = op.mode === 'read' ? Flag.read : op.mode === 'write' ? Flag.write : Flag.create
      batch.open(op.path, mode | (op.direct === true ? Flag.direct : 0))
      return
    }
    case 'read': batch.read(op.file, op.offset, op.into); return
    case 'write': batch.write(op.file, op.offset, op.from); return
    case 'writeZeros': batch.writeZeros(op.file, op.offset, op.size); return
    case 'truncate': batch.truncate(op.file, op.size); return
    case 'rename': batch.rename(op.from, op.to); return
    case 'sync':
    case 'writeBack':
    case 'dropCache':
    case 'size':
    case 'close': batch.onFile(Kind[op.op], op.file); return
    case 'space':
    case 'lock':
    case 'refresh': batch.onDrive(Kind[op.op]); return
    default: batch.onPath(Kind[op.op], op.path)
  }
}

const FILE_KINDS = ['file', 'directory', 'other'] as const

function decode(ops: readonly NativeOp[], { results, names }: RawCompletion): IoResult[] {
  let listing = 0
  return ops.map((op, index): IoResult => {
    const { a, b, c } = results[index] ?? { a: 0, b: 0, c: 0 }
    switch (op.op) {
      case 'open':
      case 'read':
      case 'size':
      case 'dropCache':
      case 'lock': return a
      case 'list': return names[listing++] ?? []
      case 'stat': return { kind: FILE_KINDS[a] ?? 'other', size: b }
      case 'space': return { totalBytes: a, freeBytes: b, freeFiles: c }
      default: return undefined
    }
  })
}

