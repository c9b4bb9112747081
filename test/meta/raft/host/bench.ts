/** A Raft host for tests of it alone: its log, state machine, clock and network do only what the test says. */
import {
  makeMessage,
  NO_DATA,
  NONE,
  type ConfState,
  type Message,
} from '../../../../ts/meta/raft/core/types.js';
import type { Applied, Done, LogRecord } from '../../../../ts/meta/raft/host/environment.js';
import { RaftHost, type HostOptions } from '../../../../ts/meta/raft/host/host.js';
import type { ReadOutcome } from '../../../../ts/meta/raft/host/reads.js';
import { textOf } from '../support/group.js';

export const BASE = { index: 1, term: 1 };
export const TICK_MS = 10;

/** A host whose log, state machine, clock and network do only what the test says. */
export class Bench {
  now = 1000;
  readonly sent: Message[] = [];
  readonly writes: { records: readonly LogRecord[]; done: Done }[] = [];
  /** Operations on the state machine, in words, and how to end them. */
  readonly machine: { what: string; done: Done }[] = [];
  readonly applied: string[] = [];
  readonly released: number[] = [];
  stopped: Error | 'asked' | undefined = undefined;
  private timer: { at: number; run: () => void } | undefined = undefined;
  readonly host: RaftHost;

  constructor(
    id: number,
    voters: readonly number[],
    more: Partial<HostOptions> = {},
    at: Applied | undefined = undefined,
  ) {
    const confState: ConfState = {
      voters,
      votersOutgoing: [],
      learners: [],
      learnersNext: [],
      autoLeave: false,
    };
    const start = at ?? { ...BASE, confState };
    const machineTask = (what: string, done: Done): void => void this.machine.push({ what, done });
    let last: Applied = start;
    this.host = new RaftHost({
      id,
      clock: {
        now: () => this.now,
        after: (ms, run) => {
          const timer = { at: this.now + ms, run };
          this.timer = timer;
          return () => {
            if (this.timer === timer) this.timer = undefined;
          };
        },
      },
      random: (below) => below >> 1,
      network: { send: (message) => void this.sent.push(message) },
      log: {
        write: (records, done) => void this.writes.push({ records, done }),
        release: (index) => void this.released.push(index),
      },
      recovered: { hardState: { term: 1, vote: NONE, commit: 1 }, before: BASE, entries: [] },
      machine: {
        recovered: start,
        apply: (entries, applied, done) => {
          last = applied;
          machineTask(`apply ${entries.map((entry) => entry.index).join(' ')}`, done);
        },
        install: (snapshot, done) => {
          last = snapshot;
          machineTask(`install ${snapshot.index}`, done);
        },
        flush: (done) => machineTask('flush', done),
        snapshot: () => ({ ...last, data: NO_DATA }),
      },
      events: {
        onApplied: (entries) =>
          void this.applied.push(...entries.filter((entry) => entry.data.length > 0).map(textOf)),
        onStop: (error) => void (this.stopped = error ?? 'asked'),
      },
      tickMs: TICK_MS,
      stallMs: 50,
      maxQueuedWrites: 20,
      releaseEvery: 10,
      trailingEntries: 3,
      readRetryMs: 100,
      maxReads: 10,
      snapshotTimeoutMs: 1000,
      core: { electionTick: 10 },
      ...more,
    });
  }

  /** Time passes, with every timer on its time. */
  pass(ms: number): void {
    const end = this.now + ms;
    for (let { timer } = this; timer !== undefined && timer.at <= end; { timer } = this) {
      this.now = Math.max(this.now, timer.at);
      this.timer = undefined;
      timer.run();
    }
    this.now = end;
  }

  /** Nothing happens for so long; then the first timer that was due fires, and nothing else yet. */
  wake(ms: number): void {
    this.now += ms;
    const { timer } = this;
    this.timer = undefined;
    timer?.run();
  }

  /** Nothing happens for so long; then everything that was due. */
  standStill(ms: number): void {
    this.now += ms;
    this.pass(0);
  }

  endWrite(error?: Error): void {
    this.writes.shift()!.done(error);
  }

  endMachine(error?: Error): void {
    this.machine.shift()!.done(error);
  }

  settle(): void {
    while (this.writes.length > 0 || this.machine.length > 0) {
      if (this.writes.length > 0) this.endWrite();
      else this.endMachine();
    }
  }

  get role(): string {
    return this.host.status().softState.state;
  }

  /** Makes the only voter, or a voter that hears of others' votes, leader. */
  lead(...voters: number[]): void {
    while (this.role !== 'StateLeader') {
      this.pass(TICK_MS);
      for (const from of voters) {
        const { term } = this.host.status().hardState;
        const pre = this.role === 'StatePreCandidate';
        const type = pre ? 'MsgPreVoteResp' : 'MsgVoteResp';
        this.host.receive([makeMessage(type, 1, { from, term: pre ? term + 1 : term })]);
      }
      this.settle();
    }
    this.settle();
    this.sent.length = 0;
  }

  read(timeoutMs: number): ReadOutcome[] {
    const outcomes: ReadOutcome[] = [];
    this.host.read(timeoutMs, (outcome) => outcomes.push(outcome));
    return outcomes;
  }
}
