/**
 * What the core reads back from durable storage. The host writes to it (from Ready or MsgStorageAppend) and
 * the core reads.
 *
 * Entries (firstIndex-1, lastIndex] can be read; the term of firstIndex-1 is known too, since it is needed to
 * extend the log from there. An error of the medium is not an answer: an implementation throws, and the host
 * stops the node.
 */
import { invariant } from './invariant.js';
import {
  EMPTY_CONF_STATE,
  EMPTY_HARD_STATE,
  NO_DATA,
  limitedSlice,
  type ConfState,
  type Entry,
  type HardState,
  type Snapshot,
} from './types.js';

export interface Storage {
  /** What was durable when the node started. */
  initialState(): { readonly hardState: HardState; readonly confState: ConfState };
  firstIndex(): number;
  lastIndex(): number;
  /** 'compacted' below firstIndex-1, 'unavailable' above lastIndex. */
  term(index: number): number | 'compacted' | 'unavailable';
  /**
   * Entries [low, high), at least one, at most `maxSize` bytes unless the first alone is larger. The list is
   * not changed afterwards. Precondition: low < high <= lastIndex+1. 'compacted' if low < firstIndex.
   */
  entries(low: number, high: number, maxSize: number): readonly Entry[] | 'compacted';
  /** A snapshot to send, or undefined if there is none to be had right now. */
  snapshot(): Snapshot | undefined;
}

export const EMPTY_SNAPSHOT: Snapshot = { index: 0, term: 0, confState: EMPTY_CONF_STATE, data: NO_DATA };

/** Storage in memory: for tests, transcripts and as the readable tail of a log kept elsewhere. */
export class MemoryStorage implements Storage {
  private hardState: HardState = EMPTY_HARD_STATE;
  private base: Snapshot = EMPTY_SNAPSHOT;
  /** Index and term of the last compacted entry. Invariant: entries[0].index === compacted.index + 1. */
  private compacted: { readonly index: number; readonly term: number } = { index: 0, term: 0 };
  private list: Entry[] = [];
  private bytes = 0;

  /** Payload bytes of the entries held. */
  get payloadBytes(): number {
    return this.bytes;
  }

  /** The lowest index behind which at most so many payload bytes follow. */
  indexKeeping(bytes: number): number {
    let left = bytes;
    let at = this.list.length;
    while (at > 0 && left >= this.list[at - 1]!.data.length) left -= this.list[--at]!.data.length;
    return this.compacted.index + at;
  }

  initialState(): { readonly hardState: HardState; readonly confState: ConfState } {
    return { hardState: this.hardState, confState: this.base.confState };
  }

  firstIndex(): number {
    return this.compacted.index + 1;
  }

  lastIndex(): number {
    return this.compacted.index + this.list.length;
  }

  term(index: number): number | 'compacted' | 'unavailable' {
    if (index < this.compacted.index) return 'compacted';
    if (index === this.compacted.index) return this.compacted.term;
    return this.list[index - this.firstIndex()]?.term ?? 'unavailable';
  }

  entries(low: number, high: number, maxSize: number): readonly Entry[] | 'compacted' {
    const first = this.firstIndex();
    if (low < first) return 'compacted';
    invariant(low < high && high <= this.lastIndex() + 1, 'entries are read within the log');
    const found = limitedSlice(this.list, low - first, high - first, maxSize);
    return found === this.list ? [...found] : found;
  }

  snapshot(): Snapshot | undefined {
    return this.base;
  }

  setHardState(hardState: HardState): void {
    this.hardState = hardState;
  }

  /** Replaces the whole log. */
  applySnapshot(snapshot: Snapshot): void {
    invariant(snapshot.index >= this.base.index, 'snapshots do not go back');
    this.base = snapshot;
    this.compacted = { index: snapshot.index, term: snapshot.term };
    this.list = [];
    this.bytes = 0;
  }

  /** Remembers what `snapshot()` returns from now on, without touching the log. */
  setSnapshot(snapshot: Snapshot): void {
    invariant(snapshot.index <= this.lastIndex(), 'a snapshot covers entries that exist');
    this.base = snapshot;
  }

  /** Entries before firstIndex are skipped; entries at or after the first new one are replaced. */
  append(entries: readonly Entry[]): void {
    const first = this.firstIndex();
    const fresh = entries.filter((entry) => entry.index >= first);
    if (fresh.length === 0) return;
    const at = fresh[0]!.index - first;
    invariant(at <= this.list.length, 'appended entries leave no gap');
    for (const replaced of this.list.slice(at)) this.bytes -= replaced.data.length;
    this.list.length = at;
    for (const entry of fresh) {
      this.list.push(entry);
      this.bytes += entry.data.length;
    }
  }

  /** Drops entries up to and including `index`. */
  compact(index: number): void {
    invariant(index > this.compacted.index && index <= this.lastIndex(), 'compaction stays within the log');
    const term = this.term(index);
    invariant(typeof term === 'number', 'the compacted entry is known');
    for (const gone of this.list.splice(0, index - this.compacted.index)) this.bytes -= gone.data.length;
    this.compacted = { index, term };
  }
}
