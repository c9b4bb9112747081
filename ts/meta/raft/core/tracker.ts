/**
 * The membership in force, the progress of every member, and the votes of an election under way.
 *
 * The configuration object is replaced as a whole when a change is applied and never edited in place.
 */
import { Inflights } from './inflights.js';
import type { Progress } from './progress.js';
import { jointCommitted, jointVote, type Majority, type VoteResult } from './quorum.js';
import type { ConfState, NodeId } from './types.js';

/**
 * Invariants: every id in any list has a progress; learners is disjoint from both voter lists; learnersNext
 * is part of outgoing; outside a joint configuration outgoing and learnersNext are empty and autoLeave is
 * false.
 */
export interface Configuration {
  readonly incoming: Majority;
  readonly outgoing: Majority;
  readonly learners: readonly NodeId[];
  readonly learnersNext: readonly NodeId[];
  readonly autoLeave: boolean;
}

export const EMPTY_CONFIGURATION: Configuration = {
  incoming: [],
  outgoing: [],
  learners: [],
  learnersNext: [],
  autoLeave: false,
};

export type ProgressMap = ReadonlyMap<NodeId, Progress>;

export function confStateOf(config: Configuration): ConfState {
  return {
    voters: config.incoming,
    votersOutgoing: config.outgoing,
    learners: config.learners,
    learnersNext: config.learnersNext,
    autoLeave: config.autoLeave,
  };
}

export class Tracker {
  readonly maxInflight: number;
  readonly maxInflightBytes: number;
  config: Configuration = EMPTY_CONFIGURATION;
  /** Ordered by id, so that visits are the same everywhere. */
  progress: ProgressMap = new Map();
  /** The answers of this candidacy: the first of each voter counts. */
  readonly votes: Map<NodeId, boolean> = new Map();

  constructor(maxInflight: number, maxInflightBytes: number) {
    this.maxInflight = maxInflight;
    this.maxInflightBytes = maxInflightBytes;
  }

  newInflights(): Inflights {
    return new Inflights(this.maxInflight, this.maxInflightBytes);
  }

  isJoint(): boolean {
    return this.config.outgoing.length > 0;
  }

  isSingleton(): boolean {
    return this.config.incoming.length === 1 && !this.isJoint();
  }

  isVoter(id: NodeId): boolean {
    return this.config.incoming.includes(id) || this.config.outgoing.includes(id);
  }

  /** All ids with a vote, in either half of a joint configuration, sorted. */
  voterIds(): NodeId[] {
    const ids = new Set([...this.config.incoming, ...this.config.outgoing]);
    return [...ids].sort((a, b) => a - b);
  }

  /** The highest index acknowledged by a quorum (by both, in a joint configuration). */
  committed(): number {
    const { incoming, outgoing } = this.config;
    return jointCommitted(incoming, outgoing, (id) => this.progress.get(id)?.match);
  }

  /** The same computation over any per-voter number that only grows. */
  quorumOf(value: (id: NodeId) => number | undefined): number {
    return jointCommitted(this.config.incoming, this.config.outgoing, value);
  }

  /** Whether a quorum has been heard of since the flags were last cleared. The leader flags itself. */
  quorumActive(): boolean {
    const active = new Map<NodeId, boolean>();
    for (const [id, progress] of this.progress) {
      if (!progress.learner) active.set(id, progress.recentActive);
    }
    return jointVote(this.config.incoming, this.config.outgoing, active) === 'VoteWon';
  }

  resetVotes(): void {
    this.votes.clear();
  }

  /** A voter's later answers change nothing, so that repeated messages are harmless. */
  recordVote(id: NodeId, granted: boolean): void {
    if (!this.votes.has(id)) this.votes.set(id, granted);
  }

  tallyVotes(): VoteResult {
    return jointVote(this.config.incoming, this.config.outgoing, this.votes);
  }
}
