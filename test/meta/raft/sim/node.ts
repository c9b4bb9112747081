/**
 * One simulated machine: its disk and database outlive its process, and its process is a Raft host.
 *
 * On top of the host sits what a server does for its clients: propose a command and answer when it was
 * applied here, or confirm a read and answer from the state machine.
 */
import type { Raft } from '../../../../ts/meta/raft/core/raft.js';
import type { ConfState, Entry, HardState, Message, NodeId } from '../../../../ts/meta/raft/core/types.js';
import { NONE } from '../../../../ts/meta/raft/core/types.js';
import { LogCorrupt } from '../../../../ts/meta/log/command_log.js';
import type { Clock, RecoveredLog } from '../../../../ts/meta/raft/host/environment.js';
import { RaftHost, type HostOptions } from '../../../../ts/meta/raft/host/host.js';
import { SimLog } from './disk.js';
import { RealLog } from './real_log.js';
import { decodeCommand, encodeCommand, SimMachine, type Command, type Result } from './machine.js';
import type { SimOptions } from './options.js';
import type { Random } from './random.js';
import type { Process, Scheduler } from './scheduler.js';

export type WriteAnswer = Result | 'unknown';
export type ReadAnswer = { readonly value: string; readonly applied: number } | 'unknown';

export interface NodeHooks {
  onSend(node: SimNode, message: Message): void;
  onExecuted(node: SimNode, command: Command, index: number): void;
  onApplied(node: SimNode, entries: readonly Entry[]): void;
  onMembership(node: SimNode, before: ConfState, after: ConfState): void;
  /** It has become leader. */
  onElected(node: SimNode, raft: Raft): void;
  /** As leader, it committed by counting. */
  onCommit(node: SimNode, raft: Raft): void;
  onStop(node: SimNode, error: Error | undefined): void;
}

interface WaitingWrite {
  readonly command: Command;
  readonly answer: (answer: WriteAnswer) => void;
}

/**
 * Nodes begin with a log that starts after this entry, so that a newcomer needs a snapshot to know the
 * members.
 */
export const BASE = { index: 1, term: 1 };

export class SimNode implements Process {
  readonly id: NodeId;
  incarnation = 0;
  paused = false;
  readonly deferred: (() => void)[] = [];
  readonly log: SimLog;
  readonly machine: SimMachine;
  host: RaftHost | undefined = undefined;
  /** Its disk is lost: it never comes back. */
  lost = false;
  /** Its log may be damaged. */
  doubtful = false;
  /** It reads its log. */
  opening = false;
  private readonly scheduler: Scheduler;
  private readonly random: Random;
  private readonly options: SimOptions;
  private readonly hooks: NodeHooks;
  private waiting: WaitingWrite[] = [];
  /** This node's clock: virtual time times rate. */
  private readonly rate: number;

  constructor(
    id: NodeId,
    members: ConfState | undefined,
    scheduler: Scheduler,
    random: Random,
    options: SimOptions,
    hooks: NodeHooks,
  ) {
    this.id = id;
    this.scheduler = scheduler;
    this.random = random;
    this.options = options;
    this.hooks = hooks;
    const { clockSpread } = options;
    this.rate = 1 + (random.below(2 * clockSpread + 1) - clockSpread) / 10_000;
    const before = members === undefined ? { index: 0, term: 0 } : BASE;
    const hardState: HardState = { term: before.term, vote: NONE, commit: before.index };
    const confState = members ?? {
      voters: [],
      votersOutgoing: [],
      learners: [],
      learnersNext: [],
      autoLeave: false,
    };
    const recovered = { hardState, before, entries: [] };
    const Log = options.realLogs ? RealLog : SimLog;
    this.log = new Log(recovered, scheduler, random.fork('disk'), this, options.disk);
    const executed = (command: Command, index: number): void => hooks.onExecuted(this, command, index);
    const db = random.fork('database');
    this.machine = new SimMachine(
      { ...before, confState },
      scheduler,
      db,
      this,
      options.machineLatency,
      executed,
    );
  }

  get up(): boolean {
    return this.host !== undefined && !this.host.isStopped;
  }

  /** The core's innards, for checks only. */
  get raft(): Raft | undefined {
    if (!this.up) return undefined;
    return (this.host as unknown as { raw: { raft: Raft } }).raw.raft;
  }

  private clock(): Clock {
    const { scheduler, rate } = this;
    return {
      now: () => Math.floor((scheduler.now * rate) / 1000),
      after: (ms, run) => scheduler.after((ms * 1000) / rate, 4, run, this),
    };
  }

