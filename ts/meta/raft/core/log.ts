/**
 * The log as the protocol sees it: storage, continued by what is not durable yet.
 *
 *   applied <= applying <= committed <= lastIndex       firstIndex - 1 <= applied
 *
 * `applying` is how far entries were handed out to be applied, `applied` how far that was acknowledged. How
 * much may be out at once is limited in bytes.
 */
import { fail, invariant } from './invariant.js';
import type { Storage } from './storage.js';
import { entriesSize, limitedSlice, type Entry, type EntryId, type Snapshot } from './types.js';
import { Unstable } from './unstable.js';

const NO_ENTRIES: readonly Entry[] = [];

export class RaftLog {
  private readonly storage: Storage;
  readonly unstable: Unstable;
  /** The highest index known to be on a quorum. Only grows while the node runs. */
  committed: number;
  applying: number;
  applied: number;
  private readonly maxApplyingSize: number;
  /** Bytes handed out and not acknowledged as applied. */
  private applyingSize = 0;
  /** Invariant: while true, no further entries are handed out. */
  private applyingPaused = false;

  constructor(storage: Storage, maxApplyingSize: number) {
    this.storage = storage;
    this.maxApplyingSize = maxApplyingSize;
    this.unstable = new Unstable(storage.lastIndex() + 1);
    // What was compacted was applied, and what was applied was committed.
    this.committed = this.applying = this.applied = storage.firstIndex() - 1;
  }

  firstIndex(): number {
    return this.unstable.firstIndex() ?? this.storage.firstIndex();
  }

  lastIndex(): number {
    return this.unstable.lastIndex() ?? this.storage.lastIndex();
  }

  /** The term of an entry; 'compacted' or 'unavailable' outside [firstIndex-1, lastIndex]. */
  term(index: number): number | 'compacted' | 'unavailable' {
    const term = this.unstable.term(index);
    if (term !== undefined) return term;
    if (index + 1 < this.firstIndex()) return 'compacted';
    if (index > this.lastIndex()) return 'unavailable';
    return this.storage.term(index);
  }

  matchTerm(id: EntryId): boolean {
    return this.term(id.index) === id.term;
  }

  lastId(): EntryId {
    const index = this.lastIndex();
    const term = this.term(index);
    if (typeof term !== 'number') fail(`the term of the last entry ${index} is ${term}`);
    return { term, index };
  }

  /** The last entry known to be committed; undefined before there is one. */
  committedId(): EntryId | undefined {
    const term = this.term(this.committed);
    return this.committed === 0 || typeof term !== 'number' || term === 0 ? undefined : { term, index: this.committed };
  }

  /**
   * Whether a log that ends in `id` may lead one that ends like this one: later term, or same term and as
   * long.
   */
  isUpToDate(id: EntryId): boolean {
    const last = this.lastId();
    return id.term > last.term || (id.term === last.term && id.index >= last.index);
  }

  /** Entries [low, high) within the log, cut to `maxSize` bytes but at least one. */
  slice(low: number, high: number, maxSize: number): readonly Entry[] | 'compacted' {
    if (low === high) return NO_ENTRIES;
    if (low < this.firstIndex()) return 'compacted';
    if (low > high || high > this.lastIndex() + 1) fail(`slice [${low}, ${high}) is outside the log`);
    const { offset } = this.unstable;
    if (low >= offset) return limitedSlice(this.unstable.entries, low - offset, high - offset, maxSize);
    const cut = Math.min(high, offset);
    const stored = this.storage.entries(low, cut, maxSize);
    if (stored === 'compacted') return stored;
    // A short answer means that the size limit was reached in storage.
    if (high <= offset || low + stored.length < cut) return stored;
    const all = [...stored, ...this.unstable.entries.slice(0, high - offset)];
    return limitedSlice(all, 0, all.length, maxSize);
  }

  /** Entries from `from` to the end. */
  entries(from: number, maxSize: number): readonly Entry[] | 'compacted' {
    if (from > this.lastIndex()) return NO_ENTRIES;
    return this.slice(from, this.lastIndex() + 1, maxSize);
  }

  /**
   * Follows a leader's append. Returns the index of its last entry, or undefined when the logs do not agree
   * at `previous`. Entries that are here already stay as they are: a late message must not cut what came
   * after it.
   */
  maybeAppend(previous: EntryId, entries: readonly Entry[], leaderCommit: number): number | undefined {
    if (!this.matchTerm(previous)) return undefined;
    const last = previous.index + entries.length;
    const conflict = this.findConflict(entries);
    if (conflict !== undefined) {
      if (conflict <= this.committed) fail(`entry ${conflict} conflicts with a committed entry`);
      this.append(entries.slice(conflict - previous.index - 1));
    }
    this.commitTo(Math.min(leaderCommit, last));
    return last;
  }

