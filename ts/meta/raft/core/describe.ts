/** The core's objects in words, one fixed form each: for transcripts, status pages and traces. */
import { decodeConfChange, type ConfChange } from './confchange.js';
import type { Progress } from './progress.js';
import type { Majority } from './quorum.js';
import type { Ready } from './rawnode.js';
import type { Configuration, ProgressMap } from './tracker.js';
import {
  APPEND_THREAD,
  APPLY_THREAD,
  NONE,
  sameHardState,
  EMPTY_HARD_STATE,
  type ConfState,
  type Entry,
  type HardState,
  type Message,
  type NodeId,
  type Snapshot,
} from './types.js';

const opLetters = { 'add-node': 'v', 'add-learner': 'l', 'remove-node': 'r', 'update-node': 'u' } as const;

export function describeTarget(id: NodeId): string {
  if (id === NONE) return 'None';
  if (id === APPEND_THREAD) return 'AppendThread';
  if (id === APPLY_THREAD) return 'ApplyThread';
  return id.toString(16);
}

export function describeConfChange(change: ConfChange): string {
  return change.changes.map((op) => opLetters[op.kind] + op.nodeId).join(' ');
}

export function describeEntry(entry: Entry): string {
  const head = `${entry.term}/${entry.index} ${entry.type}`;
  if (entry.type === 'EntryNormal') return `${head} ${quote(entry.data)}`;
  const change = decodeConfChange(entry);
  const text = change === undefined ? 'malformed' : describeConfChange(change);
  return text === '' ? head : `${head} ${text}`;
}

export function describeHardState(state: HardState): string {
  return `Term:${state.term}${state.vote === NONE ? '' : ` Vote:${state.vote}`} Commit:${state.commit}`;
}

export function describeConfState(state: ConfState): string {
  const list = (ids: readonly NodeId[]): string => `[${ids.join(' ')}]`;
  return (
    `Voters:${list(state.voters)} VotersOutgoing:${list(state.votersOutgoing)} ` +
    `Learners:${list(state.learners)} LearnersNext:${list(state.learnersNext)} AutoLeave:${state.autoLeave}`
  );
}

export function describeSnapshot(snapshot: Snapshot): string {
  return `Index:${snapshot.index} Term:${snapshot.term} ConfState:${describeConfState(snapshot.confState)}`;
}

export function describeMessage(m: Message, indent = ''): string {
  const from = describeTarget(m.from);
  let text = `${indent}${from}->${describeTarget(m.to)} ${m.type} Term:${m.term} Log:${m.logTerm}/${m.index}`;
  if (m.reject) text += ` Rejected (Hint: ${m.rejectHint})`;
  if (m.commit !== 0) text += ` Commit:${m.commit}`;
  if (m.vote !== NONE) text += ` Vote:${m.vote}`;
  if (m.entries.length === 1) {
    text += ` Entries:[${describeEntry(m.entries[0]!)}]`;
  } else if (m.entries.length > 1) {
    const lines = m.entries.map((entry) => `\n${indent}  ${describeEntry(entry)}`);
    text += ` Entries:[${lines.join('')}\n${indent}]`;
  }
  if (m.snapshot !== undefined && m.snapshot.index !== 0) {
    text += `\n${indent}  Snapshot: ${describeSnapshot(m.snapshot)}`;
  }
  if (m.responses.length > 0) {
    const lines = m.responses.map((response) => `\n${describeMessage(response, `${indent}  `)}`);
    text += ` Responses:[${lines.join('')}\n${indent}]`;
  }
  return text;
}

export function describeReady(ready: Ready): string {
  const lines: string[] = [];
  if (ready.softState !== undefined)
    lines.push(`Lead:${ready.softState.lead} State:${ready.softState.state}`);
  if (!sameHardState(ready.hardState, EMPTY_HARD_STATE))
    lines.push(`HardState ${describeHardState(ready.hardState)}`);
  if (ready.readStates.length > 0) {
    lines.push(
      `ReadStates [${ready.readStates.map((read) => `{${read.index} ${read.requestId}}`).join(' ')}]`,
    );
  }
  if (ready.entries.length > 0) lines.push('Entries:', ...ready.entries.map(describeEntry));
  if (ready.snapshot !== undefined) lines.push(`Snapshot ${describeSnapshot(ready.snapshot)}`);
  if (ready.committedEntries.length > 0) {
    lines.push('CommittedEntries:', ...ready.committedEntries.map(describeEntry));
  }
  if (ready.messages.length > 0) lines.push('Messages:', ...ready.messages.map((m) => describeMessage(m)));
  if (lines.length === 0) return '<empty Ready>';
  return `Ready MustSync=${ready.mustSync}:\n${lines.join('\n')}\n`;
}

