/**
 * The Raft state machine of one node: elections, and what followers and candidates do. (leader.ts: leaders.)
 *
 * It is driven by `step` (a message arrived) and `tick` (time passed), and answers by filling `msgs` and
 * `msgsAfterAppend`, which RawNode hands to the host. It never calls out, waits, or draws a number by itself.
 *
 * What makes it safe, and where:
 *  - One vote per term: `vote` is reset only when the term changes, and a vote leaves only after it is
 *    durable (`msgsAfterAppend`).
 *  - Acknowledged means durable: MsgAppResp, also the leader's own, leaves only after everything before it is
 *    durable.
 *  - A leader commits by counting only entries of its own term (`maybeCommit`).
 *  - Membership takes effect when it is applied; no candidacy while a committed change is not applied; a
 *    leader proposes no change before all earlier ones are applied (`pendingConfIndex`).
 *
 * Persistent: term, vote, log. Everything else is remade after a restart.
 */
import { Changer, restoreConfiguration, type NextConfiguration } from './changer.js';
import { decodeConfChange, entersJoint, leavesJoint, type ConfChange } from './confchange.js';
import type { RaftConfig } from './config.js';
import { describeConfiguration } from './describe.js';
import { fail, invariant } from './invariant.js';
import {
  abortTransfer,
  broadcastAppend,
  leaveJointWhenApplied,
  maybeSendAppend,
  stepLeader,
} from './leader.js';
import { RaftLog } from './log.js';
import { Progress } from './progress.js';
import type { VoteResult } from './quorum.js';
import { ReadOnly } from './readonly.js';
import { confStateOf, Tracker } from './tracker.js';
import {
  entriesSize,
  makeMessage,
  NONE,
  payloadSize,
  type ConfState,
  type Entry,
  type EntryId,
  type HardState,
  type Message,
  type MessageType,
  type NodeId,
  type ReadState,
  type Snapshot,
  type SoftState,
  type StateType,
  type StepResult,
} from './types.js';

export type CampaignType = 'pre-election' | 'election' | 'transfer';

export class Raft {
  readonly config: RaftConfig;
  readonly id: NodeId;

  /** Invariant: only grows. */
  term = 0;
  /** Invariant: changes at most once per term, from NONE. */
  vote: NodeId = NONE;
  readonly log: RaftLog;
  tracker: Tracker;

  state: StateType = 'StateFollower';
  /** The leader of `term` as far as known. */
  lead: NodeId = NONE;
  /** Leader: whom leadership is being handed to. Proposals are dropped meanwhile. */
  leadTransferee: NodeId = NONE;
  /**
   * Leader: no membership change is proposed while this is above the applied index. A new leader sets it to
   * its last index, since an unapplied change may be anywhere before.
   */
  pendingConfIndex = 0;
  /**
   * Leader: payload bytes appended in this term and not applied yet. An estimate, see
   * config.maxUncommittedSize.
   */
  uncommittedSize = 0;

  readOnly: ReadOnly;
  /** Leader: reads that wait for the first commit of this term. Dropped with the term. */
  pendingReads: Message[] = [];
  /** Confirmed reads of this node, for the next Ready. */
  readStates: ReadState[] = [];

  /** Ticks since the term's leader was heard of; leader: since the last check-quorum round. */
  electionElapsed = 0;
  /** Leader: ticks since the last heartbeats. */
  heartbeatElapsed = 0;
  /** Invariant: in [electionTick, 2 * electionTick), redrawn with every change of role. */
  randomizedElectionTimeout = 0;
  /** Ticks since the node started: the time base of leases. */
  ticks = 0;
  /**
   * With leases, a node that restarts may have promised its silence to a leader it no longer remembers, so
   * it refuses votes for that many ticks.
   */
  private voteGuardTicks = 0;

  /** To be sent at once. */
  msgs: Message[] = [];
  /** To be sent once everything unstable at the time of sending is durable. */
  msgsAfterAppend: Message[] = [];

