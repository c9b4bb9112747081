/**
 * What a leader knows about the log of one follower, and how it may send to it.
 *
 *   StateProbe      The end of the common log is unknown: one MsgApp at a time, each an attempt at `next`.
 *   StateReplicate  The logs agree up to next-1 as far as sent: MsgApps are pipelined within `inflights`.
 *   StateSnapshot   The follower needs entries that were compacted: nothing is sent until the snapshot is in.
 *
 * Probe -> Replicate on an acknowledgement; Replicate -> Probe on a rejection or an unreachable follower;
 * either -> Snapshot when the log no longer reaches back to `next`; Snapshot -> Probe/Replicate when the
 * follower acknowledges an index from which the log can continue.
 */
import type { Inflights } from './inflights.js';
import { fail } from './invariant.js';

export type ProgressState = 'StateProbe' | 'StateReplicate' | 'StateSnapshot';

export interface ProgressOptions {
  readonly match: number;
  readonly next: number;
  readonly inflights: Inflights;
  readonly learner: boolean;
  readonly recentActive: boolean;
}

export class Progress {
  state: ProgressState = 'StateProbe';
  /**
   * The highest index the follower has acknowledged as durable. Only grows within a term.
   * Invariant: 0 <= match < next.
   */
  match: number;
  /**
   * The index of the next entry to send. Entries in (match, next) are on their way.
   * StateSnapshot: next == pendingSnapshot + 1, and nothing is sent.
   */
  next: number;
  /**
   * The highest commit index known to have been sent, or lowered to next-1 when that message may have missed.
   * Saves empty MsgApps whose only news would be an old commit index.
   */
  sentCommit = 0;
  /** Invariant: > 0 exactly in StateSnapshot; the index of the snapshot being sent. */
  pendingSnapshot = 0;
  /** A message came from this follower since the last check-quorum round. Also gates sending it snapshots. */
  recentActive: boolean;
  /**
   * The flow is stopped until the follower is heard of: a probe is out, or the in-flight window is full. A
   * heartbeat response reopens it for one message, so that a lost window cannot stall replication for ever.
   */
  paused = false;
  /** Invariant: empty unless StateReplicate. */
  readonly inflights: Inflights;
  learner: boolean;

  constructor(options: ProgressOptions) {
    this.match = options.match;
    this.next = options.next;
    this.inflights = options.inflights;
    this.learner = options.learner;
    this.recentActive = options.recentActive;
  }

  private enter(state: ProgressState): void {
    this.state = state;
    this.paused = false;
    this.pendingSnapshot = 0;
    this.inflights.reset();
  }

  private regressSentCommit(): void {
    this.sentCommit = Math.min(this.sentCommit, this.next - 1);
  }

  becomeProbe(): void {
    // After a snapshot that arrived, the follower has at least the snapshot's index.
    const snapshot = this.state === 'StateSnapshot' ? this.pendingSnapshot : 0;
    this.enter('StateProbe');
    this.next = Math.max(this.match, snapshot) + 1;
    this.regressSentCommit();
  }

  becomeReplicate(): void {
    this.enter('StateReplicate');
    this.next = this.match + 1;
  }

  becomeSnapshot(index: number): void {
    this.enter('StateSnapshot');
    this.pendingSnapshot = index;
    this.next = index + 1;
    this.sentCommit = index;
  }

  /** Accounts for a MsgApp with `count` entries of `bytes` payload bytes that is being sent from `next`. */
  sentEntries(count: number, bytes: number): void {
    if (this.state === 'StateReplicate') {
      if (count > 0) {
        this.next += count;
        this.inflights.add(this.next - 1, bytes);
      }
      this.paused = this.inflights.full();
    } else if (this.state === 'StateProbe') {
      if (count > 0) this.paused = true;
    } else {
      fail('entries sent to a follower that waits for a snapshot');
    }
  }

  /** Whether telling this commit index now could move the follower's own. */
  canBumpCommit(commit: number): boolean {
    return commit > this.sentCommit && this.sentCommit < this.next - 1;
  }

  /** Takes an acknowledgement of everything up to `index`. False if that was known before. */
  maybeUpdate(index: number): boolean {
    if (index <= this.match) return false;
    this.match = index;
    this.next = Math.max(this.next, index + 1);
    this.paused = false;
    return true;
  }

  /**
   * Takes a rejection of the MsgApp that followed index `rejected`; `hint` is where the logs may agree.
   * False if it answers a message that no longer matters (late, repeated or reordered).
   */
  maybeDecrementTo(rejected: number, hint: number): boolean {
    if (this.state === 'StateReplicate') {
      if (rejected <= this.match) return false;
      this.next = this.match + 1;
      this.regressSentCommit();
      return true;
    }
    // A probe is always sent at next, so a rejection of anything else is not about the latest probe.
    if (this.next - 1 !== rejected) return false;
    this.next = Math.max(Math.min(rejected, hint + 1), this.match + 1);
    this.regressSentCommit();
    this.paused = false;
    return true;
  }

  isPaused(): boolean {
    return this.state === 'StateSnapshot' || this.paused;
  }
}
