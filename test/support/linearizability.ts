/**
 * Decides whether a history of concurrent operations is linearizable: whether there is an order of the
 * operations, each at some instant between its call and its return, in which a sequential model gives every
 * output that was seen.
 *
 * The search walks the list of call and return events. At a call, the operation may be next in the order if
 * the model allows its output; then its two events are taken out and the walk starts again from the front. At
 * a return, the operation should have been taken before: go back. What is remembered is which sets of
 * operations led to which state, since a second way to the same pair leads nowhere new. Operations on
 * different keys do not interact and are checked apart.
 *
 * Intervals are closed: an operation that returns at the time another is called may come after it. An
 * operation whose outcome is unknown returns at Infinity: it may take effect at any time after its call, or
 * (at the very end) for no one.
 */
export interface Operation<Input, Output> {
  readonly call: number;
  readonly return: number;
  readonly input: Input;
  readonly output: Output;
}

export interface Model<State, Input, Output> {
  readonly initial: State;
  /**
   * The state after the operation, or undefined if it cannot have this output in `state`. States compare by
   * ===.
   */
  step(state: State, input: Input, output: Output): State | undefined;
}

export interface Verdict {
  readonly verdict: 'linearizable' | 'not-linearizable' | 'unknown';
  readonly steps: number;
  /** The most operations that could be put in order. */
  readonly longest: number;
}

/** A call or a return in a doubly linked list; index 0 is its head. */
interface Event {
  readonly operation: number;
  readonly isCall: boolean;
  previous: number;
  next: number;
}

interface Taken<State> {
  readonly callEvent: number;
  readonly before: State;
}

interface Seen<State> {
  readonly set: Uint32Array;
  readonly state: State;
}

const DEFAULT_MAX_STEPS = 50_000_000;

export function checkLinearizable<State, Input, Output>(
  model: Model<State, Input, Output>,
  history: readonly Operation<Input, Output>[],
  maxSteps: number = DEFAULT_MAX_STEPS,
): Verdict {
  return new Search(model, history, maxSteps).run();
}

/** Checks each key by itself and gives the worst verdict. */
export function checkByKey<State, Input, Output>(
  model: Model<State, Input, Output>,
  history: readonly Operation<Input, Output>[],
  keyOf: (input: Input) => string,
  maxSteps: number = DEFAULT_MAX_STEPS,
): Verdict & { readonly key: string | undefined } {
  const keys = new Map<string, Operation<Input, Output>[]>();
  for (const operation of history) {
    const key = keyOf(operation.input);
    const list = keys.get(key);
    if (list === undefined) keys.set(key, [operation]);
    else list.push(operation);
  }
  let steps = 0;
  let doubt: (Verdict & { readonly key: string }) | undefined;
  for (const [key, list] of keys) {
    const result = checkLinearizable(model, list, maxSteps);
    steps += result.steps;
    if (result.verdict === 'not-linearizable') return { ...result, steps, key };
    if (result.verdict === 'unknown') doubt = { ...result, key };
  }
  if (doubt !== undefined) return { ...doubt, steps };
  return { verdict: 'linearizable', steps, longest: history.length, key: undefined };
}

class Search<State, Input, Output> {
  private readonly model: Model<State, Input, Output>;
  private readonly history: readonly Operation<Input, Output>[];
  private readonly maxSteps: number;
  private readonly events: Event[] = [];
  private readonly returnOf: number[] = [];
  /** The operations taken so far, as bits, and a hash of them that is updated with each. */
  private readonly set: Uint32Array;
  private hash = 0;
  private readonly marks: Uint32Array;
  private readonly seen: Map<number, Seen<State>[]> = new Map();

  constructor(
    model: Model<State, Input, Output>,
    history: readonly Operation<Input, Output>[],
    maxSteps: number,
  ) {
    this.model = model;
    this.history = history;
    this.maxSteps = maxSteps;
    this.set = new Uint32Array(Math.ceil(history.length / 32));
    this.marks = new Uint32Array(history.length);
    let mark = 0x9e3779b9;
    for (let i = 0; i < history.length; i++) this.marks[i] = mark = nextMark(mark);
    this.link();
  }

  private link(): void {
    const order = this.history.flatMap((operation, i) => [
      { operation: i, isCall: true, time: operation.call },
      { operation: i, isCall: false, time: operation.return },
    ]);
    // Two Infinities are equal, not a difference of NaN.
    order.sort((a, b) =>
      a.time === b.time ? Number(b.isCall) - Number(a.isCall) : a.time < b.time ? -1 : 1,
    );
    this.events.push({ operation: -1, isCall: false, previous: 0, next: order.length > 0 ? 1 : 0 });
    for (const [i, { operation, isCall }] of order.entries()) {
      if (!isCall) this.returnOf[operation] = i + 1;
      this.events.push({ operation, isCall, previous: i, next: i + 1 < order.length ? i + 2 : 0 });
    }
  }

  run(): Verdict {
    const { events, history } = this;
    const taken: Taken<State>[] = [];
    let state = this.model.initial;
    let steps = 0;
    let longest = 0;
    let at = events[0]!.next;
    while (events[0]!.next !== 0) {
      if (++steps > this.maxSteps) return { verdict: 'unknown', steps, longest };
      const event = events[at]!;
      if (event.isCall) {
        const { input, output } = history[event.operation]!;
        const after = this.model.step(state, input, output);
        if (after !== undefined && this.take(event.operation, after)) {
          taken.push({ callEvent: at, before: state });
          longest = Math.max(longest, taken.length);
          state = after;
          this.unlink(at);
          this.unlink(this.returnOf[event.operation]!);
          at = events[0]!.next;
        } else {
          at = event.next;
        }
        continue;
      }
      // A return that was not taken before: what was taken last has to come later.
      const last = taken.pop();
      if (last === undefined) return { verdict: 'not-linearizable', steps, longest };
      const undone = events[last.callEvent]!;
      this.flip(undone.operation);
      this.relink(this.returnOf[undone.operation]!);
      this.relink(last.callEvent);
      state = last.before;
      at = undone.next;
    }
    return { verdict: 'linearizable', steps, longest };
  }

  private flip(operation: number): void {
    this.set[operation >>> 5]! ^= 1 << (operation & 31);
    this.hash ^= this.marks[operation]!;
  }

  /** Adds an operation to the set; false (and not added) if the set with this state was reached before. */
  private take(operation: number, state: State): boolean {
    this.flip(operation);
    const bucket = this.seen.get(this.hash);
    if (bucket?.some((one) => one.state === state && sameSet(one.set, this.set)) === true) {
      this.flip(operation);
      return false;
    }
    const entry = { set: this.set.slice(), state };
    if (bucket === undefined) this.seen.set(this.hash, [entry]);
    else bucket.push(entry);
    return true;
  }

  private unlink(at: number): void {
    const { previous, next } = this.events[at]!;
    this.events[previous]!.next = next;
    this.events[next]!.previous = previous;
  }

  private relink(at: number): void {
    const { previous, next } = this.events[at]!;
    this.events[previous]!.next = at;
    this.events[next]!.previous = at;
  }
}

function sameSet(a: Uint32Array, b: Uint32Array): boolean {
  for (let i = 0; i < a.length; i++) {
    if (a[i] !== b[i]) return false;
  }
  return true;
}

function nextMark(x: number): number {
  let value = x;
  value ^= value << 13;
  value ^= value >>> 17;
  value ^= value << 5;
  return value >>> 0;
}
