/**
 * When a node that knows no leader campaigns sooner than the core's timeout would have it.
 *
 * - The connection to the leader was lost, as when its process ends: the leader is forgotten, and the voters campaign
 *   one after the other in the order of their ids, so that the first has won before the next one begins.
 * - An election that nobody won is repeated after half to a whole election timeout, not after one to two.
 *
 * It is for groups with pre-votes: whoever still hears a leader refuses, and nothing has changed then. After MAX_TRIES
 * without a leader only the core's timeouts are left, so that a log that is slow to store votes can finish an election.
 */
import { NONE, type HardState, type NodeId, type SoftState } from '../core/types.js';

/** Ticks between two voters that have lost the connection to the leader: more than an election takes. */
const TURN_TICKS = 2;
const MAX_TRIES = 2;

export class Campaigns {
  private readonly electionTick: number;
  private readonly random: (below: number) => number;
  private ticks = 0;
  private dueAt = 0;
  private tries = 0;
  /** What the node has heard since; with anything new it waits again. */
  private term = -1;
  private vote: NodeId = NONE;
  private state: SoftState['state'] = 'StateFollower';

  constructor(electionTick: number, random: (below: number) => number) {
    this.electionTick = electionTick;
    this.random = random;
  }

  /** The leader was forgotten. `place`: how many other voters come first. */
  leaderLost(place: number, soft: SoftState, hard: HardState): void {
    this.remember(soft, hard);
    this.tries = 0;
    this.dueAt = this.ticks + 1 + TURN_TICKS * place;
  }

  /** To be called with every tick of the core. True: campaign now. */
  tick(soft: SoftState, hard: HardState): boolean {
    this.ticks++;
    if (soft.lead !== NONE) {
      this.tries = 0;
      this.term = -1;
      return false;
    }
    if (hard.term !== this.term || hard.vote !== this.vote || soft.state !== this.state) {
      this.remember(soft, hard);
      this.wait();
    }
    if (this.ticks < this.dueAt || this.tries >= MAX_TRIES) return false;
    this.tries++;
    this.wait();
    return true;
  }

  private remember(soft: SoftState, hard: HardState): void {
    this.term = hard.term;
    this.vote = hard.vote;
    this.state = soft.state;
  }

  private wait(): void {
    const half = Math.ceil(this.electionTick / 2);
    this.dueAt = this.ticks + half + this.random(half);
  }
}
