/**
 * Runs one node of a Raft group: carries out what the core decides, through injected clock, network, log and
 * state machine.
 *
 *   messages, proposals, ticks ──> core ──> Ready ──┬─> network
 *            ^                                      ├─> append queue ──> log.write ──> responses ──┐
 *            │                                      └─> apply queue ───> machine.apply ─> responses │
 *            └──────────────────────────────────────────────────────────────────────────────────────┘
 *
 * - Append queue: one write at a time. What comes meanwhile is gathered and written together, so that many
 *   proposals share a sync and an idle log is written at once. Acknowledgements leave when the write that
 *   they depend on is durable.
 * - Apply queue: one operation on the state machine at a time. Entries are applied only once they are durable
 *   here.
 * - Snapshot: installed in the state machine durably first, then the log is reset to start after it. A crash
 *   in between leaves a state machine that is ahead of its log, which a restart repairs by the same reset.
 * - Release: the log is released only up to what the state machine has flushed.
 *
 * Ticks: a host that was woken late counts one tick at once, and in a turn of its own up to MISSED_TICKS of those that
 * it missed, so that elections on a machine with too much to do take no multiple of their time. Messages that waited
 * come in between: when the leader is among those heard, it was not the leader who was silent, and nothing is counted.
 *
 * Any error of log or state machine, and any broken invariant, stops the host for good.
 */
import { decodeConfChange, type ConfChange } from '../core/confchange.js';
import type { RaftOptions } from '../core/config.js';
import { invariant } from '../core/invariant.js';
import { RawNode, type Status } from '../core/rawnode.js';
import { MemoryStorage } from '../core/storage.js';
import {
  APPEND_THREAD,
  APPLY_THREAD,
  EMPTY_HARD_STATE,
  NO_DATA,
  NONE,
  sameHardState,
  type ConfState,
  type Entry,
  type Message,
  type NodeId,
  type Snapshot,
  type StepResult,
} from '../core/types.js';
import type {
  Clock,
  DurableLog,
  HostEvents,
  LogRecord,
  Network,
  RecoveredLog,
  StateMachine,
} from './environment.js';
import { Campaigns } from './campaigns.js';
import { Reads, type ReadOutcome } from './reads.js';

export interface HostOptions {
  readonly id: NodeId;
  readonly clock: Clock;
  readonly random: (below: number) => number;
  readonly network: Network;
  readonly log: DurableLog;
  readonly recovered: RecoveredLog;
  readonly machine: StateMachine;
  readonly events?: HostEvents;
  /** Milliseconds per tick of the core. */
  readonly tickMs: number;
  /** A leader whose log write takes longer resigns, and nobody campaigns meanwhile. */
  readonly stallMs: number;
  /** With more writes waiting, messages and proposals are dropped, as if by the network. */
  readonly maxQueuedWrites: number;
  /** The log is released when it holds so many applied entries ... */
  readonly releaseEvery: number;
  /** ... but for so many, which slow followers may still need. */
  readonly trailingEntries: number;
  /** As releaseEvery and trailingEntries, in payload bytes. No limit by default. */
  readonly releaseBytes?: number;
  readonly trailingBytes?: number;
  /** A read that is not confirmed after this time is asked again. */
  readonly readRetryMs: number;
  readonly maxReads: number;
  /** A snapshot that a follower does not acknowledge within this time is taken for lost. */
  readonly snapshotTimeoutMs: number;
  /** Campaigns sooner than the core would where no leader is known (campaigns.ts), and asks its reads again at once. */
  readonly hurry?: boolean;
  readonly core: Partial<Omit<RaftOptions, 'id' | 'storage' | 'random' | 'applied' | 'asyncStorageWrites'>>;
}

/** Far below an election timeout: a node that slept does not campaign for that alone. */
const MISSED_TICKS = 5;

/** The log as the core reads it: in memory, with snapshots from the state machine. */
class HostStorage extends MemoryStorage {
  private readonly machine: StateMachine;

  constructor(machine: StateMachine) {
    super();
    this.machine = machine;
  }

  override snapshot(): Snapshot | undefined {
    return this.machine.snapshot();
  }
}

/** A step of the log on its way to the disk, and what may be said once it is there. */
interface Write {
  readonly record: LogRecord;
  /** To be installed in the state machine before. */
  readonly snapshot: Snapshot | undefined;
  readonly responses: readonly Message[];
}

type MachineTask = (done: () => void) => void;

