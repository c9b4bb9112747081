/**
 * The window of MsgApps sent to one follower and not yet acknowledged, bounded by count and by bytes.
 *
 * Each message is remembered by the index of its last entry. An acknowledgement of index i frees every
 * message up to i, since a follower acknowledges all that comes before. Indexes in the window only grow from
 * front to back.
 */
import { invariant } from './invariant.js';

interface Inflight {
  readonly index: number;
  readonly bytes: number;
}

export class Inflights {
  private readonly maxCount: number;
  /** Infinity: no limit. */
  private readonly maxBytes: number;
  private readonly window: Inflight[] = [];
  /** Messages before `head` are free; they are cut off in bulk. Invariant: 0 <= head <= window.length. */
  private head = 0;
  private bytes = 0;

  constructor(maxCount: number, maxBytes: number) {
    this.maxCount = maxCount;
    this.maxBytes = maxBytes;
  }

  count(): number {
    return this.window.length - this.head;
  }

  /** One message may overshoot the byte limit, so that a big entry can be sent at all. */
  full(): boolean {
    return this.count() >= this.maxCount || this.bytes >= this.maxBytes;
  }

  /** Precondition: not full, and `index` is above every index in the window. */
  add(index: number, bytes: number): void {
    invariant(!this.full(), 'cannot add to a full in-flight window');
    const last = this.count() > 0 ? this.window[this.window.length - 1] : undefined;
    invariant(last === undefined || last.index < index, 'in-flight indexes must grow');
    this.window.push({ index, bytes });
    this.bytes += bytes;
  }

  /** Frees all messages whose last entry is at or below `index`. */
  freeUpTo(index: number): void {
    while (this.head < this.window.length && this.window[this.head]!.index <= index) {
      this.bytes -= this.window[this.head]!.bytes;
      this.head++;
    }
    if (this.head === this.window.length || this.head >= 64) {
      this.window.splice(0, this.head);
      this.head = 0;
    }
  }

  reset(): void {
    this.window.length = 0;
    this.head = 0;
    this.bytes = 0;
  }
}
