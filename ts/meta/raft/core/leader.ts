/**
 * What a leader does: take proposals, replicate, commit, confirm reads, hand over leadership.
 *
 * Functions over the one `Raft` object; see raft.ts for the state and for what makes it safe.
 */
import { LEAVE_JOINT, confChangeEntry, leavesJoint, type ConfChange } from './confchange.js';
import { describeConfiguration } from './describe.js';
import { fail } from './invariant.js';
import type { Progress } from './progress.js';
import { proposedChange, type Raft } from './raft.js';
import {
  makeMessage,
  NONE,
  NO_DATA,
  payloadSize,
  type Entry,
  type Message,
  type NodeId,
  type StepResult,
} from './types.js';

export function stepLeader(raft: Raft, m: Message): StepResult {
  switch (m.type) {
    case 'MsgBeat':
      broadcastHeartbeat(raft);
      return 'ok';
    case 'MsgCheckQuorum':
      checkQuorum(raft);
      return 'ok';
    case 'MsgProp':
      return propose(raft, m.entries);
    case 'MsgReadIndex':
      return readIndex(raft, m);
    case 'MsgAppResp':
    case 'MsgHeartbeatResp':
    case 'MsgSnapStatus':
    case 'MsgUnreachable':
    case 'MsgTransferLeader': {
      const progress = raft.tracker.progress.get(m.from);
      if (progress !== undefined) stepPeer(raft, m, progress);
      return 'ok';
    }
    default:
      return 'ok';
  }
}

function stepPeer(raft: Raft, m: Message, progress: Progress): void {
  switch (m.type) {
    case 'MsgAppResp':
      progress.recentActive = true;
      if (m.reject) handleRejection(raft, m, progress);
      else handleAcknowledgement(raft, m, progress);
      return;
    case 'MsgHeartbeatResp':
      handleHeartbeatResponse(raft, m, progress);
      return;
    case 'MsgSnapStatus':
      handleSnapshotStatus(m, progress);
      return;
    case 'MsgUnreachable':
      // What was sent ahead is probably lost, so find out where the follower is.
      if (progress.state === 'StateReplicate') progress.becomeProbe();
      return;
    default:
      transferLeadership(raft, m.from, progress);
  }
}

// ---- proposals

function propose(raft: Raft, proposed: readonly Entry[]): StepResult {
  if (proposed.length === 0) return 'malformed';
  // A leader that removed itself must not append what only others could commit.
  if (!raft.tracker.progress.has(raft.id)) return 'removed-from-group';
  if (raft.leadTransferee !== NONE) return 'transferring-leadership';
  const entries: Entry[] = [];
  const lastIndex = raft.log.lastIndex();
  let { pendingConfIndex } = raft;
  for (const entry of proposed) {
    const change = proposedChange(entry);
    if (change === 'malformed') return 'malformed';
    if (change === undefined) {
      entries.push(entry);
      continue;
    }
    if (learnerBehind(raft, change, lastIndex)) return 'learner-behind';
    const refused = raft.config.disableConfChangeValidation
      ? undefined
      : refuseChange(raft, change, pendingConfIndex);
    if (refused === undefined) {
      pendingConfIndex = lastIndex + entries.length + 1;
      entries.push(entry);
    } else {
      raft.trace(() => `ignoring conf change at ${describeConfiguration(raft.tracker.config)}: ${refused}`);
      // Its place is taken by an empty entry, so that the proposals around it keep theirs.
      entries.push({ term: 0, index: 0, type: 'EntryNormal', data: NO_DATA });
    }
  }
  if (!raft.appendEntries(entries)) return 'uncommitted-limit';
  raft.pendingConfIndex = pendingConfIndex;
  broadcastAppend(raft);
  return 'ok';
}

/** Why a membership change cannot be proposed now. */
function refuseChange(raft: Raft, change: ConfChange, pendingConfIndex: number): string | undefined {
  const { applied } = raft.log;
  if (pendingConfIndex > applied) {
    return `possible unapplied conf change at index ${pendingConfIndex} (applied to ${applied})`;
  }
  const joint = raft.tracker.isJoint();
  if (joint && !leavesJoint(change)) return 'must transition out of joint config first';
  if (!joint && leavesJoint(change)) return 'not in joint state; refusing empty conf change';
  return undefined;
}

/** A learner far behind would, as a voter, stop the group from committing until it has caught up. */
function learnerBehind(raft: Raft, change: ConfChange, lastIndex: number): boolean {
  return change.changes.some((op) => {
    const progress = op.kind === 'add-node' ? raft.tracker.progress.get(op.nodeId) : undefined;
    if (progress === undefined || !progress.learner) return false;
    const { learnerMaxLag } = raft.config;
    // In a young group a node that has never been heard of lacks little, and would cost the group its quorum.
    if (progress.match === 0 && Number.isFinite(learnerMaxLag)) return true;
    return progress.match + learnerMaxLag < lastIndex;
  });
}

