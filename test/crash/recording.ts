/** Compiles the recorder once per test process and says how to run a program under it. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Trace } from './image.js'

const RECORDER_SOURCE = join(import.meta.dirname, '../../../test/crash/recorder.c')

export class Recording {
  readonly directory: string
  /** The tree that is recorded. */
  readonly root: string
  readonly #tracePath: string
  readonly #library: string
  readonly #rootInode: bigint
  readonly #directories: { name: string; inode: bigint }[] = []

  constructor() {
    this.directory = mkdtempSync(join(realpathSync(tmpdir()), 'ostraka-crash-'))
    this.root = mkdtempSync(join(this.directory, 'recorded-'))
    this.#tracePath = join(this.directory, 'trace')
    this.#library = join(this.directory, 'recorder.so')
    this.#rootInode = statSync(this.root, { bigint: true }).ino
    execFileSync('gcc', ['-shared', '-fPIC', '-O2', '-o', this.#library, RECORDER_SOURCE, '-ldl', '-lpthread'])
  }

  /** Makes a directory in the root that counts as durable; call before the program starts. */
  makeDirectory(name: string): string {
    const path = join(this.root, name)
    mkdirSync(path)
    this.#directories.push({ name, inode: statSync(path, { bigint: true }).ino })
    return path
  }

  /** Variables for the program to be recorded. Everything it changes must lie below `root`. */
  environment(): Record<string, string> {
    return { LD_PRELOAD: this.#library, RECORDER_TRACE: this.#tracePath, RECORDER_ROOT: this.root }
  }

  /** Bytes of trace so far: whatever the program did before now lies below this offset. */
  position(): number {
    return statSync(this.#tracePath, { throwIfNoEntry: false })?.size ?? 0
  }

  trace(): Trace {
    return {
      bytes: readFileSync(this.#tracePath),
      rootPath: this.root,
      rootInode: this.#rootInode,
      directories: this.#directories,
    }
  }

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true })
  }
}
