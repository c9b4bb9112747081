/** What the S3 handler is given: the store, who may sign, limits, and where logs and figures go. */
import type { ObjectStore } from '../../store/object_store.js'
import type { CredentialSource } from '../auth/credentials.js'

/** The part of pino that the handler uses. */
export interface S3Logger {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
  /** True: nothing becomes of the line about a request that ended with this status. */
  skips?(status: number): boolean
}

/** One request, as it ended. */
export interface RequestSummary {
  /** S3's name, 'PutObject'; 'Unknown' when it failed before an operation was found. */
  operation: string
  /** HTTP status that was sent; 499 when the client went away before one was. */
  status: number
  /** S3 error code, when it ended with one. */
  code: string | undefined
  /** Decoded body bytes received and body bytes sent. */
  bytesIn: number
  bytesOut: number
  durationMs: number
  /** From the request's head to the first byte of the answer. */
  firstByteMs: number
}

/** Hooks for counters; they must not throw. */
export interface S3Metrics {
  requestStarted(): void
  requestEnded(summary: RequestSummary): void
}

/** Bounds on what a client can make a worker do. Sizes in bytes, times in milliseconds. */
export interface S3Limits {
  /** Requests being worked on in this worker; more are answered SlowDown. */
  maxRequests: number
  /** Request target, query included. */
  maxUrlBytes: number
  /** Header section, for `http.createServer({ maxHeaderSize })`. */
  maxHeaderBytes: number
  /** Object data of one PutObject or UploadPart. */
  maxPutBytes: number
  /** One XML request body, and all that are being read in this worker; more are answered SlowDown. */
  maxXmlBytes: number
  maxXmlBytesTogether: number
  /** Received object data that waits for the store, per request. */
  bodyWindowBytes: number
  /** Until the first byte of a request body. */
  bodyFirstByteMs: number
  /** Between two pieces of a request body, and between two writes that a client takes from an answer. */
  idleMs: number
  /** Slowest average a client may send a body at, once it has been waited for for a minute. */
  minBodyBytesPerSecond: number
  /** While a long operation works: how often a blank is sent, so that clients do not give up. */
  keepAliveMs: number
  /** After an early error: what is still read from the client before the connection is cut. */
  drainBytes: number
  drainMs: number
}

export const DEFAULT_S3_LIMITS: S3Limits = {
  maxRequests: 256,
  maxUrlBytes: 16 * 1024,
  maxHeaderBytes: 32 * 1024,
  maxPutBytes: 5 * 1024 ** 3,
  maxXmlBytes: 2 * 1024 ** 2,
  maxXmlBytesTogether: 16 * 1024 ** 2,
  bodyWindowBytes: 256 * 1024,
  bodyFirstByteMs: 30_000,
  idleMs: 30_000,
  minBodyBytesPerSecond: 100,
  keepAliveMs: 10_000,
  drainBytes: 1024 ** 2,
  drainMs: 2_000,
}

export interface S3Options {
  store: ObjectStore
  credentials: CredentialSource
  region: string
  /** Base domains of virtual-host style, lower case, without port: `bucket.<domain>`. */
  domains: readonly string[]
  limits: S3Limits
  log: S3Logger
  metrics: S3Metrics
  /**
   * Waits until the metadata is as new as the request wants it; undefined when it is. Rejects with S3Error. Absent: it
   * always is.
   */
  settled?(header: string | undefined): Promise<void> | undefined
  nowMs(): number
  /** Owner shown in listings. */
  ownerId: string
  ownerDisplayName: string
  /** Names this server in x-amz-id-2; any short text. */
  hostId: string
}
