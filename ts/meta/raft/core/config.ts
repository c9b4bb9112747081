/** How one node of a group behaves. */
import { invariant } from './invariant.js';
import type { Storage } from './storage.js';
import { NONE, type NodeId, type ReadOnlyOption } from './types.js';

export interface RaftOptions {
  readonly id: NodeId;
  readonly storage: Storage;
  /** A number in [0, below), for election timeouts. All randomness of the core comes from here. */
  readonly random: (below: number) => number;
  /** Ticks without a leader before an election, and ticks a leader may go without a quorum. Default 10. */
  readonly electionTick?: number;
  /** Ticks between heartbeats. Default 1. */
  readonly heartbeatTick?: number;
  /**
   * The last index the state machine has applied durably. Default: everything up to storage.firstIndex()-1.
   */
  readonly applied?: number;
  /**
   * Writing and applying happen behind messages to the storage threads, instead of between ready and advance.
   */
  readonly asyncStorageWrites?: boolean;
  /** Bytes of entries per MsgApp (always at least one entry). Default 1 MiB. */
  readonly maxSizePerMessage?: number;
  /** Bytes of entries being applied at once. Default: maxSizePerMessage. */
  readonly maxCommittedSizePerReady?: number;
  /** Payload bytes a leader may hold uncommitted before it drops proposals. Default 64 MiB. */
  readonly maxUncommittedSize?: number;
  /** MsgApps in flight to one follower. Default 256. */
  readonly maxInflightMessages?: number;
  /** Payload bytes in flight to one follower. Default 8 MiB. Invariant: >= maxSizePerMessage. */
  readonly maxInflightBytes?: number;
  /** Leaders without a quorum step down, and votes are refused while a leader is alive. Default true. */
  readonly checkQuorum?: boolean;
  /** Candidates ask before they raise the term. Default true. */
  readonly preVote?: boolean;
  /**
   * Votes carry what is committed, so that a group whose longest logs are those of removed nodes still elects
   * a leader: they may not lead, the others need their votes, and only they know that the change which removed
   * them is committed. Default true.
   */
  readonly tellCommitted?: boolean;
  /** 'lease-based' answers reads without a round while a lease holds; needs checkQuorum. Default 'safe'. */
  readonly readOnly?: ReadOnlyOption;
  /**
   * Ticks by which a lease is shorter than the election timeout: two for ticks that are late, one for phases
   * that differ, the rest for clocks that run at different speeds. Default (and least) 4.
   */
  readonly leaseMarginTicks?: number;
  /** Reads a leader holds unanswered; further ones are dropped. Default 10,000. */
  readonly maxPendingReads?: number;
  /** Followers drop proposals instead of forwarding them. Default false. */
  readonly disableProposalForwarding?: boolean;
  /** Append membership changes that are sure to be refused later. For tests. Default false. */
  readonly disableConfChangeValidation?: boolean;
  /** A leader that is removed or demoted becomes a follower as soon as it applies that. Default true. */
  readonly stepDownOnRemoval?: boolean;
  /** A learner becomes a voter only if it lacks at most this many entries. Default no check. */
  readonly learnerMaxLag?: number;
  /** Told in words what happens, for debugging. */
  readonly trace?: (text: string) => void;
}

export type RaftConfig = Required<Omit<RaftOptions, 'trace' | 'applied'>> &
  Pick<RaftOptions, 'trace' | 'applied'>;

const MIB = 1024 * 1024;

export function resolveConfig(options: RaftOptions): RaftConfig {
  const maxSizePerMessage = options.maxSizePerMessage ?? MIB;
  const config: RaftConfig = {
    electionTick: 10,
    heartbeatTick: 1,
    asyncStorageWrites: false,
    maxUncommittedSize: 64 * MIB,
    maxInflightMessages: 256,
    maxInflightBytes: Math.max(8 * MIB, maxSizePerMessage),
    checkQuorum: true,
    preVote: true,
    tellCommitted: true,
    readOnly: 'safe',
    leaseMarginTicks: 4,
    maxPendingReads: 10_000,
    disableProposalForwarding: false,
    disableConfChangeValidation: false,
    stepDownOnRemoval: true,
    learnerMaxLag: Infinity,
    ...options,
    maxSizePerMessage,
    maxCommittedSizePerReady: options.maxCommittedSizePerReady ?? maxSizePerMessage,
  };
  invariant(Number.isSafeInteger(config.id) && config.id > NONE, 'a node id is a positive safe integer');
  invariant(config.heartbeatTick > 0, 'heartbeatTick must be positive');
  invariant(config.electionTick > config.heartbeatTick, 'electionTick must be above heartbeatTick');
  invariant(config.maxInflightMessages > 0, 'maxInflightMessages must be positive');
  invariant(
    config.maxInflightBytes >= config.maxSizePerMessage,
    'maxInflightBytes must not be below maxSizePerMessage',
  );
  invariant(config.maxCommittedSizePerReady > 0, 'maxCommittedSizePerReady must be positive');
  invariant(config.readOnly === 'safe' || config.checkQuorum, 'lease-based reads need checkQuorum');
  invariant(
    config.leaseMarginTicks >= 4,
    'a lease is shorter by what ticks can be late and phases can differ',
  );
  return config;
}
