/**
 * Sees everything, and checks after every event what must hold at all times.
 *
 *   ElectionSafety       at most one leader per term, ever
 *   VoteOnce             a node votes for at most one candidate per term, also across restarts, and durably so
 *   ElectedByQuorum      a leader has the durable votes of a quorum of its configuration
 *   LogMatching          an index and a term name one entry, with one entry before it
 *   LeaderCompleteness   a new leader's log holds every entry that was committed in an earlier term
 *   CommitAgreement      all nodes commit the same entries
 *   CommittedOnQuorum    what a leader commits is durable on a quorum of its configuration
 *   StateMachineSafety   all nodes that applied an index have the same state
 *   AckDurability        what a node acknowledges is durable there, and stays so while the term lasts
 *   Monotone             terms, commit and applied indexes do not go back
 *   Order                released <= flushed; applied <= committed, and <= durable
 *   ConfigSafety         one history of configurations, each next to the one before
 *   ReadSafety           a read sees everything that was committed anywhere when it was asked for
 *   ExactlyOnce          a request takes effect once
 */
import type { Raft } from '../../../../ts/meta/raft/core/raft.js';
import {
  NONE,
  type ConfState,
  type Entry,
  type Message,
  type NodeId,
} from '../../../../ts/meta/raft/core/types.js';
import { hashEntry, type Command } from './machine.js';
import { BASE, type SimNode } from './node.js';

export class ViolationError extends Error {
  readonly invariant: string;

  constructor(invariant: string, detail: string) {
    super(`${invariant}: ${detail}`);
    this.invariant = invariant;
  }
}

interface Seen {
  incarnation: number;
  term: number;
  commit: number;
  applied: number;
  /** The term it leads, or 0. */
  leading: number;
  durableTerm: number;
  installing: boolean;
  lead: NodeId;
  /** The last durable index. */
  last: number;
}

interface KnownEntry {
  readonly hash: number;
  readonly previousTerm: number;
}

interface Committed {
  /** Of the entry. */
  readonly term: number;
  /** The term in which it was committed. */
  readonly by: number;
}

export class Observer {
  private readonly nodes: ReadonlyMap<NodeId, SimNode>;
  private readonly seen: Map<NodeId, Seen> = new Map();
  private readonly leaders: Map<number, NodeId> = new Map();
  private readonly votes: Map<string, NodeId> = new Map();
  /** The highest index each node acknowledged, and in which term. */
  private readonly acked: Map<NodeId, { readonly term: number; readonly index: number }> = new Map();
  private readonly entries: Map<string, KnownEntry> = new Map();
  private readonly committed: Map<number, Committed> = new Map([[BASE.index, { term: BASE.term, by: 0 }]]);
  private readonly states: Map<number, number> = new Map();
  private readonly configs: Map<number, string> = new Map();
  private readonly executed: Map<string, number> = new Map();
  /** The highest index that any node ever knew to be committed. */
  maxCommit = BASE.index;
  readonly counters: Map<string, number> = new Map();

  constructor(nodes: ReadonlyMap<NodeId, SimNode>) {
    this.nodes = nodes;
  }

  count(what: string): void {
    this.counters.set(what, (this.counters.get(what) ?? 0) + 1);
  }

  private fail(invariant: string, detail: string): never {
    throw new ViolationError(invariant, detail);
  }

  // ---- messages

  onSend(node: SimNode, m: Message): void {
    const { log } = node;
    if (m.type === 'MsgVoteResp' && !m.reject) {
      this.vote(node.id, m.term, m.to);
      const { term, vote } = log.hardState;
      if (term < m.term || (term === m.term && vote !== m.to)) {
        this.fail(
          'VoteOnce',
          `node ${node.id} sent a vote for ${m.to} in term ${m.term} that is not durable`,
        );
      }
    } else if (m.type === 'MsgAppResp' && !m.reject) {
      if (m.index > log.lastIndex()) {
        this.fail('AckDurability', `node ${node.id} acknowledged ${m.index}, durable is ${log.lastIndex()}`);
      }
      this.acked.set(node.id, { term: m.term, index: Math.max(m.index, this.ackedIn(node.id, m.term)) });
      if (m.term > log.hardState.term && m.index > 0) {
        this.fail('AckDurability', `node ${node.id} acknowledged in term ${m.term}, which is not durable`);
      }
    } else if (m.type === 'MsgApp') {
      this.matchEntries(m.logTerm, m.entries);
    } else if (m.type === 'MsgSnap') {
      this.count('snapshot sent');
    }
  }