export class RaftHost {
  private readonly options: HostOptions;
  private readonly storage: HostStorage;
  private readonly raw: RawNode;
  private readonly reads: Reads;
  private readonly campaigns: Campaigns | undefined;
  private stopped = false;
  private draining = false;

  private readonly writes: Write[] = [];
  /** A commit index was taken note of and not written; it goes before whatever is written next. */
  private commitUnwritten = false;
  /** When the log write under way began, or undefined. */
  private writingSince: number | undefined = undefined;

  private readonly machineTasks: MachineTask[] = [];
  private machineBusy = false;
  /** The state machine's position. Invariant: only grows, and is at most the last durable index. */
  private appliedIndex: number;
  private releasing = false;
  /** Snapshots taken in and not durable yet. The log is in between two lives meanwhile, and not released. */
  private installing = 0;
  /** As of the entries handed out to be applied. */
  private confState: ConfState;

  /** When the next tick is due. Ticks keep their phase for good; phases differ between nodes. */
  private nextTickAt: number;
  /** Ticks that were missed and are to be counted in the next turn, unless the leader is heard before. */
  private missedTicks = 0;
  private cancelTick: () => void = () => undefined;
  /** Followers that were sent a snapshot, and until when it may take. */
  private readonly snapshotDeadlines: Map<NodeId, number> = new Map();

  constructor(options: HostOptions) {
    this.options = options;
    const { machine, clock, random, tickMs } = options;
    this.appliedIndex = machine.recovered.index;
    this.confState = machine.recovered.confState;
    this.storage = new HostStorage(machine);
    this.reads = new Reads(random, options.maxReads);
    this.recover(options.recovered);
    this.raw = new RawNode({
      ...options.core,
      id: options.id,
      storage: this.storage,
      random,
      applied: this.appliedIndex,
      asyncStorageWrites: true,
    });
    const { preVote, electionTick } = this.raw.config;
    this.campaigns = options.hurry === true && preVote ? new Campaigns(electionTick, random) : undefined;
    this.nextTickAt = clock.now() + 1 + random(tickMs);
    this.scheduleTick();
    this.startWrite();
  }

  /**
   * Puts log and state machine together. What was applied was committed, so the state machine is right where
   * the log falls short of it: after a crash in the middle of installing a snapshot.
   */
  private recover({ before, entries, hardState }: RecoveredLog): void {
    const { index, term, confState } = this.options.machine.recovered;
    invariant(index >= before.index, `the log starts after ${before.index}, but only ${index} is applied`);
    const inLog = index === before.index ? before.term : entries[index - before.index - 1]?.term;
    const keep = inLog === term;
    invariant(keep || index > hardState.commit, 'the log was committed differently from what was applied');
    const start = keep ? before : { index, term };
    this.storage.applySnapshot({ ...start, confState, data: NO_DATA });
    if (keep) this.storage.append(entries);
    const recovered = { ...hardState, commit: Math.max(hardState.commit, index) };
    this.storage.setHardState(recovered);
    if (keep) return;
    this.writes.push({
      record: { hardState: recovered, reset: start, entries: [] },
      snapshot: undefined,
      responses: [],
    });
  }

  // ---- input

  receive(messages: readonly Message[]): void {
    if (this.overloaded) return;
    this.enter(() => {
      for (const message of messages) this.raw.step(message);
      if (this.missedTicks === 0) return;
      const { lead } = this.raw.status().softState;
      if (messages.some(({ from }) => from === lead)) this.missedTicks = 0;
    });
  }

  propose(data: Uint8Array): StepResult | 'stopped' | 'overloaded' {
    if (this.overloaded) return 'overloaded';
    return this.enter(() => this.raw.propose(data)) ?? 'stopped';
  }

  private get overloaded(): boolean {
    return this.writes.length >= this.options.maxQueuedWrites;
  }

  proposeConfChange(change: ConfChange): StepResult | 'stopped' | 'overloaded' {
    if (this.overloaded) return 'overloaded';
    return this.enter(() => this.raw.proposeConfChange(change)) ?? 'stopped';
  }

  transferLeader(to: NodeId): StepResult | 'stopped' {
    return this.enter(() => this.raw.transferLeader(to)) ?? 'stopped';
  }

  /** Starts an election at once: where nobody else can be leader. */
  campaign(): void {
    this.enter(() => this.raw.campaign());
  }

