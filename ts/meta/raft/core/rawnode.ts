/**
 * The door to the core for a host.
 *
 * The host feeds `step`, `tick`, `propose` and so on, and while `hasReady()` takes a `Ready` and carries it
 * out. One thread, nothing here waits.
 *
 * Synchronous writes. For each Ready, in this order:
 *   1. make hardState, snapshot and entries durable (entries replace what is at and after their first index;
 *      when mustSync is false, the write may be made durable later);
 *   2. send messages; 3. apply the snapshot, then committedEntries, calling `applyConfChange` for each
 *      membership change;
 *   4. call `advance`. No other Ready may be taken before.
 *
 * Asynchronous writes (config.asyncStorageWrites). Messages holds everything:
 *   - to APPEND_THREAD, MsgStorageAppend: make term/vote/commit (if term is not 0), snapshot and entries
 *     durable, in the order of these messages, then deliver its `responses`: those to this node by `step`,
 *     others by network;
 *   - to APPLY_THREAD, MsgStorageApply: apply its entries, in order, then deliver its responses;
 *   - all others: send at once. `advance` is not called; further Readies may be taken at any time. In this
 *     mode nothing is handed out to be applied before it is durable here.
 */
import { confChangeEntry, type ConfChange } from './confchange.js';
import { resolveConfig, type RaftConfig, type RaftOptions } from './config.js';
import { invariant } from './invariant.js';
import { Raft } from './raft.js';
import type { Configuration, ProgressMap } from './tracker.js';
import {
  APPEND_THREAD,
  APPLY_THREAD,
  EMPTY_HARD_STATE,
  isLocalThread,
  makeMessage,
  NONE,
  sameHardState,
  type ConfState,
  type Entry,
  type HardState,
  type Message,
  type MessageType,
  type NodeId,
  type ReadState,
  type Snapshot,
  type SoftState,
  type StepResult,
} from './types.js';
import { wellFormed } from './wellformed.js';

export interface Ready {
  /** Set when it changed. */
  readonly softState: SoftState | undefined;
  /** Empty (all zero) when it did not change. */
  readonly hardState: HardState;
  readonly readStates: readonly ReadState[];
  readonly entries: readonly Entry[];
  readonly snapshot: Snapshot | undefined;
  readonly committedEntries: readonly Entry[];
  readonly messages: readonly Message[];
  /** Entries, or a changed term or vote, must be durable before messages are sent. */
  readonly mustSync: boolean;
}

export interface Status {
  readonly id: NodeId;
  readonly hardState: HardState;
  readonly softState: SoftState;
  readonly applied: number;
  readonly firstIndex: number;
  readonly lastIndex: number;
  readonly config: Configuration;
  readonly leadTransferee: NodeId;
  /** Leader only; empty on others. Not to be changed. */
  readonly progress: ProgressMap;
}

const localTypes: ReadonlySet<MessageType> = new Set<MessageType>([
  'MsgHup',
  'MsgBeat',
  'MsgCheckQuorum',
  'MsgUnreachable',
  'MsgSnapStatus',
  'MsgForgetLeader',
  'MsgStorageAppend',
  'MsgStorageAppendResp',
  'MsgStorageApply',
  'MsgStorageApplyResp',
]);

const responseTypes: ReadonlySet<MessageType> = new Set<MessageType>([
  'MsgAppResp',
  'MsgVoteResp',
  'MsgPreVoteResp',
  'MsgHeartbeatResp',
]);

export class RawNode {
  private readonly raft: Raft;
  private readonly async: boolean;
  private previousSoft: SoftState;
  private previousHard: HardState;
  /** Synchronous mode: what the accepted Ready's completion is to step. Undefined when no Ready is out. */
  private onAdvance: readonly Message[] | undefined = undefined;

  constructor(options: RaftOptions) {
    this.raft = new Raft(resolveConfig(options));
    this.async = this.raft.config.asyncStorageWrites;
    this.previousSoft = this.raft.softState();
    this.previousHard = this.raft.hardState();
  }

  // ---- input

  tick(): void {
    this.raft.tick();
  }

  /** Starts an election at once. */
  campaign(): void {
    this.raft.step(makeMessage('MsgHup', this.raft.id));
  }

