/**
 * One run: a group of nodes, clients, and a nemesis, all from one seed.
 *
 * Safety phase: `events` events of clients working while the nemesis crashes, pauses and cuts off nodes,
 * changes the membership and moves leadership. Liveness phase: the nemesis stops and everything is repaired;
 * then the group must, within a bounded virtual time, have one leader, equal states on all members, and
 * answer every client. At the end the clients' history must be linearizable.
 */
import { IoError } from '../../../../ts/drive/io.js';
import type { Message, NodeId } from '../../../../ts/meta/raft/core/types.js';
import { checkByKey, type Model } from '../../../support/linearizability.js';
import { Clients, type ReadOrWrite, type Outcome } from './clients.js';
import { execute } from './machine.js';
import { Nemesis } from './nemesis.js';
import { SimNetwork } from './network.js';
import { SimNode } from './node.js';
import { Observer, ViolationError } from './observer.js';
import { drawOptions, type SimOptions } from './options.js';
import { Random } from './random.js';
import { Scheduler } from './scheduler.js';

export interface SimResult {
  readonly seed: number;
  readonly events: number;
  readonly hash: string;
  readonly counters: ReadonlyMap<string, number>;
  readonly failure: string | undefined;
  /** Which invariant, for mutants. */
  readonly invariant: string | undefined;
}

export type Adjust = (options: SimOptions) => SimOptions;

const LIVENESS_US = 60_000_000;
const LIVENESS_EVENTS = 400_000;
/** A search that takes longer than this is given up: the other checks have seen the run anyway. */
const HISTORY_STEPS = 200_000;

const registers: Model<string, ReadOrWrite, Outcome> = {
  initial: '',
  step(state, input, outcome) {
    if (input.op === 'get') return outcome === 'unknown' || outcome === state ? state : undefined;
    const { after, result } = execute(state, input);
    return outcome === 'unknown' || outcome === result ? after : undefined;
  },
};

export class Simulation {
  readonly seed: number;
  readonly options: SimOptions;
  readonly random: Random;
  readonly scheduler = new Scheduler();
  readonly nodes: Map<NodeId, SimNode> = new Map();
  readonly observer: Observer;
  readonly network: SimNetwork;
  readonly clients: Clients;
  readonly nemesis: Nemesis;
  private readonly luck: Random;
  private touched: Set<SimNode> = new Set();
  private failure: Error | undefined = undefined;

  constructor(seed: number, adjust: Adjust = (options) => options) {
    this.seed = seed;
    this.random = new Random(seed);
    this.options = adjust(drawOptions(this.random.fork('options')));
    this.luck = this.random.fork('luck');
    this.observer = new Observer(this.nodes);
    const { network } = this.options;
    this.network = new SimNetwork(this.scheduler, this.random.fork('network'), network, (m) =>
      this.deliver(m),
    );
    const voters = Array.from({ length: this.options.voters }, (_, i) => i + 1);
    for (const id of voters) this.addNode(id, voters);
    this.clients = new Clients(this);
    this.nemesis = new Nemesis(this);
  }

  addNode(id: NodeId, voters?: readonly NodeId[]): SimNode {
    const members =
      voters === undefined
        ? undefined
        : { voters, votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false };
    const node = new SimNode(id, members, this.scheduler, this.random.fork(`node ${id}`), this.options, {
      onSend: (from, message) => this.guard(from, () => this.send(from, message)),
      onExecuted: (on, command, index) => this.guard(on, () => this.observer.onExecuted(command, index)),
      onApplied: (on) =>
        this.guard(on, () => {
          this.observer.onApplied(on);
          this.observer.onConfiguration(on);
        }),
      onMembership: (on, before, after) => this.guard(on, () => this.observer.onMembership(before, after)),
      onElected: (on, raft) => this.guard(on, () => this.observer.onElected(on, raft)),
      onCommit: (on, raft) => this.guard(on, () => this.observer.onCommit(on, raft)),
      onStop: (on, error) => this.onStop(on, error),
    });
    this.nodes.set(id, node);
    node.start();
    return node;
  }

  /** Violations found inside a host's callbacks must not be swallowed by it. */
  private guard(node: SimNode, run: () => void): void {
    this.touched.add(node);
    this.violations(run);
  }

  /** Runs what may find a violation inside a callback. */
  violations(run: () => void): void {
    try {
      run();
    } catch (error) {
      this.failure ??= error instanceof Error ? error : new Error(String(error));
    }
  }

  private send(node: SimNode, message: Message): void {
    this.observer.onSend(node, message);
    if (this.network.send(message) || !this.luck.permille(200)) return;
    const report = (): void => {
      this.touch(node);
      node.host?.reportUnreachable(message.to);
    };
    this.scheduler.after(1000, 12, report, node);
  }

  private deliver(message: Message): void {
    const node = this.nodes.get(message.to);
    if (node === undefined || !node.up) return;
    if (node.paused) {
      node.deferred.push(() => node.host?.receive([message]));
      return;
    }
    this.touched.add(node);
    node.host?.receive([message]);
  }

  private onStop(node: SimNode, error: Error | undefined): void {
    if (error === undefined) return;
    if (error.message === 'EIO' || error instanceof IoError || error.cause instanceof IoError) {
      this.observer.count('disk error');
      return;
    }
    const text = `node ${node.id} stopped: ${error.stack ?? error.message}`;
    this.failure ??= new ViolationError('NoPanic', text);
  }

