/**
 * Membership changes as data: what a proposal asks for, and its bytes in a log entry.
 *
 * A change of kind V1 holds one operation and is always simple. A change of kind V2 holds any number; with
 * more than one, or when a transition other than 'auto' asks for it, it goes through a joint configuration. A
 * V2 change with no operations and transition 'auto' leaves the joint configuration.
 *
 * Bytes (all integers unsigned LEB128): transition, operation count, then per operation kind and node id,
 * then the context to the end. The change that leaves a joint configuration without context is the empty byte
 * string.
 */
import { invariant } from './invariant.js';
import { NO_DATA, type Entry, type NodeId } from './types.js';

export type ConfChangeKind = 'add-node' | 'add-learner' | 'remove-node' | 'update-node';
export type Transition = 'auto' | 'implicit' | 'explicit';

export interface ConfChangeOp {
  readonly kind: ConfChangeKind;
  readonly nodeId: NodeId;
}

export interface ConfChange {
  readonly version: 1 | 2;
  readonly transition: Transition;
  readonly changes: readonly ConfChangeOp[];
  /** Carried along for the state machine; opaque to the core. */
  readonly context: Uint8Array;
}

export const LEAVE_JOINT: ConfChange = { version: 2, transition: 'auto', changes: [], context: NO_DATA };

/** Operations that one change may hold: a bound for what comes from the log or the network. */
export const MAX_CHANGES = 64;

const kinds: readonly ConfChangeKind[] = ['add-node', 'remove-node', 'update-node', 'add-learner'];
const transitions: readonly Transition[] = ['auto', 'implicit', 'explicit'];

export function leavesJoint(change: ConfChange): boolean {
  return change.transition === 'auto' && change.changes.length === 0;
}

/** Whether the change needs a joint configuration, and if so, whether that one is left automatically. */
export function entersJoint(change: ConfChange): { readonly joint: boolean; readonly autoLeave: boolean } {
  if (change.transition === 'auto' && change.changes.length <= 1) return { joint: false, autoLeave: false };
  return { joint: true, autoLeave: change.transition !== 'explicit' };
}

export function confChangeEntry(change: ConfChange): Entry {
  const type = change.version === 1 ? 'EntryConfChange' : 'EntryConfChangeV2';
  return { term: 0, index: 0, type, data: encodeConfChange(change) };
}

export function encodeConfChange(change: ConfChange): Uint8Array {
  invariant(change.changes.length <= MAX_CHANGES, 'too many operations in one membership change');
  invariant(change.version === 2 || change.changes.length === 1, 'a V1 membership change is one operation');
  if (leavesJoint(change) && change.context.length === 0) return NO_DATA;
  const head: number[] = [];
  putVarint(head, transitions.indexOf(change.transition));
  putVarint(head, change.changes.length);
  for (const op of change.changes) {
    putVarint(head, kinds.indexOf(op.kind));
    putVarint(head, op.nodeId);
  }
  const bytes = new Uint8Array(head.length + change.context.length);
  bytes.set(head);
  bytes.set(change.context, head.length);
  return bytes;
}

/** The change in an entry's data, or undefined if the entry is a normal one or its bytes are not a change. */
export function decodeConfChange(entry: Entry): ConfChange | undefined {
  if (entry.type === 'EntryNormal') return undefined;
  const version = entry.type === 'EntryConfChange' ? 1 : 2;
  if (entry.data.length === 0) return version === 2 ? LEAVE_JOINT : undefined;
  const cursor = { bytes: entry.data, at: 0 };
  const transition = transitions[takeVarint(cursor)];
  const count = takeVarint(cursor);
  if (transition === undefined || !(count >= 0 && count <= MAX_CHANGES)) return undefined;
  if (version === 1 && (count !== 1 || transition !== 'auto')) return undefined;
  const changes: ConfChangeOp[] = [];
  for (let i = 0; i < count; i++) {
    const kind = kinds[takeVarint(cursor)];
    const nodeId = takeVarint(cursor);
    if (kind === undefined || !Number.isSafeInteger(nodeId) || nodeId < 0) return undefined;
    changes.push({ kind, nodeId });
  }
  return { version, transition, changes, context: entry.data.subarray(cursor.at) };
}

function putVarint(out: number[], value: number): void {
  invariant(Number.isSafeInteger(value) && value >= 0, 'varints are safe integers');
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) out.push((rest % 128) + 128);
  out.push(rest);
}

/** NaN when the bytes end too early or the number is not a safe integer. */
function takeVarint(cursor: { readonly bytes: Uint8Array; at: number }): number {
  let value = 0;
  let scale = 1;
  for (let i = 0; i < 8; i++) {
    const byte = cursor.bytes[cursor.at++];
    if (byte === undefined) return NaN;
    value += (byte % 128) * scale;
    if (byte < 128) return Number.isSafeInteger(value) ? value : NaN;
    scale *= 128;
  }
  return NaN;
}
