/**
 * Every setting of the server, once: its key in YAML, its shape, its default and what it does. The name of its
 * `OSTRAKA_*` variable and of its flag follow from the key (`metadata.copies`: OSTRAKA_METADATA_COPIES,
 * --metadata-copies). docs/configuration.md is written from this table and a test keeps them equal.
 */
import { availableParallelism } from 'node:os'

import {
  AUTO,
  boolean,
  choice,
  duration,
  hostPort,
  integer,
  integerOrAuto,
  list,
  size,
  string,
} from './units.js'
import type { HostPort, Shape } from './units.js'

export type MetadataEngineName = 'local' | 'replicated'
export type ReadConsistency = 'linearizable' | 'bounded' | 'eventual'
export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error'

/** The settings of one server, validated and frozen. Sizes are bytes, times milliseconds, AUTO where not fixed. */
export interface Config {
  /** Patterns as written; '' means the default drives under ./data. */
  drives: string
  listen: HostPort
  adminListen: HostPort
  rootAccessKey: string
  rootSecretKey: string
  credentialsFile: string
  workers: number
  setSize: number
  parity: number
  metadataCopies: number
  metadataReplaceAfter: number
  metadataEngine: MetadataEngineName
  metadataLogEntries: number
  clusterListen: HostPort
  clusterAdvertise: string
  clusterName: string
  clusterJoin: readonly string[]
  clusterSecretFile: string
  clusterTlsCert: string
  clusterTlsKey: string
  clusterTlsCa: string
  readConsistency: ReadConsistency
  readMaxStaleness: number
  region: string
  domains: readonly string[]
  limitsConcurrentRequests: number
  limitsMemory: number
  limitsHeaderTimeout: number
  limitsBodyFirstByteTimeout: number
  limitsBodyIdleTimeout: number
  limitsKeepAliveTimeout: number
  limitsDrainTimeout: number
  driveReserve: number
  driveDeadline: number
  driveCheckInterval: number
  driveReplaceBlank: boolean
  drivePackBelow: number
  driveSegmentSize: number
  compactionThreshold: number
  collectGrace: number
  backgroundBandwidth: number
  scrubInterval: number
  logLevel: LogLevel
  logRequests: boolean
  readyFile: string
}

export interface Setting<T> {
  /** Dotted key in YAML. */
  key: string
  shape: Shape<T>
  /** Default as an operator would write it; '' with `derived` saying what stands in its place. */
  default: string
  derived?: string
  /** Never printed. */
  secret?: true
  about: string
}

export type Settings = { readonly [K in keyof Config]: Setting<Config[K]> }

const MiB = 2 ** 20
const GiB = 2 ** 30
const TiB = 2 ** 40

const anyPath = string(/^[^\0]*$/, 'a path')
const credential = (min: number, max: number, what: string): Shape<string> =>
  string(
    new RegExp(`^$|^[A-Za-z0-9/+=._-]{${String(min)},${String(max)}}$`),
    `${what} of ${String(min)} to ${String(max)} characters out of A-Z a-z 0-9 / + = . _ -`,
  )

const serving: Pick<
  Settings,
  | 'drives'
  | 'listen'
  | 'adminListen'
  | 'rootAccessKey'
  | 'rootSecretKey'
  | 'credentialsFile'
  | 'workers'
  | 'region'
  | 'domains'
  | 'readyFile'