  constructor(config: RaftConfig) {
    this.config = config;
    this.id = config.id;
    this.log = new RaftLog(config.storage, config.maxCommittedSizePerReady);
    this.tracker = this.newTracker();
    this.readOnly = new ReadOnly(config.maxPendingReads);
    const { hardState, confState } = config.storage.initialState();
    this.switchTo(restoreConfiguration(this.tracker, this.log.lastIndex(), confState));
    this.loadHardState(hardState);
    if (config.applied !== undefined && config.applied > 0) this.log.appliedTo(config.applied, 0);
    if (config.readOnly === 'lease-based' && this.term > 0) this.voteGuardTicks = config.electionTick;
    this.becomeFollower(this.term, NONE);
  }

  private loadHardState(hardState: HardState): void {
    const { term, vote, commit } = hardState;
    if (term === 0 && vote === NONE && commit === 0) return;
    if (commit < this.log.committed || commit > this.log.lastIndex()) {
      fail(`durable commit ${commit} is outside [${this.log.committed}, ${this.log.lastIndex()}]`);
    }
    this.log.committed = commit;
    this.term = term;
    this.vote = vote;
  }

  private newTracker(): Tracker {
    return new Tracker(this.config.maxInflightMessages, this.config.maxInflightBytes);
  }

  trace(text: () => string): void {
    this.config.trace?.(text());
  }

  softState(): SoftState {
    return { lead: this.lead, state: this.state };
  }

  hardState(): HardState {
    return { term: this.term, vote: this.vote, commit: this.log.committed };
  }

  // ---- sending

  /** Completes a message and puts it where it waits for what it depends on. */
  send(message: Message): void {
    const from = message.from === NONE ? this.id : message.from;
    let { term } = message;
    if (isVoteMessage(message.type)) {
      // A pre-vote speaks of a term that its sender is not in yet, so votes always say their term.
      invariant(term !== 0, 'vote messages carry their own term');
    } else if (message.type !== 'MsgProp' && message.type !== 'MsgReadIndex') {
      invariant(term === 0, 'the term is filled in here');
      term = this.term;
    }
    const tells = this.config.tellCommitted && isVoteMessage(message.type) && message.to !== this.id;
    const committed = tells ? this.log.committedId() : undefined;
    const complete: Message = { ...message, from, term, committed };
    const { type } = complete;
    if (type === 'MsgAppResp' || type === 'MsgVoteResp' || type === 'MsgPreVoteResp') {
      // They promise that something is durable: the entries acknowledged, the vote, the term that they speak
      // of.
      this.msgsAfterAppend.push(complete);
      return;
    }
    invariant(complete.to !== this.id, 'only acknowledgements are sent to oneself');
    this.msgs.push(complete);
  }

  // ---- roles

  private reset(term: number): void {
    if (this.term !== term) {
      this.term = term;
      this.vote = NONE;
    }
    this.lead = NONE;
    this.electionElapsed = 0;
    this.heartbeatElapsed = 0;
    this.drawElectionTimeout();
    this.leadTransferee = NONE;
    this.tracker.resetVotes();
    const last = this.log.lastIndex();
    const progress = new Map<NodeId, Progress>();
    for (const [id, old] of this.tracker.progress) {
      const match = id === this.id ? last : 0;
      const inflights = this.tracker.newInflights();
      progress.set(
        id,
        new Progress({ match, next: last + 1, inflights, learner: old.learner, recentActive: false }),
      );
    }
    this.tracker.progress = progress;
    this.pendingConfIndex = 0;
    this.uncommittedSize = 0;
    this.readOnly = new ReadOnly(this.config.maxPendingReads);
    this.pendingReads = [];
  }

  private drawElectionTimeout(): void {
    const { electionTick, random } = this.config;
    const extra = random(electionTick);
    invariant(extra >= 0 && extra < electionTick, 'random() is out of range');
    this.randomizedElectionTimeout = electionTick + extra;
  }

