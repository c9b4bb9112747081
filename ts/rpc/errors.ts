/** How talking to another node fails. */

/**
 * - unreachable: nothing was sent, so nothing happened there.
 * - unknown: it was sent, and no answer came: it may have happened.
 * - overloaded: the queue to the peer, or the peer, is full; nothing happened.
 * - refused: the peer refused the connection or the call, and says why.
 * - failed: the peer took the call and failed at it.
 */
export type RpcErrorCode = 'unreachable' | 'unknown' | 'overloaded' | 'refused' | 'failed'

export class RpcError extends Error {
  readonly code: RpcErrorCode
  constructor(code: RpcErrorCode, detail: string, options?: ErrorOptions) {
    super(detail, options)
    this.name = 'RpcError'
    this.code = code
  }
}

/** Bytes that are not what a peer may send. The connection ends; nothing of the frame was used. */
export class ProtocolError extends Error {
  constructor(detail: string, options?: ErrorOptions) {
    super(detail, options)
    this.name = 'ProtocolError'
  }
}

/** Why a connection is not made; the number is what travels. Append only. */
export const REFUSALS = [
  'protocol',
  'version',
  'other-cluster',
  'wrong-node',
  'same-node',
  'security',
  'wrong-secret',
  'not-admitted',
  'too-many',
  'closing',
] as const
export type RefusalCode = (typeof REFUSALS)[number]

/** The handshake ended in a refusal, by the peer or by this node. */
export class Refusal extends Error {
  readonly code: RefusalCode
  /** The peer said it, not this node. */
  readonly remote: boolean
  constructor(code: RefusalCode, detail: string, remote: boolean = false) {
    super(detail)
    this.name = 'Refusal'
    this.code = code
    this.remote = remote
  }
}
