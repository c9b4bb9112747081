/**
 * The words of the Raft core: ids, log entries, messages and the states a node keeps.
 *
 * Terms, indexes, node ids, rounds and request ids are JavaScript numbers that are safe integers >= 0.
 * Node id 0 (`NONE`) means "nobody"; the two negative ids name the local storage threads of a node and never
 * travel over the network. Index 0 is "before the first entry", term 0 "before the first election".
 *
 * Everything here is immutable once it has been handed over: an entry's `data` is shared by the log, by
 * messages and by the state machine, and nobody may write to it.
 */

export type NodeId = number;

export const NONE: NodeId = 0;
/** Where `MsgStorageAppend` goes: whoever makes entries, term, vote and snapshots durable on this node. */
export const APPEND_THREAD: NodeId = -1;
/** Where `MsgStorageApply` goes: whoever feeds committed entries to this node's state machine. */
export const APPLY_THREAD: NodeId = -2;

export function isLocalThread(id: NodeId): boolean {
  return id === APPEND_THREAD || id === APPLY_THREAD;
}

export type EntryType = 'EntryNormal' | 'EntryConfChange' | 'EntryConfChangeV2';

export interface Entry {
  readonly term: number;
  readonly index: number;
  readonly type: EntryType;
  readonly data: Uint8Array;
}

/** Names one entry of all entries that any leader ever made: no two different entries share it. */
export interface EntryId {
  readonly term: number;
  readonly index: number;
}

export const NO_DATA: Uint8Array = new Uint8Array(0);

/** What must be durable before anything that depends on it is sent. All zero on a node that never voted. */
export interface HardState {
  readonly term: number;
  /** The candidate this node voted for in `term`, or NONE. */
  readonly vote: NodeId;
  /** May lag behind the truth; never ahead of it. */
  readonly commit: number;
}

export const EMPTY_HARD_STATE: HardState = { term: 0, vote: NONE, commit: 0 };

export function sameHardState(a: HardState, b: HardState): boolean {
  return a.term === b.term && a.vote === b.vote && a.commit === b.commit;
}

export type StateType = 'StateFollower' | 'StatePreCandidate' | 'StateCandidate' | 'StateLeader';

/** What observers want to know and nobody needs to persist. */
export interface SoftState {
  readonly lead: NodeId;
  readonly state: StateType;
}

/** A group's membership as it is stored in snapshots. Id lists are sorted. */
export interface ConfState {
  readonly voters: readonly NodeId[];
  /** Not empty exactly in a joint configuration: the voters that are being replaced. */
  readonly votersOutgoing: readonly NodeId[];
  readonly learners: readonly NodeId[];
  /** Outgoing voters that become learners when the joint configuration is left. */
  readonly learnersNext: readonly NodeId[];
  /** The leader leaves the joint configuration by itself as soon as it is applied. */
  readonly autoLeave: boolean;
}

export const EMPTY_CONF_STATE: ConfState = {
  voters: [],
  votersOutgoing: [],
  learners: [],
  learnersNext: [],
  autoLeave: false,
};

/** Replaces every entry up to and including `index`. `index` 0 means "no snapshot". */
export interface Snapshot {
  readonly index: number;
  readonly term: number;
  readonly confState: ConfState;
  /** Opaque to the core. */
  readonly data: Uint8Array;
}

export type MessageType =
  // From the node to itself.
  | 'MsgHup' // start an election
  | 'MsgBeat' // leader: send heartbeats
  | 'MsgCheckQuorum' // leader: step down unless a quorum was heard of
  | 'MsgUnreachable' // the host could not deliver to `from`
  | 'MsgSnapStatus' // the host finished (or, with `reject`, failed) sending a snapshot to `from`
  | 'MsgForgetLeader' // follower: stop protecting the leader from elections
  // Client requests; followers forward them to the leader, so they carry no term.
  | 'MsgProp'
  | 'MsgReadIndex'
  | 'MsgReadIndexResp'
  | 'MsgTransferLeader' // `from` is to become leader
  // The protocol proper.
  | 'MsgApp'
  | 'MsgAppResp'
  | 'MsgHeartbeat'
  | 'MsgHeartbeatResp'
  | 'MsgSnap'
  | 'MsgPreVote'
  | 'MsgPreVoteResp'
  | 'MsgVote'
  | 'MsgVoteResp'
  | 'MsgTimeoutNow' // leader to the chosen successor: campaign at once
  // Between the node and its storage threads.
  | 'MsgStorageAppend'
  | 'MsgStorageAppendResp'
  | 'MsgStorageApply'
  | 'MsgStorageApplyResp';