  /** The connection to a peer was lost. */
  reportUnreachable(id: NodeId): void {
    this.enter(() => {
      this.raw.reportUnreachable(id);
      if (this.campaigns === undefined || this.raw.status().softState.lead !== id || !this.raw.isVoter()) return;
      this.raw.forgetLeader();
      const { softState, hardState } = this.raw.status();
      const before = this.confState.voters.filter((voter) => voter < this.options.id && voter !== id);
      this.campaigns.leaderLost(before.length, softState, hardState);
    });
  }

  /**
   * Calls `done('ok')` once the state machine holds everything that was acknowledged anywhere before this
   * call. Works on every member; 'timeout' says nothing.
   */
  read(timeoutMs: number, done: (outcome: ReadOutcome) => void): void {
    const now = this.options.clock.now();
    if (this.stopped) return done('stopped');
    const id = this.reads.add(now + timeoutMs, now + this.options.readRetryMs, done);
    if (id === undefined) return done('too-many-reads');
    this.enter(() => {
      // Ticks that are overdue have not been counted by leases.
      if (now > this.nextTickAt + this.options.tickMs) this.raw.doubtClock();
      return this.raw.readIndex(id);
    });
  }

  status(): Status {
    return this.raw.status();
  }

  /** How much waits, for metrics. */
  get queued(): { readonly writes: number; readonly machineTasks: number; readonly reads: number } {
    return { writes: this.writes.length, machineTasks: this.machineTasks.length, reads: this.reads.count() };
  }

  get applied(): number {
    return this.appliedIndex;
  }

  /** No write of the log is under way or waits. */
  get idle(): boolean {
    return this.writingSince === undefined && this.writes.length === 0;
  }

  /** Payload bytes of the log that are held in memory. */
  get logBytes(): number {
    return this.storage.payloadBytes;
  }

  /** As of the entries handed out to be applied. */
  get members(): ConfState {
    return this.confState;
  }

  /** A snapshot on its way to this follower makes progress. */
  extendSnapshot(id: NodeId): void {
    if (!this.snapshotDeadlines.has(id)) return;
    this.snapshotDeadlines.set(id, this.options.clock.now() + this.options.snapshotTimeoutMs);
  }

  get isStopped(): boolean {
    return this.stopped;
  }

  /** Stops for good; what is under way is not waited for. */
  stop(): void {
    this.end(undefined);
  }

  private end(error: Error | undefined): void {
    if (this.stopped) return;
    this.stopped = true;
    this.cancelTick();
    this.reads.stop();
    this.options.events?.onStop?.(error);
  }

  // ---- the loop

  /**
   * Runs an input or a completion, then carries out what follows from it. Undefined when the host has
   * stopped.
   */
  private enter<Result>(run: () => Result): Result | undefined {
    if (this.stopped) return undefined;
    try {
      const result = run();
      this.drain();
      return result;
    } catch (error) {
      this.end(error instanceof Error ? error : new Error(String(error)));
      return undefined;
    }
  }

  private drain(): void {
    if (this.draining) return;
    this.draining = true;
    try {
      while (!this.stopped && this.raw.hasReady()) this.carryOut();
    } finally {
      this.draining = false;
    }
  }

  private carryOut(): void {
    const ready = this.raw.ready();
    if (ready.softState !== undefined || ready.hardState.term !== 0) this.options.events?.onRole?.();
    // The leader before may not have heard of them.
    if (this.campaigns !== undefined && (ready.softState?.lead ?? NONE) !== NONE) this.reads.hasten();
    if (ready.snapshot !== undefined) {
      this.confState = ready.snapshot.confState;
      this.installing++;
    }
    for (const { requestId, index } of ready.readStates) this.reads.confirm(requestId, index);
    for (const message of ready.messages) {
      if (message.to === APPEND_THREAD) this.queueWrite(message);
      else if (message.to === APPLY_THREAD) this.queueApply(message);
      else this.send(message);
    }
    if (ready.readStates.length > 0) this.reads.applied(this.appliedIndex);
  }

  private send(message: Message): void {
    if (message.type === 'MsgSnap') {
      this.snapshotDeadlines.set(message.to, this.options.clock.now() + this.options.snapshotTimeoutMs);
    }
    this.options.network.send(message);
  }

  /**
   * A write may carry an acknowledgement together with entries of a later term that replace what it is about.
   * By then it is of no use to anybody, and it would name what is no longer in the log: it is left out.
   */
  private respond(responses: readonly Message[]): void {
    for (const response of responses) {
      const promise = response.type === 'MsgAppResp' || response.type === 'MsgVoteResp';
      if (response.to === this.options.id) this.raw.step(response);
      else if (!promise || response.term >= this.raw.term) this.send(response);
    }
  }

