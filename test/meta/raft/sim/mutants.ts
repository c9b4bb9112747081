/**
 * Known bugs, brought back one at a time: a simulator that does not find them proves nothing.
 *
 * A mutant replaces methods (or settings) of the system under test for the time of a run; the shipped code
 * has no switches. Each names the pitfall that it stands for.
 */
import { Inflights } from '../../../../ts/meta/raft/core/inflights.js';
import { RaftLog } from '../../../../ts/meta/raft/core/log.js';
import { Progress } from '../../../../ts/meta/raft/core/progress.js';
import { Raft } from '../../../../ts/meta/raft/core/raft.js';
import { ReadOnly } from '../../../../ts/meta/raft/core/readonly.js';
import { Tracker } from '../../../../ts/meta/raft/core/tracker.js';
import {
  NONE,
  type Entry,
  type HardState,
  type Message,
  type Snapshot,
} from '../../../../ts/meta/raft/core/types.js';
import { Unstable } from '../../../../ts/meta/raft/core/unstable.js';
import { RaftHost } from '../../../../ts/meta/raft/host/host.js';
import { Reads } from '../../../../ts/meta/raft/host/reads.js';
import type { Applied, Done, LogRecord } from '../../../../ts/meta/raft/host/environment.js';
import { Client } from './clients.js';
import { SimLog } from './disk.js';
import { parseSnapshot, SimMachine, type Command, type State } from './machine.js';
import type { SimOptions } from './options.js';
import type { Adjust } from './simulation.js';

export interface Mutant {
  readonly name: string;
  /** Puts the bug in, and returns what takes it out. */
  readonly apply: () => () => void;
  /** It takes many seeds: one that finds it in 20,000 events, so that every test run can. */
  readonly seed?: number;
  /** Settings without which the bug has no effect. */
  readonly adjust?: Adjust;
}

/** What mutants reach into. */
interface MachineInside {
  state: State;
  later(run: () => void): void;
  commit(state: State): void;
  makeDurable(): void;
}

interface ReadOnlyInside {
  readonly round: number;
  readonly leaseVoid: boolean;
}

type Method = (this: never, ...args: never[]) => unknown;

/** Replaces a method, private ones too; `make` gets the original. */
function replace(
  target: { readonly prototype: object },
  name: string,
  make: (original: Method) => Method,
): () => void {
  const prototype = target.prototype as Record<string, Method>;
  const original = prototype[name];
  if (original === undefined) throw new Error(`there is no method ${name}`);
  prototype[name] = make(original);
  return () => {
    prototype[name] = original;
  };
}

/** A replacement that does not need the original. */
function method<This, Args extends unknown[]>(
  target: { readonly prototype: object },
  name: string,
  body: (self: This, ...args: Args) => unknown,
): () => () => void {
  return () =>
    replace(target, name, () => {
      return function (this: unknown, ...args: unknown[]) {
        return body(this as This, ...(args as Args));
      };
    });
}

/** A replacement around the original, which is called as `call(...)`. */
function around<This, Args extends unknown[]>(
  target: { readonly prototype: object },
  name: string,
  body: (self: This, call: (...args: Args) => unknown, ...args: Args) => unknown,
): () => () => void {
  return () =>
    replace(target, name, (original) => {
      return function (this: unknown, ...args: unknown[]) {
        const call = (...given: Args): unknown => original.apply(this as never, given as unknown as never[]);
        return body(this as This, call, ...(args as Args));
      };
    });
}

function all(...mutations: (() => () => void)[]): () => () => void {
  return () => {
    const undo = mutations.map((one) => one());
    return () => undo.reverse().forEach((one) => one());
  };
}

const core =
  (core: Partial<SimOptions['core']>): Adjust =>
  (options) => ({ ...options, core: { ...options.core, ...core } });

const fast = { minDelay: 50, meanDelay: 100, loss: 0, repeat: 0, capacity: 1000 };
const quiet = {
  ...{ crash: 0, power: 0, restart: 300, pause: 0, partition: 0 },
  ...{ heal: 150, membership: 0, transfer: 0, loseDisk: 0 },
};

