/**
 * Figures of a replica and of its connections to other nodes, made at every scrape from what engine and transport
 * count. `REPLICA_METRICS` names them all: the alert rules in docs/alerts.yml may use nothing else.
 */
import { BOUNDS_MS } from '../../meta/raft/replica/engine_metrics.js'
import type { EngineMetrics, HistogramFigures } from '../../meta/raft/replica/engine_metrics.js'
import type { PeerState } from '../../rpc/transport.js'
import type { Comparison } from '../threads/compare_replicas.js'
import type { MetricsSnapshot } from './worker_metrics.js'

type One = MetricsSnapshot[number]
type Kind = 'gauge' | 'counter'

/** Plain figures: name, kind, help, and where the figure comes from. */
const PLAIN: readonly [string, Kind, string, (m: EngineMetrics) => number][] = [
  ['ostraka_raft_is_leader', 'gauge', '1 while this node leads', (m) => m.isLeader],
  ['ostraka_raft_has_leader', 'gauge', '1 while a leader is known', (m) => m.hasLeader],
  ['ostraka_raft_leader', 'gauge', 'Id of the leader, 0 when none is known', (m) => m.leader],
  ['ostraka_raft_term', 'gauge', 'Term', (m) => m.term],
  ['ostraka_raft_committed', 'gauge', 'Newest log index committed', (m) => m.committed],
  ['ostraka_raft_applied', 'gauge', 'Newest log index applied', (m) => m.applied],
  ['ostraka_raft_last_index', 'gauge', 'Newest log index', (m) => m.lastIndex],
  [
    'ostraka_raft_snapshot_index',
    'gauge',
    'Newest log index that only snapshots hold',
    (m) => m.snapshotIndex,
  ],
  ['ostraka_raft_elections_total', 'counter', 'Elections this node stood in', (m) => m.elections],
  ['ostraka_raft_leader_changes_total', 'counter', 'Changes of the leader seen', (m) => m.leaderChanges],
  ['ostraka_raft_snapshots_sent_total', 'counter', 'Snapshots sent', (m) => m.snapshotsSent],
  ['ostraka_raft_snapshots_received_total', 'counter', 'Snapshots received', (m) => m.snapshotsReceived],
  [
    'ostraka_raft_snapshot_received_bytes_total',
    'counter',
    'Bytes of snapshots received',
    (m) => m.snapshotBytesReceived,
  ],
  ['ostraka_raft_snapshot_bytes', 'gauge', 'Bytes of the last snapshot sent', (m) => m.lastSnapshotBytes],
  ['ostraka_raft_log_bytes', 'gauge', 'Bytes of log on the drive', (m) => m.logBytes],
  ['ostraka_raft_log_memory_bytes', 'gauge', 'Bytes of log in memory', (m) => m.logBytesInMemory],
  ['ostraka_raft_view_bytes', 'gauge', 'Bytes of the view', (m) => m.viewBytes],
  ['ostraka_raft_queued_commands', 'gauge', 'Commands that wait to be proposed', (m) => m.queuedCommands],
  ['ostraka_raft_batches_under_way', 'gauge', 'Batches proposed and not applied', (m) => m.batchesUnderWay],
  ['ostraka_raft_queued_writes', 'gauge', 'Writes that wait for the log', (m) => m.queuedWrites],
  ['ostraka_raft_queued_applies', 'gauge', 'Tasks that wait for the state machine', (m) => m.queuedApplies],
  ['ostraka_raft_waiting_reads', 'gauge', 'Reads that wait to be confirmed', (m) => m.waitingReads],
]

const TIMES: readonly [string, string, (m: EngineMetrics) => HistogramFigures][] = [
  ['ostraka_raft_write_seconds', 'Commands, from proposal to result', (m) => m.writeMs],
  ['ostraka_raft_read_seconds', 'Confirmations of linearizable reads', (m) => m.readMs],
  ['ostraka_raft_sync_seconds', 'Writes of the log, synced', (m) => m.syncMs],
]

