/** What a local engine is told, and what it assumes otherwise. */
import type { MetaDrive } from './drive_files.js'
import { DEFAULT_LOG_OPTIONS } from './log/command_log.js'
import type { LogOptions } from './log/command_log.js'
import { lmdbViews } from './views.js'
import type { ViewFactory } from './views.js'

export interface LocalEngineOptions {
  /** Drives that are here, in order of preference for copies. */
  drives: readonly MetaDrive[]
  /** How many copies are wanted: m + 1. */
  copies: number
  views?: ViewFactory
  log?: Partial<LogOptions>
  /** Bytes of log kept although every view has it. */
  trailingLogBytes?: number
  /** Milliseconds for a copy to take a batch or a copy set. */
  deadlineMs?: number
  /** Milliseconds for everything else that a drive is asked: making files, flushing views. */
  careDeadlineMs?: number
  /** Milliseconds after which a missing copy is made on another drive. */
  replaceAfterMs?: number
  /** Milliseconds between flushes of the views. */
  flushEveryMs?: number
  /** Commands waiting at most, and their bytes. */
  maxQueued?: number
  maxQueuedBytes?: number
  /** The clock that stamps batches. */
  now?: () => number
  /** Facts for the operator: copies lost, found stale, remade. */
  note?: (message: string) => void
}

/** With everything decided. */
export type EngineOptions = Required<Omit<LocalEngineOptions, 'drives' | 'log'>> & { log: LogOptions }

export function withDefaults(given: LocalEngineOptions): EngineOptions {
  const deadlineMs = given.deadlineMs ?? 10_000
  return {
    copies: given.copies,
    views: given.views ?? lmdbViews,
    log: { ...DEFAULT_LOG_OPTIONS, deadlineMs, ...given.log },
    trailingLogBytes: given.trailingLogBytes ?? 64 << 20,
    deadlineMs,
    careDeadlineMs: given.careDeadlineMs ?? 60_000,
    replaceAfterMs: given.replaceAfterMs ?? 60_000,
    flushEveryMs: given.flushEveryMs ?? 1_000,
    maxQueued: given.maxQueued ?? 16_384,
    maxQueuedBytes: given.maxQueuedBytes ?? 64 << 20,
    now: given.now ?? Date.now,
    note: given.note ?? ((): void => undefined),
  }
}