  // ---- the log

  private queueWrite(message: Message): void {
    const { term, vote, commit, entries, snapshot, responses } = message;
    const hardState = { term, vote, commit };
    const record: LogRecord = {
      hardState: sameHardState(hardState, EMPTY_HARD_STATE) ? undefined : hardState,
      reset: snapshot === undefined ? undefined : { index: snapshot.index, term: snapshot.term },
      entries,
    };
    this.writes.push({ record, snapshot, responses });
    this.startWrite();
  }

  private startWrite(): void {
    if (this.writingSince !== undefined || this.writes.length === 0) return;
    this.writingSince = this.options.clock.now();
    const { snapshot } = this.writes[0]!;
    if (snapshot === undefined) return this.write();
    this.runOnMachine((done) => {
      this.options.machine.install(snapshot, (error) => {
        this.complete(error, () => {
          this.setApplied(snapshot.index);
          this.write();
        });
        done();
      });
    });
  }

  /** Writes everything that waits, up to the next snapshot, which has to be installed first. */
  private write(): void {
    const next = this.writes.findIndex((write, i) => i > 0 && write.snapshot !== undefined);
    const batch = this.writes.splice(0, next < 0 ? this.writes.length : next);
    const needed = batch.some((write) => this.mustSync(write.record));
    if (!needed) {
      this.commitUnwritten ||= batch.some((write) => write.record.hardState !== undefined);
      return this.written(batch);
    }
    const records = batch.map((write) => write.record).filter(isNotEmpty);
    if (this.commitUnwritten) {
      const { hardState } = this.storage.initialState();
      records.unshift({ hardState, reset: undefined, entries: [] });
      this.commitUnwritten = false;
    }
    this.options.log.write(records, (error) => this.complete(error, () => this.written(batch)));
  }

  /**
   * A commit index alone need not be durable at once, but it must be before any later entry is: who holds a
   * membership change has to know after a restart that the one before it is committed, or it would count the
   * wrong quorum.
   */
  private mustSync({ hardState, reset, entries }: LogRecord): boolean {
    if (reset !== undefined || entries.length > 0) return true;
    const durable = this.storage.initialState().hardState;
    return hardState !== undefined && (hardState.term !== durable.term || hardState.vote !== durable.vote);
  }

  private written(batch: readonly Write[]): void {
    for (const { record, snapshot, responses } of batch) {
      if (snapshot !== undefined) {
        this.storage.applySnapshot(snapshot);
        this.installing--;
      }
      if (record.hardState !== undefined) this.storage.setHardState(record.hardState);
      this.storage.append(record.entries);
      this.respond(responses);
    }
    this.writingSince = undefined;
    this.startWrite();
    if (this.writingSince === undefined) this.options.events?.onIdle?.();
  }

  // ---- the state machine

  private queueApply(message: Message): void {
    const { entries, responses } = message;
    // The membership is the core's from here on; the state machine stores it with the entries.
    const confState = this.changeMembership(entries);
    this.runOnMachine((done) => {
      const last = entries[entries.length - 1]!;
      if (last.index <= this.appliedIndex) {
        // A snapshot has overtaken them.
        this.complete(undefined, () => this.respond(responses));
        return done();
      }
      const fresh = entries.filter((entry) => entry.index > this.appliedIndex);
      this.options.machine.apply(fresh, { index: last.index, term: last.term, confState }, (error) => {
        this.complete(error, () => {
          this.setApplied(last.index);
          this.options.events?.onApplied?.(fresh);
          this.respond(responses);
        });
        done();
      });
    });
  }

  private changeMembership(entries: readonly Entry[]): ConfState {
    for (const entry of entries) {
      const change = decodeConfChange(entry);
      if (change === undefined) {
        invariant(entry.type === 'EntryNormal', `entry ${entry.index} is no membership change`);
        continue;
      }
      const before = this.confState;
      this.confState = this.raw.applyConfChange(change);
      this.options.events?.onMembership?.(change, before, this.confState);
    }
    return this.confState;
  }

  private setApplied(index: number): void {
    invariant(index > this.appliedIndex, 'the state machine does not go back');
    this.appliedIndex = index;
    this.reads.applied(index);
    this.startRelease();
  }

