/**
 * What goes wrong: crashes (of the process, or of the power), pauses, partitions of many shapes, lost disks;
 * and what administrators do meanwhile: change the membership, hand over leadership.
 *
 * It never takes a majority's data away: a disk is lost only while the others can do without it.
 */
import type { ConfChange, ConfChangeOp } from '../../../../ts/meta/raft/core/confchange.js';
import { NO_DATA, type NodeId } from '../../../../ts/meta/raft/core/types.js';
import type { SimNode } from './node.js';
import { RealLog } from './real_log.js';
import type { Random } from './random.js';
import type { Simulation } from './simulation.js';

const TURN_US = 20_000;
const MAX_NODES = 12;

export class Nemesis {
  private readonly simulation: Simulation;
  private readonly random: Random;
  private stopped = false;

  constructor(simulation: Simulation) {
    this.simulation = simulation;
    this.random = simulation.random.fork('nemesis');
  }

  start(): void {
    this.next();
  }

  stop(): void {
    this.stopped = true;
  }

  private next(): void {
    this.simulation.scheduler.after(TURN_US / 2 + this.random.below(TURN_US), 10, () => {
      if (this.stopped) return;
      this.turn();
      this.next();
    });
  }

  private count(what: string): void {
    this.simulation.observer.count(what);
  }

  private turn(): void {
    const { nemesis } = this.simulation.options;
    const nodes = [...this.simulation.nodes.values()].filter((node) => !node.lost);
    const { random } = this;
    if (random.permille(nemesis.crash)) this.crash(this.victim(nodes), false);
    if (random.permille(nemesis.power)) this.powerLoss(nodes);
    for (const down of nodes) {
      if (!down.up && !down.opening && random.permille(nemesis.restart)) this.restart(down);
    }
    if (random.permille(nemesis.pause)) this.pause(random.pick(nodes));
    if (random.permille(nemesis.partition)) this.partition(nodes.map((one) => one.id));
    else if (this.simulation.network.isCut && random.permille(nemesis.heal)) this.simulation.network.heal();
    if (random.permille(nemesis.membership)) this.changeMembership();
    if (random.permille(nemesis.transfer)) this.transfer();
    if (random.permille(nemesis.loseDisk)) this.loseDisk(random.pick(nodes));
    const { bitFlips } = this.simulation.options;
    if (bitFlips > 0 && random.permille(bitFlips)) this.flipBit(random.pick(nodes));
  }

  /** Often one that is installing a snapshot: there is most to break. */
  private victim(nodes: readonly SimNode[]): SimNode {
    const installing = nodes.filter((node) => node.raft?.log.hasUnstableSnapshot() === true);
    return this.random.pick(installing.length > 0 && this.random.permille(700) ? installing : nodes);
  }

  private crash(node: SimNode, power: boolean): void {
    if (!node.up) return;
    this.count(power ? 'power loss' : 'process crash');
    node.crash(power);
  }

  private restart(node: SimNode): void {
    // A host that stopped by itself is a process that has exited.
    node.crash(false);
    node.start();
    this.simulation.touch(node);
  }

  /** Of one node, or of all at once. */
  private powerLoss(nodes: readonly SimNode[]): void {
    const all = this.random.permille(200);
    for (const node of all ? nodes : [this.victim(nodes)]) this.crash(node, true);
  }

  private pause(node: SimNode): void {
    if (!node.up || node.paused) return;
    this.count('pause');
    node.pause();
    const { incarnation } = node;
    this.simulation.scheduler.after(this.random.exponential(300_000), 11, () => {
      if (node.incarnation !== incarnation || !node.paused) return;
      node.resume();
      this.simulation.touch(node);
    });
  }

  private partition(ids: readonly NodeId[]): void {
    const { network } = this.simulation;
    const { random } = this;
    network.heal();
    this.count('partition');
    const order = random.shuffle(ids);
    const oneWay = random.permille(300);
    const cut = (a: NodeId, b: NodeId): void => {
      network.cut(a, b);
      if (!oneWay) network.cut(b, a);
    };
    const kind = random.pick(this.simulation.options.partitions);
    const leader = this.simulation.leader()?.id;
    if (kind === 'halves') {
      const at = random.between(1, Math.max(1, order.length - 1));
      for (const a of order.slice(0, at)) for (const b of order.slice(at)) cut(a, b);
    } else if (kind === 'one' || (kind === 'leader' && leader !== undefined)) {
      const alone = kind === 'one' ? order[0]! : leader!;
      for (const id of order) if (id !== alone) cut(alone, id);
    } else if (kind === 'late answers' && leader !== undefined) {
      // It reaches nobody, and of what was sent to it before, only what one of them sent still comes.
      const [heard, ...others] = order.filter((id) => id !== leader);
      if (heard !== undefined) network.cut(leader, heard);
      for (const id of others) {
        network.cut(leader, id);
        network.cut(id, leader);
      }
    } else if (kind === 'ring') {
      // Each sees a majority, and no two the same.
      for (const [i, a] of order.entries()) {
        for (const [j, b] of order.entries()) {
          const distance = Math.min(Math.abs(i - j), order.length - Math.abs(i - j));
          if (distance > Math.max(1, Math.floor(order.length / 4))) network.cut(a, b);
        }
      }
    } else if (order.length > 1) {
      cut(order[0]!, order[1]!);
    }
  }