  becomeFollower(term: number, lead: NodeId): void {
    this.reset(term);
    this.lead = lead;
    this.state = 'StateFollower';
    this.trace(() => `became follower at term ${this.term}`);
  }

  private becomeCandidate(): void {
    invariant(this.state !== 'StateLeader', 'a leader does not become candidate');
    this.reset(this.term + 1);
    this.vote = this.id;
    this.state = 'StateCandidate';
    this.trace(() => `became candidate at term ${this.term}`);
  }

  private becomePreCandidate(): void {
    invariant(this.state !== 'StateLeader', 'a leader does not become pre-candidate');
    // Neither term nor vote changes: nothing has happened yet.
    this.tracker.resetVotes();
    this.lead = NONE;
    this.state = 'StatePreCandidate';
    this.trace(() => `became pre-candidate at term ${this.term}`);
  }

  private becomeLeader(): void {
    invariant(this.state === 'StateCandidate', 'only a candidate becomes leader');
    this.reset(this.term);
    this.lead = this.id;
    this.state = 'StateLeader';
    const progress = this.tracker.progress.get(this.id);
    invariant(progress !== undefined, 'a leader is a member');
    progress.becomeReplicate();
    progress.recentActive = true;
    this.pendingConfIndex = this.log.lastIndex();
    // Entries of earlier terms commit only together with one of this term, so there is one at once.
    const appended = this.appendEntries([
      { term: 0, index: 0, type: 'EntryNormal', data: new Uint8Array(0) },
    ]);
    invariant(appended, 'the empty entry of a new leader is never refused');
    this.trace(() => `became leader at term ${this.term}`);
  }

  // ---- time

  tick(): void {
    this.ticks++;
    if (this.voteGuardTicks > 0) this.voteGuardTicks--;
    this.electionElapsed++;
    if (this.state === 'StateLeader') this.tickLeader();
    else if (this.promotable() && this.electionElapsed >= this.randomizedElectionTimeout) {
      this.electionElapsed = 0;
      this.step(makeMessage('MsgHup', this.id, { from: this.id }));
    }
  }

  private tickLeader(): void {
    this.heartbeatElapsed++;
    if (this.electionElapsed >= this.config.electionTick) {
      this.electionElapsed = 0;
      if (this.config.checkQuorum) this.step(makeMessage('MsgCheckQuorum', this.id, { from: this.id }));
      // A transfer that took a whole election timeout is given up, so that proposals are taken again.
      if (this.isLeader()) abortTransfer(this);
    }
    if (this.isLeader() && this.heartbeatElapsed >= this.config.heartbeatTick) {
      this.heartbeatElapsed = 0;
      this.step(makeMessage('MsgBeat', this.id, { from: this.id }));
    }
  }

  isLeader(): boolean {
    return this.state === 'StateLeader';
  }

  // ---- elections

  /** Whether this node may campaign at all: a voter that is not waiting for a snapshot. */
  promotable(): boolean {
    const progress = this.tracker.progress.get(this.id);
    return progress !== undefined && !progress.learner && !this.log.hasUnstableSnapshot();
  }

  private hup(type: CampaignType): void {
    if (this.isLeader()) return;
    if (!this.promotable()) {
      this.trace(() => 'is unpromotable and can not campaign');
      return;
    }
    if (this.hasUnappliedConfChanges()) {
      // It would count the votes of the wrong quorum.
      this.trace(() => 'cannot campaign since there are still pending configuration changes to apply');
      return;
    }
    this.trace(() => `is starting a new election at term ${this.term}`);
    this.campaign(type);
  }

  hasUnappliedConfChanges(): boolean {
    const { applied, committed } = this.log;
    let at = applied + 1;
    while (at <= committed) {
      const page = this.log.slice(at, committed + 1, this.config.maxCommittedSizePerReady);
      if (page === 'compacted') fail(`entry ${at} was compacted before it was applied`);
      if (page.some((entry) => entry.type !== 'EntryNormal')) return true;
      at += page.length;
    }
    return false;
  }

