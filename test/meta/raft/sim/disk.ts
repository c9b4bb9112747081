/**
 * A node's log on a virtual disk: what is durable, and one write that may be under way.
 *
 * A crash in the middle of a write keeps any number of its records, from the front, since a record after a
 * torn one is never read. Releasing old entries is not synced: after a power loss they may be back. A write
 * can fail (nothing more is written then), be slow, or hang until the process dies.
 */
import type { Done, DurableLog, LogRecord, RecoveredLog } from '../../../../ts/meta/raft/host/environment.js';
import type { Entry, EntryId, HardState } from '../../../../ts/meta/raft/core/types.js';
import type { Random } from './random.js';
import type { Process, Scheduler } from './scheduler.js';

export interface DiskFaults {
  /** Mean microseconds of a write. */
  readonly latency: number;
  /** Per 1000 writes. */
  readonly errors: number;
  readonly hangs: number;
}

export class SimLog implements DurableLog {
  hardState: HardState;
  before: EntryId;
  entries: Entry[] = [];
  /** Released entries that a power loss may bring back. */
  private released: { readonly before: EntryId; readonly entries: readonly Entry[] } | undefined = undefined;
  protected pending: readonly LogRecord[] | undefined = undefined;
  failed = false;
  faults: DiskFaults;
  protected readonly scheduler: Scheduler;
  protected readonly random: Random;
  protected readonly process: Process;

  constructor(
    base: RecoveredLog,
    scheduler: Scheduler,
    random: Random,
    process: Process,
    faults: DiskFaults,
  ) {
    this.hardState = base.hardState;
    this.before = base.before;
    this.scheduler = scheduler;
    this.random = random;
    this.process = process;
    this.faults = faults;
  }

  /** No more faults. */
  calm(): void {
    this.faults = { latency: 500, errors: 0, hangs: 0 };
  }

  recovered(): RecoveredLog {
    return { hardState: this.hardState, before: this.before, entries: [...this.entries] };
  }

  lastIndex(): number {
    return this.before.index + this.entries.length;
  }

  /** The term of an entry in the durable log, or undefined if it is not in it. */
  term(index: number): number | undefined {
    return index === this.before.index ? this.before.term : this.entries[index - this.before.index - 1]?.term;
  }

  write(records: readonly LogRecord[], done: Done): void {
    if (this.pending !== undefined) throw new Error('two log writes at a time');
    this.pending = records;
    const { latency, errors, hangs } = this.faults;
    if (this.random.permille(hangs)) return;
    const fails = this.failed || this.random.permille(errors);
    const delay = 1 + this.random.exponential(latency) * (this.random.permille(5) ? 50 : 1);
    const finish = (): void => {
      this.pending = undefined;
      if (fails) {
        this.failed = true;
        this.persist(records, this.random.below(records.length + 1));
        done(new Error('EIO'));
        return;
      }
      this.persist(records, records.length);
      done(undefined);
    };
    this.scheduler.after(delay, 1, finish, this.process);
  }

  release(index: number): void {
    const term = this.term(index);
    if (term === undefined) throw new Error(`released entry ${index} is not in the log`);
    const dropped = this.entries.slice(0, index - this.before.index);
    const { released } = this;
    if (released !== undefined && released.entries.length < 1000) {
      this.released = { before: released.before, entries: [...released.entries, ...dropped] };
    } else {
      this.released = { before: this.before, entries: dropped };
    }
    this.entries = this.entries.slice(index - this.before.index);
    this.before = { index, term };
  }

  /** The process dies; `power` also loses what was not synced. */
  crash(power: boolean): void {
    if (this.pending !== undefined) this.persist(this.pending, this.random.below(this.pending.length + 1));
    this.pending = undefined;
    if (power && this.released !== undefined && this.random.permille(500)) {
      const { before, entries } = this.released;
      this.entries = [...entries, ...this.entries];
      this.before = before;
    }
    this.released = undefined;
    this.failed = false;
  }

  /** The first `count` records become durable. */
  protected persist(records: readonly LogRecord[], count: number): void {
    for (const { hardState, reset, entries } of records.slice(0, count)) {
      if (hardState !== undefined) this.hardState = hardState;
      if (reset !== undefined) {
        this.before = reset;
        this.entries = [];
        this.released = undefined;
      }
      const first = entries[0];
      if (first === undefined) continue;
      const keep = first.index - this.before.index - 1;
      if (keep < 0 || keep > this.entries.length)
        throw new Error(`written entry ${first.index} leaves a gap`);
      this.entries.length = keep;
      this.entries.push(...entries);
    }
  }
}
