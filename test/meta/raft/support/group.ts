/**
 * A Raft group in memory for tests of the core: synchronous writes, and a network that the test is in charge
 * of.
 *
 * Messages wait in `wire` until `run` delivers them; `cut` decides which are lost on the way.
 */
import {
  decodeConfChange,
  type ConfChange,
  type ConfChangeKind,
} from '../../../../ts/meta/raft/core/confchange.js';
import type { RaftOptions } from '../../../../ts/meta/raft/core/config.js';
import { RawNode } from '../../../../ts/meta/raft/core/rawnode.js';
import { MemoryStorage } from '../../../../ts/meta/raft/core/storage.js';
import {
  EMPTY_CONF_STATE,
  EMPTY_HARD_STATE,
  NO_DATA,
  NONE,
  sameHardState,
  type ConfState,
  type Entry,
  type Message,
  type NodeId,
  type ReadState,
  type Snapshot,
} from '../../../../ts/meta/raft/core/types.js';

export type NodeOptions = Partial<Omit<RaftOptions, 'id' | 'storage'>>;

export interface GroupOptions extends NodeOptions {
  readonly voters: readonly NodeId[];
  readonly learners?: readonly NodeId[];
}

/** Every group starts from a snapshot at this index, of term 1. */
export const BASE = 10;

export class Member {
  readonly id: NodeId;
  readonly storage: MemoryStorage = new MemoryStorage();
  raw: RawNode;
  readonly applied: Entry[] = [];
  readonly reads: ReadState[] = [];
  confState: ConfState;
  private readonly options: NodeOptions;

  constructor(id: NodeId, snapshot: Snapshot | undefined, options: NodeOptions) {
    this.id = id;
    this.options = options;
    if (snapshot !== undefined) {
      this.storage.applySnapshot(snapshot);
      // So that the first leader is of term 2, and the base is none of its own entries.
      this.storage.setHardState({ term: 1, vote: NONE, commit: snapshot.index });
    }
    this.confState = snapshot?.confState ?? EMPTY_CONF_STATE;
    this.raw = this.start(snapshot?.index ?? 0);
  }

  private start(applied: number): RawNode {
    return new RawNode({
      id: this.id,
      storage: this.storage,
      random: () => this.id - 1,
      checkQuorum: false,
      preVote: false,
      applied,
      ...this.options,
    });
  }

  /** Forgets everything that is not in storage. */
  restart(): void {
    const applied = this.applied[this.applied.length - 1]?.index ?? this.storage.firstIndex() - 1;
    const snapshot = this.storage.snapshot();
    if (snapshot !== undefined && applied >= snapshot.index) {
      this.storage.setSnapshot({ ...snapshot, confState: this.confState });
    }
    this.raw = this.start(applied);
  }

  /** Carries out one Ready and returns what is to be sent. */
  work(): Message[] {
    const ready = this.raw.ready();
    if (!sameHardState(ready.hardState, EMPTY_HARD_STATE)) this.storage.setHardState(ready.hardState);
    if (ready.snapshot !== undefined) {
      this.storage.applySnapshot(ready.snapshot);
      this.confState = ready.snapshot.confState;
    }
    this.storage.append(ready.entries);
    this.reads.push(...ready.readStates);
    for (const entry of ready.committedEntries) {
      this.applied.push(entry);
      const change = decodeConfChange(entry);
      if (change !== undefined) this.confState = this.raw.applyConfChange(change);
    }
    this.raw.advance();
    return [...ready.messages];
  }

  /** What the applied normal entries say. */
  texts(): string[] {
    return this.applied.filter((entry) => entry.data.length > 0 && entry.type === 'EntryNormal').map(textOf);
  }

  get state(): string {
    return this.raw.status().softState.state;
  }

  get term(): number {
    return this.raw.status().hardState.term;
  }

  get commit(): number {
    return this.raw.status().hardState.commit;
  }
}

export class Group {
  readonly members: Map<NodeId, Member> = new Map();
  wire: Message[] = [];
  /** Messages for which this is true are lost. */
  cut: (m: Message) => boolean = () => false;

  constructor({ voters, learners = [], ...options }: GroupOptions) {
    const confState: ConfState = { ...EMPTY_CONF_STATE, voters: [...voters], learners: [...learners] };
    const snapshot: Snapshot = { index: BASE, term: 1, confState, data: NO_DATA };
    for (const id of [...voters, ...learners]) this.members.set(id, new Member(id, snapshot, options));
  }

  /** A member that knows nothing, to be added by a membership change. */
  addEmpty(id: NodeId, options: NodeOptions = {}): Member {
    const member = new Member(id, undefined, options);
    this.members.set(id, member);
    return member;
  }

  at(id: NodeId): Member {
    const member = this.members.get(id);
    if (member === undefined) throw new Error(`no member ${id}`);
    return member;
  }

  /** Writes, applies and collects messages on all nodes, without delivering any. */
  work(): void {
    for (const member of this.members.values()) {
      while (member.raw.hasReady()) this.wire.push(...member.work());
    }
  }

  /** Runs until nothing happens. */
  run(): void {
    for (let rounds = 0; rounds < 1000; rounds++) {
      this.work();
      if (this.wire.length === 0) return;
      const batch = this.wire;
      this.wire = [];
      for (const m of batch) {
        if (!this.cut(m)) this.members.get(m.to)?.raw.step(m);
      }
    }
    throw new Error('the group does not come to rest');
  }

  elect(id: NodeId): Member {
    const member = this.at(id);
    member.raw.campaign();
    this.run();
    if (member.state !== 'StateLeader') throw new Error(`node ${id} was not elected`);
    return member;
  }

  tick(id: NodeId, count = 1): void {
    for (let i = 0; i < count; i++) this.at(id).raw.tick();
  }

  /** Loses everything from and to this node. */
  isolate(...ids: NodeId[]): void {
    this.cut = (m) => ids.includes(m.from) !== ids.includes(m.to);
  }

  heal(): void {
    this.cut = () => false;
  }
}

export function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

export function textOf(entry: Entry): string {
  return new TextDecoder().decode(entry.data);
}

export function change(...ops: readonly [ConfChangeKind, NodeId][]): ConfChange {
  const changes = ops.map(([kind, nodeId]) => ({ kind, nodeId }));
  return { version: 2, transition: 'auto', changes, context: NO_DATA };
}
