/**
 * The metadata engine turns commands into state. `local` (one voter, in this process) is here now; `replicated`
 * (Raft) comes later behind the same interface.
 *
 * Threads: the engine runs in the metadata thread (`local_engine.ts`). Every other thread holds a
 * `MetadataClient` (`client.ts`): proposals travel over a MessagePort, batched per loop turn; reads go straight
 * to the LMDB view.
 *
 * Invariants:
 * - A result is given only after the command's log record is durable on every online metadata copy and the command
 *   is applied to the view that readers read.
 * - A snapshot taken after a result is received shows that command.
 */
import type { Command, CommandResult } from './command.js'
import type { MetadataReader } from './reader.js'

export interface MetadataEngine {
  /**
   * Rejects with MetadataError: 'unavailable' (not proposed, nothing changed), 'overloaded' (queue full, nothing
   * changed) or 'unknown' (may or may not have been applied; a retry with the same request id is safe).
   */
  propose(command: Command, requestId?: string): Promise<CommandResult>
  /** A reader for this thread. Call `refresh()` once per request. */
  readonly reader: MetadataReader
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

export interface MetadataStatus {
  engine: 'local' | 'replicated'
  term: number
  committed: number
  applied: number
  queued: number
  copies: MetadataCopyStatus[]
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