  private campaign(type: CampaignType): void {
    const pre = type === 'pre-election';
    if (pre) this.becomePreCandidate();
    else this.becomeCandidate();
    const request: MessageType = pre ? 'MsgPreVote' : 'MsgVote';
    const term = pre ? this.term + 1 : this.term;
    const last = this.log.lastId();
    for (const id of this.tracker.voterIds()) {
      if (id === this.id) {
        // The own vote counts when it is durable, like every other.
        this.send(makeMessage(voteResponse(request), id, { term }));
        continue;
      }
      this.send(
        makeMessage(request, id, { term, index: last.index, logTerm: last.term, force: type === 'transfer' }),
      );
    }
  }

  private poll(id: NodeId, granted: boolean): VoteResult {
    this.tracker.recordVote(id, granted);
    return this.tracker.tallyVotes();
  }

  /** Whether this node still protects a leader (or may have promised to) from an election. */
  private inLease(): boolean {
    if (!this.config.checkQuorum) return false;
    if (this.voteGuardTicks > 0) return true;
    return this.lead !== NONE && this.electionElapsed < this.config.electionTick;
  }

  private handleVoteRequest(m: Message): void {
    const canVote =
      this.vote === m.from || // the same vote again
      (this.vote === NONE && this.lead === NONE) || // a free vote, and no leader in this term
      (m.type === 'MsgPreVote' && m.term > this.term); // an opinion about a future term
    // A learner that is asked votes: it may be a voter by now and not have learned of it.
    if (canVote && this.log.isUpToDate({ term: m.logTerm, index: m.index })) {
      // A pre-vote is answered in the term asked for, which this node is not in.
      this.send(makeMessage(voteResponse(m.type), m.from, { term: m.term }));
      if (m.type === 'MsgVote') {
        this.electionElapsed = 0;
        this.vote = m.from;
      }
      this.trace(() => `cast ${m.type} for ${m.from} at term ${this.term}`);
    } else {
      this.send(makeMessage(voteResponse(m.type), m.from, { term: this.term, reject: true }));
      this.trace(() => `rejected ${m.type} from ${m.from} at term ${this.term}`);
    }
  }

  // ---- messages

  step(m: Message): StepResult {
    if (m.committed !== undefined && isVoteMessage(m.type)) this.learnCommitted(m.committed);
    if (m.term > this.term) {
      if (!this.admitHigherTerm(m)) return 'ok';
    } else if (m.term !== 0 && m.term < this.term) {
      this.answerLowerTerm(m);
      return 'ok';
    }
    switch (m.type) {
      case 'MsgHup':
        // With leases, a node that still protects a leader campaigns only when its own timeout says so.
        if (this.config.readOnly === 'lease-based' && m.from === NONE && this.inLease()) return 'ok';
        this.hup(this.config.preVote ? 'pre-election' : 'election');
        return 'ok';
      case 'MsgStorageAppendResp':
        if (m.index !== 0) this.log.unstable.stableTo({ term: m.logTerm, index: m.index });
        if (m.snapshot !== undefined) this.snapshotApplied(m.snapshot);
        return 'ok';
      case 'MsgStorageApplyResp':
        this.entriesApplied(m.entries);
        return 'ok';
      case 'MsgVote':
      case 'MsgPreVote':
        this.handleVoteRequest(m);
        return 'ok';
      default:
        if (this.isLeader()) return stepLeader(this, m);
        return this.state === 'StateFollower' ? this.stepFollower(m) : this.stepCandidate(m);
    }
  }

  /**
   * What is committed is so for ever, so the news counts in every term: a log that holds an entry of this index
   * and term is the same up to there. A candidate that so learns of a change of members would go on counting
   * votes for members that are about to be others: it tries again when it has applied it.
   */
  private learnCommitted(id: EntryId): void {
    if (this.isLeader() || !this.config.tellCommitted || !this.log.maybeCommit(id)) return;
    this.trace(() => `learned from a vote that ${id.index} is committed`);
    const candidate = this.state === 'StateCandidate' || this.state === 'StatePreCandidate';
    if (candidate && this.hasUnappliedConfChanges()) this.becomeFollower(this.term, NONE);
  }

