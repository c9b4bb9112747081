/** What a seed draws: the size of the group, its limits, and how bad its world is. */
import type { HostOptions } from '../../../../ts/meta/raft/host/host.js';
import type { DiskFaults } from './disk.js';
import type { NetworkFaults } from './network.js';
import type { Random } from './random.js';

/** Per 1000 turns of the nemesis, each about 20 ms of virtual time. */
export interface NemesisRates {
  readonly crash: number;
  readonly power: number;
  readonly restart: number;
  readonly pause: number;
  readonly partition: number;
  readonly heal: number;
  readonly membership: number;
  readonly transfer: number;
  readonly loseDisk: number;
}

export const partitionKinds = ['halves', 'one', 'leader', 'ring', 'pair', 'late answers'] as const;
export type PartitionKind = (typeof partitionKinds)[number];
const usualPartitions: readonly PartitionKind[] = ['halves', 'one', 'leader', 'ring', 'pair'];

export interface SimOptions {
  readonly voters: number;
  readonly clients: number;
  readonly keys: number;
  /** Nodes' clocks run at 1 +- this / 10,000. */
  readonly clockSpread: number;
  readonly network: NetworkFaults;
  readonly disk: DiskFaults;
  /** Mean microseconds of an operation on the state machine. */
  readonly machineLatency: number;
  readonly releaseEvery: number;
  readonly trailingEntries: number;
  readonly readRetryMs: number;
  /** Mean microseconds between a client's operations. */
  readonly thinkTime: number;
  readonly readPermille: number;
  readonly partitions: readonly PartitionKind[];
  readonly nemesis: NemesisRates;
  /** Every start of a node draws whether it uses pre-votes, as while a setting is being rolled out. */
  readonly mixedPreVotes: boolean;
  /** Nodes campaign as a real replica does, sooner than the core would. */
  readonly hurry: boolean;
  /** Every node's log is the real one, over a simulated disk. */
  readonly realLogs: boolean;
  /** Per 1000 turns of the nemesis, with real logs. */
  readonly bitFlips: number;
  readonly core: HostOptions['core'];
}

export function drawOptions(random: Random): SimOptions {
  const chance = (permille: number, value: number): number =>
    random.permille(permille) ? 1 + random.below(value) : 0;
  const hurry = random.fork('haste nodes').permille(200);
  const lease = random.permille(150);
  const calm = random.permille(100);
  const small = random.permille(500);
  return {
    voters: random.pick([1, 2, 3, 3, 3, 4, 5, 5]),
    clients: random.pick([1, 3, 6, 12]),
    keys: random.between(1, 6),
    // Leases bear little drift; rounds bear any.
    clockSpread: lease ? 5 : random.pick([5, 5, 500, 3000]),
    network: {
      minDelay: random.pick([50, 500, 5000]),
      meanDelay: random.pick([100, 1000, 10_000]),
      loss: calm ? 0 : chance(600, 200),
      repeat: calm ? 0 : chance(500, 300),
      capacity: random.pick([2, 20, 1000]),
    },
    disk: {
      latency: random.pick([10, 1000, 10_000, 30_000]),
      errors: calm ? 0 : chance(200, 5),
      hangs: calm ? 0 : chance(200, 3),
    },
    machineLatency: random.pick([10, 1000, 20_000]),
    releaseEvery: small ? random.between(3, 20) : random.between(20, 200),
    trailingEntries: small ? random.below(5) : random.below(50),
    readRetryMs: random.pick([50, 200, 500]),
    thinkTime: random.pick([1000, 10_000, 50_000]),
    readPermille: random.pick([200, 500, 800]),
    partitions: random.fork('mute').permille(250) ? partitionKinds : usualPartitions,
    nemesis: {
      crash: calm ? 0 : chance(600, 30),
      power: calm ? 0 : chance(500, 20),
      restart: random.between(20, 300),
      pause: calm ? 0 : chance(400, 30),
      partition: calm ? 0 : chance(600, 40),
      heal: random.between(30, 200),
      membership: chance(600, 60),
      transfer: chance(500, 40),
      loseDisk: calm ? 0 : chance(200, 4),
    },
    hurry,
    realLogs: false,
    bitFlips: 0,
    mixedPreVotes: !lease && random.permille(150),
    core: {
      electionTick: 10,
      heartbeatTick: random.pick([1, 2, 3]),
      readOnly: lease ? 'lease-based' : 'safe',
      preVote: lease || random.permille(900),
      checkQuorum: true,
      maxInflightMessages: random.pick([1, 2, 4, 256]),
      maxSizePerMessage: random.pick([1, 64, 200, 1_000_000]),
      maxCommittedSizePerReady: random.pick([1, 100, 1_000_000]),
      maxUncommittedSize: random.pick([50, 1000, 1_000_000]),
      learnerMaxLag: random.pick([0, 10, 1000]),
      // Otherwise a leader that was removed stays, and drops all proposals.
      stepDownOnRemoval: true,
    },
  };
}
