/**
 * A virtual network between nodes: per message loss, repetition and delay (and so reordering), per link a
 * bounded number of messages under way, and links that are cut in one direction or both. Every message goes
 * through the real codec.
 */
import { decodeMessage, encodeMessage } from '../../../../ts/meta/raft/codec.js';
import type { Message, NodeId } from '../../../../ts/meta/raft/core/types.js';
import type { Random } from './random.js';
import type { Scheduler } from './scheduler.js';

export interface NetworkFaults {
  /** Microseconds. */
  readonly minDelay: number;
  readonly meanDelay: number;
  /** Per 1000 messages. */
  readonly loss: number;
  readonly repeat: number;
  /** Messages under way per link. */
  readonly capacity: number;
}

export class SimNetwork {
  faults: NetworkFaults;
  private readonly scheduler: Scheduler;
  private readonly random: Random;
  private readonly deliver: (message: Message) => void;
  private readonly cutLinks: Set<string> = new Set();
  private readonly load: Map<string, number> = new Map();

  constructor(
    scheduler: Scheduler,
    random: Random,
    faults: NetworkFaults,
    deliver: (message: Message) => void,
  ) {
    this.scheduler = scheduler;
    this.random = random;
    this.faults = faults;
    this.deliver = deliver;
  }

  /** False if the message is lost at once, which a sender sometimes learns. */
  send(message: Message): boolean {
    const link = `${message.from}>${message.to}`;
    const { loss, repeat, capacity } = this.faults;
    if (this.cutLinks.has(link) || this.random.permille(loss)) return false;
    if ((this.load.get(link) ?? 0) >= capacity) return false;
    const bytes = encodeMessage(message);
    this.transmit(link, bytes, this.delay(bytes.length));
    if (this.random.permille(repeat)) {
      this.transmit(link, bytes, this.delay(bytes.length) * this.random.between(1, 40));
    }
    return true;
  }

  private delay(size: number): number {
    return this.faults.minDelay + this.random.exponential(this.faults.meanDelay) + size / 10;
  }

  private transmit(link: string, bytes: Uint8Array, delay: number): void {
    this.load.set(link, (this.load.get(link) ?? 0) + 1);
    this.scheduler.note(bytes.length);
    this.scheduler.after(delay, 3, () => {
      this.load.set(link, this.load.get(link)! - 1);
      // A link that was cut meanwhile loses what is under way.
      if (!this.cutLinks.has(link)) this.deliver(decodeMessage(Uint8Array.from(bytes)));
    });
  }

  cut(from: NodeId, to: NodeId): void {
    this.cutLinks.add(`${from}>${to}`);
  }

  heal(): void {
    this.cutLinks.clear();
  }

  get isCut(): boolean {
    return this.cutLinks.size > 0;
  }
}