  /**
   * Appends, replacing whatever is at and after the first entry's index. Precondition: nothing of that is
   * committed.
   */
  append(entries: readonly Entry[]): void {
    if (entries.length === 0) return;
    const after = entries[0]!.index - 1;
    if (after < this.committed)
      fail(`append after ${after} would replace committed entries up to ${this.committed}`);
    this.unstable.truncateAndAppend(entries);
  }

  /** The index of the first of these entries that is missing here or differs. */
  private findConflict(entries: readonly Entry[]): number | undefined {
    return entries.find((entry) => !this.matchTerm(entry))?.index;
  }

  /**
   * The highest position at or below `index` whose term here is at most `term`, and that term: the best guess
   * of where two logs part, skipping whole terms at once. Term 0 when the position is outside the readable
   * log.
   */
  findConflictByTerm(index: number, term: number): EntryId {
    for (let at = index; at > 0; at--) {
      const ours = this.term(at);
      if (typeof ours !== 'number') return { index: at, term: 0 };
      if (ours <= term) return { index: at, term: ours };
    }
    return { index: 0, term: 0 };
  }

  commitTo(index: number): void {
    if (index <= this.committed) return;
    // A leader never tells a follower of a commit that it has not acknowledged: this log lost durable
    // entries.
    if (index > this.lastIndex()) fail(`commit index ${index} is beyond the last entry ${this.lastIndex()}`);
    this.committed = index;
  }

  /** Commits up to `id` if that is news and the entry has this very term (of the leader that asks). */
  maybeCommit(id: EntryId): boolean {
    if (id.term === 0 || id.index <= this.committed || !this.matchTerm(id)) return false;
    this.commitTo(id.index);
    return true;
  }

  // ---- what is to be written

  hasNextUnstable(): boolean {
    return this.unstable.nextEntries().length > 0;
  }

  hasUnstableEntries(): boolean {
    return this.unstable.entries.length > 0;
  }

  hasUnstableSnapshot(): boolean {
    return this.unstable.snapshot !== undefined;
  }

  // ---- what is to be applied

  /** Committed entries that may be applied now; with `allowUnstable` also those that are not durable yet. */
  nextCommitted(allowUnstable: boolean): readonly Entry[] {
    if (!this.hasNextCommitted(allowUnstable)) return NO_ENTRIES;
    const high = this.maxAppliable(allowUnstable) + 1;
    const entries = this.slice(this.applying + 1, high, this.maxApplyingSize - this.applyingSize);
    if (entries === 'compacted') fail(`entry ${this.applying + 1} was compacted before it was applied`);
    return entries;
  }

  hasNextCommitted(allowUnstable: boolean): boolean {
    // A snapshot that is being installed comes before anything else.
    if (this.applyingPaused || this.hasUnstableSnapshot()) return false;
    return this.maxAppliable(allowUnstable) > this.applying;
  }

  maxAppliable(allowUnstable: boolean): number {
    return allowUnstable ? this.committed : Math.min(this.committed, this.unstable.offset - 1);
  }

  acceptApplying(entries: readonly Entry[], allowUnstable: boolean): void {
    const last = entries[entries.length - 1]!.index;
    invariant(last <= this.committed, 'only committed entries are applied');
    this.applying = last;
    this.applyingSize += entriesSize(entries);
    // A cut-off list means that the next entry did not fit, even if some bytes are left.
    this.applyingPaused =
      this.applyingSize >= this.maxApplyingSize || last < this.maxAppliable(allowUnstable);
  }

  /** Entries up to `index`, of `size` bytes, have been applied. */
  appliedTo(index: number, size: number): void {
    if (index > this.committed || index < this.applied) {
      fail(`applied index ${index} is outside [${this.applied}, ${this.committed}]`);
    }
    this.applied = index;
    this.applying = Math.max(this.applying, index);
    this.applyingSize = Math.max(0, this.applyingSize - size);
    this.applyingPaused = this.applyingSize >= this.maxApplyingSize;
  }

  // ---- snapshots

  snapshot(): Snapshot | undefined {
    return this.unstable.snapshot ?? this.storage.snapshot();
  }

  /** Drops the whole log in favour of a snapshot. */
  restore(snapshot: Snapshot): void {
    this.committed = snapshot.index;
    this.unstable.restore(snapshot);
  }
}