const LAGS: readonly [string, string, (peer: { lagEntries: number; lagMs: number }) => number][] = [
  ['ostraka_raft_peer_lag_entries', 'Committed entries a member lacks, on the leader', (p) => p.lagEntries],
  ['ostraka_raft_peer_lag_seconds', 'Since a member last had all, on the leader', (p) => p.lagMs / 1000],
]

const CONNECTIONS: readonly [string, Kind, string, (peer: PeerState) => number][] = [
  ['ostraka_peer_up', 'gauge', '1 while the node is connected', (p) => (p.connected ? 1 : 0)],
  ['ostraka_peer_round_trip_seconds', 'gauge', 'Last ping', (p) => (p.roundTripMs ?? 0) / 1000],
  ['ostraka_peer_queued_bytes', 'gauge', 'Bytes that wait for the node', (p) => p.queuedBytes],
  ['ostraka_peer_dropped_total', 'counter', 'Messages dropped for want of a way or of room', (p) => p.dropped],
  ['ostraka_peer_connects_total', 'counter', 'Connections made', (p) => p.connects],
]

/** Members that the leader's last scrub compared with itself. */
const DIFFERS = 'ostraka_raft_replica_differs'

export const REPLICA_METRICS: readonly string[] = [
  ...PLAIN.map(([name]) => name),
  ...TIMES.flatMap(([name]) => [`${name}_bucket`, `${name}_sum`, `${name}_count`]),
  ...LAGS.map(([name]) => name),
  ...CONNECTIONS.map(([name]) => name),
  DIFFERS,
]

export interface Measured {
  engine: { metrics(): EngineMetrics }
  transport: { state(): PeerState[] }
  comparison?: Comparison
}

export function replicaMetrics({ engine, transport, comparison }: Measured): MetricsSnapshot {
  const figures = engine.metrics()
  const peers = transport.state()
  return [
    ...PLAIN.map(([name, kind, help, read]) => metric(name, kind, help, [{ labels: {}, value: read(figures) }])),
    ...TIMES.map(([name, help, read]) => histogram(name, help, read(figures))),
    ...LAGS.map(([name, help, read]) =>
      metric(name, 'gauge', help, figures.peers.map((peer) => ({ labels: labelOf(peer.id), value: read(peer) }))),
    ),
    ...CONNECTIONS.map(([name, kind, help, read]) =>
      metric(name, kind, help, peers.map((peer) => ({ labels: labelOf(peer.id), value: read(peer) }))),
    ),
    metric(DIFFERS, 'gauge', '1 when the replica differed from this leader at one position, 0 when not', [
      ...(comparison?.equal ?? []).map((id) => ({ labels: labelOf(id), value: 0 })),
      ...(comparison?.different ?? []).map((id) => ({ labels: labelOf(id), value: 1 })),
    ]),
  ]
}

function labelOf(id: number): { peer: string } {
  return { peer: String(id) }
}

/** As prom-client gives its own figures out, but for the function that collects them. */
function metric(name: string, type: Kind, help: string, values: One['values']): One {
  return { name, help, type, values, aggregator: 'sum' } as unknown as One
}

function histogram(name: string, help: string, { buckets, count, sumMs }: HistogramFigures): One {
  let below = 0
  const values = BOUNDS_MS.map((bound, i) => {
    below += buckets[i] ?? 0
    return { labels: { le: bound / 1000 }, value: below, metricName: `${name}_bucket` }
  })
  const rest = [
    { labels: { le: '+Inf' }, value: count, metricName: `${name}_bucket` },
    { labels: {}, value: sumMs / 1000, metricName: `${name}_sum` },
    { labels: {}, value: count, metricName: `${name}_count` },
  ]
  return { name, help, type: 'histogram', values: [...values, ...rest], aggregator: 'sum' } as unknown as One
}