  private ackedIn(id: NodeId, term: number): number {
    const acked = this.acked.get(id);
    return acked?.term === term ? acked.index : 0;
  }

  private vote(voter: NodeId, term: number, candidate: NodeId): void {
    const key = `${voter}/${term}`;
    const before = this.votes.get(key);
    if (before === undefined) this.votes.set(key, candidate);
    else if (before !== candidate) {
      this.fail('VoteOnce', `node ${voter} voted for ${before} and ${candidate} in term ${term}`);
    }
  }

  private matchEntries(previousTerm: number, entries: readonly Entry[]): void {
    let previous = previousTerm;
    for (const entry of entries) {
      const key = `${entry.term}/${entry.index}`;
      const hash = hashEntry(0, entry);
      const known = this.entries.get(key);
      if (known === undefined) this.entries.set(key, { hash, previousTerm: previous });
      else if (known.hash !== hash || known.previousTerm !== previous) {
        this.fail('LogMatching', `there are two entries ${key}`);
      }
      previous = entry.term;
    }
  }

  // ---- state machines

  onExecuted(command: Command, index: number): void {
    const key = `${command.client}/${command.sequence}`;
    const before = this.executed.get(key);
    if (before === undefined) this.executed.set(key, index);
    else if (before !== index)
      this.fail('ExactlyOnce', `request ${key} took effect at ${before} and ${index}`);
  }

  onApplied(node: SimNode): void {
    const { applied, hash } = node.machine.state;
    this.agree(this.states, applied.index, hash, 'StateMachineSafety', `node ${node.id}'s state`);
  }

  private agree<T extends string | number>(
    map: Map<number, T>,
    index: number,
    value: T,
    invariant: string,
    what: string,
  ): void {
    const before = map.get(index);
    if (before === undefined) map.set(index, value);
    else if (before !== value)
      this.fail(invariant, `${what} at index ${index} is ${value}, elsewhere ${before}`);
  }

  /** A configuration as of one applied index. */
  onConfiguration(node: SimNode): void {
    const { applied } = node.machine.state;
    const text = JSON.stringify(applied.confState);
    this.agree(this.configs, applied.index, text, 'ConfigSafety', `node ${node.id}'s membership`);
  }

  onMembership(before: ConfState, after: ConfState): void {
    const joint = (state: ConfState): boolean => state.votersOutgoing.length > 0;
    const different = (a: readonly number[], b: readonly number[]): number =>
      a.filter((id) => !b.includes(id)).length + b.filter((id) => !a.includes(id)).length;
    if (joint(after)) {
      this.count('joint configuration');
      if (joint(before)) this.fail('ConfigSafety', 'a joint configuration followed a joint one');
      if (different(before.voters, after.votersOutgoing) > 0)
        this.fail('ConfigSafety', 'joint with strangers');
    } else if (joint(before)) {
      if (different(before.voters, after.voters) > 0)
        this.fail('ConfigSafety', 'left a joint configuration for another');
    } else if (different(before.voters, after.voters) > 1) {
      this.fail('ConfigSafety', 'two voters changed at once');
    }
    this.count('membership change');
  }

  // ---- after every event

