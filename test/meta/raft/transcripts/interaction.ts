/**
 * Runs transcripts of kind `interaction`: a group of nodes in one process, driven step by step.
 *
 * Nodes have ids 1, 2, 3 ... Messages between them wait in one list until they are delivered. Each node keeps
 * its log in memory and a history of snapshots: its state machine appends the data of every applied entry to
 * the data before.
 */
import type { ConfChange, Transition } from '../../../../ts/meta/raft/core/confchange.js';
import { decodeConfChange } from '../../../../ts/meta/raft/core/confchange.js';
import {
  describeEntry,
  describeMessage,
  describeProgressMap,
  describeReady,
} from '../../../../ts/meta/raft/core/describe.js';
import { RawNode } from '../../../../ts/meta/raft/core/rawnode.js';
import { EMPTY_SNAPSHOT, MemoryStorage } from '../../../../ts/meta/raft/core/storage.js';
import {
  APPEND_THREAD,
  isDropped,
  isLocalThread,
  makeMessage,
  NO_DATA,
  sameHardState,
  EMPTY_HARD_STATE,
  type ConfState,
  type Entry,
  type HardState,
  type Message,
  type MessageType,
  type Snapshot,
  type StepResult,
} from '../../../../ts/meta/raft/core/types.js';
import { parseOps } from './confchange.js';
import type { Argument, Directive } from './datadriven.js';
import { Output } from './output.js';

const ELECTION_TICK = 3;
const HEARTBEAT_TICK = 1;

/** An error whose text is part of a transcript. */
class TranscriptError extends Error {}

/** Storage whose snapshots are of the applied index. */
class HistoryStorage extends MemoryStorage {
  readonly history: Snapshot[] = [];

  override snapshot(): Snapshot | undefined {
    return this.history[this.history.length - 1];
  }
}

interface Node {
  readonly raw: RawNode;
  readonly storage: HistoryStorage;
  readonly async: boolean;
  readonly appendWork: Message[];
  readonly applyWork: Message[];
}

interface NodeSettings {
  readonly snapshot: Snapshot;
  readonly maxInflightMessages: number;
  readonly asyncStorageWrites: boolean;
  readonly preVote: boolean;
  readonly checkQuorum: boolean;
  readonly maxCommittedSizePerReady: number;
  readonly disableConfChangeValidation: boolean;
  readonly readOnly: 'safe' | 'lease-based';
  readonly stepDownOnRemoval: boolean;
}

export class InteractionRunner {
  private readonly nodes: Node[] = [];
  private messages: Message[] = [];
  private readonly output = new Output();

  handle(directive: Directive): string {
    this.output.clear();
    let error = '';
    try {
      this.dispatch(directive);
    } catch (thrown) {
      if (!(thrown instanceof TranscriptError)) throw thrown;
      error = thrown.message;
    }
    // Errors are shown even when all other output is off.
    const text = this.output.text() + error;
    return text === '' ? 'ok' : text;
  }

  private dispatch(directive: Directive): void {
    const { args } = directive;
    switch (directive.command) {
      case '_breakpoint':
        return;
      case 'add-nodes':
        return this.addNodes(args);
      case 'campaign':
        return this.node(args, 0).raw.campaign();
      case 'compact':
        return this.compact(args);
      case 'deliver-msgs':
        return this.deliverDirective(args);
      case 'process-ready':
        return this.forEach(args, 'handling Ready', (node) => this.processReady(node));
      case 'process-append-thread':
        return this.forEach(args, 'processing append thread', (node) => this.processAppendThread(node));
      case 'process-apply-thread':
        return this.forEach(args, 'processing apply thread', (node) => this.processApplyThread(node));
      case 'log-level':
        return this.output.setLevel(args[0]?.key ?? '', (text) => new TranscriptError(text));
      case 'raft-log':
        return this.raftLog(this.node(args, 0));
      case 'raft-state':
        return this.raftState();
      case 'set-randomized-election-timeout':
        return this.node(args, 0).raw.setElectionTimeout(number(named(args, 'timeout')));
      case 'stabilize':
        return this.stabilizeDirective(args);
      case 'status':
        return this.output.write(describeProgressMap(this.node(args, 0).raw.status().progress));
      case 'tick-election':
        return this.tick(this.node(args, 0), ELECTION_TICK);
      case 'tick-heartbeat':
        return this.tick(this.node(args, 0), HEARTBEAT_TICK);
      case 'transfer-leadership':
        this.nodeById(number(named(args, 'from'))).raw.transferLeader(number(named(args, 'to')));
        return;
      case 'forget-leader':
        return this.node(args, 0).raw.forgetLeader();
      case 'propose':
        return refuse(this.node(args, 0).raw.propose(new TextEncoder().encode(args[1]?.key ?? '')));
      case 'propose-conf-change':
        return this.proposeConfChange(directive);
      case 'report-unreachable':
        return this.node(args, 0).raw.reportUnreachable(number(args[1]?.key));
      case 'send-snapshot':
        return this.sendSnapshot(number(args[0]?.key), number(args[1]?.key));
      default:
        throw new TranscriptError('unknown command');
    }
  }

