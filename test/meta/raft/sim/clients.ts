/**
 * Clients: each has one operation under way, on a random node, and repeats a write under the same number if
 * it gets no answer.
 *
 * What they did and saw is the history that must be linearizable. An operation without an answer has an
 * unknown outcome.
 */
import type { Operation } from '../../../support/linearizability.js';
import type { Command } from './machine.js';
import type { ReadAnswer, SimNode, WriteAnswer } from './node.js';
import type { Random } from './random.js';
import type { Simulation } from './simulation.js';

export type ReadOrWrite =
  (Command & { readonly op: Command['op'] }) | { readonly op: 'get'; readonly key: string };
/** get: the value; writes: the result. */
export type Outcome = string;

const ATTEMPTS = 4;
const TIMEOUT_MS = 400;

export class Client {
  private readonly simulation: Simulation;
  private readonly random: Random;
  private readonly id: number;
  private sequence = 0;
  busy = false;
  /** In the liveness phase: one last write, that has to succeed. */
  finishing = false;
  finished = false;

  constructor(simulation: Simulation, id: number) {
    this.simulation = simulation;
    this.id = id;
    this.random = simulation.random.fork(`client ${id}`);
  }

  think(): void {
    const { scheduler, options } = this.simulation;
    scheduler.after(this.random.exponential(options.thinkTime), 6, () => {
      if (!this.finishing && !this.busy) this.begin();
    });
  }

  finish(): void {
    this.finishing = true;
    if (!this.busy) this.write('put');
  }

  private begin(): void {
    const { options } = this.simulation;
    if (this.random.permille(options.readPermille)) this.read();
    else this.write(this.random.pick(['put', 'put', 'put-if-absent', 'cas', 'delete'] as const));
  }

  private key(): string {
    return `k${this.random.below(this.simulation.options.keys)}`;
  }

  private node(): SimNode {
    // Half of the time a client has found the leader.
    const leader = this.random.permille(500) ? this.simulation.leader() : undefined;
    return leader ?? this.random.pick([...this.simulation.nodes.values()]);
  }

  /** Runs on a node after the time that a request takes, unless the node is down. */
  private ask(run: (node: SimNode) => void, refused: () => void): void {
    const node = this.node();
    const delay = 50 + this.random.exponential(300);
    this.simulation.scheduler.after(
      delay,
      7,
      () => {
        if (!node.up) return refused();
        this.simulation.touch(node);
        run(node);
      },
      node,
      true,
    );
  }

  private write(op: Command['op']): void {
    this.busy = true;
    const { clients, scheduler } = this.simulation;
    const sequence = ++this.sequence;
    const command: Command = {
      client: this.id,
      sequence,
      op,
      key: this.key(),
      value: op === 'delete' ? '' : `${this.id}.${sequence}`,
      expected: clients.someValue(this.random),
    };
    const call = scheduler.now;
    this.attempt(command, ATTEMPTS, (answer) => {
      clients.record(command, call, answer, answer === 'unknown');
      this.end(answer !== 'unknown');
    });
  }

  protected attempt(command: Command, left: number, done: (answer: WriteAnswer) => void): void {
    if (left === 0) return done('unknown');
    let answered = false;
    const answer = (result: WriteAnswer): void => {
      if (answered) return;
      answered = true;
      if (result !== 'unknown') return done(result);
      this.simulation.scheduler.after(1000 + this.random.exponential(5000), 8, () => {
        this.attempt(this.again(command), left - 1, done);
      });
    };
    // Also when the node dies, or is paused for long.
    this.simulation.scheduler.after(2 * TIMEOUT_MS * 1000, 9, () => answer('unknown'));
    this.ask(
      (node) => node.write(command, TIMEOUT_MS, answer),
      () => answer('unknown'),
    );
  }

  /** What is sent when there was no answer: the same request. */
  protected again(command: Command): Command {
    return command;
  }

  private read(): void {
    this.busy = true;
    const { clients, scheduler, observer } = this.simulation;
    const key = this.key();
    const call = scheduler.now;
    let answered = false;
    const done = (node: SimNode | undefined, before: number, answer: ReadAnswer): void => {
      if (answered) return;
      answered = true;
      if (answer !== 'unknown') {
        if (node !== undefined) observer.checkRead(node, answer.applied, before);
        clients.record({ op: 'get', key }, call, answer.value, false);
        observer.count('read');
      }
      this.end(true);
    };
    scheduler.after(2 * TIMEOUT_MS * 1000, 9, () => done(undefined, 0, 'unknown'));
    this.ask(
      (node) => {
        const before = observer.maxCommit;
        node.read(key, TIMEOUT_MS, (answer) => this.simulation.violations(() => done(node, before, answer)));
      },
      () => done(undefined, 0, 'unknown'),
    );
  }

  private end(success: boolean): void {
    this.busy = false;
    if (!this.finishing) return this.think();
    if (success) this.finished = true;
    else this.write('put');
  }
}

export class Clients {
  readonly history: Operation<ReadOrWrite, Outcome>[] = [];
  private readonly simulation: Simulation;
  private readonly clients: Client[];
  private readonly values: string[] = [''];

  constructor(simulation: Simulation) {
    this.simulation = simulation;
    this.clients = Array.from(
      { length: simulation.options.clients },
      (_, i) => new Client(simulation, i + 1),
    );
  }

  start(): void {
    for (const client of this.clients) client.think();
  }

  finish(): void {
    for (const client of this.clients) client.finish();
  }

  idle(): boolean {
    return this.clients.every((client) => client.finished);
  }

  check(): void {
    if (!this.idle()) throw new Error('a client still waits');
  }

  /** A value that was written lately, or none. */
  someValue(random: Random): string {
    return random.pick(this.values);
  }

  record(input: ReadOrWrite, call: number, output: Outcome, unknown: boolean): void {
    const end = unknown ? Infinity : this.simulation.scheduler.now;
    this.history.push({ call, return: end, input, output });
    this.simulation.observer.count(
      unknown ? 'unknown write' : input.op === 'get' ? 'read done' : 'write done',
    );
    if (input.op === 'get') return;
    this.values.push(input.value);
    if (this.values.length > 6) this.values.shift();
  }
}
