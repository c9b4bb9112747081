/**
 * The end of the log that is not known to be durable yet.
 *
 *        storage             unstable.entries
 *   ... [ 7 ][ 8 ][ 9 ] | [ 10 ][ 11 ] | [ 12 ][ 13 ]
 *                         ^offset        ^offsetInProgress
 *
 * Entries [offset, offsetInProgress) have been handed out to be written; those from offsetInProgress on have
 * not. They may overlap storage: entries that replace a conflicting tail start below storage's last index,
 * and until they are durable the log reads them from here. An unstable snapshot replaces everything before
 * `offset`.
 */
import { fail, invariant } from './invariant.js';
import type { Entry, EntryId, Snapshot } from './types.js';

export class Unstable {
  /** A snapshot to be written. Invariant: snapshot.index + 1 === offset when it is set. */
  snapshot: Snapshot | undefined = undefined;
  /** Invariant: entries[i].index === offset + i. The array is replaced, never edited, once handed out. */
  entries: readonly Entry[] = [];
  offset: number;
  snapshotInProgress = false;
  /** Invariant: offset <= offsetInProgress <= offset + entries.length. */
  offsetInProgress: number;

  constructor(offset: number) {
    this.offset = offset;
    this.offsetInProgress = offset;
  }

  firstIndex(): number | undefined {
    return this.snapshot === undefined ? undefined : this.snapshot.index + 1;
  }

  lastIndex(): number | undefined {
    if (this.entries.length > 0) return this.offset + this.entries.length - 1;
    return this.snapshot?.index;
  }

  term(index: number): number | undefined {
    if (index < this.offset) return this.snapshot?.index === index ? this.snapshot.term : undefined;
    return this.entries[index - this.offset]?.term;
  }

  /** Entries that nobody is writing yet. */
  nextEntries(): readonly Entry[] {
    const skip = this.offsetInProgress - this.offset;
    return skip === 0 ? this.entries : this.entries.slice(skip);
  }

  nextSnapshot(): Snapshot | undefined {
    return this.snapshotInProgress ? undefined : this.snapshot;
  }

  /** Everything there is has been handed out to be written. */
  acceptInProgress(): void {
    if (this.entries.length > 0) this.offsetInProgress = this.offset + this.entries.length;
    if (this.snapshot !== undefined) this.snapshotInProgress = true;
  }

  /**
   * Entries up to `id` are durable. Ignored when the entry at that index is not the one that was written,
   * because it was replaced meanwhile; the write of its replacement will report in turn.
   */
  stableTo(id: EntryId): void {
    if (id.index < this.offset || this.term(id.index) !== id.term) return;
    this.entries = this.entries.slice(id.index + 1 - this.offset);
    this.offset = id.index + 1;
    this.offsetInProgress = Math.max(this.offsetInProgress, this.offset);
  }

  stableSnapshotTo(index: number): void {
    if (this.snapshot?.index !== index) return;
    this.snapshot = undefined;
    this.snapshotInProgress = false;
  }

  restore(snapshot: Snapshot): void {
    this.offset = snapshot.index + 1;
    this.offsetInProgress = this.offset;
    this.entries = [];
    this.snapshot = snapshot;
    this.snapshotInProgress = false;
  }

  truncateAndAppend(entries: readonly Entry[]): void {
    invariant(entries.length > 0, 'nothing to append');
    const from = entries[0]!.index;
    if (from <= this.offset) {
      // Everything here is replaced, and so is the tail of storage from there on.
      this.entries = entries;
      this.offset = from;
      this.offsetInProgress = from;
      return;
    }
    const keep = from - this.offset;
    if (keep > this.entries.length) fail(`entries from ${from} leave a gap after ${this.lastIndex()}`);
    this.entries = [
      ...(keep === this.entries.length ? this.entries : this.entries.slice(0, keep)),
      ...entries,
    ];
    this.offsetInProgress = Math.min(this.offsetInProgress, from);
  }
}
