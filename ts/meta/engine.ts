/**
 * The metadata engine turns commands into state: `local` (one voter, in this process, `local_engine.ts`) or
 * `replicated` (a replica of a Raft group, `raft/replica/replicated_engine.ts`).
 *
 * Threads: the engine runs in the metadata thread. Every other thread holds a
 * `MetadataClient` (`client.ts`): proposals travel over a MessagePort, batched per loop turn; reads go straight
 * to the LMDB view.
 *
 * Invariants:
 * - A result is given only after the command's log record is durable on every online metadata copy and the command
 *   is applied to the view that readers read.
 * - A snapshot taken after a result is received shows that command.
 */
import type { Command, CommandResult, Fence } from './command.js'
import type { MetadataReader } from './reader.js'

/**
 * How new the state of a read must be: all that was acknowledged anywhere before it began; all that was acknowledged
 * until so many milliseconds ago; or whatever this node has.
 */
export type ReadConsistency = 'linearizable' | 'eventual' | { readonly boundedMs: number }

export interface MetadataEngine {
  /**
   * Rejects with MetadataError: 'unavailable' (not proposed, nothing changed), 'overloaded' (queue full, nothing
   * changed) or 'unknown' (may or may not have been applied; a retry with the same request id is safe). With a fence
   * the command is refused ('LeaseLost') once somebody else has the lease.
   */
  propose(command: Command, requestId?: string, fence?: Fence): Promise<CommandResult>
  /**
   * Commands of a group of writes will be proposed as soon as its shards are durable: until the function returned is
   * called, and for a bounded time, the engine keeps others' commands for the same log batch. A hint, no more.
   */
  announce?(): () => void
  /** A reader for this thread. Call `refresh()` once per request. */
  readonly reader: MetadataReader
  /**
   * Resolves when a `refresh` shows a state that is new enough; at once where there is one node. Rejects with
   * MetadataError 'unavailable' or 'overloaded': a read of this level cannot be served here now.
   */
  settled(consistency: ReadConsistency): Promise<void>
  status(): Promise<MetadataStatus>
  /** Writes a consistent copy of view and position to a directory, online. */
  backup(
    path: string,
    onProgress?: (done: number, total: number) => void,
  ): Promise<{ position: number; records: number }>
  close(): Promise<void>
}

export interface MetadataCopyStatus {
  drive: number
  state: 'online' | 'rebuilding' | 'offline'
  reason: string
  /** Last log index durable on this copy, and last applied to its view. */
  durable: number
  applied: number
  logBytes: number
  viewBytes: number
  primary: boolean
}

export interface PeerStatus {
  id: number
  /** As registered; empty for one that is not. */
  name: string
  address: string
  role: 'voter' | 'learner' | 'outgoing'
  /** Known to a leader only. */
  progress?: PeerProgress
}

export interface PeerProgress {
  /** Last entry known to be durable there. */
  match: number
  lagEntries: number
  /** Milliseconds since it last had everything that was committed then. */
  lagMs: number
  state: 'probe' | 'replicate' | 'snapshot'
  /** It was heard of within an election timeout. */
  active: boolean
}

export interface ReplicaStatus {
  id: number
  role: 'leader' | 'follower' | 'candidate' | 'learner'
  /** 0: none is known. */
  leader: number
  /** Newest entry of the log here, and the newest that is in snapshots only. */
  lastIndex: number
  snapshotIndex: number
  peers: PeerStatus[]
}

export interface MetadataStatus {
  engine: 'local' | 'replicated'
  term: number
  committed: number
  applied: number
  queued: number
  copies: MetadataCopyStatus[]
  /** Of the replicated engine. */
  replica?: ReplicaStatus
  featureLevel: number
  collectionEnabled: boolean
}

export type MetadataErrorCode = 'unavailable' | 'overloaded' | 'unknown' | 'corrupt'

export class MetadataError extends Error {
  readonly code: MetadataErrorCode
  constructor(code: MetadataErrorCode, detail: string, options?: ErrorOptions) {
    super(`metadata ${code}: ${detail}`, options)
    this.name = 'MetadataError'
    this.code = code
  }
}