/**
 * Once the last membership change is applied, an automatic joint configuration is left without being asked.
 */
export function leaveJointWhenApplied(raft: Raft, applied: number): void {
  if (!raft.tracker.config.autoLeave || applied < raft.pendingConfIndex) return;
  // If it is dropped, because a transfer is under way, the end of that tries again.
  const result = raft.step(makeMessage('MsgProp', raft.id, { entries: [confChangeEntry(LEAVE_JOINT)] }));
  raft.trace(() => `automatic transition out of ${describeConfiguration(raft.tracker.config)}: ${result}`);
}

// ---- replication

export function broadcastAppend(raft: Raft): void {
  for (const id of raft.tracker.progress.keys()) {
    if (id !== raft.id) maybeSendAppend(raft, id, true);
  }
}

/**
 * Sends the next entries to a follower, or a snapshot if they are gone. An empty MsgApp is sent only with
 * `evenIfEmpty`: it carries a commit index or probes. False if nothing was sent.
 */
export function maybeSendAppend(raft: Raft, to: NodeId, evenIfEmpty: boolean): boolean {
  const progress = raft.tracker.progress.get(to);
  if (progress === undefined || progress.isPaused()) return false;
  const previous = progress.next - 1;
  const previousTerm = raft.log.term(previous);
  if (typeof previousTerm !== 'number') return sendSnapshot(raft, to, progress);
  // With a full window only an empty MsgApp goes out: if all the window was lost, its rejection says so.
  const throttled = progress.state === 'StateReplicate' && progress.inflights.full();
  const entries = throttled ? [] : raft.log.entries(progress.next, raft.config.maxSizePerMessage);
  if (entries === 'compacted') return sendSnapshot(raft, to, progress);
  if (entries.length === 0 && !evenIfEmpty) return false;
  if (entries.length > 0 && entries[0]!.index !== progress.next)
    fail('read entries do not start where they should');
  const commit = raft.log.committed;
  raft.send(makeMessage('MsgApp', to, { index: previous, logTerm: previousTerm, entries, commit }));
  progress.sentEntries(entries.length, payloadSize(entries));
  progress.sentCommit = commit;
  return true;
}

function sendSnapshot(raft: Raft, to: NodeId, progress: Progress): boolean {
  // A snapshot is costly; do not aim it at a follower that is not there.
  if (!progress.recentActive) return false;
  const snapshot = raft.log.snapshot();
  if (snapshot === undefined) return false;
  if (snapshot.index === 0) fail('the log was compacted, but there is no snapshot');
  progress.becomeSnapshot(snapshot.index);
  raft.send(makeMessage('MsgSnap', to, { snapshot }));
  raft.trace(() => `sent snapshot ${snapshot.term}/${snapshot.index} to ${to}`);
  return true;
}

function handleRejection(raft: Raft, m: Message, progress: Progress): void {
  let hint = m.rejectHint;
  if (m.logTerm > 0) {
    // The follower's log at the hint has term m.logTerm, so no entry here with a later term can be common:
    // skip them too.
    hint = raft.log.findConflictByTerm(m.rejectHint, m.logTerm).index;
  }
  if (!progress.maybeDecrementTo(m.index, hint)) return;
  if (progress.state === 'StateReplicate') progress.becomeProbe();
  maybeSendAppend(raft, m.from, true);
}

function handleAcknowledgement(raft: Raft, m: Message, progress: Progress): void {
  // An acknowledgement of what is known still ends a probe: it says that the follower is there.
  const known = !progress.maybeUpdate(m.index);
  if (known && !(progress.match === m.index && progress.state === 'StateProbe')) return;
  if (progress.state === 'StateProbe') {
    progress.becomeReplicate();
  } else if (progress.state === 'StateSnapshot') {
    // Whatever snapshot it installed, and wherever it came from: the log can continue from there.
    if (progress.match + 1 >= raft.log.firstIndex()) {
      progress.becomeProbe();
      progress.becomeReplicate();
    }
  } else {
    progress.inflights.freeUpTo(m.index);
  }
  if (raft.maybeCommit()) {
    releasePendingReads(raft);
    broadcastAppend(raft);
  } else if (m.from !== raft.id && progress.canBumpCommit(raft.log.committed)) {
    maybeSendAppend(raft, m.from, true);
  }
  if (m.from === raft.id) return;
  // The window may have opened for more than one message. Ends: each turn sends entries, until none is left
  // or it is full.
  while (maybeSendAppend(raft, m.from, false));
  if (m.from === raft.leadTransferee && progress.match === raft.log.lastIndex()) sendTimeoutNow(raft, m.from);
}