export function describeProgress(progress: Progress): string {
  let text = `${progress.state} match=${progress.match} next=${progress.next}`;
  if (progress.learner) text += ' learner';
  if (progress.isPaused()) text += ' paused';
  if (progress.pendingSnapshot > 0) text += ` pendingSnap=${progress.pendingSnapshot}`;
  if (!progress.recentActive) text += ' inactive';
  const inflight = progress.inflights.count();
  if (inflight > 0) text += ` inflight=${inflight}${progress.inflights.full() ? '[full]' : ''}`;
  return text;
}

export function describeProgressMap(progress: ProgressMap): string {
  return [...progress].map(([id, one]) => `${id}: ${describeProgress(one)}\n`).join('');
}

export function describeConfiguration(config: Configuration): string {
  const list = (ids: readonly NodeId[]): string => `(${ids.join(' ')})`;
  let text = `voters=${list(config.incoming)}`;
  if (config.outgoing.length > 0) text += `&&${list(config.outgoing)}`;
  if (config.learners.length > 0) text += ` learners=${list(config.learners)}`;
  if (config.learnersNext.length > 0) text += ` learners_next=${list(config.learnersNext)}`;
  if (config.autoLeave) text += ' autoleave';
  return text;
}

/**
 * A bar chart of acknowledged indexes, one line per voter in order of id: the bar counts the voters with
 * lower indexes, `?` means that nothing is known.
 *
 *          idx
 *   x>     100    (id=1)
 *   xx>    101    (id=2)
 *   ?        0    (id=3)
 */
export function describeMajority(voters: Majority, acked: ReadonlyMap<NodeId, number>): string {
  const n = voters.length;
  if (n === 0) return '<empty majority quorum>';
  const index = (id: NodeId): number => acked.get(id) ?? 0;
  const line = (id: NodeId): string => {
    const length = voters.filter((other) => index(other) < index(id)).length;
    const bar = acked.has(id) ? `${'x'.repeat(length)}>${' '.repeat(n - length)}` : `?${' '.repeat(n)}`;
    return `${bar} ${String(index(id)).padStart(5)}    (id=${id})\n`;
  };
  const ids = [...voters].sort((a, b) => a - b);
  return `${' '.repeat(n)}    idx\n${ids.map(line).join('')}`;
}

const escapes: Readonly<Record<string, string>> = {
  '"': '\\"',
  '\\': '\\\\',
  '\x07': '\\a',
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\v': '\\v',
};

const utf8 = new TextDecoder('utf-8', { ignoreBOM: true });
const toUtf8 = new TextEncoder();

/** Bytes in double quotes; what is not printable text is escaped. */
export function quote(data: Uint8Array): string {
  const text = utf8.decode(data);
  const faithful = Buffer.compare(toUtf8.encode(text), data) === 0;
  if (!faithful) return `"${[...data].map(quoteByte).join('')}"`;
  return `"${[...text].map((char) => escapes[char] ?? quoteChar(char)).join('')}"`;
}

function quoteByte(byte: number): string {
  const char = String.fromCharCode(byte);
  if (byte >= 0x80) return `\\x${byte.toString(16)}`;
  return escapes[char] ?? quoteChar(char);
}

function quoteChar(char: string): string {
  const code = char.codePointAt(0)!;
  if (code < 0x20 || code === 0x7f) return `\\x${code.toString(16).padStart(2, '0')}`;
  if (code < 0x7f || /[\p{L}\p{M}\p{N}\p{P}\p{S}]/u.test(char)) return char;
  return code > 0xffff
    ? `\\U${code.toString(16).padStart(8, '0')}`
    : `\\u${code.toString(16).padStart(4, '0')}`;
}
