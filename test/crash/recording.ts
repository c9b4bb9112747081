/** Compiles the recorder once per test process and says how to run a program under it. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, realpathSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { readTrace } from './image.js'
import type { Trace } from './image.js'

const RECORDER_SOURCE = join(import.meta.dirname, '../../../test/crash/recorder.c')

export class Recording {
  readonly directory: string
  /** The tree that is recorded. */
  readonly root: string
  readonly #tracePath: string
  readonly #library: string
  readonly #rootInode: bigint

  constructor() {
    this.directory = mkdtempSync(join(realpathSync(tmpdir()), 'ostraka-crash-'))
    this.root = mkdtempSync(join(this.directory, 'recorded-'))
    this.#tracePath = join(this.directory, 'trace')
    this.#library = join(this.directory, 'recorder.so')
    this.#rootInode = statSync(this.root, { bigint: true }).ino
    execFileSync('gcc', ['-shared', '-fPIC', '-O2', '-o', this.#library, RECORDER_SOURCE, '-ldl', '-lpthread'])
  }

  /** Variables for the program to be recorded. Everything it changes must lie below `root`. */
  environment(): Record<string, string> {
    return { LD_PRELOAD: this.#library, OSTRAKA_TRACE: this.#tracePath, OSTRAKA_TRACE_ROOT: this.root }
  }

  /** Bytes of trace so far: whatever the program did before now lies below this offset. */
  position(): number {
    return statSync(this.#tracePath, { throwIfNoEntry: false })?.size ?? 0
  }

  trace(): Trace {
    return readTrace(this.#tracePath, this.root, this.#rootInode)
  }

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true })
  }
}