> = {
  drives: {
    key: 'drives',
    shape: string(/^[^\0]*$/, "drive patterns such as '/mnt/disk{1...8}', several separated by commas"),
    default: '',
    derived: '`./data/drive{1...4}`, made when missing',
    about:
      'Directories that hold the data, one per physical disk. Ranges in braces are expanded; several patterns are ' +
      'separated by commas (a sequence in YAML). Directories named here must exist: a missing one is a missing drive.',
  },
  listen: {
    key: 'listen',
    shape: hostPort(),
    default: '127.0.0.1:9000',
    about: 'Address of the S3 endpoint. Port 0: chosen by the system and printed.',
  },
  adminListen: {
    key: 'admin-listen',
    shape: hostPort(),
    default: '127.0.0.1:9001',
    about:
      'Address of metrics, health and the admin API. Metrics and health need no credentials: keep it off public networks.',
  },
  rootAccessKey: {
    key: 'root.access-key',
    shape: credential(3, 128, 'an access key'),
    default: '',
    derived: 'from the credentials file',
    about: 'Access key of the root identity. Given together with the secret key.',
  },
  rootSecretKey: {
    key: 'root.secret-key',
    shape: credential(8, 128, 'a secret key'),
    default: '',
    derived: 'from the credentials file',
    secret: true,
    about:
      'Secret key of the root identity. A flag can be seen by every user of the machine in the process list: use the variable or the file.',
  },
  credentialsFile: {
    key: 'credentials-file',
    shape: anyPath,
    default: '',
    derived: '`credentials` in the directory above the first drive',
    about: 'Where root credentials are kept when none are given; made with mode 0600 at the first start.',
  },
  workers: {
    key: 'workers',
    shape: integerOrAuto(1, 64),
    default: 'auto',
    derived: 'one per core',
    about: 'Data worker threads. Each accepts connections and runs the whole data path.',
  },
  region: {
    key: 'region',
    shape: string(/^[a-z0-9-]{1,32}$/, 'a region name such as us-east-1'),
    default: 'us-east-1',
    about: 'Region that requests are signed for and buckets are made in.',
  },
  domains: {
    key: 'domains',
    shape: list(/^[A-Za-z0-9.-]{1,253}$/, 'host names separated by commas'),
    default: '',
    about: 'Domains for virtual-host style requests: `bucket.<domain>`. Path style always works.',
  },
  readyFile: {
    key: 'ready-file',
    shape: anyPath,
    default: '',
    about:
      'A file to write once requests are served: JSON with the endpoint, the admin address and the process id. For scripts that use port 0.',
  },
}

const layout: Pick<
  Settings,
  | 'setSize'
  | 'parity'
  | 'metadataCopies'
  | 'metadataReplaceAfter'
  | 'driveReserve'
  | 'driveDeadline'
  | 'driveCheckInterval'
  | 'driveReplaceBlank'
  | 'drivePackBelow'
  | 'driveSegmentSize'
> = {
  setSize: {
    key: 'set-size',
    shape: integerOrAuto(1, 16),
    default: 'auto',
    derived: 'the largest divisor of the number of drives from 2 to 16',
    about: 'Drives per erasure set. Fixed when the cluster is made.',
  },
  parity: {
    key: 'parity',
    shape: integerOrAuto(0, 8),
    default: 'auto',
    derived: 'by set size: 1 drive 0; 2-3: 1; 4-5: 2; 6-7: 3; 8 and more: 4',
    about:
      'Parity shards per part: how many drives of a set may be lost. At most half the set. Fixed when the cluster is made.',
  },
  metadataCopies: {
    key: 'metadata.copies',
    shape: integerOrAuto(1, 9),
    default: 'auto',
    derived: 'parity + 1',
    about:
      'Drives that keep a copy of the command log and its view. With metadata.engine replicated a node keeps one.',
  },
  metadataReplaceAfter: {
    key: 'metadata.replace-after',
    shape: duration(0, 30 * 864e5),
    default: '1m',
    about: 'How long a metadata copy may be missing before it is made on another drive.',
  },
  driveReserve: {
    key: 'drive.reserve',
    shape: size(0, 64 * TiB),
    default: '1GiB',
    about:
      'Free space kept on each drive for metadata, heals and deletes: below it a drive takes no new data. At most a twentieth of the drive is kept.',
  },
  driveDeadline: {
    key: 'drive.deadline',
    shape: duration(100, 600_000),
    default: '15s',
    about:
      'Time a drive has for one batch of operations before the batch counts as failed. Drives that keep missing it are taken out.',
  },
  driveCheckInterval: {
    key: 'drive.check-interval',
    shape: duration(100, 3_600_000),
    default: '5s',
    about: 'How often each drive is probed.',
  },
  driveReplaceBlank: {
    key: 'drive.replace-blank',
    shape: boolean(),
    default: 'true',
    about:
      'Give the place of a drive that is gone to a blank directory found at its path, and heal onto it. A directory that seems to be an unmounted mount point is never taken.',
  },
  drivePackBelow: {
    key: 'drive.pack-below',
    shape: size(0, 2 * MiB),
    default: '256KiB',
    about: 'Shards smaller than this are packed into segments; larger ones are files of their own. 0: all are.',
  },
  driveSegmentSize: {
    key: 'drive.segment-size',
    shape: size(MiB, 480 * MiB),
    default: '256MiB',
    about: 'Size at which a segment is sealed and the next one begun.',
  },
}

