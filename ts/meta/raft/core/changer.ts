/**
 * Computes configurations from changes, without touching the one in force.
 *
 *   simple      changes at most one voter: quorums before and after always intersect.
 *   enterJoint  makes the voters of now the outgoing half and applies operations to the incoming half.
 *   leaveJoint  drops the outgoing half; outgoing voters that were demoted become learners only now, since
 *               until then they still vote.
 *
 * Each returns the next configuration with its progress map, or the reason why the change is refused.
 */
import type { ConfChangeOp } from './confchange.js';
import { fail, invariant } from './invariant.js';
import { Progress } from './progress.js';
import { EMPTY_CONFIGURATION, type Configuration, type ProgressMap, type Tracker } from './tracker.js';
import type { ConfState, NodeId } from './types.js';

export interface NextConfiguration {
  readonly config: Configuration;
  readonly progress: ProgressMap;
}

export type ChangeResult = NextConfiguration | { readonly refused: string };

/** A configuration being edited. */
interface Draft {
  readonly incoming: Set<NodeId>;
  readonly outgoing: Set<NodeId>;
  readonly learners: Set<NodeId>;
  readonly learnersNext: Set<NodeId>;
  readonly progress: Map<NodeId, Progress>;
  autoLeave: boolean;
}

export class Changer {
  private readonly tracker: Tracker;
  /** New members are probed from here; whatever they lack, they will say. */
  private readonly lastIndex: number;

  constructor(tracker: Tracker, lastIndex: number) {
    this.tracker = tracker;
    this.lastIndex = lastIndex;
  }

  enterJoint(autoLeave: boolean, ops: readonly ConfChangeOp[]): ChangeResult {
    const draft = this.draft();
    if (draft.outgoing.size > 0) return { refused: 'config is already joint' };
    if (draft.incoming.size === 0) return { refused: "can't make a zero-voter config joint" };
    for (const id of draft.incoming) draft.outgoing.add(id);
    this.apply(draft, ops);
    if (draft.incoming.size === 0) return { refused: 'removed all voters' };
    draft.autoLeave = autoLeave;
    return finish(draft);
  }

  leaveJoint(): ChangeResult {
    const draft = this.draft();
    if (draft.outgoing.size === 0) return { refused: "can't leave a non-joint config" };
    for (const id of draft.learnersNext) {
      draft.learners.add(id);
      edit(draft, id).learner = true;
    }
    for (const id of draft.outgoing) {
      if (!draft.incoming.has(id) && !draft.learners.has(id)) draft.progress.delete(id);
    }
    draft.learnersNext.clear();
    draft.outgoing.clear();
    draft.autoLeave = false;
    return finish(draft);
  }

  simple(ops: readonly ConfChangeOp[]): ChangeResult {
    const draft = this.draft();
    if (draft.outgoing.size > 0) return { refused: "can't apply simple config change in joint config" };
    this.apply(draft, ops);
    if (draft.incoming.size === 0) return { refused: 'removed all voters' };
    if (differences(this.tracker.config.incoming, draft.incoming) > 1) {
      return { refused: 'more than one voter changed without entering joint config' };
    }
    return finish(draft);
  }

  private draft(): Draft {
    const { incoming, outgoing, learners, learnersNext, autoLeave } = this.tracker.config;
    return {
      incoming: new Set(incoming),
      outgoing: new Set(outgoing),
      learners: new Set(learners),
      learnersNext: new Set(learnersNext),
      progress: new Map(this.tracker.progress),
      autoLeave,
    };
  }

  private apply(draft: Draft, ops: readonly ConfChangeOp[]): void {
    for (const op of ops) {
      // Node 0 is how a host marks an operation of a committed change as void.
      if (op.nodeId === 0) continue;
      if (op.kind === 'add-node') this.makeVoter(draft, op.nodeId);
      else if (op.kind === 'add-learner') this.makeLearner(draft, op.nodeId);
      else if (op.kind === 'remove-node') remove(draft, op.nodeId);
    }
  }

  private makeVoter(draft: Draft, id: NodeId): void {
    if (!draft.progress.has(id)) this.addProgress(draft, id, false);
    else edit(draft, id).learner = false;
    draft.learners.delete(id);
    draft.learnersNext.delete(id);
    draft.incoming.add(id);
  }

  private makeLearner(draft: Draft, id: NodeId): void {
    const known = draft.progress.get(id);
    if (known === undefined) {
      this.addProgress(draft, id, true);
      draft.learners.add(id);
      return;
    }
    if (known.learner) return;
    remove(draft, id);
    draft.progress.set(id, known);
    if (draft.outgoing.has(id)) {
      draft.learnersNext.add(id);
    } else {
      edit(draft, id).learner = true;
      draft.learners.add(id);
    }
  }