  check(node: SimNode): void {
    const { raft } = node;
    if (raft === undefined) return;
    const seen = this.seenOf(node, raft);
    const { term, log } = raft;
    if (term < seen.term) this.fail('Monotone', `node ${node.id} went from term ${seen.term} to ${term}`);
    if (node.log.hardState.term < seen.durableTerm)
      this.fail('Monotone', `node ${node.id}'s durable term went back`);
    const { hardState } = node.log;
    if (hardState.vote !== NONE) this.vote(node.id, hardState.term, hardState.vote);
    if (raft.state === 'StateLeader') this.checkLeader(node, raft, seen);
    if (log.committed !== seen.commit) this.checkCommit(node, raft, seen);
    if (log.applied < seen.applied) this.fail('Monotone', `node ${node.id}'s applied index went back`);
    this.checkOrder(node, raft);
    this.checkQueues(node);
    this.cover(node, raft, seen);
    seen.term = term;
    seen.durableTerm = node.log.hardState.term;
    seen.commit = log.committed;
    seen.applied = log.applied;
    seen.leading = raft.state === 'StateLeader' ? term : 0;
  }

  /** What the run has been through, beside what the nemesis did. */
  private cover(node: SimNode, raft: Raft, seen: Seen): void {
    const installing = raft.log.hasUnstableSnapshot();
    if (installing && !seen.installing) {
      this.count('snapshot installed');
      if (raft.tracker.isJoint()) this.count('snapshot installed in a joint configuration');
      if (seen.lead !== raft.lead) this.count('snapshot installed with a new leader');
    }
    seen.installing = installing;
    seen.lead = raft.lead;
    const last = node.log.lastIndex();
    if (last < seen.last) this.count('log cut off');
    seen.last = last;
  }

  private seenOf(node: SimNode, raft: Raft): Seen {
    const { incarnation } = node;
    const seen = this.seen.get(node.id);
    if (seen?.incarnation === incarnation) return seen;
    const durableTerm = node.log.hardState.term;
    const start = raft.log.applied;
    // Its log may have changed unseen with a crash.
    this.matchDurable(node);
    const fresh: Seen = {
      ...{ incarnation, durableTerm, term: durableTerm, commit: start, applied: start, leading: 0 },
      ...{ installing: false, lead: NONE, last: node.log.lastIndex() },
    };
    if (node.machine.state.applied.index > node.log.lastIndex()) this.count('state machine ahead of the log');
    this.seen.set(node.id, fresh);
    if (seen !== undefined) this.count('restart');
    return fresh;
  }

  private matchDurable({ log }: SimNode): void {
    this.matchEntries(log.before.term, log.entries);
  }

  private checkLeader(node: SimNode, raft: Raft, seen: Seen): void {
    const before = this.leaders.get(raft.term);
    if (before !== undefined && before !== node.id) {
      this.fail('ElectionSafety', `nodes ${before} and ${node.id} both lead term ${raft.term}`);
    }
    if (seen.leading === raft.term) return;
    this.leaders.set(raft.term, node.id);
    this.count('leader');
    for (let index = raft.log.firstIndex(); index <= this.maxCommit; index++) {
      const committed = this.committed.get(index);
      // The last vote may come when a later term has begun: such a leader cannot have what was committed since.
      if (committed === undefined || committed.by >= raft.term) continue;
      if (raft.log.term(index) !== committed.term) {
        this.fail(
          'LeaderCompleteness',
          `leader ${node.id} of term ${raft.term} lacks committed entry ${committed.term}/${index}`,
        );
      }
    }
  }

  /** A node has just become leader. */
  onElected(node: SimNode, raft: Raft): void {
    const { incoming, outgoing } = raft.tracker.config;
    // Its own vote has no message to be seen by; it may be on its way to the disk when enough others have
    // voted.
    const own = node.log.hardState;
    if (own.vote !== NONE) this.vote(node.id, own.term, own.vote);
    for (const half of [incoming, outgoing]) {
      const votes = half.filter((id) => this.votes.get(`${id}/${raft.term}`) === node.id).length;
      if (half.length === 0 || 2 * votes > half.length) continue;
      this.fail(
        'ElectedByQuorum',
        `node ${node.id} leads term ${raft.term} with ${votes} of ${half.length} votes`,
      );
    }
    this.checkUpToDate(node, raft);
  }