  propose(data: Uint8Array): StepResult {
    return this.proposeAll([data]);
  }

  /** All or none, next to each other in the log. */
  proposeAll(data: readonly Uint8Array[]): StepResult {
    const entries = data.map((bytes): Entry => ({ term: 0, index: 0, type: 'EntryNormal', data: bytes }));
    return this.raft.step(makeMessage('MsgProp', this.raft.id, { entries }));
  }

  /**
   * A change that is not allowed at the moment is replaced by an empty entry: look for it when it is applied.
   */
  proposeConfChange(change: ConfChange): StepResult {
    return this.raft.step(makeMessage('MsgProp', this.raft.id, { entries: [confChangeEntry(change)] }));
  }

  /** Must be called for every membership change when it is applied, before the next entry is. */
  applyConfChange(change: ConfChange): ConfState {
    return this.raft.applyConfChange(change);
  }

  /** Takes a message from a peer, or the response of a storage thread. */
  step(m: Message): StepResult {
    if (localTypes.has(m.type) && !isLocalThread(m.from)) return 'local-message';
    if (!wellFormed(m)) return 'malformed';
    if (responseTypes.has(m.type) && !this.raft.tracker.progress.has(m.from)) return 'peer-not-found';
    return this.raft.step(m);
  }

  /**
   * A read may be served once a ReadState with this id came and its index is applied. Ids are never used
   * twice.
   */
  readIndex(requestId: number): StepResult {
    return this.raft.step(makeMessage('MsgReadIndex', this.raft.id, { requestId }));
  }

  transferLeader(to: NodeId): StepResult {
    return this.raft.step(makeMessage('MsgTransferLeader', this.raft.id, { from: to }));
  }

  /** A leader that cannot do its work (its disk hangs, say) becomes a follower, so that another may lead. */
  resign(): void {
    if (this.raft.isLeader()) this.raft.becomeFollower(this.raft.term, NONE);
  }

  forgetLeader(): void {
    this.raft.step(makeMessage('MsgForgetLeader', this.raft.id));
  }

  reportUnreachable(id: NodeId): void {
    this.raft.step(makeMessage('MsgUnreachable', this.raft.id, { from: id }));
  }

  reportSnapshot(id: NodeId, ok: boolean): void {
    this.raft.step(makeMessage('MsgSnapStatus', this.raft.id, { from: id, reject: !ok }));
  }

  /** The clock may have stood still or jumped: leases count again from the next heartbeats. */
  doubtClock(): void {
    this.raft.readOnly.restartLease();
  }

  /** For tests and transcripts. */
  setElectionTimeout(ticks: number): void {
    this.raft.randomizedElectionTimeout = ticks;
  }

  // ---- output

  hasReady(): boolean {
    const { raft } = this;
    const soft = raft.softState();
    if (soft.lead !== this.previousSoft.lead || soft.state !== this.previousSoft.state) return true;
    if (!sameHardState(raft.hardState(), this.previousHard)) return true;
    if (raft.log.unstable.nextSnapshot() !== undefined || raft.log.hasNextUnstable()) return true;
    if (raft.msgs.length > 0 || raft.msgsAfterAppend.length > 0 || raft.readStates.length > 0) return true;
    return raft.log.hasNextCommitted(!this.async);
  }

  /** Takes out the work there is. */
  ready(): Ready {
    invariant(this.onAdvance === undefined, 'the Ready taken before was not advanced');
    const ready = this.build();
    this.accept(ready);
    return ready;
  }

  private build(): Ready {
    const { raft } = this;
    const soft = raft.softState();
    const hard = raft.hardState();
    const softChanged = soft.lead !== this.previousSoft.lead || soft.state !== this.previousSoft.state;
    const entries = raft.log.unstable.nextEntries();
    const snapshot = raft.log.unstable.nextSnapshot();
    const { term, vote } = this.previousHard;
    const ready: Ready = {
      softState: softChanged ? soft : undefined,
      hardState: sameHardState(hard, this.previousHard) ? EMPTY_HARD_STATE : hard,
      readStates: raft.readStates,
      entries,
      snapshot,
      committedEntries: raft.log.nextCommitted(!this.async),
      messages: [],
      mustSync: entries.length > 0 || hard.term !== term || hard.vote !== vote,
    };
    const messages = this.async
      ? [...raft.msgs, ...this.storageMessages(ready)]
      : [...raft.msgs, ...raft.msgsAfterAppend.filter((m) => m.to !== raft.id)];
    return { ...ready, messages };
  }