  // ---- nodes

  private nodeById(id: number): Node {
    const node = this.nodes[id - 1];
    if (node === undefined) throw new Error(`there is no node ${id}`);
    return node;
  }

  private node(args: readonly Argument[], position: number): Node {
    return this.nodeById(number(args[position]?.key));
  }

  private idOf(node: Node): number {
    return this.nodes.indexOf(node) + 1;
  }

  /** The nodes named by bare numbers, or all. */
  private named(args: readonly Argument[]): Node[] {
    const ids = args.filter((arg) => arg.values.length === 0).map((arg) => number(arg.key));
    return ids.length === 0 ? [...this.nodes] : ids.map((id) => this.nodeById(id));
  }

  private forEach(args: readonly Argument[], header: string, run: (node: Node) => void): void {
    const nodes = this.named(args);
    for (const node of nodes) {
      if (nodes.length === 1) run(node);
      else this.section(node, header, () => run(node));
    }
  }

  private section(node: Node, header: string, run: () => void): void {
    this.output.write(`> ${this.idOf(node)} ${header}\n`);
    this.output.indented(run);
  }

  private addNodes(args: readonly Argument[]): void {
    const settings = readSettings(args.slice(1));
    for (let left = number(args[0]?.key); left > 0; left--) this.addNode(settings);
  }

  private addNode(settings: NodeSettings): void {
    const { snapshot, ...options } = settings;
    const storage = new HistoryStorage();
    const bootstrap = snapshot.index !== 0 || snapshot.data.length > 0 || memberCount(snapshot.confState) > 0;
    let initial = snapshot;
    if (bootstrap) {
      if (snapshot.index <= 1) throw new TranscriptError('index must be specified as > 1 due to bootstrap');
      initial = { ...snapshot, term: 1 };
      storage.applySnapshot(initial);
    }
    storage.history.push(initial);
    const raw = new RawNode({
      id: this.nodes.length + 1,
      storage,
      random: (below) => Math.floor(Math.random() * below),
      electionTick: ELECTION_TICK,
      heartbeatTick: HEARTBEAT_TICK,
      applied: snapshot.index,
      maxSizePerMessage: Infinity,
      maxInflightBytes: Infinity,
      maxUncommittedSize: Infinity,
      // Not known to the transcripts.
      tellCommitted: false,
      ...options,
    });
    this.nodes.push({ raw, storage, async: options.asyncStorageWrites, appendWork: [], applyWork: [] });
  }

  private tick(node: Node, count: number): void {
    for (let i = 0; i < count; i++) node.raw.tick();
  }

  // ---- work of one node

  private processReady(node: Node): void {
    const ready = node.raw.ready();
    this.output.write(describeReady(ready));
    if (!node.async) {
      this.append(node, ready.hardState, ready.entries, ready.snapshot);
      this.apply(node, ready.committedEntries);
    }
    for (const message of ready.messages) {
      if (!isLocalThread(message.to)) this.messages.push(message);
      else if (message.to === APPEND_THREAD) node.appendWork.push(message);
      else node.applyWork.push(message);
    }
    if (!node.async) node.raw.advance();
  }

  private append(
    node: Node,
    hard: HardState,
    entries: readonly Entry[],
    snapshot: Snapshot | undefined,
  ): void {
    if (!sameHardState(hard, EMPTY_HARD_STATE)) node.storage.setHardState(hard);
    if (snapshot !== undefined) {
      if (entries.length > 0) throw new TranscriptError("can't apply snapshot and entries at the same time");
      node.storage.applySnapshot(snapshot);
      node.storage.history.push(snapshot);
      return;
    }
    node.storage.append(entries);
  }