  private transfer(): void {
    const leader = this.simulation.leader();
    if (leader === undefined || leader.paused) return;
    this.count('transfer');
    const target = this.random.pick([...this.simulation.nodes.keys()]);
    this.simulation.touch(leader);
    leader.host?.transferLeader(target);
  }

  /** For good: the node is replaced by others under new ids. */
  private loseDisk(node: SimNode): void {
    if (!this.canSpare(node)) return;
    this.count('lost disk');
    node.crash(true);
    node.lost = true;
  }

  /** In what was known to be durable; found when the node starts again. */
  private flipBit(node: SimNode): void {
    if (!(node.log instanceof RealLog) || node.opening || !this.canSpare(node) || !node.log.flip()) return;
    this.count('bit flipped');
    node.crash(this.random.permille(500));
    node.doubtful = true;
    node.start();
  }

  private canSpare(node: SimNode): boolean {
    const leader = this.simulation.leader();
    const config = leader?.raft?.tracker.config;
    if (config === undefined || leader === node || node.lost) return false;
    // A change on its way may give the vote of the lost member more weight than it has now.
    if ([...this.simulation.nodes.values()].some(holdsConfChange)) return false;
    const halves = [config.incoming, config.outgoing];
    const spare = halves.every((half) => {
      const alive = half.filter(
        (id) => id !== node.id && this.isSound(id),
      ).length;
      return half.length === 0 || 2 * alive > half.length + 1;
    });
    return spare;
  }

  private isSound(id: NodeId): boolean {
    const node = this.simulation.nodes.get(id);
    return node?.lost === false && !node.doubtful;
  }

  // ---- administration

  private changeMembership(): void {
    const { random } = this;
    const leader = this.simulation.leader();
    if (leader === undefined || leader.paused || leader.raft === undefined) return;
    const config = leader.raft.tracker.config;
    if (config.outgoing.length > 0) {
      if (!config.autoLeave) this.propose(leader, [], 'auto');
      return;
    }
    const joint = random.permille(300);
    const ops: ConfChangeOp[] = [];
    const voters = [...config.incoming];
    for (let left = joint ? random.between(1, 3) : 1; left > 0; left--) {
      const op = this.operation(voters, config.learners);
      if (op !== undefined && !ops.some((other) => other.nodeId === op.nodeId)) ops.push(op);
    }
    if (ops.length === 0) return;
    this.propose(leader, ops, joint ? random.pick(['auto', 'implicit', 'explicit'] as const) : 'auto');
  }

  private propose(
    leader: SimNode,
    changes: readonly ConfChangeOp[],
    transition: ConfChange['transition'],
  ): void {
    this.simulation.touch(leader);
    leader.host?.proposeConfChange({ version: 2, transition, changes, context: NO_DATA });
  }

  /** `voters` is what will be left of them, so that a change does not remove too many. */
  private operation(voters: NodeId[], learners: readonly NodeId[]): ConfChangeOp | undefined {
    const { random } = this;
    const lost = voters.find((id) => this.simulation.nodes.get(id)?.lost === true);
    const remove = (id: NodeId): void => void voters.splice(voters.indexOf(id), 1);
    if (lost !== undefined && voters.length > 1) {
      remove(lost);
      return { kind: 'remove-node', nodeId: lost };
    }
    const kind = random.pick([
      'add',
      'add',
      'promote',
      'promote',
      'demote',
      'remove',
      'drop-learner',
    ] as const);
    const live = learners.filter((id) => this.simulation.nodes.get(id)?.lost === false);
    if (kind === 'add' && voters.length + learners.length < 6) return this.addNode();
    if (kind === 'promote' && live.length > 0 && voters.length < 5) {
      return { kind: 'add-node', nodeId: random.pick(live) };
    }
    if (kind === 'drop-learner' && learners.length > 0) {
      return { kind: 'remove-node', nodeId: random.pick(learners) };
    }
    if ((kind === 'demote' || kind === 'remove') && voters.length > 2) {
      const nodeId = random.pick(voters);
      remove(nodeId);
      return { kind: kind === 'demote' ? 'add-learner' : 'remove-node', nodeId };
    }
    return undefined;
  }

  /** A node that was never a member, or a new one. */
  private addNode(): ConfChangeOp | undefined {
    const { nodes } = this.simulation;
    const known = this.simulation.leader()?.raft?.tracker.progress;
    const idle = [...nodes.values()].find((node) => !node.lost && known?.has(node.id) === false);
    if (idle === undefined && nodes.size >= MAX_NODES) return undefined;
    const node = idle ?? this.simulation.addNode(Math.max(...nodes.keys()) + 1);
    this.count('node added');
    return { kind: this.random.permille(800) ? 'add-learner' : 'add-node', nodeId: node.id };
  }
}

/** Whether this log holds a membership change that its node has not applied. */
function holdsConfChange(node: SimNode): boolean {
  const log = node.raft?.log;
  if (log === undefined) return false;
  const entries = log.entries(log.applied + 1, Infinity);
  return entries === 'compacted' || entries.some((entry) => entry.type !== 'EntryNormal');
}