  start(): void {
    if (this.up || this.lost) return;
    this.incarnation++;
    this.deferred.length = 0;
    this.paused = false;
    const { log, incarnation } = this;
    if (!(log instanceof RealLog)) return this.launch(log.recovered());
    this.opening = true;
    log.open(this.clock(), this.machine.recovered).then(
      (recovered) => {
        if (this.incarnation !== incarnation) return;
        this.opening = this.doubtful = false;
        this.launch(recovered);
      },
      (error: unknown) => {
        if (this.incarnation !== incarnation) return;
        this.opening = false;
        // It is replaced by others under new ids.
        if (error instanceof LogCorrupt && this.doubtful) this.lost = true;
        else this.hooks.onStop(this, error instanceof Error ? error : new Error(String(error)));
      },
    );
  }

  private launch(recovered: RecoveredLog): void {
    const { options } = this;
    const election = this.random.fork(`election ${this.incarnation}`);
    const host: HostOptions = {
      id: this.id,
      clock: this.clock(),
      random: (below) => election.below(below),
      network: { send: (message) => this.hooks.onSend(this, message) },
      log: this.log,
      recovered,
      machine: this.machine,
      tickMs: 10,
      stallMs: 200,
      maxQueuedWrites: 500,
      releaseEvery: options.releaseEvery,
      trailingEntries: options.trailingEntries,
      readRetryMs: options.readRetryMs,
      maxReads: 100,
      snapshotTimeoutMs: 300,
      hurry: options.hurry,
      core: options.mixedPreVotes ? { ...options.core, preVote: election.permille(500) } : options.core,
      events: {
        onApplied: (entries) => this.applied(entries),
        onMembership: (_, before, after) => this.hooks.onMembership(this, before, after),
        onStop: (error) => this.hooks.onStop(this, error),
      },
    };
    try {
      this.host = new RaftHost(host);
      this.watchQuorums();
    } catch (error) {
      this.hooks.onStop(this, error instanceof Error ? error : new Error(String(error)));
    }
  }

  /** Which configuration counted votes or acknowledgements is known only at the moment when it does. */
  private watchQuorums(): void {
    const { raft } = this;
    if (raft === undefined) return;
    const inside = raft as unknown as { becomeLeader(): void };
    const becomeLeader = inside.becomeLeader.bind(raft);
    inside.becomeLeader = () => {
      becomeLeader();
      this.hooks.onElected(this, raft);
    };
    const maybeCommit = raft.maybeCommit.bind(raft);
    raft.maybeCommit = () => {
      const moved = maybeCommit();
      if (moved) this.hooks.onCommit(this, raft);
      return moved;
    };
  }

  /** The process dies, `power` with the machine under it. */
  crash(power: boolean): void {
    this.incarnation++;
    this.opening = false;
    this.deferred.length = 0;
    this.paused = false;
    const { host } = this;
    this.host = undefined;
    host?.stop();
    this.log.crash(power);
    this.machine.crash(power);
    const { waiting } = this;
    this.waiting = [];
    for (const { answer } of waiting) answer('unknown');
  }

  pause(): void {
    this.paused = true;
  }

  /** Everything that came meanwhile happens now. */
  resume(): void {
    this.paused = false;
    for (let run = this.deferred.shift(); run !== undefined; run = this.deferred.shift()) run();
  }

  // ---- serving clients

  write(command: Command, timeoutMs: number, answer: (answer: WriteAnswer) => void): void {
    if (!this.up) return answer('unknown');
    const known = this.machine.resultOf(command.client, command.sequence);
    if (known !== undefined) return answer(known);
    const entry: WaitingWrite = { command, answer };
    this.waiting.push(entry);
    this.scheduler.after(
      timeoutMs * 1000,
      5,
      () => {
        const at = this.waiting.indexOf(entry);
        if (at < 0) return;
        this.waiting.splice(at, 1);
        answer('unknown');
      },
      this,
    );
    this.host?.propose(encodeCommand(command));
  }

  private applied(entries: readonly Entry[]): void {
    this.hooks.onApplied(this, entries);
    if (this.waiting.length === 0) return;
    for (const entry of entries) {
      if (entry.type !== 'EntryNormal' || entry.data.length === 0) continue;
      const { client, sequence } = decodeCommand(entry.data);
      const mine = this.waiting.filter(
        ({ command }) => command.client === client && command.sequence === sequence,
      );
      if (mine.length === 0) continue;
      this.waiting = this.waiting.filter((one) => !mine.includes(one));
      const result = this.machine.resultOf(client, sequence) ?? 'unknown';
      for (const one of mine) one.answer(result);
    }
  }

  read(key: string, timeoutMs: number, answer: (answer: ReadAnswer) => void): void {
    if (!this.up) return answer('unknown');
    this.host!.read(timeoutMs, (outcome) => {
      if (outcome !== 'ok') return answer('unknown');
      const { values, applied } = this.machine.state;
      answer({ value: values.get(key) ?? '', applied: applied.index });
    });
  }
}
