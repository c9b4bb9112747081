/**
 * Checks the shape of messages that peers send. What passes may still be wrong, but it cannot put numbers,
 * gaps or impossible memberships where the core relies on there being none.
 */
import {
  isLocalThread,
  type ConfState,
  type Entry,
  type Message,
  type NodeId,
  type Snapshot,
} from './types.js';

export function wellFormed(m: Message): boolean {
  // Responses of the node's own storage threads are its own messages come back.
  if (isLocalThread(m.from)) return true;
  const numbers = [
    m.from,
    m.to,
    m.term,
    m.logTerm,
    m.index,
    m.commit,
    m.vote,
    m.rejectHint,
    m.round,
    m.requestId,
  ];
  if (!numbers.every(isCount)) return false;
  switch (m.type) {
    case 'MsgApp':
      return m.term > 0 && m.from > 0 && consecutive(m);
    case 'MsgSnap':
      return m.term > 0 && m.from > 0 && m.snapshot !== undefined && plausible(m.snapshot, m.term);
    case 'MsgProp':
      return m.entries.length > 0;
    case 'MsgReadIndex':
    case 'MsgReadIndexResp':
    case 'MsgTransferLeader':
      return m.from > 0;
    default:
      return m.term > 0 && m.from > 0;
  }
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}

/**
 * Entries follow m.index without gaps, their terms do not fall, and none is from a term after the leader's.
 */
function consecutive(m: Message): boolean {
  let { index, logTerm: term } = m;
  for (const entry of m.entries) {
    if (
      entry.index !== index + 1 ||
      !isCount(entry.index) ||
      !followsTerm(entry, term) ||
      entry.term > m.term
    )
      return false;
    ({ index, term } = entry);
  }
  return true;
}

function followsTerm(entry: Entry, term: number): boolean {
  return isCount(entry.term) && entry.term >= term && entry.term > 0;
}

function plausible(snapshot: Snapshot, term: number): boolean {
  const { index } = snapshot;
  if (!isCount(index) || index === 0 || !isCount(snapshot.term) || snapshot.term > term) return false;
  return plausibleMembers(snapshot.confState);
}

function plausibleMembers(state: ConfState): boolean {
  const { voters, votersOutgoing, learners, learnersNext } = state;
  if (voters.length === 0 || ![voters, votersOutgoing, learners, learnersNext].every(sortedIds)) return false;
  if (learners.some((id) => voters.includes(id) || votersOutgoing.includes(id))) return false;
  if (learnersNext.some((id) => voters.includes(id) || !votersOutgoing.includes(id))) return false;
  return votersOutgoing.length > 0 || !state.autoLeave;
}

function sortedIds(ids: readonly NodeId[]): boolean {
  return ids.every((id, i) => isCount(id) && id > 0 && (i === 0 || ids[i - 1]! < id));
}
