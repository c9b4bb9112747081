/**
 * Majorities, alone and in pairs.
 *
 * A joint configuration is two majorities that must both agree: its committed index is the smaller of the
 * two, its vote is won only if both are won. A majority without voters agrees with everything, so that a
 * plain configuration is a joint one whose second half is empty.
 */
import type { NodeId } from './types.js';

/** Sorted, without repeats. */
export type Majority = readonly NodeId[];

export type VoteResult = 'VotePending' | 'VoteLost' | 'VoteWon';

/** The index that this voter has acknowledged; undefined if nothing is known of it. */
export type AckedIndex = (id: NodeId) => number | undefined;

/** The largest index acknowledged by more than half of the voters. Infinity when there are no voters. */
export function majorityCommitted(voters: Majority, acked: AckedIndex): number {
  const n = voters.length;
  if (n === 0) return Infinity;
  const indexes = voters.map((id) => acked(id) ?? 0);
  indexes.sort((a, b) => a - b);
  // With the n/2+1 largest indexes at the right end, the smallest of them is on a majority.
  return indexes[n - (Math.floor(n / 2) + 1)]!;
}

export function jointCommitted(incoming: Majority, outgoing: Majority, acked: AckedIndex): number {
  return Math.min(majorityCommitted(incoming, acked), majorityCommitted(outgoing, acked));
}

/** `votes` holds the answers so far. Pending as long as the missing answers can still decide. */
export function majorityVote(voters: Majority, votes: ReadonlyMap<NodeId, boolean>): VoteResult {
  const n = voters.length;
  if (n === 0) return 'VoteWon';
  let yes = 0;
  let missing = 0;
  for (const id of voters) {
    const vote = votes.get(id);
    if (vote === undefined) missing++;
    else if (vote) yes++;
  }
  const needed = Math.floor(n / 2) + 1;
  if (yes >= needed) return 'VoteWon';
  return yes + missing >= needed ? 'VotePending' : 'VoteLost';
}

export function jointVote(
  incoming: Majority,
  outgoing: Majority,
  votes: ReadonlyMap<NodeId, boolean>,
): VoteResult {
  const first = majorityVote(incoming, votes);
  const second = majorityVote(outgoing, votes);
  if (first === second) return first;
  if (first === 'VoteLost' || second === 'VoteLost') return 'VoteLost';
  return 'VotePending';
}
