/** Drive I/O where nothing waits for ever: a deadline for every submission that has none of its own. */
import type { DriveIo, IoOp, IoResult, RunOptions } from '../drive/io.js'

export class DeadlineIo implements DriveIo {
  readonly #io: DriveIo
  readonly #deadlineMs: number

  constructor(io: DriveIo, deadlineMs: number) {
    this.#io = io
    this.#deadlineMs = deadlineMs
  }

  get pending(): number {
    return this.#io.pending
  }

  run(ops: readonly IoOp[], options: RunOptions = {}): Promise<IoResult[]> {
    return this.#io.run(ops, { deadlineMs: this.#deadlineMs, ...options })
  }

  lock(): Promise<boolean> {
    return this.#io.lock()
  }

  refresh(): Promise<void> {
    return this.#io.refresh()
  }

  close(timeoutMs?: number): Promise<void> {
    return this.#io.close(timeoutMs)
  }
}
