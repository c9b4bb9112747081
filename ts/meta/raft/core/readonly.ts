/**
 * Linearizable reads without log entries, and leases.
 *
 * The leader numbers its heartbeat broadcasts: rounds 1, 2, 3 ... within its term. A read that arrives is
 * noted with the commit index of that moment and a round that starts after it. When a quorum has answered
 * that round or a later one, nobody else can have been leader when the read arrived, so the noted index is
 * recent enough. Rounds only grow and a response counts for every round up to its own, so repeated, late and
 * reordered responses are harmless, and request ids play no part in the decision. A term change drops
 * everything.
 *
 * A lease (off by default) derives the same knowledge from the past: a follower that answered a round sent at
 * tick t refuses its vote to others for an election timeout after that. Both sides count ticks of their own
 * clocks, so the lease is shorter by `margin` ticks; it is void after a transfer order (whose target may
 * campaign at any time), and whenever the host says that its clock is in doubt. Without a valid lease, reads
 * fall back to rounds.
 */
import type { Message, NodeId } from './types.js';

interface PendingRead {
  readonly request: Message;
  /** The leader's commit index when the request came. */
  readonly index: number;
  /** Invariant: grows from front to back. */
  readonly round: number;
}

interface SentRound {
  readonly round: number;
  readonly tick: number;
}

export class ReadOnly {
  private readonly limit: number;
  private round = 0;
  private pending: PendingRead[] = [];
  /** The highest round each member has answered. */
  private readonly acked: Map<NodeId, number> = new Map();
  /** Rounds and when they were sent; those too old to carry a lease are dropped. */
  private sent: SentRound[] = [];
  private leaseVoid = false;

  constructor(limit: number) {
    this.limit = limit;
  }

  /** Numbers a broadcast that is about to be sent at `tick`. */
  nextRound(tick: number, keepTicks: number): number {
    this.round++;
    // One round per tick is enough: an answer to a later round of the same tick proves no more.
    if (this.sent[this.sent.length - 1]?.tick !== tick) {
      this.sent = this.sent.filter((sent) => tick - sent.tick <= keepTicks);
      this.sent.push({ round: this.round, tick });
    }
    return this.round;
  }

  full(): boolean {
    return this.pending.length >= this.limit;
  }

  /** Queues a read that the broadcast after this call will confirm. */
  add(request: Message, index: number): void {
    this.pending.push({ request, index, round: this.round + 1 });
  }

  recordAck(from: NodeId, round: number): void {
    // A round that was never sent in this term confirms nothing.
    if (round > this.round) return;
    this.acked.set(from, Math.max(this.acked.get(from) ?? 0, round));
  }

  /** The leader itself counts as having answered everything it sent. */
  ackedBy(id: NodeId, self: NodeId): number {
    return id === self ? this.round : (this.acked.get(id) ?? 0);
  }

  /** Takes out the reads that a quorum's round confirms, oldest first. */
  release(quorumRound: number): PendingRead[] {
    const count = this.pending.findIndex((read) => read.round > quorumRound);
    return this.pending.splice(0, count < 0 ? this.pending.length : count);
  }

  /** Whether a quorum answered a round sent at most `ticks` ticks before `now`. */
  leaseHolds(quorumRound: number, now: number, ticks: number): boolean {
    if (this.leaseVoid) return false;
    // The latest of the confirmed rounds is the one to count from.
    for (let i = this.sent.length - 1; i >= 0; i--) {
      const sent = this.sent[i]!;
      if (sent.round <= quorumRound) return now - sent.tick <= ticks;
    }
    return false;
  }

  /** For the rest of the term. */
  voidLease(): void {
    this.leaseVoid = true;
  }

  /** Until a round that is sent from now on has been answered. */
  restartLease(): void {
    this.sent = [];
  }
}