function handleSnapshotStatus(m: Message, progress: Progress): void {
  if (progress.state !== 'StateSnapshot') return;
  // A snapshot that failed says nothing about the follower's log: probe from what it has acknowledged.
  if (m.reject) progress.pendingSnapshot = 0;
  progress.becomeProbe();
  // If it arrived, the follower's acknowledgement is under way; if it failed, do not try again at once.
  progress.paused = true;
}

// ---- heartbeats, reads, leases

function broadcastHeartbeat(raft: Raft): void {
  const round = raft.readOnly.nextRound(raft.ticks, raft.config.electionTick);
  for (const [id, progress] of raft.tracker.progress) {
    if (id === raft.id) continue;
    // Never more than the follower is known to hold: it commits what it is told.
    const commit = Math.min(progress.match, raft.log.committed);
    raft.send(makeMessage('MsgHeartbeat', id, { commit, round }));
    progress.sentCommit = commit;
  }
}

function handleHeartbeatResponse(raft: Raft, m: Message, progress: Progress): void {
  progress.recentActive = true;
  progress.paused = false;
  // Also revives a follower whose in-flight messages were all lost, and one that is probed though it lacks
  // nothing.
  if (progress.match < raft.log.lastIndex() || progress.state === 'StateProbe')
    maybeSendAppend(raft, m.from, true);
  raft.readOnly.recordAck(m.from, m.round);
  for (const read of raft.readOnly.release(confirmedRound(raft))) answerRead(raft, read.request, read.index);
}

/** The latest round that a quorum has answered. */
export function confirmedRound(raft: Raft): number {
  return raft.tracker.quorumOf((id) => raft.readOnly.ackedBy(id, raft.id));
}

function readIndex(raft: Raft, m: Message): StepResult {
  if (!raft.committedInCurrentTerm()) {
    // Until then the commit index here may be behind what an earlier leader acknowledged.
    if (raft.pendingReads.length >= raft.config.maxPendingReads) return 'too-many-reads';
    raft.pendingReads.push(m);
    return 'ok';
  }
  return confirmRead(raft, m);
}

function confirmRead(raft: Raft, m: Message): StepResult {
  const alone = raft.tracker.isSingleton() && raft.tracker.isVoter(raft.id);
  if (alone || leaseHolds(raft)) {
    answerRead(raft, m, raft.log.committed);
    return 'ok';
  }
  if (raft.readOnly.full()) return 'too-many-reads';
  raft.readOnly.add(m, raft.log.committed);
  broadcastHeartbeat(raft);
  return 'ok';
}

function leaseHolds(raft: Raft): boolean {
  if (raft.config.readOnly !== 'lease-based') return false;
  const length = raft.config.electionTick - raft.config.leaseMarginTicks;
  return raft.readOnly.leaseHolds(confirmedRound(raft), raft.ticks, length);
}

function releasePendingReads(raft: Raft): void {
  if (raft.pendingReads.length === 0 || !raft.committedInCurrentTerm()) return;
  const reads = raft.pendingReads;
  raft.pendingReads = [];
  for (const read of reads) confirmRead(raft, read);
}

function answerRead(raft: Raft, request: Message, index: number): void {
  const { from, requestId } = request;
  if (from === NONE || from === raft.id) raft.readStates.push({ requestId, index });
  else raft.send(makeMessage('MsgReadIndexResp', from, { requestId, index }));
}

function checkQuorum(raft: Raft): void {
  const active = raft.tracker.quorumActive();
  for (const [id, progress] of raft.tracker.progress) {
    if (id !== raft.id) progress.recentActive = false;
  }
  if (active) return;
  raft.trace(() => 'stepped down to follower since quorum is not active');
  raft.becomeFollower(raft.term, NONE);
}

// ---- handing over

function transferLeadership(raft: Raft, to: NodeId, progress: Progress): void {
  if (progress.learner || to === raft.id || to === raft.leadTransferee) return;
  // It has one election timeout from now.
  raft.electionElapsed = 0;
  raft.leadTransferee = to;
  if (progress.match === raft.log.lastIndex()) sendTimeoutNow(raft, to);
  else maybeSendAppend(raft, to, true);
}

function sendTimeoutNow(raft: Raft, to: NodeId): void {
  // From here on a forced election may come at any time, also long after the transfer was given up.
  raft.readOnly.voidLease();
  raft.send(makeMessage('MsgTimeoutNow', to, { lastId: raft.log.lastId() }));
}

export function abortTransfer(raft: Raft): void {
  if (raft.leadTransferee === NONE) return;
  raft.leadTransferee = NONE;
  // The proposal to leave a joint configuration may have been dropped meanwhile.
  leaveJointWhenApplied(raft, raft.log.applied);
}