/** One shape for all messages keeps them cheap; fields that a type does not use are zero or empty. */
export interface Message {
  readonly type: MessageType;
  readonly to: NodeId;
  readonly from: NodeId;
  /** The sender's term. 0 on local messages and on forwarded client requests. */
  readonly term: number;
  /**
   * MsgApp: term of the entry before `entries`. Votes: term of the candidate's last entry. Reject: a hint.
   */
  readonly logTerm: number;
  /** MsgApp: index before `entries`. MsgAppResp: last index acknowledged, or the `index` that is rejected. */
  readonly index: number;
  readonly entries: readonly Entry[];
  readonly commit: number;
  /** MsgStorageAppend: the vote to persist. */
  readonly vote: NodeId;
  readonly snapshot: Snapshot | undefined;
  readonly reject: boolean;
  /** MsgAppResp with `reject`: where the follower guesses that the logs agree. */
  readonly rejectHint: number;
  /**
   * Heartbeats and their responses: the leader's heartbeat round, which confirms pending reads (readonly.ts).
   */
  readonly round: number;
  /** MsgReadIndex(Resp): chosen by the asking host, never used twice by it, also not for a retry. */
  readonly requestId: number;
  /** MsgVote: ordered by the leader itself (leadership transfer), so granted although a leader is alive. */
  readonly force: boolean;
  /** MsgTimeoutNow: the leader's last entry; the target campaigns only if it holds it. */
  readonly lastId: EntryId | undefined;
  /** Votes, asked for and given: the last entry that the sender knows to be committed. */
  readonly committed: EntryId | undefined;
  /** MsgStorageAppend/Apply: to be delivered, in order, once the work is done (and durable). */
  readonly responses: readonly Message[];
}

const NO_ENTRIES: readonly Entry[] = [];
const NO_MESSAGES: readonly Message[] = [];

export function makeMessage(type: MessageType, to: NodeId, fields: Partial<Message> = {}): Message {
  return {
    type,
    to,
    from: fields.from ?? NONE,
    term: fields.term ?? 0,
    logTerm: fields.logTerm ?? 0,
    index: fields.index ?? 0,
    entries: fields.entries ?? NO_ENTRIES,
    commit: fields.commit ?? 0,
    vote: fields.vote ?? NONE,
    snapshot: fields.snapshot,
    reject: fields.reject ?? false,
    rejectHint: fields.rejectHint ?? 0,
    round: fields.round ?? 0,
    requestId: fields.requestId ?? 0,
    force: fields.force ?? false,
    lastId: fields.lastId,
    committed: fields.committed,
    responses: fields.responses ?? NO_MESSAGES,
  };
}

/**
 * A read with this request id sees everything acknowledged before it once `index` has been applied locally.
 */
export interface ReadState {
  readonly requestId: number;
  readonly index: number;
}

/** What became of a stepped message. Everything but 'ok' means that the message had no effect. */
export type StepResult =
  | 'ok'
  // The proposal (or read) was dropped; proposing again later may work.
  | 'no-leader'
  | 'forwarding-disabled'
  | 'transferring-leadership'
  | 'removed-from-group'
  | 'uncommitted-limit'
  | 'learner-behind'
  | 'too-many-reads'
  // The message should not have come.
  | 'local-message'
  | 'peer-not-found'
  | 'malformed';

export function isDropped(result: StepResult): boolean {
  return (
    result !== 'ok' && result !== 'local-message' && result !== 'peer-not-found' && result !== 'malformed'
  );
}

export type ReadOnlyOption = 'safe' | 'lease-based';

/** Bytes that count against proposal and in-flight limits. */
export function payloadSize(entries: readonly Entry[]): number {
  let size = 0;
  for (const entry of entries) size += entry.data.length;
  return size;
}

/** Bytes that count against message and apply limits: the payload and its varint-coded frame. */
export function entrySize(entry: Entry): number {
  const data = entry.data.length;
  const payload = data === 0 ? 0 : 1 + varintSize(data) + data;
  return 2 + 1 + varintSize(entry.term) + 1 + varintSize(entry.index) + payload;
}

export function entriesSize(entries: readonly Entry[]): number {
  let size = 0;
  for (const entry of entries) size += entrySize(entry);
  return size;
}

/**
 * list[from, to), cut after at most `maxSize` bytes, but never to less than one entry, so that work goes on.
 * Looks at no more entries than it returns (and one).
 */
export function limitedSlice(
  list: readonly Entry[],
  from: number,
  to: number,
  maxSize: number,
): readonly Entry[] {
  let size = 0;
  let end = from;
  for (; end < to; end++) {
    size += entrySize(list[end]!);
    if (size > maxSize && end > from) break;
  }
  return from === 0 && end === list.length ? list : list.slice(from, end);
}

function varintSize(value: number): number {
  let size = 1;
  for (let rest = value; rest >= 128; rest = Math.floor(rest / 128)) size++;
  return size;
}