/** Many reads while leaders are cut off from the others and come back. */
const isolatedLeaders: Adjust = (options) => ({
  ...options,
  ...{ voters: 3, clients: 12, keys: 2, thinkTime: 1000, readPermille: 700, machineLatency: 10 },
  ...{ network: fast, disk: { latency: 10, errors: 0, hangs: 0 }, partitions: ['leader'] },
  nemesis: { ...quiet, partition: 60, heal: 60 },
  core: { electionTick: 10, heartbeatTick: 1, preVote: true, checkQuorum: true },
});

const leases: Adjust = (options) => {
  const base = isolatedLeaders(options);
  return { ...base, clockSpread: 5, core: { ...base.core, readOnly: 'lease-based' } };
};

/** The largest index that `needed(n)` of n voters have reached. */
function committedBy(tracker: Tracker, voters: readonly number[], needed: (n: number) => number): number {
  if (voters.length === 0) return Infinity;
  const indexes = voters.map((id) => tracker.progress.get(id)?.match ?? 0).sort((a, b) => b - a);
  return indexes[Math.max(0, needed(indexes.length) - 1)]!;
}

function votesWon(tracker: Tracker, voters: readonly number[], needed: number): boolean {
  return voters.filter((id) => tracker.votes.get(id) === true).length >= needed;
}

const elections: readonly Mutant[] = [
  {
    name: 'the vote is not made durable',
    apply: around<SimLog, [readonly LogRecord[], number]>(SimLog, 'persist', (_, call, records, count) => {
      const forget = (state: HardState): HardState => ({ ...state, vote: NONE });
      return call(
        records.map((record) => ({ ...record, hardState: record.hardState && forget(record.hardState) })),
        count,
      );
    }),
  },
  {
    name: 'the vote is sent before it is durable',
    apply: around<Raft, [Message]>(Raft, 'send', (raft, call, m) => {
      call(m);
      const last = raft.msgsAfterAppend[raft.msgsAfterAppend.length - 1];
      if (m.type !== 'MsgVoteResp' || m.to === raft.id || last?.type !== 'MsgVoteResp') return;
      raft.msgs.push(raft.msgsAfterAppend.pop()!);
    }),
  },
  {
    name: 'stepping down in the same term frees the vote',
    seed: 16,
    apply: around<Raft, [number]>(Raft, 'reset', (raft, call, term) => {
      if (raft.term === term) raft.vote = NONE;
      call(term);
    }),
  },
  {
    name: 'up to date means a longer log',
    seed: 29,
    apply: method<RaftLog, [{ index: number }]>(
      RaftLog,
      'isUpToDate',
      (log, id) => id.index >= log.lastId().index,
    ),
  },
  {
    name: 'up to date is not asked for',
    apply: method<RaftLog, []>(RaftLog, 'isUpToDate', () => true),
  },
  {
    name: 'up to date compares only terms',
    apply: method<RaftLog, [{ term: number }]>(
      RaftLog,
      'isUpToDate',
      (log, id) => id.term >= log.lastId().term,
    ),
  },
  {
    name: 'half of the votes win',
    apply: around<Tracker, []>(Tracker, 'tallyVotes', (tracker, call) => {
      const { incoming, outgoing } = tracker.config;
      const won = [incoming, outgoing].every((half) => votesWon(tracker, half, Math.ceil(half.length / 2)));
      return won ? 'VoteWon' : call();
    }),
  },
  {
    name: 'a repeated vote counts twice',
    apply: around<Tracker, [number, boolean]>(Tracker, 'recordVote', (tracker, call, id, granted) => {
      const again = tracker.votes.has(id);
      call(id, granted);
      const silent = tracker.voterIds().find((other) => !tracker.votes.has(other));
      if (again && granted && silent !== undefined) tracker.votes.set(silent, true);
    }),
  },
];