  private apply(node: Node, entries: readonly Entry[]): void {
    const { history } = node.storage;
    for (const entry of entries) {
      const change = decodeConfChange(entry);
      const before = history[history.length - 1]!;
      const confState = change === undefined ? before.confState : node.raw.applyConfChange(change);
      const data = Buffer.concat([before.data, change?.context ?? entry.data]);
      history.push({ index: entry.index, term: entry.term, confState, data });
    }
  }

  private processAppendThread(node: Node): void {
    const work = node.appendWork.shift();
    if (work === undefined) return this.output.write('no append work to perform');
    const { term, vote, commit } = work;
    this.showWork(work, () => this.append(node, { term, vote, commit }, work.entries, work.snapshot));
  }

  private processApplyThread(node: Node): void {
    const work = node.applyWork.shift();
    if (work === undefined) return this.output.write('no apply work to perform');
    this.showWork(work, () => this.apply(node, work.entries));
  }

  private showWork(work: Message, perform: () => void): void {
    this.output.write(`Processing:\n${describeMessage({ ...work, responses: [] })}\n`);
    perform();
    this.output.write('Responses:\n');
    for (const response of work.responses) this.output.write(`${describeMessage(response)}\n`);
    this.messages.push(...work.responses);
  }

  // ---- messages

  private deliverDirective(args: readonly Argument[]): void {
    const recipients: { id: number; drop: boolean }[] = [];
    let type: MessageType | undefined;
    for (const arg of args) {
      if (arg.values.length === 0) recipients.push({ id: number(arg.key), drop: false });
      for (const value of arg.values) {
        if (arg.key === 'type') type = value as MessageType;
        if (arg.key !== 'drop') continue;
        const id = number(value);
        if (recipients.some((known) => known.id === id))
          throw new Error(`can't both deliver and drop msgs to ${id}`);
        recipients.push({ id, drop: true });
      }
    }
    let count = 0;
    for (const { id, drop } of recipients) count += this.deliver(id, drop, type);
    if (count === 0) this.output.write('no messages\n');
  }

  /** Takes the waiting messages for one node out of the list. */
  private takeMessages(to: number, drop: boolean, type: MessageType | undefined): Message[] {
    const wanted = (m: Message): boolean =>
      m.to === to && !(drop && isLocal(m)) && (type === undefined || m.type === type);
    const taken = this.messages.filter(wanted);
    this.messages = this.messages.filter((m) => !wanted(m));
    return taken;
  }

  private deliver(to: number, drop: boolean, type: MessageType | undefined): number {
    const taken = this.takeMessages(to, drop, type);
    for (const message of taken) {
      this.output.write(`${drop ? 'dropped: ' : ''}${describeMessage(message)}\n`);
      if (drop) continue;
      const error = errorText(this.nodeById(to).raw.step(message));
      if (error !== '') this.output.write(`${error}\n`);
    }
    return taken.length;
  }

  private sendSnapshot(from: number, to: number): void {
    const node = this.nodeById(from);
    const snapshot = node.storage.snapshot();
    const { term } = node.raw.status().hardState;
    const message = makeMessage('MsgSnap', to, { from, term, snapshot });
    this.messages.push(message);
    this.output.write(describeMessage(message));
  }

  // ---- running until nothing happens

  private stabilizeDirective(args: readonly Argument[]): void {
    const level = args.find((arg) => arg.key === 'log-level')?.values[0];
    const nodes = this.named(args.filter((arg) => arg.key !== 'log-level'));
    if (level === undefined) return this.stabilize(nodes);
    this.output.withLevel(
      level,
      (text) => new TranscriptError(text),
      () => this.stabilize(nodes),
    );
  }

  private stabilize(nodes: readonly Node[]): void {
    for (let busy = true; busy;) {
      busy = false;
      const each = (due: (node: Node) => boolean, header: string, run: (node: Node) => void): void => {
        for (const node of nodes) {
          if (!due(node)) continue;
          busy = true;
          this.section(node, header, () => run(node));
        }
      };
      const hasMessages = (node: Node): boolean => this.messages.some((m) => m.to === this.idOf(node));
      each(
        (node) => node.raw.hasReady(),
        'handling Ready',
        (node) => this.processReady(node),
      );
      each(hasMessages, 'receiving messages', (node) => void this.deliver(this.idOf(node), false, undefined));
      each(
        (node) => node.appendWork.length > 0,
        'processing append thread',
        (node) => {
          while (node.appendWork.length > 0) this.processAppendThread(node);
        },
      );
      each(
        (node) => node.applyWork.length > 0,
        'processing apply thread',
        (node) => {
          while (node.applyWork.length > 0) this.processApplyThread(node);
        },
      );
    }
  }

