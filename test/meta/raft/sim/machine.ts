/**
 * A replicated key-value store on a virtual database that, like LMDB, shows a transaction before it is
 * durable.
 *
 * A process crash keeps every transaction; a power loss rolls back to the last flushed one, or any later.
 * Each client numbers its requests and has one under way; the last one's result is kept, so that a request
 * that comes twice takes effect once.
 */
import type { Applied, Done, StateMachine } from '../../../../ts/meta/raft/host/environment.js';
import type { Entry, Snapshot } from '../../../../ts/meta/raft/core/types.js';
import type { Random } from './random.js';
import type { Process, Scheduler } from './scheduler.js';

export interface Command {
  readonly client: number;
  readonly sequence: number;
  readonly op: 'put' | 'put-if-absent' | 'cas' | 'delete';
  readonly key: string;
  readonly value: string;
  /** cas: the value that must be there. */
  readonly expected: string;
}

/** What a write answers. */
export type Result = 'done' | 'refused';

interface Session {
  readonly sequence: number;
  readonly result: Result;
}

export interface State {
  readonly applied: Applied;
  readonly values: ReadonlyMap<string, string>;
  readonly sessions: ReadonlyMap<number, Session>;
  /** A hash over everything applied, in order. */
  readonly hash: number;
}

/** Told of every command that takes effect, and not of repetitions. */
export type OnExecuted = (command: Command, index: number) => void;

const decoder = new TextDecoder();
const encoder = new TextEncoder();

export function encodeCommand(command: Command): Uint8Array {
  const { client, sequence, op, key, value, expected } = command;
  return encoder.encode(JSON.stringify([client, sequence, op, key, value, expected]));
}

export function decodeCommand(data: Uint8Array): Command {
  const fields = JSON.parse(decoder.decode(data)) as [number, number, Command['op'], string, string, string];
  const [client, sequence, op, key, value, expected] = fields;
  return { client, sequence, op, key, value, expected };
}

/** The sequential specification: the value after a command, and its result. Absent is the empty string. */
export function execute(
  before: string,
  { op, value, expected }: Command,
): { readonly after: string; readonly result: Result } {
  switch (op) {
    case 'put':
      return { after: value, result: 'done' };
    case 'delete':
      return { after: '', result: 'done' };
    case 'put-if-absent':
      return before === '' ? { after: value, result: 'done' } : { after: before, result: 'refused' };
    case 'cas':
      return before === expected ? { after: value, result: 'done' } : { after: before, result: 'refused' };
  }
}

export class SimMachine implements StateMachine {
  /** The latest transaction. */
  state: State;
  flushed: State;
  /** Transactions after the flushed one; the last is `state`. */
  private unflushed: State[] = [];
  private readonly scheduler: Scheduler;
  private readonly random: Random;
  private readonly process: Process;
  /** Mean microseconds of an operation. */
  latency: number;
  private readonly onExecuted: OnExecuted;

  constructor(
    applied: Applied,
    scheduler: Scheduler,
    random: Random,
    process: Process,
    latency: number,
    on: OnExecuted,
  ) {
    this.state = { applied, values: new Map(), sessions: new Map(), hash: 1 };
    this.flushed = this.state;
    this.scheduler = scheduler;
    this.random = random;
    this.process = process;
    this.latency = latency;
    this.onExecuted = on;
  }

  get recovered(): Applied {
    return this.state.applied;
  }

  private later(run: () => void): void {
    this.scheduler.after(1 + this.random.exponential(this.latency), 2, run, this.process);
  }

  private commit(state: State): void {
    this.state = state;
    this.unflushed.push(state);
  }

  apply(entries: readonly Entry[], applied: Applied, done: Done): void {
    this.later(() => {
      this.commit(this.advance(entries, applied));
      done(undefined);
    });
  }

  private advance(entries: readonly Entry[], applied: Applied): State {
    const values = new Map(this.state.values);
    const sessions = new Map(this.state.sessions);
    let { hash } = this.state;
    for (const entry of entries) {
      hash = hashEntry(hash, entry);
      if (entry.type !== 'EntryNormal' || entry.data.length === 0) continue;
      const command = decodeCommand(entry.data);
      const last = sessions.get(command.client);
      if (last !== undefined && last.sequence >= command.sequence) continue;
      const { after, result } = execute(values.get(command.key) ?? '', command);
      if (after === '') values.delete(command.key);
      else values.set(command.key, after);
      sessions.set(command.client, { sequence: command.sequence, result });
      this.onExecuted(command, entry.index);
    }
    return { applied, values, sessions, hash };
  }

  resultOf(client: number, sequence: number): Result | undefined {
    const session = this.state.sessions.get(client);
    return session?.sequence === sequence ? session.result : undefined;
  }

  install(snapshot: Snapshot, done: Done): void {
    this.later(() => {
      this.commit(parseSnapshot(snapshot));
      this.makeDurable();
      done(undefined);
    });
  }

  flush(done: Done): void {
    this.later(() => {
      this.makeDurable();
      done(undefined);
    });
  }

  protected makeDurable(): void {
    this.flushed = this.state;
    this.unflushed = [];
  }

  snapshot(): Snapshot | undefined {
    const { applied, values, sessions, hash } = this.state;
    const data = encoder.encode(JSON.stringify({ values: [...values], sessions: [...sessions], hash }));
    return { index: applied.index, term: applied.term, confState: applied.confState, data };
  }

  crash(power: boolean): void {
    if (power) {
      const keep = this.random.below(this.unflushed.length + 1);
      this.state = keep === 0 ? this.flushed : this.unflushed[keep - 1]!;
    }
    this.flushed = this.state;
    this.unflushed = [];
  }
}

export function parseSnapshot(snapshot: Snapshot): State {
  const { index, term, confState } = snapshot;
  const { values, sessions, hash } = JSON.parse(decoder.decode(snapshot.data)) as {
    values: [string, string][];
    sessions: [number, Session][];
    hash: number;
  };
  return { applied: { index, term, confState }, values: new Map(values), sessions: new Map(sessions), hash };
}

export function hashEntry(before: number, entry: Entry): number {
  let hash = Math.imul(before ^ entry.index, 0x01000193);
  hash = Math.imul(hash ^ entry.term, 0x01000193);
  hash = Math.imul(hash ^ entry.type.length, 0x01000193);
  for (const byte of entry.data) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash;
}