  /** Follows the sender into its term, unless the message speaks of a term that may never begin. */
  private admitHigherTerm(m: Message): boolean {
    if (m.type === 'MsgVote' || m.type === 'MsgPreVote') {
      if (!m.force && this.inLease()) {
        this.trace(() => `ignored ${m.type} from ${m.from}: a leader is alive`);
        return false;
      }
    }
    // A pre-vote changes nobody's term, nor does a granted one: the candidate raises it when a quorum agreed.
    if (m.type === 'MsgPreVote' || (m.type === 'MsgPreVoteResp' && !m.reject)) return true;
    const fromLeader = m.type === 'MsgApp' || m.type === 'MsgHeartbeat' || m.type === 'MsgSnap';
    this.becomeFollower(m.term, fromLeader ? m.from : NONE);
    return true;
  }

  private answerLowerTerm(m: Message): void {
    const { checkQuorum, preVote } = this.config;
    if ((checkQuorum || preVote) && (m.type === 'MsgHeartbeat' || m.type === 'MsgApp')) {
      // This node raised its term alone, and others refuse to follow it. Its answer makes the leader step
      // down and so brings everybody to one term. Without these options, its own candidacies do.
      this.send(makeMessage('MsgAppResp', m.from));
    } else if (m.type === 'MsgPreVote') {
      // A candidate with the longer log may be stuck at a lower term: tell it ours.
      this.send(makeMessage('MsgPreVoteResp', m.from, { term: this.term, reject: true }));
    } else if (m.type === 'MsgStorageAppendResp') {
      // The entries may have been replaced and written again since, under the same indexes: this says nothing
      // about the new ones. A snapshot is never replaced, so its installation counts.
      if (m.snapshot !== undefined) this.snapshotApplied(m.snapshot);
    }
  }

  private stepCandidate(m: Message): StepResult {
    const pre = this.state === 'StatePreCandidate';
    switch (m.type) {
      case 'MsgProp':
      case 'MsgReadIndex':
        return 'no-leader';
      case 'MsgApp':
        this.becomeFollower(m.term, m.from);
        this.handleAppend(m);
        return 'ok';
      case 'MsgHeartbeat':
        this.becomeFollower(m.term, m.from);
        this.handleHeartbeat(m);
        return 'ok';
      case 'MsgSnap':
        this.becomeFollower(m.term, m.from);
        this.handleSnapshot(m);
        return 'ok';
      case 'MsgPreVoteResp':
      case 'MsgVoteResp': {
        // Answers to the other kind of candidacy are late.
        if (pre !== (m.type === 'MsgPreVoteResp')) return 'ok';
        const result = this.poll(m.from, !m.reject);
        if (result === 'VoteWon') {
          if (pre) {
            this.campaign('election');
          } else {
            this.becomeLeader();
            broadcastAppend(this);
          }
        } else if (result === 'VoteLost') {
          this.becomeFollower(this.term, NONE);
        }
        return 'ok';
      }
      default:
        return 'ok';
    }
  }