const ADDRESS = '(\\[[0-9a-fA-F:.]+\\]|[A-Za-z0-9._-]+):\\d{1,5}'

const cluster: Pick<
  Settings,
  | 'metadataEngine'
  | 'metadataLogEntries'
  | 'clusterListen'
  | 'clusterAdvertise'
  | 'clusterName'
  | 'clusterJoin'
  | 'clusterSecretFile'
  | 'clusterTlsCert'
  | 'clusterTlsKey'
  | 'clusterTlsCa'
  | 'readConsistency'
  | 'readMaxStaleness'
> = {
  metadataEngine: {
    key: 'metadata.engine',
    shape: choice<MetadataEngineName>(['local', 'replicated']),
    default: 'local',
    about:
      'local: the metadata is kept by this node alone. replicated: by a group of nodes that agree on it (Raft); a store of ' +
      'one node becomes the first of such a group in place. There is no way back to local.',
  },
  metadataLogEntries: {
    key: 'metadata.log-entries',
    shape: integer(10, 10_000_000),
    default: '10000',
    about:
      'Applied entries of the log that a replica gathers before it releases the older half of them. A node that was away ' +
      'for more gets a snapshot of all metadata instead. An entry holds up to 100 commands; 64 MiB of entries also suffice.',
  },
  clusterListen: {
    key: 'cluster.listen',
    shape: hostPort(),
    default: '127.0.0.1:9002',
    about: 'Address for other nodes, with metadata.engine replicated. Port 0: chosen by the system.',
  },
  clusterAdvertise: {
    key: 'cluster.advertise',
    shape: string(new RegExp(`^$|^${ADDRESS}$`), 'host:port'),
    default: '',
    derived: 'the address of cluster.listen',
    about: 'Address at which other nodes reach this one, where it is not that of cluster.listen.',
  },
  clusterName: {
    key: 'cluster.name',
    shape: string(/^$|^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, 'a name of letters, digits, dots, dashes and underlines'),
    default: '',
    derived: 'the host name',
    about: 'Name of this node, different from those of all others. With TLS, its certificate is made out to this name.',
  },
  clusterJoin: {
    key: 'cluster.join',
    shape: list(new RegExp(`^${ADDRESS}$`), 'addresses host:port separated by commas'),
    default: '',
    about:
      'Nodes of the cluster that a new node joins at its first start, once `ostraka admin metadata add-node` has named it ' +
      'there. Not used afterwards. Without it the first start makes a cluster of its own.',
  },
  clusterSecretFile: {
    key: 'cluster.secret-file',
    shape: anyPath,
    default: '',
    derived: '`cluster-secret` in the directory above the first drive',
    about:
      'The secret by which nodes know each other, the same on all. Made with mode 0600 by the first node; a node that joins ' +
      'needs a copy. Not needed with TLS, but used as well when it is named.',
  },
  clusterTlsCert: {
    key: 'cluster.tls.cert',
    shape: anyPath,
    default: '',
    about: 'Certificate of this node (PEM), for mutual TLS between nodes. Given together with key and authority.',
  },
  clusterTlsKey: { key: 'cluster.tls.key', shape: anyPath, default: '', about: 'Key of the certificate (PEM).' },
  clusterTlsCa: {
    key: 'cluster.tls.ca',
    shape: anyPath,
    default: '',
    about: 'Authorities that sign the certificates of nodes (PEM), and of nodes only.',
  },
  readConsistency: {
    key: 'read.consistency',
    shape: choice<ReadConsistency>(['linearizable', 'bounded', 'eventual']),
    default: 'linearizable',
    about:
      'How new the metadata must be that a request reads, with metadata.engine replicated. linearizable: everything that was ' +
      'acknowledged anywhere before the request. bounded: at most read.max-staleness old. eventual: what this node has. ' +
      'A request may ask for another one with the header x-ostraka-consistency. Writes are not affected.',
  },
  readMaxStaleness: {
    key: 'read.max-staleness',
    shape: duration(10, 3_600_000),
    default: '1s',
    about: 'Age of metadata that bounded reads accept. Older: they wait, then ask the leader, then are refused.',
  },
}