const commitment: readonly Mutant[] = [
  {
    name: 'entries of earlier terms are committed by counting',
    apply: method<Raft, []>(Raft, 'maybeCommit', (raft) => {
      const index = raft.tracker.committed();
      const term = raft.log.term(index);
      return typeof term === 'number' && raft.log.maybeCommit({ term, index });
    }),
  },
  {
    name: 'half of the voters commit',
    apply: method<Tracker, []>(Tracker, 'committed', (tracker) =>
      committedBy(tracker, tracker.config.incoming, (n) => Math.ceil(n / 2)),
    ),
  },
  {
    name: 'learners count for commits',
    apply: method<Tracker, []>(Tracker, 'committed', (tracker) => {
      const needed = Math.floor(tracker.config.incoming.length / 2) + 1;
      return committedBy(tracker, [...tracker.progress.keys()], () => needed);
    }),
  },
  {
    name: 'a joint configuration commits with its new half alone',
    seed: 1,
    apply: method<Tracker, []>(Tracker, 'committed', (tracker) =>
      committedBy(tracker, tracker.config.incoming, (n) => Math.floor(n / 2) + 1),
    ),
  },
  {
    name: 'the leader counts itself before its entries are durable',
    apply: around<Raft, [readonly Entry[]]>(Raft, 'appendEntries', (raft, call, entries) => {
      const appended = call(entries);
      raft.tracker.progress.get(raft.id)?.maybeUpdate(raft.log.lastIndex());
      return appended;
    }),
  },
  {
    name: 'an acknowledgement counts for everything sent',
    apply: around<Progress, [number]>(Progress, 'maybeUpdate', (progress, call, index) =>
      call(Math.max(index, progress.next - 1)),
    ),
  },
  {
    name: 'heartbeats tell followers to commit what they may not have',
    seed: 15,
    apply: all(
      around<Raft, [Message]>(Raft, 'send', (raft, call, m) =>
        call(m.type === 'MsgHeartbeat' ? { ...m, commit: raft.log.committed } : m),
      ),
      around<RaftLog, [number]>(RaftLog, 'commitTo', (log, call, index) =>
        call(Math.min(index, log.lastIndex())),
      ),
    ),
  },
  {
    name: 'a late append cuts off what came after it',
    apply: method<RaftLog, [readonly Entry[]]>(
      RaftLog,
      'findConflict',
      (log, entries) => entries.find((entry) => entry.index > log.committed)?.index,
    ),
  },
  {
    name: 'entries are acknowledged before they are durable',
    apply: around<Raft, [Message]>(Raft, 'send', (raft, call, m) => {
      call(m);
      if (m.type === 'MsgAppResp' && m.to !== raft.id) raft.msgs.push(raft.msgsAfterAppend.pop()!);
    }),
  },
  {
    name: 'entries are applied before they are durable',
    apply: around<RaftLog, [boolean]>(RaftLog, 'maxAppliable', (_, call) => call(true)),
  },
  {
    name: 'reports of an earlier term make new entries durable',
    seed: 41,
    apply: all(
      around<Raft, [Message]>(Raft, 'answerLowerTerm', (raft, call, m) => {
        call(m);
        if (m.type !== 'MsgStorageAppendResp' || m.index === 0) return;
        const term = raft.log.term(m.index);
        if (typeof term === 'number') raft.log.unstable.stableTo({ term, index: m.index });
      }),
      around<Unstable, [{ term: number; index: number }]>(Unstable, 'stableTo', (unstable, call, id) =>
        call({ ...id, term: unstable.term(id.index) ?? id.term }),
      ),
    ),
    adjust: (options) => ({ ...options, disk: { ...options.disk, latency: 30_000 } }),
  },
];

const membership: readonly Mutant[] = [
  {
    name: 'membership changes are proposed while others are pending',
    apply: () => () => undefined,
    adjust: core({ disableConfChangeValidation: true }),
  },
  {
    name: 'a joint election is won with its new half alone',
    adjust: (options) => ({
      ...options,
      nemesis: { ...options.nemesis, membership: 300, crash: 50, restart: 500 },
    }),
    apply: around<Tracker, []>(Tracker, 'tallyVotes', (tracker, call) => {
      const { incoming } = tracker.config;
      return votesWon(tracker, incoming, Math.floor(incoming.length / 2) + 1) ? 'VoteWon' : call();
    }),
  },
  {
    name: 'an installed snapshot keeps the old membership',
    apply: method<MachineInside, [Snapshot, Done]>(SimMachine, 'install', (machine, snapshot, done) => {
      machine.later(() => {
        const state = parseSnapshot(snapshot);
        machine.commit({
          ...state,
          applied: { ...state.applied, confState: machine.state.applied.confState },
        });
        machine.makeDurable();
        done(undefined);
      });
    }),
  },
];