  touch(node: SimNode): void {
    this.touched.add(node);
  }

  /** The leader of the highest term, if it is up. */
  leader(): SimNode | undefined {
    let best: SimNode | undefined;
    for (const node of this.nodes.values()) {
      const { raft } = node;
      if (raft?.state !== 'StateLeader') continue;
      if (best === undefined || raft.term > best.raft!.term) best = node;
    }
    return best;
  }

  private step(until: number): boolean {
    const moved = this.scheduler.step(until);
    for (const node of this.touched) {
      this.observer.check(node);
      const { raft } = node;
      if (raft !== undefined)
        this.scheduler.note(raft.term * 65_537 + raft.log.committed * 257 + raft.log.lastIndex());
    }
    this.touched.clear();
    if (this.failure !== undefined) throw this.failure;
    return moved;
  }

  run(events: number): SimResult {
    try {
      for (const _ of this.play(events)) void _;
      return this.result(undefined);
    } catch (error) {
      return this.result(error instanceof Error ? error : new Error(String(error)));
    }
  }

  /** With real logs, whose promises come to rest after every event. */
  async runWithLogs(events: number): Promise<SimResult> {
    try {
      for (const _ of this.play(events)) await new Promise((resolve) => setImmediate(resolve, _));
      return this.result(undefined);
    } catch (error) {
      return this.result(error instanceof Error ? error : new Error(String(error)));
    }
  }

  /** Yields after every event. */
  private *play(events: number): Generator<void> {
    this.clients.start();
    this.nemesis.start();
    while (this.scheduler.events < events && this.step(Infinity)) yield;
    yield* this.recover();
    this.checkHistory();
  }

  private result(error: Error | undefined): SimResult {
    const invariant = error instanceof ViolationError ? error.invariant : error?.name;
    return {
      seed: this.seed,
      events: this.scheduler.events,
      hash: this.scheduler.hash(),
      counters: this.observer.counters,
      failure: error === undefined ? undefined : (error.stack ?? error.message),
      invariant,
    };
  }

  // ---- liveness

  private *recover(): Generator<void> {
    this.nemesis.stop();
    this.network.heal();
    this.network.faults = {
      ...this.network.faults,
      loss: 0,
      repeat: 0,
      capacity: 1000,
      minDelay: 100,
      meanDelay: 500,
    };
    for (const node of this.nodes.values()) {
      node.log.calm();
      node.machine.latency = Math.min(node.machine.latency, 500);
      // Hanging disks are replaced by rebooting.
      node.crash(false);
      node.start();
      this.touch(node);
    }
    this.clients.finish();
    const end = this.scheduler.now + LIVENESS_US;
    const lastEvent = this.scheduler.events + LIVENESS_EVENTS;
    while (!this.settled()) {
      if (this.scheduler.events > lastEvent || !this.step(end))
        throw new ViolationError('Liveness', this.describe());
      yield;
    }
    this.clients.check();
    this.observer.count('settled');
  }

  /** One leader; all its members have applied all there is, to equal states; nobody waits. */
  private settled(): boolean {
    if (!this.clients.idle()) return false;
    const leader = this.leader();
    if (leader === undefined) return false;
    const { tracker, log } = leader.raft!;
    if (tracker.isJoint() && tracker.config.autoLeave) return false;
    const { applied } = leader.machine.state;
    if (applied.index !== log.lastIndex()) return false;
    return [...tracker.progress.keys()].every((id) => {
      const node = this.nodes.get(id);
      if (node === undefined || node.lost) return true;
      const { state } = node.machine;
      return node.up && state.applied.index === applied.index && state.hash === leader.machine.state.hash;
    });
  }

  private describe(): string {
    const lines = [...this.nodes.values()].map((node) => {
      const { raft } = node;
      const { applied } = node.machine.state;
      if (raft === undefined) return `${node.id}: down${node.lost ? ', lost' : ''}, applied ${applied.index}`;
      const { term, state, lead, log } = raft;
      const config = JSON.stringify(applied.confState);
      const where = `log ${log.committed}/${log.lastIndex()} applied ${applied.index}`;
      return `${node.id}: ${state} term ${term} lead ${lead} ${where} ${config}`;
    });
    const waiting = this.clients.idle() ? 'all clients are answered' : 'clients wait';
    return `the group does not settle; ${waiting}\n${lines.join('\n')}`;
  }

  private checkHistory(): void {
    const { history } = this.clients;
    const verdict = checkByKey(registers, history, (input) => input.key, HISTORY_STEPS);
    if (verdict.verdict === 'not-linearizable') {
      throw new ViolationError('Linearizable', `the history of key ${verdict.key} is not linearizable`);
    }
    this.observer.count(verdict.verdict === 'unknown' ? 'history too hard' : 'history checked');
  }
}

export function simulateWithLogs(seed: number, events: number): Promise<SimResult> {
  const bitFlips = new Random(seed).fork('bit flips').pick([0, 5, 20]);
  return new Simulation(seed, (options) => ({ ...options, realLogs: true, bitFlips })).runWithLogs(events);
}

export function simulate(seed: number, events: number, adjust?: Adjust): SimResult {
  return new Simulation(seed, adjust).run(events);
}
