/** A file system of its own in memory, small enough to be filled to the last byte. Mounting needs root. */
import { spawnSync } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const FILLER = 'filler'

export class SmallDisk {
  readonly folder: string
  readonly #unmount: () => void

  private constructor(folder: string) {
    this.folder = folder
    this.#unmount = () => void spawnSync('umount', ['--lazy', folder])
    process.once('exit', this.#unmount)
  }

  /** Undefined, with the reason on standard output, where nothing can be mounted. */
  static mount(mebibytes: number): SmallDisk | undefined {
    const folder = mkdtempSync(join(tmpdir(), 'ostraka-small-'))
    const done = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${String(mebibytes)}m`, 'tmpfs', folder])
    if (done.status === 0) return new SmallDisk(folder)
    rmSync(folder, { recursive: true })
    const why = done.error?.message ?? done.stderr.toString().trim()
    process.stdout.write(`# no disk is filled up: a small one cannot be mounted here (${why})\n`)
    return undefined
  }

  /** Takes all space that is left; again, what was freed since. */
  fill(): void {
    const file = openSync(join(this.folder, FILLER), 'a')
    try {
      for (const size of [1 << 20, 1 << 12]) {
        for (const piece = Buffer.alloc(size, 1); ;) {
          try {
            if (writeSync(file, piece) < size) break
          } catch (error) {
            if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
            break
          }
        }
      }
    } finally {
      closeSync(file)
    }
  }

  free(): void {
    rmSync(join(this.folder, FILLER), { force: true })
  }

  remove(): void {
    process.off('exit', this.#unmount)
    this.#unmount()
    rmSync(this.folder, { recursive: true, force: true })
  }
}
