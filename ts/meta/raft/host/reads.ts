/**
 * Reads that wait: first for the leader's confirmation (an index), then for the state machine to reach that
 * index.
 *
 * Each attempt has a request id of its own, also a retry, so that a late answer can never be taken for one to
 * a later question. Ids start at a random point, so that they do not repeat those of an earlier run of this
 * node.
 */
export type ReadOutcome = 'ok' | 'timeout' | 'stopped' | 'too-many-reads';

interface PendingRead {
  readonly deadline: number;
  readonly done: (outcome: ReadOutcome) => void;
  /** When to ask again. */
  retryAt: number;
}

interface ConfirmedRead {
  readonly read: PendingRead;
  readonly index: number;
}

export class Reads {
  private nextId: number;
  private readonly limit: number;
  private readonly asked: Map<number, PendingRead> = new Map();
  /** Sorted by index. */
  private confirmed: ConfirmedRead[] = [];

  constructor(random: (below: number) => number, limit: number) {
    this.nextId = 1 + random(2 ** 26) * 2 ** 26 + random(2 ** 26);
    this.limit = limit;
  }

  count(): number {
    return this.asked.size + this.confirmed.length;
  }

  /** Returns the request id to ask the leader with, or undefined when too many reads wait. */
  add(deadline: number, retryAt: number, done: (outcome: ReadOutcome) => void): number | undefined {
    if (this.count() >= this.limit) return undefined;
    return this.ask({ deadline, retryAt, done });
  }

  private ask(read: PendingRead): number {
    const id = this.nextId++;
    this.asked.set(id, read);
    return id;
  }

  /** The leader answered: the read may be served from `index` on. */
  confirm(id: number, index: number): void {
    const read = this.asked.get(id);
    if (read === undefined) return;
    this.asked.delete(id);
    let at = this.confirmed.length;
    while (at > 0 && this.confirmed[at - 1]!.index > index) at--;
    this.confirmed.splice(at, 0, { read, index });
  }

  /** Serves what the state machine has reached. */
  applied(index: number): void {
    const first = this.confirmed.findIndex((one) => one.index > index);
    const ready = this.confirmed.splice(0, first < 0 ? this.confirmed.length : first);
    for (const { read } of ready) read.done('ok');
  }

  /** What was asked is asked again with the next `expire`. */
  hasten(): void {
    for (const read of this.asked.values()) read.retryAt = -Infinity;
  }

  /** Drops what is overdue, and returns new ids for what is to be asked again. */
  expire(now: number, retryMs: number): number[] {
    const late = (read: PendingRead): boolean => read.deadline <= now;
    const overdue = this.confirmed.filter((one) => late(one.read)).map((one) => one.read);
    this.confirmed = this.confirmed.filter((one) => !late(one.read));
    const again: PendingRead[] = [];
    for (const [id, read] of this.asked) {
      if (!late(read) && read.retryAt > now) continue;
      this.asked.delete(id);
      (late(read) ? overdue : again).push(read);
    }
    for (const read of overdue) read.done('timeout');
    return again.map((read) => {
      read.retryAt = now + retryMs;
      return this.ask(read);
    });
  }

  stop(): void {
    const all = [...this.asked.values(), ...this.confirmed.map((one) => one.read)];
    this.asked.clear();
    this.confirmed = [];
    for (const read of all) read.done('stopped');
  }
}
