/**
 * Signals and last words of the process.
 *
 * SIGTERM or SIGINT asks for an orderly end; a second one ends at once. An error that nobody caught is logged and ends
 * the process: what is durable is durable, and a supervisor starts it again. Every end goes through `exitNow` of the
 * drive I/O, which waits for no thread: a drive that hangs for ever must not hold the process.
 */
import { constants } from 'node:os'

import { exitNow } from '../../native/io.js'
import type { Logger } from '../log.js'

export class Lifecycle {
  readonly #log: Logger
  #asked: NodeJS.Signals | undefined
  #ask: ((signal: NodeJS.Signals) => void) | undefined
  readonly stopAsked: Promise<NodeJS.Signals>

  constructor(log: Logger) {
    this.#log = log
    this.stopAsked = new Promise((resolve) => {
      this.#ask = resolve
    })
    process.on('SIGTERM', (signal) => {
      this.#signal(signal)
    })
    process.on('SIGINT', (signal) => {
      this.#signal(signal)
    })
    process.on('uncaughtException', (error) => {
      this.fatal('an error that nobody caught', error)
    })
    process.on('unhandledRejection', (error) => {
      this.fatal('a rejection that nobody caught', error)
    })
    // The terminal or log collector went away: serving goes on.
    process.stdout.on('error', () => undefined)
  }

  get stopping(): boolean {
    return this.#asked !== undefined
  }

  fatal(what: string, error: unknown): never {
    try {
      this.#log.fatal({ err: error }, what)
    } catch {
      // Without a log the end comes all the same.
    }
    exitNow(1)
  }

  #signal(signal: NodeJS.Signals): void {
    if (this.#asked !== undefined) {
      this.#log.warn({ signal }, 'a second signal: ending at once')
      exitNow(128 + constants.signals[signal])
    }
    this.#asked = signal
    this.#log.info({ signal }, 'asked to stop')
    this.#ask?.(signal)
  }
}