  private storageMessages(ready: Ready): Message[] {
    const { raft } = this;
    const { entries, hardState, snapshot } = ready;
    const messages: Message[] = [];
    const changed = !sameHardState(hardState, EMPTY_HARD_STATE);
    if (changed || entries.length > 0 || snapshot !== undefined || raft.msgsAfterAppend.length > 0) {
      const responses = [...raft.msgsAfterAppend];
      if (this.needsAppendResponse(snapshot)) responses.push(this.appendResponse(snapshot));
      const from = raft.id;
      messages.push(
        makeMessage('MsgStorageAppend', APPEND_THREAD, { from, ...hardState, entries, snapshot, responses }),
      );
    }
    if (ready.committedEntries.length > 0) {
      const applied = { from: raft.id, entries: ready.committedEntries };
      messages.push(
        makeMessage('MsgStorageApply', APPLY_THREAD, { ...applied, responses: [this.applyResponse(ready)] }),
      );
    }
    return messages;
  }

  /**
   * Also without new entries: after a change of term, entries whose earlier writes report in the old term
   * need a report in the new one.
   */
  private needsAppendResponse(snapshot: Snapshot | undefined): boolean {
    return this.raft.log.hasUnstableEntries() || snapshot !== undefined;
  }

  /**
   * Reports, when it is stepped, that everything unstable as of now is durable. Void if the term changes
   * meanwhile.
   */
  private appendResponse(snapshot: Snapshot | undefined): Message {
    const { raft } = this;
    const last = raft.log.hasUnstableEntries() ? raft.log.lastId() : { term: 0, index: 0 };
    return makeMessage('MsgStorageAppendResp', raft.id, {
      from: APPEND_THREAD,
      term: raft.term,
      index: last.index,
      logTerm: last.term,
      snapshot,
    });
  }

  private applyResponse(ready: Ready): Message {
    return makeMessage('MsgStorageApplyResp', this.raft.id, {
      from: APPLY_THREAD,
      entries: ready.committedEntries,
    });
  }

  private accept(ready: Ready): void {
    const { raft } = this;
    if (ready.softState !== undefined) this.previousSoft = ready.softState;
    if (!sameHardState(ready.hardState, EMPTY_HARD_STATE)) this.previousHard = ready.hardState;
    if (!this.async) {
      const steps = raft.msgsAfterAppend.filter((m) => m.to === raft.id);
      if (this.needsAppendResponse(ready.snapshot)) steps.push(this.appendResponse(ready.snapshot));
      if (ready.committedEntries.length > 0) steps.push(this.applyResponse(ready));
      this.onAdvance = steps;
    }
    raft.readStates = [];
    raft.msgs = [];
    raft.msgsAfterAppend = [];
    raft.log.unstable.acceptInProgress();
    if (ready.committedEntries.length > 0) raft.log.acceptApplying(ready.committedEntries, !this.async);
  }

  /** Synchronous mode: the Ready taken last has been carried out. */
  advance(): void {
    invariant(!this.async, 'asynchronous writes are acknowledged by messages');
    invariant(this.onAdvance !== undefined, 'no Ready is being carried out');
    const steps = this.onAdvance;
    this.onAdvance = undefined;
    for (const m of steps) this.raft.step(m);
  }

  // ---- looking

  get term(): number {
    return this.raft.term;
  }

  get config(): RaftConfig {
    return this.raft.config;
  }

  status(): Status {
    const { raft } = this;
    return {
      id: raft.id,
      hardState: raft.hardState(),
      softState: raft.softState(),
      applied: raft.log.applied,
      firstIndex: raft.log.firstIndex(),
      lastIndex: raft.log.lastIndex(),
      config: raft.tracker.config,
      leadTransferee: raft.leadTransferee,
      progress: raft.isLeader() ? raft.tracker.progress : new Map(),
    };
  }

  /** Whether this node is a voter, in either half of a joint configuration. */
  isVoter(): boolean {
    return this.raft.tracker.isVoter(this.raft.id);
  }
}
