/**
 * Raft messages as bytes: one msgpack array per message, without field names.
 *
 *   [type, to, from, term, logTerm, index, commit, rejectHint, round, requestId, flags, entries, snapshot,
 *   lastId, committed]
 *
 * `type` is a place in `wireTypes` (append only), flags are 1 reject, 2 force; an entry is [term, index,
 * type, data], a snapshot [index, term, [voters, outgoing, learners, next], autoLeave, data], lastId and committed
 * [term, index]; what is absent is null. Messages to and from storage threads never travel, so `vote` and
 * `responses` have no place.
 *
 * Decoding checks the form of everything; what a message means is checked by the core.
 */
import { Packr } from 'msgpackr';
import type { Entry, EntryId, EntryType, Message, MessageType, NodeId, Snapshot } from './core/types.js';

const wireTypes: readonly MessageType[] = [
  'MsgProp',
  'MsgReadIndex',
  'MsgReadIndexResp',
  'MsgTransferLeader',
  'MsgApp',
  'MsgAppResp',
  'MsgHeartbeat',
  'MsgHeartbeatResp',
  'MsgSnap',
  'MsgPreVote',
  'MsgPreVoteResp',
  'MsgVote',
  'MsgVoteResp',
  'MsgTimeoutNow',
];
const entryTypes: readonly EntryType[] = ['EntryNormal', 'EntryConfChange', 'EntryConfChangeV2'];

const REJECT = 1;
const FORCE = 2;

/** Members of one group, and entries of one message: bounds for what a peer may make this node hold. */
const MAX_MEMBERS = 1000;
const MAX_ENTRIES = 100_000;

const packr = new Packr({ useRecords: false, variableMapSize: true, int64AsType: 'number' });

export class MessageFormatError extends Error {
  override readonly name = 'MessageFormatError';
}

export function encodeMessage(m: Message): Uint8Array {
  const type = wireTypes.indexOf(m.type);
  if (type < 0) throw new MessageFormatError(`${m.type} does not travel`);
  const numbers = [
    type,
    m.to,
    m.from,
    m.term,
    m.logTerm,
    m.index,
    m.commit,
    m.rejectHint,
    m.round,
    m.requestId,
  ];
  const flags = (m.reject ? REJECT : 0) | (m.force ? FORCE : 0);
  const entries = m.entries.map((entry) => [
    entry.term,
    entry.index,
    entryTypes.indexOf(entry.type),
    entry.data,
  ]);
  return packr.pack([...numbers, flags, entries, packSnapshot(m.snapshot), packId(m.lastId), packId(m.committed)]);
}

/** Throws MessageFormatError. The message's data are views of `bytes`. */
export function decodeMessage(bytes: Uint8Array): Message {
  let value: unknown;
  try {
    value = packr.unpack(bytes);
  } catch (error) {
    throw new MessageFormatError('not a message', { cause: error });
  }
  const fields = list(value, 15);
  const flags = count(fields[10]);
  return {
    type: pick(wireTypes, count(fields[0])),
    to: count(fields[1]),
    from: count(fields[2]),
    term: count(fields[3]),
    logTerm: count(fields[4]),
    index: count(fields[5]),
    commit: count(fields[6]),
    rejectHint: count(fields[7]),
    round: count(fields[8]),
    requestId: count(fields[9]),
    reject: (flags & REJECT) !== 0,
    force: (flags & FORCE) !== 0,
    entries: list(fields[11], undefined, MAX_ENTRIES).map(unpackEntry),
    snapshot: fields[12] === null ? undefined : unpackSnapshot(fields[12]),
    lastId: fields[13] === null ? undefined : unpackId(fields[13]),
    committed: fields[14] === null ? undefined : unpackId(fields[14]),
    vote: 0,
    responses: [],
  };
}

function packSnapshot(snapshot: Snapshot | undefined): unknown {
  if (snapshot === undefined) return null;
  const { voters, votersOutgoing, learners, learnersNext, autoLeave } = snapshot.confState;
  const members = [voters, votersOutgoing, learners, learnersNext];
  return [snapshot.index, snapshot.term, members, autoLeave, snapshot.data];
}

function unpackSnapshot(value: unknown): Snapshot {
  const [index, term, lists, autoLeave, data] = list(value, 5);
  const members = list(lists, 4).map((ids): NodeId[] => list(ids, undefined, MAX_MEMBERS).map(count));
  const [voters, votersOutgoing, learners, learnersNext] = members as [
    NodeId[],
    NodeId[],
    NodeId[],
    NodeId[],
  ];
  const confState = { voters, votersOutgoing, learners, learnersNext, autoLeave: autoLeave === true };
  return { index: count(index), term: count(term), confState, data: binary(data) };
}

function unpackEntry(value: unknown): Entry {
  const [term, index, type, data] = list(value, 4);
  return { term: count(term), index: count(index), type: pick(entryTypes, count(type)), data: binary(data) };
}

function packId(id: EntryId | undefined): unknown {
  return id === undefined ? null : [id.term, id.index];
}

function unpackId(value: unknown): EntryId {
  const [term, index] = list(value, 2);
  return { term: count(term), index: count(index) };
}

function list(value: unknown, length: number | undefined, most: number = Infinity): unknown[] {
  if (!Array.isArray(value) || (length !== undefined && value.length !== length) || value.length > most) {
    throw new MessageFormatError('a list is missing or has the wrong length');
  }
  return value as unknown[];
}

function count(value: unknown): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) {
    throw new MessageFormatError('a number is missing, negative or too large');
  }
  return value;
}

function pick<T>(from: readonly T[], at: number): T {
  const found = from[at];
  if (found === undefined) throw new MessageFormatError('unknown type');
  return found;
}

function binary(value: unknown): Uint8Array {
  if (!(value instanceof Uint8Array)) throw new MessageFormatError('data are missing');
  return value;
}