const limits: Pick<
  Settings,
  | 'limitsConcurrentRequests'
  | 'limitsMemory'
  | 'limitsHeaderTimeout'
  | 'limitsBodyFirstByteTimeout'
  | 'limitsBodyIdleTimeout'
  | 'limitsKeepAliveTimeout'
  | 'limitsDrainTimeout'
> = {
  limitsConcurrentRequests: {
    key: 'limits.concurrent-requests',
    shape: integer(1, 100_000),
    default: '512',
    about: 'Requests in progress per worker; more are answered SlowDown.',
  },
  limitsMemory: {
    key: 'limits.memory',
    shape: size(32 * MiB, 64 * GiB),
    default: '160MiB',
    about: 'Buffers for data in flight per worker; requests wait for room.',
  },
  limitsHeaderTimeout: {
    key: 'limits.header-timeout',
    shape: duration(100, 600_000),
    default: '20s',
    about: 'Time for the head of a request to arrive.',
  },
  limitsBodyFirstByteTimeout: {
    key: 'limits.body-first-byte-timeout',
    shape: duration(100, 3_600_000),
    default: '30s',
    about: 'Time for the first byte of a body to arrive.',
  },
  limitsBodyIdleTimeout: {
    key: 'limits.body-idle-timeout',
    shape: duration(100, 3_600_000),
    default: '60s',
    about: 'Longest pause within a body, in either direction.',
  },
  limitsKeepAliveTimeout: {
    key: 'limits.keep-alive-timeout',
    shape: duration(100, 3_600_000),
    default: '75s',
    about: 'How long an idle connection is kept.',
  },
  limitsDrainTimeout: {
    key: 'limits.drain-timeout',
    shape: duration(0, 3_600_000),
    default: '20s',
    about: 'Time that requests in progress have to end after SIGTERM or SIGINT.',
  },
}

const background: Pick<
  Settings,
  'collectGrace' | 'compactionThreshold' | 'backgroundBandwidth' | 'scrubInterval' | 'logLevel' | 'logRequests'
> = {
  collectGrace: {
    key: 'collect.grace',
    shape: duration(0, 864e5),
    default: '30s',
    about: 'Age that garbage must reach before its shards are deleted.',
  },
  compactionThreshold: {
    key: 'compaction.threshold',
    shape: integer(1, 95),
    default: '35',
    about:
      'Percent of a segment that must be dead before what lives in it is copied and the segment is dropped. Lower: less ' +
      'space is lost to deleted data, and more is written. A drive that is short of room ignores it.',
  },
  backgroundBandwidth: {
    key: 'background.bandwidth',
    shape: size(0, TiB),
    default: '128MiB',
    about:
      'Bytes per second that heals, scrubs and other background work may read and write together. 0: no limit.',
  },
  scrubInterval: {
    key: 'scrub.interval',
    shape: duration(0, 3650 * 864e5),
    default: '30d',
    about: 'Time from the start of one scrub of everything to the next. 0: only when asked.',
  },
  logLevel: {
    key: 'log.level',
    shape: choice<LogLevel>(['trace', 'debug', 'info', 'warn', 'error']),
    default: 'info',
    about: 'Least severe level that is logged. Logs are JSON lines on standard error.',
  },
  logRequests: {
    key: 'log.requests',
    shape: boolean(),
    default: 'false',
    about:
      'Log every request at level info; otherwise requests are logged at debug, and failures of the server at warn.',
  },
}

export const settings: Settings = { ...serving, ...layout, ...cluster, ...limits, ...background }

/** Data workers to start. */
export function workerCount(config: Config): number {
  return config.workers === AUTO ? Math.max(1, Math.min(16, availableParallelism())) : config.workers
}

export function flagOf(setting: { key: string }): string {
  return setting.key.replaceAll('.', '-')
}

export function variableOf(setting: { key: string }): string {
  return `OSTRAKA_${setting.key.replaceAll(/[.-]/g, '_').toUpperCase()}`
}
