/**
 * What a Raft host needs from the outside. Real adapters and the simulator implement the same interfaces.
 *
 * Everything is callback style. A callback is called exactly once, never before the call that it belongs to
 * has returned, and may be called after the host has stopped: the host ignores it then. An error is the end
 * of the host, which stops acknowledging and reports it; nothing is ever retried on the same file.
 */
import type { ConfChange } from '../core/confchange.js';
import type { ConfState, Entry, EntryId, HardState, Message, Snapshot } from '../core/types.js';

export interface Clock {
  /** Milliseconds since some fixed moment. Does not go back. */
  now(): number;
  /** Calls `run` once, `ms` milliseconds from now or later. Returns what cancels it. */
  after(ms: number, run: () => void): () => void;
}

export interface Network {
  /** May lose, repeat, delay and reorder. Never calls back into the host before it returns. */
  send(message: Message): void;
}

export type Done = (error: Error | undefined) => void;

/** One step of the log, in the order of its fields. */
export interface LogRecord {
  /** Term, vote and commit index together, or undefined if they did not change. */
  readonly hardState: HardState | undefined;
  /** Everything before is replaced by a snapshot that ends in this entry. */
  readonly reset: EntryId | undefined;
  /** Replace everything at and after the index of the first. */
  readonly entries: readonly Entry[];
}

export interface RecoveredLog {
  readonly hardState: HardState;
  /** The entry before the first; {0, 0} if the log starts at its beginning. */
  readonly before: EntryId;
  readonly entries: readonly Entry[];
}

export interface DurableLog {
  /** Done when all of it is durable. The host writes one list of records at a time. */
  write(records: readonly LogRecord[], done: Done): void;
  /** Entries up to and including this index are needed no more. */
  release(index: number): void;
}

/**
 * What the state machine holds durably, or will once it is flushed; written in one transaction with the
 * state.
 */
export interface Applied extends EntryId {
  readonly confState: ConfState;
}

export interface StateMachine {
  /** What it held when it was opened. */
  readonly recovered: Applied;
  /**
   * Applies consecutive committed entries in one transaction together with `applied`. Need not be durable.
   */
  apply(entries: readonly Entry[], applied: Applied, done: Done): void;
  /** Replaces the state by a snapshot's, durably. */
  install(snapshot: Snapshot, done: Done): void;
  /** Makes durable what was applied before the call. */
  flush(done: Done): void;
  /** A snapshot of the state as last applied, or undefined if none can be made now. */
  snapshot(): Snapshot | undefined;
}

/** What a host tells of itself. */
export interface HostEvents {
  /** Entries were applied, in order. */
  onApplied?(entries: readonly Entry[]): void;
  /** Leader, term or role changed. */
  onRole?(): void;
  /** A membership change was applied. */
  onMembership?(change: ConfChange, before: ConfState, after: ConfState): void;
  /** The host has stopped for good; `error` is undefined if it was asked to. */
  onStop?(error: Error | undefined): void;
}
