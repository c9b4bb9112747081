/** DriveIo over plain calls on a directory: for tests of what lies above, with real files. */
import {
  closeSync,
  fdatasyncSync,
  fsyncSync,
  ftruncateSync,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs'
import { IoError, LAST_OPENED } from '../../ts/drive/io.js'
import type { DriveIo, IoOp, IoResult } from '../../ts/drive/io.js'

export class FileIo implements DriveIo {
  readonly pending = 0
  readonly #root: string
  readonly #files = new Map<number, number>()
  #next = 1

  constructor(root: string) {
    this.#root = root
  }

  async run(ops: readonly IoOp[]): Promise<IoResult[]> {
    await new Promise((resolve) => setImmediate(resolve))
    let opened = 0
    return ops.map((op, at) => {
      try {
        if (op.op === 'open') {
          const flags = op.mode === 'read' ? 'r' : op.mode === 'write' ? 'r+' : 'wx+'
          opened = this.#next++
          this.#files.set(opened, openSync(this.#at(op.path), flags))
          return opened
        }
        return this.#do(op, opened)
      } catch (error) {
        if (error instanceof Error && 'code' in error) throw new IoError(String(error.code), at, op.op, error.message)
        throw error
      }
    })
  }

  #do(op: IoOp, opened: number): IoResult {
    return this.#call(op, opened) as IoResult
  }

  #call(op: IoOp, opened: number): unknown {
    const file = 'file' in op ? (this.#files.get(op.file === LAST_OPENED ? opened : op.file) as number) : -1
    switch (op.op) {
      case 'read': return readSync(file, op.into, 0, op.into.length, op.offset)
      case 'write': {
        let at = op.offset
        for (const bytes of op.from) at += writeSync(file, bytes, 0, bytes.length, at)
        return undefined
      }
      case 'writeZeros': return void writeSync(file, new Uint8Array(op.size), 0, op.size, op.offset)
      case 'sync': return fdatasyncSync(file)
      case 'writeBack': return undefined
      case 'truncate': return ftruncateSync(file, op.size)
      case 'size': return fstatSync(file).size
      case 'close': {
        closeSync(file)
        this.#files.delete(op.file === LAST_OPENED ? opened : op.file)
        return undefined
      }
      case 'rename': return renameSync(this.#at(op.from), this.#at(op.to))
      case 'unlink': return rmSync(this.#at(op.path), { force: true })
      case 'makeDir': {
        mkdirSync(this.#at(op.path), { recursive: true })
        return undefined
      }
      case 'removeDir': return rmdirSync(this.#at(op.path))
      case 'syncDir': {
        const directory = openSync(this.#at(op.path), 'r')
        fsyncSync(directory)
        return closeSync(directory)
      }
      case 'list': return readdirSync(this.#at(op.path))
      case 'stat': {
        const stat = statSync(this.#at(op.path))
        return { kind: stat.isFile() ? 'file' : stat.isDirectory() ? 'directory' : 'other', size: stat.size }
      }
      default: return undefined
    }
  }

  lock(): Promise<boolean> {
    return Promise.resolve(true)
  }

  refresh(): Promise<void> {
    return Promise.resolve()
  }

  close(): Promise<void> {
    for (const file of this.#files.values()) closeSync(file)
    this.#files.clear()
    return Promise.resolve()
  }

  #at(path: string): string {
    return `${this.#root}/${path}`
  }
}