const storage: readonly Mutant[] = [
  {
    name: 'a commit index that was not written is forgotten',
    seed: 340,
    apply: around<{ commitUnwritten: boolean }, []>(RaftHost, 'write', (host, call) => {
      host.commitUnwritten = false;
      call();
    }),
    adjust: (options) => ({
      ...options,
      nemesis: { ...options.nemesis, power: 30, restart: 200, membership: 300 },
    }),
  },
  {
    name: 'a failed write is taken for a good one',
    apply: around<RaftHost, [Error | undefined, () => void]>(RaftHost, 'complete', (_, call, _error, run) =>
      call(undefined, run),
    ),
    adjust: (options) => ({ ...options, disk: { ...options.disk, errors: 20 } }),
  },
  {
    name: 'the applied index is written in a transaction of its own',
    apply: around<SimMachine, [boolean]>(SimMachine, 'crash', (machine, call, power) => {
      const before = machine.flushed;
      call(power);
      machine.state = { ...machine.state, applied: before.applied };
      machine.flushed = machine.state;
    }),
  },
  {
    name: 'the log is released without flushing the state machine',
    apply: method<MachineInside, [Done]>(SimMachine, 'flush', (machine, done) =>
      machine.later(() => done(undefined)),
    ),
  },
  {
    name: 'a snapshot is not durable when the log is reset',
    apply: method<SimMachine, []>(SimMachine, 'makeDurable', () => undefined),
  },
  {
    name: 'a snapshot leaves out the request table',
    apply: around<SimMachine, []>(SimMachine, 'snapshot', (_, call) => {
      const snapshot = call() as Snapshot;
      const fields = JSON.parse(new TextDecoder().decode(snapshot.data)) as object;
      return { ...snapshot, data: new TextEncoder().encode(JSON.stringify({ ...fields, sessions: [] })) };
    }),
  },
  {
    name: 'a snapshot cuts off a log that has more',
    adjust: (options) => ({
      ...options,
      ...{ voters: 3, clients: 12, thinkTime: 1000, releaseEvery: 3, trailingEntries: 0, machineLatency: 10 },
      network: { minDelay: 50, meanDelay: 10_000, loss: 150, repeat: 500, capacity: 1000 },
      nemesis: { ...quiet, pause: 50 },
    }),
    apply: around<Raft, [Snapshot]>(Raft, 'restore', (raft, call, snapshot) => {
      const { log } = raft;
      log.matchTerm = () => false;
      try {
        return call(snapshot);
      } finally {
        delete (log as Partial<RaftLog>).matchTerm;
      }
    }),
  },
  {
    name: 'a snapshot keeps a suffix that does not match',
    seed: 8,
    adjust: (options) => ({
      ...isolatedLeaders(options),
      ...{ readPermille: 0, releaseEvery: 3, trailingEntries: 0, partitions: ['leader'] },
      nemesis: { ...quiet, crash: 100, restart: 500, partition: 60, heal: 60 },
    }),
    apply: around<SimLog, [readonly LogRecord[], number]>(SimLog, 'persist', (log, call, records, count) => {
      const { before, entries } = log;
      const reset = records.slice(0, count).find((record) => record.reset !== undefined)?.reset;
      call(records, count);
      if (reset !== undefined && log.entries.length === 0)
        log.entries = entries.slice(reset.index - before.index);
    }),
  },
];