  private stepFollower(m: Message): StepResult {
    switch (m.type) {
      case 'MsgProp':
        if (this.lead === NONE) return 'no-leader';
        if (this.config.disableProposalForwarding) return 'forwarding-disabled';
        this.send({ ...m, to: this.lead });
        return 'ok';
      case 'MsgReadIndex':
      case 'MsgTransferLeader':
        if (this.lead === NONE) return 'no-leader';
        this.send({ ...m, to: this.lead });
        return 'ok';
      case 'MsgReadIndexResp':
        this.readStates.push({ requestId: m.requestId, index: m.index });
        return 'ok';
      case 'MsgApp':
        this.hearLeader(m.from);
        this.handleAppend(m);
        return 'ok';
      case 'MsgHeartbeat':
        this.hearLeader(m.from);
        this.handleHeartbeat(m);
        return 'ok';
      case 'MsgSnap':
        this.hearLeader(m.from);
        this.handleSnapshot(m);
        return 'ok';
      case 'MsgForgetLeader':
        // With leases, the leader counts on not being forgotten.
        if (this.config.readOnly !== 'lease-based' && this.lead !== NONE) {
          this.trace(() => `forgetting leader ${this.lead} at term ${this.term}`);
          this.lead = NONE;
        }
        return 'ok';
      case 'MsgTimeoutNow':
        // Leadership was promised on the strength of a complete log; a log that changed since does not
        // qualify.
        if (m.lastId === undefined || !this.log.matchTerm(m.lastId)) return 'ok';
        // Not a pre-vote: the leader agrees, so the election is not disruptive.
        this.hup('transfer');
        return 'ok';
      default:
        return 'ok';
    }
  }

  private hearLeader(from: NodeId): void {
    this.electionElapsed = 0;
    this.lead = from;
  }

  // ---- following

  private handleAppend(m: Message): void {
    if (m.index < this.log.committed) {
      // All of it up to the commit index is here and settled.
      this.send(makeMessage('MsgAppResp', m.from, { index: this.log.committed }));
      return;
    }
    const last = this.log.maybeAppend({ term: m.logTerm, index: m.index }, m.entries, m.commit);
    if (last !== undefined) {
      this.send(makeMessage('MsgAppResp', m.from, { index: last }));
      return;
    }
    // The leader's entry at m.index has term m.logTerm, so no entry here with a later term can be common:
    // skip them.
    const hint = this.log.findConflictByTerm(Math.min(m.index, this.log.lastIndex()), m.logTerm);
    this.send(
      makeMessage('MsgAppResp', m.from, {
        index: m.index,
        reject: true,
        rejectHint: hint.index,
        logTerm: hint.term,
      }),
    );
  }

  private handleHeartbeat(m: Message): void {
    this.log.commitTo(m.commit);
    this.send(makeMessage('MsgHeartbeatResp', m.from, { round: m.round }));
  }

  private handleSnapshot(m: Message): void {
    const restored = m.snapshot !== undefined && this.restore(m.snapshot);
    this.send(
      makeMessage('MsgAppResp', m.from, { index: restored ? this.log.lastIndex() : this.log.committed }),
    );
  }

  /** Replaces log and membership by a snapshot's. False if that is not needed, or not allowed. */
  private restore(snapshot: Snapshot): boolean {
    const { index, term, confState } = snapshot;
    if (index <= this.log.committed) return false;
    invariant(this.state === 'StateFollower', 'only followers install snapshots');
    const members = [...confState.voters, ...confState.votersOutgoing, ...confState.learners];
    if (!members.includes(this.id)) {
      this.trace(() => `ignored snapshot ${term}/${index}: not a member in it`);
      return false;
    }
    if (this.log.matchTerm({ term, index })) {
      // The log has all that the snapshot has, and perhaps more that was acknowledged: keep it.
      this.log.commitTo(index);
      return false;
    }
    this.log.restore(snapshot);
    this.tracker = this.newTracker();
    const next = restoreConfiguration(this.tracker, this.log.lastIndex(), confState);
    this.switchTo(next);
    this.trace(() => `restored snapshot ${term}/${index}`);
    return true;
  }

  // ---- appending and applying