  // ---- the rest

  private compact(args: readonly Argument[]): void {
    const node = this.node(args, 0);
    node.storage.compact(number(args[1]?.key));
    this.raftLog(node);
  }

  private raftLog({ storage }: Node): void {
    const first = storage.firstIndex();
    const last = storage.lastIndex();
    if (first > last) return this.output.write(`log is empty: first index=${first}, last index=${last}`);
    const entries = storage.entries(first, last + 1, Infinity);
    if (entries === 'compacted') throw new Error('the log was compacted while it was read');
    for (const entry of entries) this.output.write(`${describeEntry(entry)}\n`);
  }

  private raftState(): void {
    for (const node of this.nodes) {
      const { id, softState, hardState } = node.raw.status();
      const voter = node.raw.isVoter() ? '(Voter)' : '(Non-Voter)';
      this.output.write(`${id}: ${softState.state} ${voter} Term:${hardState.term} Lead:${softState.lead}\n`);
    }
  }

  private proposeConfChange({ args, input }: Directive): void {
    const transition = args.find((arg) => arg.key === 'transition')?.values[0] ?? 'auto';
    const version = args.find((arg) => arg.key === 'v1')?.values[0] === 'true' ? 1 : 2;
    const changes = parseOps(input);
    if (!isTransition(transition)) throw new Error(`unknown transition ${transition}`);
    if (version === 1 && (changes.length !== 1 || transition !== 'auto')) {
      throw new TranscriptError('v1 conf change can only have one operation and no transition');
    }
    const change: ConfChange = { version, transition, changes, context: NO_DATA };
    refuse(this.node(args, 0).raw.proposeConfChange(change));
  }
}

function readSettings(args: readonly Argument[]): NodeSettings {
  const values = (key: string): readonly string[] => args.find((arg) => arg.key === key)?.values ?? [];
  const flag = (key: string): boolean => values(key)[0] === 'true';
  const count = (key: string, otherwise: number): number =>
    values(key).length === 0 ? otherwise : number(values(key)[0]);
  const sortedIds = (key: string): number[] =>
    values(key)
      .map(number)
      .sort((a, b) => a - b);
  const confState: ConfState = {
    ...EMPTY_SNAPSHOT.confState,
    voters: sortedIds('voters'),
    learners: sortedIds('learners'),
  };
  const data = new TextEncoder().encode(values('content')[0] ?? '');
  return {
    snapshot: { index: count('index', 0), term: 0, confState, data },
    maxInflightMessages: count('inflight', Infinity),
    asyncStorageWrites: flag('async-storage-writes'),
    preVote: flag('prevote'),
    checkQuorum: flag('checkquorum'),
    maxCommittedSizePerReady: count('max-committed-size-per-ready', Infinity),
    disableConfChangeValidation: flag('disable-conf-change-validation'),
    readOnly: values('read-only')[0] === 'lease-based' ? 'lease-based' : 'safe',
    stepDownOnRemoval: flag('step-down-on-removal'),
  };
}

function memberCount(state: ConfState): number {
  return state.voters.length + state.learners.length;
}

function isTransition(text: string): text is Transition {
  return text === 'auto' || text === 'implicit' || text === 'explicit';
}

function isLocal(m: Message): boolean {
  return m.from === m.to || isLocalThread(m.from) || isLocalThread(m.to);
}

function number(text: string | undefined): number {
  if (text === undefined || !/^\d+$/.test(text)) throw new Error(`not a number: ${text}`);
  return Number(text);
}

function named(args: readonly Argument[], key: string): string | undefined {
  return args.find((arg) => arg.key === key)?.values[0];
}

function errorText(result: StepResult): string {
  if (isDropped(result)) return 'raft proposal dropped';
  if (result === 'peer-not-found') return 'raft: cannot step as peer not found';
  if (result === 'local-message') return 'raft: cannot step raft local message';
  return result === 'ok' ? '' : result;
}

function refuse(result: StepResult): void {
  if (result !== 'ok') throw new TranscriptError(errorText(result));
}
