/** What a replicated engine is told, and what it assumes otherwise. */
import type { MetaDrive } from '../../drive_files.js'
import { DEFAULT_LOG_OPTIONS } from '../../log/command_log.js'
import type { LogOptions } from '../../log/command_log.js'
import { lmdbViews } from '../../views.js'
import type { ViewFactory } from '../../views.js'
import type { Clock, Peer, PeerNetwork } from '../host/environment.js'
import type { HostOptions } from '../host/host.js'

export interface ReplicatedEngineOptions {
  /** Drives that are here; the first takes a new replica. */
  drives: readonly MetaDrive[]
  network: PeerNetwork
  /** This node's name and the address that its peers reach it under; registered in the group's state. */
  self?: { name: string; address: string }
  /** Joins a group that exists, under the id that `addNode` gave there. Needed at the first start only. */
  join?: { id: number }
  /** Peers from the configuration, for as long as the state does not name them. */
  peers?: readonly Peer[]
  views?: ViewFactory
  log?: Partial<LogOptions>
  /** Milliseconds of a tick; a heartbeat goes out with each, an election begins after 20 to 39 without one. */
  tickMs?: number
  electionTicks?: number
  /** Entries, and their bytes, after which the log is released; both are jittered. */
  releaseEvery?: number
  releaseBytes?: number
  /** Entries, and their bytes, that stay for slow followers. */
  trailingEntries?: number
  trailingBytes?: number
  /** Bytes of log files that stay although the view has them. */
  trailingLogBytes?: number
  /** Milliseconds for a write of the log. */
  deadlineMs?: number
  /** A leader whose log write takes longer resigns. */
  stallMs?: number
  /** Milliseconds between flushes of the view. */
  flushEveryMs?: number
  /** A learner that lacks more entries is not promoted. */
  learnerMaxLag?: number
  /** A command is given up after this time, a batch proposed again after `retryMs`. */
  commandTimeoutMs?: number
  retryMs?: number
  readTimeoutMs?: number
  /** Without a leader, or behind, or with a command that waits for longer, it says that it cannot serve. */
  unreadyAfterMs?: number
  maxQueued?: number
  maxQueuedBytes?: number
  maxReads?: number
  clock?: Clock
  random?: (below: number) => number
  /** The clock that stamps batches. */
  now?: () => number
  /** Facts for the operator. */
  note?: (message: string) => void
  core?: HostOptions['core']
}

/** With everything decided. */
export type EngineSettings = Required<Omit<ReplicatedEngineOptions, 'self' | 'join' | 'log'>> & {
  self: { name: string; address: string } | undefined
  join: { id: number } | undefined
  log: LogOptions
}

export const systemClock: Clock = {
  now: () => Math.floor(performance.now()),
  after: (ms, run) => {
    const timer = setTimeout(run, ms)
    return () => {
      clearTimeout(timer)
    }
  },
}

export function settle(given: ReplicatedEngineOptions): EngineSettings {
  const tickMs = given.tickMs ?? 50
  const electionTicks = given.electionTicks ?? 20
  const deadlineMs = given.deadlineMs ?? 10_000
  const random = given.random ?? ((below: number): number => Math.floor(Math.random() * below))
  const jittered = (value: number): number => value + random(Math.max(1, value >> 2))
  return {
    drives: given.drives,
    network: given.network,
    self: given.self,
    join: given.join,
    peers: given.peers ?? [],
    views: given.views ?? lmdbViews,
    log: { ...DEFAULT_LOG_OPTIONS, deadlineMs, ...given.log, replicated: true },
    tickMs,
    electionTicks,
    releaseEvery: jittered(given.releaseEvery ?? 10_000),
    releaseBytes: jittered(given.releaseBytes ?? 100_000_000),
    trailingEntries: given.trailingEntries ?? 5_000,
    trailingBytes: given.trailingBytes ?? 32 << 20,
    trailingLogBytes: given.trailingLogBytes ?? 64 << 20,
    deadlineMs,
    stallMs: given.stallMs ?? 2 * electionTicks * tickMs,
    flushEveryMs: given.flushEveryMs ?? 1_000,
    learnerMaxLag: given.learnerMaxLag ?? 1_000,
    commandTimeoutMs: given.commandTimeoutMs ?? 10_000,
    retryMs: given.retryMs ?? 1_000,
    readTimeoutMs: given.readTimeoutMs ?? 5_000,
    unreadyAfterMs: given.unreadyAfterMs ?? 5 * electionTicks * tickMs,
    maxQueued: given.maxQueued ?? 16_384,
    maxQueuedBytes: given.maxQueuedBytes ?? 64 << 20,
    maxReads: given.maxReads ?? 16_384,
    clock: given.clock ?? systemClock,
    random,
    now: given.now ?? Date.now,
    note: given.note ?? ((): void => undefined),
    core: given.core ?? {},
  }
}