  /**
   * Leader: gives entries their place and appends them. False if that would exceed the limit of uncommitted
   * bytes.
   */
  appendEntries(entries: readonly Entry[]): boolean {
    const size = payloadSize(entries);
    // Empty payloads are always taken (new leaders and leaving joint configurations rely on it), and so is a
    // first one of any size.
    if (
      this.uncommittedSize > 0 &&
      size > 0 &&
      this.uncommittedSize + size > this.config.maxUncommittedSize
    ) {
      return false;
    }
    this.uncommittedSize += size;
    const last = this.log.lastIndex();
    this.log.append(
      entries.map(({ type, data }, i) => ({ term: this.term, index: last + 1 + i, type, data })),
    );
    // The leader's own acknowledgement takes the same way as everybody's: after the entries are durable.
    this.send(makeMessage('MsgAppResp', this.id, { index: last + entries.length }));
    return true;
  }

  /** Commits what a quorum holds, if it is of this term. */
  maybeCommit(): boolean {
    const index = this.tracker.committed();
    return this.log.maybeCommit({ term: this.term, index });
  }

  committedInCurrentTerm(): boolean {
    return this.log.term(this.log.committed) === this.term;
  }

  private snapshotApplied(snapshot: Snapshot): void {
    this.log.unstable.stableSnapshotTo(snapshot.index);
    this.advanceApplied(snapshot.index, 0);
  }

  private entriesApplied(entries: readonly Entry[]): void {
    const last = entries[entries.length - 1];
    if (last === undefined) return;
    this.advanceApplied(last.index, entriesSize(entries));
    this.uncommittedSize = Math.max(0, this.uncommittedSize - payloadSize(entries));
  }

  private advanceApplied(index: number, size: number): void {
    // A snapshot may have overtaken entries that were being applied.
    const applied = Math.max(index, this.log.applied);
    this.log.appliedTo(applied, size);
    if (this.isLeader()) leaveJointWhenApplied(this, applied);
  }

  // ---- membership

  applyConfChange(change: ConfChange): ConfState {
    const changer = new Changer(this.tracker, this.log.lastIndex());
    const joint = entersJoint(change);
    let result;
    if (leavesJoint(change)) result = changer.leaveJoint();
    else if (joint.joint) result = changer.enterJoint(joint.autoLeave, change.changes);
    else result = changer.simple(change.changes);
    // A change that was committed must be applied by all nodes alike; one that cannot be is a bug in
    // proposing.
    if ('refused' in result) fail(`committed membership change cannot be applied: ${result.refused}`);
    return this.switchTo(result);
  }

  private switchTo(next: NextConfiguration): ConfState {
    this.tracker.config = next.config;
    this.tracker.progress = next.progress;
    const confState = confStateOf(next.config);
    this.trace(() => `switched to configuration ${describeConfiguration(next.config)}`);
    if (!this.isLeader()) return confState;
    const self = next.progress.get(this.id);
    if (self === undefined || self.learner) {
      // No longer entitled to lead. Unless it steps down, it goes on replicating without counting itself.
      if (this.config.stepDownOnRemoval) this.becomeFollower(this.term, NONE);
      return confState;
    }
    if (confState.voters.length === 0) return confState;
    if (this.maybeCommit()) {
      // The new quorum agreed to more than the old one had.
      broadcastAppend(this);
    } else {
      // New members need not wait for the next proposal or heartbeat.
      for (const id of next.progress.keys()) {
        if (id !== this.id) maybeSendAppend(this, id, false);
      }
    }
    if (this.leadTransferee !== NONE && !this.tracker.isVoter(this.leadTransferee)) abortTransfer(this);
    return confState;
  }
}

function isVoteMessage(type: MessageType): boolean {
  return type === 'MsgVote' || type === 'MsgVoteResp' || type === 'MsgPreVote' || type === 'MsgPreVoteResp';
}

function voteResponse(request: MessageType): MessageType {
  return request === 'MsgPreVote' ? 'MsgPreVoteResp' : 'MsgVoteResp';
}

/** Whether a proposal's entry is a membership change; 'malformed' if it claims to be and is not. */
export function proposedChange(entry: Entry): ConfChange | undefined | 'malformed' {
  if (entry.type === 'EntryNormal') return undefined;
  return decodeConfChange(entry) ?? 'malformed';
}
