/**
 * Virtual time: a heap of events ordered by (time, sequence). Times are integer microseconds.
 *
 * An event may belong to a process. It is dropped if that process has died since, and put off while it is
 * paused; then everything that came meanwhile happens at once, in order. Every event goes into a hash, so
 * that two runs can be compared.
 */
export interface Process {
  /** Changes with every crash: events of earlier incarnations are dropped. */
  incarnation: number;
  paused: boolean;
  readonly deferred: (() => void)[];
}

interface Event {
  readonly time: number;
  readonly sequence: number;
  readonly process: Process | undefined;
  /** -1: whichever incarnation there is. */
  readonly incarnation: number;
  readonly tag: number;
  run: (() => void) | undefined;
}

const DEFERRED_MAX = 10_000;

export class Scheduler {
  now = 0;
  events = 0;
  private sequence = 0;
  private readonly heap: Event[] = [];
  private hashA = 0x811c9dc5;
  private hashB = 0x9e3779b9;

  /** Mixes a number into the run's hash. */
  note(value: number): void {
    this.hashA = Math.imul(this.hashA ^ value, 0x01000193);
    this.hashB = Math.imul(this.hashB ^ (value + (this.hashA >>> 7)), 0x85ebca6b);
  }

  hash(): string {
    const part = (x: number): string => (x >>> 0).toString(16).padStart(8, '0');
    return part(this.hashA) + part(this.hashB);
  }

  /** Runs `run` after `delay`. Returns what cancels it. */
  after(delay: number, tag: number, run: () => void, process?: Process, anyIncarnation = false): () => void {
    const incarnation = process === undefined || anyIncarnation ? -1 : process.incarnation;
    const time = this.now + Math.max(1, Math.round(delay));
    const event: Event = { time, sequence: this.sequence++, process, incarnation, tag, run };
    this.push(event);
    return () => {
      event.run = undefined;
    };
  }

  /** Runs the next event. False if there is none before `until`. */
  step(until: number): boolean {
    for (;;) {
      const event = this.heap[0];
      if (event === undefined || event.time > until) return false;
      this.pop();
      const { process, run } = event;
      if (run === undefined) continue;
      if (process !== undefined && event.incarnation !== -1 && event.incarnation !== process.incarnation)
        continue;
      this.now = event.time;
      this.events++;
      this.note(event.time % 2 ** 31);
      this.note(event.tag);
      if (process?.paused === true) {
        const { incarnation } = process;
        const check = (): void => {
          if (event.incarnation === -1 || process.incarnation === incarnation) run();
        };
        if (process.deferred.length < DEFERRED_MAX) process.deferred.push(check);
      } else {
        run();
      }
      return true;
    }
  }

  private push(event: Event): void {
    const { heap } = this;
    let at = heap.length;
    heap.push(event);
    while (at > 0) {
      const parent = (at - 1) >>> 1;
      if (!before(event, heap[parent]!)) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = event;
  }

  private pop(): void {
    const { heap } = this;
    const last = heap.pop()!;
    if (heap.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++;
      if (!before(heap[child]!, last)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
  }
}

function before(a: Event, b: Event): boolean {
  return a.time < b.time || (a.time === b.time && a.sequence < b.sequence);
}
