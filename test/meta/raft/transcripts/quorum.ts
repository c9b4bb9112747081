/**
 * Runs transcripts of kind `quorum`: commit indexes and votes of majorities, alone and joint.
 *
 * Beside the answer, each directive checks identities that hold for every quorum, and prints a marked line
 * where one does not.
 */
import { describeMajority } from '../../../../ts/meta/raft/core/describe.js';
import {
  jointCommitted,
  jointVote,
  majorityCommitted,
  majorityVote,
} from '../../../../ts/meta/raft/core/quorum.js';
import type { Directive } from './datadriven.js';

type Indexes = ReadonlyMap<number, number>;

export class QuorumRunner {
  handle(directive: Directive): string {
    const values = (key: string): readonly string[] =>
      directive.args.find((arg) => arg.key === key)?.values ?? [];
    const incoming = ids(values('cfg'));
    const joint = directive.args.some((arg) => arg.key === 'cfgj');
    const outgoing = values('cfgj')[0] === 'zero' ? [] : ids(values('cfgj'));
    const answers = values(directive.command === 'vote' ? 'votes' : 'idx');
    const voters = [...new Set([...incoming, ...outgoing])];
    if (answers.length !== voters.length) {
      const lists = `[${voters.join(' ')}]: [${answers.join(' ')}]`;
      return `error: mismatched input (explicit or _) for voters ${lists}`;
    }
    const known = voters
      .map((id, i): [number, string] => [id, answers[i]!])
      .filter(([, answer]) => answer !== '_');
    if (directive.command === 'vote') {
      const votes = new Map(known.map(([id, answer]) => [id, answer === 'y']));
      return joint ? jointVoteText(incoming, outgoing, votes) : `${majorityVote(incoming, votes)}\n`;
    }
    if (directive.command !== 'committed') return 'unknown command';
    const acked = new Map(known.map(([id, answer]) => [id, Number(answer)]));
    return joint ? jointCommittedText(incoming, outgoing, acked) : committedText(incoming, acked);
  }
}

function ids(values: readonly string[]): number[] {
  return values.map(Number).sort((a, b) => a - b);
}

function show(index: number): string {
  return index === Infinity ? '∞' : String(index);
}

function jointVoteText(incoming: number[], outgoing: number[], votes: ReadonlyMap<number, boolean>): string {
  const result = jointVote(incoming, outgoing, votes);
  const swapped = jointVote(outgoing, incoming, votes);
  return `${swapped === result ? '' : `${swapped} <-- via symmetry\n`}${result}\n`;
}

function jointCommittedText(incoming: number[], outgoing: number[], acked: Indexes): string {
  const index = jointCommitted(incoming, outgoing, (id) => acked.get(id));
  const swapped = jointCommitted(outgoing, incoming, (id) => acked.get(id));
  const all = [...new Set([...incoming, ...outgoing])];
  const mark = swapped === index ? '' : `${show(swapped)} <-- via symmetry\n`;
  return `${describeMajority(all, acked)}${mark}${show(index)}\n`;
}

function committedText(voters: number[], acked: Indexes): string {
  const lookup = (id: number): number | undefined => acked.get(id);
  const index = majorityCommitted(voters, lookup);
  let text = describeMajority(voters, acked);
  const check = (other: number, how: string): void => {
    if (other !== index) text += `${show(other)} <-- ${how}\n`;
  };
  check(committedByCounting(voters, acked), 'via alternative computation');
  check(jointCommitted(voters, [], lookup), 'via zero-joint quorum');
  check(jointCommitted(voters, voters, lookup), 'via self-joint quorum');
  for (const id of voters) {
    const own = acked.get(id) ?? 0;
    if (index <= own || own === 0) continue;
    // A voter that is behind the committed index does not matter, so it may be further behind.
    for (const lower of [own - 1, 0]) {
      const overlaid = new Map(acked).set(id, lower);
      check(
        majorityCommitted(voters, (voter) => overlaid.get(voter)),
        `overlaying ${id}->${lower}`,
      );
    }
  }
  return `${text}${show(index)}\n`;
}

/** The definition, literally: the largest index that more than half of the voters have reached. */
function committedByCounting(voters: number[], acked: Indexes): number {
  if (voters.length === 0) return Infinity;
  const reached = (index: number): number => voters.filter((id) => (acked.get(id) ?? 0) >= index).length;
  return Math.max(0, ...[...acked.values()].filter((index) => reached(index) > voters.length / 2));
}