  private runOnMachine(task: MachineTask): void {
    this.machineTasks.push(task);
    this.nextMachineTask();
  }

  private nextMachineTask(): void {
    if (this.machineBusy || this.stopped) return;
    const task = this.machineTasks.shift();
    if (task === undefined) return;
    this.machineBusy = true;
    task(() => {
      this.machineBusy = false;
      this.nextMachineTask();
    });
  }

  /** An operation of log or state machine ended. */
  private complete(error: Error | undefined, run: () => void): void {
    if (error !== undefined) return this.end(error);
    this.enter(run);
  }

  // ---- releasing the log

  private startRelease(): void {
    const { releaseEvery, trailingEntries, releaseBytes = Infinity, machine, log } = this.options;
    const held = this.appliedIndex - (this.storage.firstIndex() - 1);
    const { trailingBytes = releaseBytes } = this.options;
    const much = held >= releaseEvery + trailingEntries || this.storage.payloadBytes >= releaseBytes + trailingBytes;
    if (this.releasing || this.installing > 0 || !much) return;
    this.releasing = true;
    this.runOnMachine((done) => {
      const flushed = this.appliedIndex;
      machine.flush((error) => {
        this.complete(error, () => {
          this.releasing = false;
          const keep = Math.max(flushed - trailingEntries, this.storage.indexKeeping(trailingBytes));
          const index = Math.min(flushed, keep, this.neededAfter());
          // A snapshot may have reset the log meanwhile.
          if (this.installing > 0 || index < this.storage.firstIndex() || index > this.storage.lastIndex())
            return;
          this.storage.compact(index);
          log.release(index);
        });
        done();
      });
    });
  }

  /** Entries behind it are held for followers that receive a snapshot, unless they have become too many. */
  private neededAfter(): number {
    const { releaseBytes = Infinity, machine } = this.options;
    return this.storage.payloadBytes > 3 * releaseBytes ? Infinity : (machine.neededAfter?.() ?? Infinity);
  }

  // ---- time

  private scheduleTick(): void {
    const { clock } = this.options;
    const ms = this.missedTicks > 0 ? 0 : Math.max(0, this.nextTickAt - clock.now());
    this.cancelTick = clock.after(ms, () => this.onTick());
  }

  private onTick(): void {
    this.enter(() => {
      const { clock, tickMs } = this.options;
      const now = clock.now();
      this.countMissed(now);
      if (now < this.nextTickAt) return;
      const late = now - this.nextTickAt;
      if (late > tickMs) this.raw.doubtClock();
      const missed = Math.floor(late / tickMs);
      this.nextTickAt += tickMs * (1 + missed);
      this.missedTicks = Math.min(missed, MISSED_TICKS);
      if (this.stalled(now)) this.raw.resign();
      else this.tickCore();
      this.watchSnapshots(now);
      for (const id of this.reads.expire(now, this.options.readRetryMs)) this.raw.readIndex(id);
    });
    if (!this.stopped) this.scheduleTick();
  }

  /**
   * With a log that hangs a leader could neither commit nor be replaced while its heartbeats go on, and a
   * candidate's own vote would never become durable.
   */
  private stalled(now: number): boolean {
    return this.writingSince !== undefined && now - this.writingSince > this.options.stallMs;
  }

  /** What follows from one of them, such as a campaign, comes before the others. A leader's would repeat heartbeats. */
  private countMissed(now: number): void {
    const missed = this.missedTicks;
    if (missed === 0) return;
    this.missedTicks = 0;
    if (this.stalled(now) || this.raw.status().softState.state === 'StateLeader') return;
    for (let i = 0; i < missed && !this.raw.hasReady(); i++) this.tickCore();
  }

  private tickCore(): void {
    this.raw.tick();
    if (this.campaigns === undefined || !this.raw.isVoter()) return;
    const { softState, hardState } = this.raw.status();
    if (this.campaigns.tick(softState, hardState)) this.raw.campaign();
  }

  private watchSnapshots(now: number): void {
    if (this.snapshotDeadlines.size === 0) return;
    const { progress } = this.raw.status();
    for (const [id, deadline] of this.snapshotDeadlines) {
      if (progress.get(id)?.state === 'StateSnapshot' && deadline > now) continue;
      this.snapshotDeadlines.delete(id);
      this.raw.reportSnapshot(id, false);
    }
  }
}

function isNotEmpty(record: LogRecord): boolean {
  return record.hardState !== undefined || record.reset !== undefined || record.entries.length > 0;
}