const reads: readonly Mutant[] = [
  {
    name: 'reads do not wait for the first commit of a term',
    seed: 4,
    apply: method<Raft, []>(Raft, 'committedInCurrentTerm', () => true),
  },
  {
    name: 'answers to earlier rounds confirm reads',
    apply: around<ReadOnlyInside, [number, number]>(ReadOnly, 'recordAck', (reads, call, from) =>
      call(from, reads.round),
    ),
    // A leader reaches nobody; one follower's repeated answers still come, while the other two elect and
    // commit. Its own clock may be the slower one, so that it is late to doubt itself. There must be clients
    // that do not wait already when that happens.
    adjust: (options) => ({
      ...isolatedLeaders(options),
      ...{ clients: 40, thinkTime: 100_000, readPermille: 950 },
      ...{ clockSpread: 3000, partitions: ['late answers'] },
      network: { ...fast, meanDelay: 3000, repeat: 800 },
    }),
  },
  {
    name: 'reads are answered without asking anybody',
    apply: method<Tracker, []>(Tracker, 'isSingleton', () => true),
    adjust: isolatedLeaders,
  },
  {
    name: 'reads do not wait for the state machine',
    apply: around<Reads, [number]>(Reads, 'applied', (_, call) => call(Infinity)),
  },
  {
    name: 'a lease does not end',
    apply: method<ReadOnlyInside, [number]>(
      ReadOnly,
      'leaseHolds',
      (reads, round) => round > 0 && !reads.leaseVoid,
    ),
    adjust: leases,
  },
  {
    name: 'a lease outlives a transfer',
    seed: 7,
    apply: method<ReadOnly, []>(ReadOnly, 'voidLease', () => undefined),
    adjust: (options) => ({
      ...leases(options),
      // The leader is cut off when its order has arrived, and the news of the election has not.
      network: { ...fast, minDelay: 8000, meanDelay: 500 },
      nemesis: { ...quiet, transfer: 100, partition: 300, heal: 300 },
    }),
  },
  {
    name: 'a lease is counted on by one whose clock stood still',
    apply: method<ReadOnly, []>(ReadOnly, 'restartLease', () => undefined),
    adjust: (options) => ({ ...leases(options), nemesis: { ...quiet, pause: 100 } }),
  },
  {
    name: 'a restarted voter forgets that it supports a lease',
    seed: 18,
    apply: around<Raft, []>(Raft, 'inLease', (raft, call) => {
      (raft as unknown as { voteGuardTicks: number }).voteGuardTicks = 0;
      return call();
    }),
    adjust: (options) => {
      const base = leases(options);
      const nemesis = { ...quiet, crash: 200, restart: 900, partition: 30, heal: 5 };
      // Almost no writes, so that who is cut off from the leader has a complete log.
      const core = { ...base.core, heartbeatTick: 3 };
      return { ...base, partitions: ['pair'], thinkTime: 4000, readPermille: 998, core, nemesis };
    },
  },
];

const requests: readonly Mutant[] = [
  {
    name: 'a retry is sent as a new request',
    apply: around<Client, [Command]>(Client, 'again', (_, call, command) => {
      const again = call(command) as Command;
      return { ...again, client: again.client + 1000 * (1 + again.sequence) };
    }),
  },
  {
    name: 'the request table is not consulted',
    apply: around<SimMachine, [readonly Entry[], Applied]>(
      SimMachine,
      'advance',
      (machine, call, entries, applied) => {
        machine.state = { ...machine.state, sessions: new Map() };
        return call(entries, applied);
      },
    ),
  },
];

const progress: readonly Mutant[] = [
  {
    name: 'the in-flight window is never freed',
    apply: method<Inflights, []>(Inflights, 'freeUpTo', () => undefined),
    adjust: core({ maxInflightMessages: 2 }),
  },
  {
    name: 'a follower that lost the window is not probed',
    apply: around<Progress, [number, number]>(Progress, 'maybeDecrementTo', () => false),
  },
  {
    name: 'a joint configuration is not left',
    apply: around<Raft, [Message]>(Raft, 'step', (raft, call, m) => {
      const leaving = m.type === 'MsgProp' && m.entries.some((entry) => entry.type === 'EntryConfChangeV2');
      return leaving && raft.tracker.config.autoLeave ? 'no-leader' : call(m);
    }),
  },
];

export const mutants: readonly Mutant[] = [
  ...elections,
  ...commitment,
  ...membership,
  ...storage,
  ...reads,
  ...requests,
  ...progress,
];
