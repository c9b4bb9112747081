/**
 * The engine's side of metadata clients in other threads: any number of ports. Proposals come in one message per loop
 * turn; the results of a batch leave in one message as soon as the batch is applied.
 *
 * Messages to the engine: { proposals }, { settle }, { doubt }, { call }. Back: { results }, { settled }, { answer },
 * { progress }.
 * Proposals and results are msgpack in one transferred buffer, so that no view of a shared pool is copied whole.
 */
import type { MessagePort } from 'node:worker_threads'
import type { CommandResult } from './command.js'
import { MetadataError } from './engine.js'
import type { MetadataEngine, MetadataErrorCode, MetadataStatus, ReadConsistency } from './engine.js'
import { pack, unpack } from './record.js'

/** Number of the proposal for its client, and what `encodeRequest` made. */
export type Proposal = [id: number, request: Uint8Array]

export interface ErrorMessage {
  code: MetadataErrorCode
  message: string
}

export type ProposalResult = { id: number; result: CommandResult } | { id: number; error: ErrorMessage }

/** An engine in its own thread. */
export interface ServedEngine extends Pick<MetadataEngine, 'settled' | 'status' | 'backup'> {
  /**
   * As `propose`, for what `encodeRequest` made. `done` is called once, perhaps before this returns, and for all
   * commands of a batch in the same turn of microtasks.
   */
  proposeEncoded(request: Uint8Array, done: (outcome: CommandResult | MetadataError) => void): void
  /** This client has announced commands, or has none announced any more. */
  expect?(client: object, announced: boolean): void
  /** A reader has found the view of this generation damaged. */
  doubt(generation: number, reason: string): void
}

export type Settled = { id: number; error?: ErrorMessage }

export type ToEngine =
  | { proposals: Uint8Array }
  | { announced: boolean; proposals?: Uint8Array }
  | { settle: { id: number; level: ReadConsistency }[] }
  | { doubt: { generation: number; reason: string } }
  | { call: { id: number; what: 'status' } | { id: number; what: 'backup'; path: string } }

export type FromEngine =
  | { results: Uint8Array }
  | { settled: Settled[] }
  | {
      answer:
        | { id: number; value: MetadataStatus | { position: number; records: number } }
        | { id: number; error: ErrorMessage }
    }
  | { progress: { id: number; done: number; total: number } }

/** What a client needs besides its port: given to the other thread as worker data. */
export interface ClientConnection {
  port: MessagePort
  published: SharedArrayBuffer
}

/** Serves one client until its port closes. */
export function serveMetadataPort(engine: ServedEngine, port: MessagePort): void {
  let results: ProposalResult[] = []
  let open = true
  const send = (message: FromEngine): void => {
    if (open) port.postMessage(message)
  }
  const answer = (one: ProposalResult): void => {
    if (results.push(one) > 1) return
    // Behind the rest of the batch, and no later: whatever else the engine has to do comes behind the answers.
    queueMicrotask(() => {
      const batch = results
      results = []
      const bytes = new Uint8Array(pack(batch))
      if (open) port.postMessage({ results: bytes }, [bytes.buffer])
    })
  }
  let settled: Settled[] = []
  const settle = (one: Settled): void => {
    if (settled.push(one) > 1) return
    setImmediate(() => {
      send({ settled })
      settled = []
    })
  }
  const propose = (proposals: Uint8Array): void => {
    for (const [id, request] of unpack(proposals) as Proposal[]) {
      engine.proposeEncoded(request, (outcome) => {
        answer(outcome instanceof MetadataError ? { id, error: toMessage(outcome) } : { id, result: outcome })
      })
    }
  }
  port.on('message', (message: ToEngine) => {
    if ('announced' in message) {
      if (message.proposals !== undefined) propose(message.proposals)
      engine.expect?.(port, message.announced)
    } else if ('proposals' in message) {
      propose(message.proposals)
    } else if ('settle' in message) {
      for (const { id, level } of message.settle) {
        engine.settled(level).then(
          () => { settle({ id }) },
          (error: unknown) => { settle({ id, error: toMessage(error) }) },
        )
      }
    } else if ('doubt' in message) {
      engine.doubt(message.doubt.generation, message.doubt.reason)
    } else {
      const { id } = message.call
      const value =
        message.call.what === 'status'
          ? engine.status()
          : engine.backup(message.call.path, (done, total) => { send({ progress: { id, done, total } }) })
      value.then(
        (done) => { send({ answer: { id, value: done } }) },
        (error: unknown) => { send({ answer: { id, error: toMessage(error) } }) },
      )
    }
  })
  port.on('close', () => {
    open = false
    engine.expect?.(port, false)
  })
}

function toMessage(error: unknown): ErrorMessage {
  if (error instanceof MetadataError) return { code: error.code, message: error.message }
  return { code: 'unavailable', message: error instanceof Error ? error.message : String(error) }
}