  private checkUpToDate(node: SimNode, raft: Raft): void {
    // The empty entry of the new leader comes after what was compared.
    const index = raft.log.lastIndex() - 1;
    const term = raft.log.term(index);
    for (const voter of this.nodes.values()) {
      const { hardState } = voter.log;
      if (hardState.term !== raft.term || hardState.vote !== node.id) continue;
      const last = voter.log.lastIndex();
      const lastTerm = voter.log.term(last);
      if (typeof term !== 'number' || lastTerm === undefined) continue;
      if (lastTerm < term || (lastTerm === term && last <= index)) continue;
      this.fail(
        'UpToDate',
        `node ${voter.id} with ${lastTerm}/${last} voted for ${node.id} with ${term}/${index}`,
      );
    }
  }

  private checkCommit(node: SimNode, raft: Raft, seen: Seen): void {
    const { committed } = raft.log;
    if (committed < seen.commit) this.fail('Monotone', `node ${node.id}'s commit index went back`);
    for (let index = seen.commit + 1; index <= committed; index++) {
      const term = raft.log.term(index);
      if (typeof term !== 'number') continue;
      const known = this.committed.get(index)?.term;
      if (known === undefined) {
        this.committed.set(index, { term, by: raft.term });
      } else if (known !== term) {
        this.fail('CommitAgreement', `node ${node.id} committed ${term}/${index}, others ${known}/${index}`);
      }
    }
    this.maxCommit = Math.max(this.maxCommit, committed);
  }

  /** A leader has just counted acknowledgements and committed. */
  onCommit(node: SimNode, raft: Raft): void {
    const index = raft.log.committed;
    const term = raft.term;
    const { incoming, outgoing } = raft.tracker.config;
    const holds = (id: NodeId): boolean => {
      const log = this.nodes.get(id)?.log;
      return log !== undefined && (log.before.index >= index || log.term(index) === term);
    };
    for (const half of [incoming, outgoing]) {
      const holders = half.filter(holds).length;
      if (half.length === 0 || 2 * holders > half.length) continue;
      const where = `${holders} of ${half.length}`;
      this.fail(
        'CommittedOnQuorum',
        `leader ${node.id} committed ${term}/${index}, which ${where} voters hold`,
      );
    }
  }

  private checkOrder(node: SimNode, raft: Raft): void {
    const { log, machine } = node;
    const acked = this.ackedIn(node.id, raft.term);
    if (log.lastIndex() < acked) {
      this.fail(
        'AckDurability',
        `node ${node.id} acknowledged ${acked} in this term, durable is ${log.lastIndex()}`,
      );
    }
    const applied = machine.state.applied.index;
    if (log.before.index > machine.flushed.applied.index) {
      this.fail(
        'Order',
        `node ${node.id} released ${log.before.index}, flushed is ${machine.flushed.applied.index}`,
      );
    }
    if (applied > raft.log.committed) {
      this.fail('Order', `node ${node.id} applied ${applied}, committed is ${raft.log.committed}`);
    }
    // A snapshot is in the state machine before the log starts after it.
    const installing = machine.flushed.applied.index === applied;
    if (applied > log.lastIndex() && !installing) {
      this.fail('Order', `node ${node.id} applied ${applied}, durable is ${log.lastIndex()}`);
    }
  }

  /** Nothing piles up: a bound far above what the limits of a run allow, and far below a leak. */
  private checkQueues(node: SimNode): void {
    const { writes, machineTasks, reads } = node.host!.queued;
    if (writes + machineTasks + reads > 2000) {
      this.fail(
        'Bounded',
        `node ${node.id} has ${writes} writes, ${machineTasks} operations and ${reads} reads waiting`,
      );
    }
  }

  checkRead(node: SimNode, applied: number, committedBefore: number): void {
    if (applied < committedBefore) {
      this.fail('ReadSafety', `node ${node.id} read at ${applied}, committed before was ${committedBefore}`);
    }
  }
}