  private addProgress(draft: Draft, id: NodeId, learner: boolean): void {
    const progress = new Progress({
      match: 0,
      next: Math.max(this.lastIndex, 1),
      inflights: this.tracker.newInflights(),
      learner,
      // Counted as active until the first check-quorum round, which it had no chance to speak before.
      recentActive: true,
    });
    draft.progress.set(id, progress);
  }
}

/** Rebuilds the configuration of a snapshot on an empty tracker. */
export function restoreConfiguration(
  tracker: Tracker,
  lastIndex: number,
  state: ConfState,
): NextConfiguration {
  invariant(tracker.progress.size === 0, 'a configuration is restored on an empty tracker');
  const add = (nodeId: NodeId): ConfChangeOp => ({ kind: 'add-node', nodeId });
  const target: ConfChangeOp[] = [
    ...state.votersOutgoing.map((nodeId): ConfChangeOp => ({ kind: 'remove-node', nodeId })),
    ...state.voters.map(add),
    ...[...state.learners, ...state.learnersNext].map((nodeId): ConfChangeOp => ({
      kind: 'add-learner',
      nodeId,
    })),
  ];
  let current: NextConfiguration = { config: EMPTY_CONFIGURATION, progress: new Map() };
  const step = (change: (changer: Changer) => ChangeResult): void => {
    tracker.config = current.config;
    tracker.progress = current.progress;
    const result = change(new Changer(tracker, lastIndex));
    if ('refused' in result) fail(`cannot restore the configuration of a snapshot: ${result.refused}`);
    current = result;
  };
  // One by one, each step changes one voter, as simple changes must.
  const joint = state.votersOutgoing.length > 0;
  for (const op of joint ? state.votersOutgoing.map(add) : target) step((changer) => changer.simple([op]));
  if (joint) step((changer) => changer.enterJoint(state.autoLeave, target));
  return current;
}

/** Progress objects of the configuration in force are shared, so an edit happens on a copy. */
function edit(draft: Draft, id: NodeId): Progress {
  const old = draft.progress.get(id);
  invariant(old !== undefined, 'edited member has no progress');
  const copy = new Progress(old);
  Object.assign(copy, old);
  draft.progress.set(id, copy);
  return copy;
}

function remove(draft: Draft, id: NodeId): void {
  if (!draft.progress.has(id)) return;
  draft.incoming.delete(id);
  draft.learners.delete(id);
  draft.learnersNext.delete(id);
  // An outgoing voter still votes, so it still needs entries.
  if (!draft.outgoing.has(id)) draft.progress.delete(id);
}

function differences(before: readonly NodeId[], after: ReadonlySet<NodeId>): number {
  const kept = before.filter((id) => after.has(id)).length;
  return before.length - kept + (after.size - kept);
}

function finish(draft: Draft): NextConfiguration {
  const sorted = (ids: Iterable<NodeId>): NodeId[] => [...ids].sort((a, b) => a - b);
  const config: Configuration = {
    incoming: sorted(draft.incoming),
    outgoing: sorted(draft.outgoing),
    learners: sorted(draft.learners),
    learnersNext: sorted(draft.learnersNext),
    autoLeave: draft.autoLeave,
  };
  const progress = new Map(sorted(draft.progress.keys()).map((id) => [id, draft.progress.get(id)!]));
  checkConfiguration(config, progress);
  return { config, progress };
}

function checkConfiguration(config: Configuration, progress: ProgressMap): void {
  const { incoming, outgoing, learners, learnersNext } = config;
  for (const id of [...incoming, ...outgoing, ...learners, ...learnersNext]) {
    if (!progress.has(id)) fail(`member ${id} has no progress`);
  }
  for (const id of learnersNext) {
    invariant(outgoing.includes(id), 'a future learner must be an outgoing voter');
    invariant(progress.get(id)?.learner === false, 'a future learner is not a learner yet');
  }
  for (const id of learners) {
    invariant(!incoming.includes(id) && !outgoing.includes(id), 'a learner has no vote');
    invariant(progress.get(id)?.learner === true, "a learner's progress must say so");
  }
  if (outgoing.length === 0) {
    invariant(learnersNext.length === 0, 'future learners exist only in a joint configuration');
    invariant(!config.autoLeave, 'only a joint configuration can be left');
  }
}
