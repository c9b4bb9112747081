/**
 * What a Raft host needs from the outside. Real adapters and the simulator implement the same interfaces.
 *
 * Everything is callback style. A callback is called exactly once, never before the call that it belongs to
 * has returned, and may be called after the host has stopped: the host ignores it then. An error is the end
 * of the host, which stops acknowledging and reports it; nothing is ever retried on the same file.
 */
import type { ConfChange } from '../core/confchange.js';
import type { ConfState, Entry, EntryId, HardState, Message, NodeId, Snapshot } from '../core/types.js';

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

/** A peer and where it listens, `host:port`. */
export interface Peer {
  readonly id: NodeId;
  readonly address: string;
}

/**
 * The way to the other nodes of a group, as a replicated engine needs it. Whoever implements it has made sure that a
 * message and a question come from the peer that they name. Listeners are set once, before anything is sent.
 */
export interface PeerNetwork extends Network {
  /** Calls `listener` in a turn of its own with what has come, in the order in which each peer sent it. */
  onMessages(listener: (messages: readonly Message[]) => void): void;
  /** The connection to this peer was lost, and perhaps what was sent last. */
  onUnreachable(listener: (peer: NodeId) => void): void;
  /** Replaces what is known of the peers; connections to others may be closed. */
  setPeers(peers: readonly Peer[]): void;
  readonly snapshots: SnapshotLane;
}

/**
 * Long answers between peers, on a connection beside that of the messages, so that none of them waits for a
 * snapshot. An answer is a stream of chunks of at most MAX_LANE_CHUNK bytes, in order, whole as far as it has come.
 */
export interface SnapshotLane {
  /**
   * Asks a peer. The question (at most 4 KiB) travels when the iteration starts; the answer is not read ahead by more
   * than a few chunks. Throws when the peer refuses, fails, or cannot be reached; ending the iteration cancels.
   */
  fetch(peer: NodeId, question: Uint8Array): AsyncIterable<Uint8Array>;
  /** Who answers here. What it throws is told to the asker in words; it is ended when the asker is gone. */
  serve(answer: (asker: NodeId, question: Uint8Array) => AsyncIterable<Uint8Array>): void;
}

export const MAX_LANE_CHUNK: number = (1 << 20) + 4096;

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
  /** Entries after this index are needed for a snapshot on its way to a follower; undefined: there is none. */
  neededAfter?(): number | undefined;
}

/** What a host tells of itself. */
export interface HostEvents {
  /** Entries were applied, in order. */
  onApplied?(entries: readonly Entry[]): void;
  /** The log has written everything. Called in the middle of the host's work: propose in a later turn. */
  onIdle?(): void;
  /** Leader, term or role changed. */
  onRole?(): void;
  /** A membership change was applied. */
  onMembership?(change: ConfChange, before: ConfState, after: ConfState): void;
  /** The host has stopped for good; `error` is undefined if it was asked to. */
  onStop?(error: Error | undefined): void;
}
