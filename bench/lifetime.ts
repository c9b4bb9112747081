/**
 * What a run leaves behind: nothing. An interrupt aborts `signal`; whoever runs something stops it then and removes
 * what it made. Should that hang, or a second interrupt come, the process ends at once, and its 'exit' handlers kill
 * and remove what is left.
 */
import { rmSync } from 'node:fs'

import { makeDrives } from './load/server_process.js'

const UNWIND_MS = 20_000
const INTERRUPTED = 130

const controller = new AbortController()
/** Aborted by SIGINT, SIGTERM and SIGHUP. */
export const interrupted: AbortSignal = controller.signal

export function catchInterrupts(): void {
  const interrupt = (): void => {
    if (interrupted.aborted) process.exit(INTERRUPTED)
    process.stderr.write('stopping\n')
    controller.abort()
    setTimeout(() => process.exit(INTERRUPTED), UNWIND_MS).unref()
  }
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, interrupt)
}

/** Runs `work` with a fresh folder that holds `count` empty drives, and removes it whatever happens. */
export async function withDrives<T>(
  count: number,
  parent: string | undefined,
  work: (drives: readonly string[]) => Promise<T>,
): Promise<T> {
  const place = makeDrives(count, parent)
  const remove = (): void => {
    rmSync(place.folder, { recursive: true, force: true, maxRetries: 5 })
  }
  process.once('exit', remove)
  try {
    return await work(place.drives)
  } finally {
    remove()
    process.off('exit', remove)
  }
}
