/**
 * The metadata engine as other threads of the process see it: proposals travel over a port, batched per loop
 * turn; reads go straight to LMDB.
 *
 * Invariants:
 * - After a result is received, `refresh` shows the command.
 * - Proposals waiting for a result are bounded; beyond that 'overloaded'.
 * - When the port closes, what was sent is 'unknown' and everything else is 'unavailable'.
 */
import type { MessagePort } from 'node:worker_threads'
import { encodeRequest } from './apply/apply.js'
import { MAX_REQUEST_ID } from './apply/requests.js'
import type { Command, CommandResult, Fence } from './command.js'
import type {
  ClientConnection,
  ErrorMessage,
  FromEngine,
  Proposal,
  ProposalResult,
  ToEngine,
} from './engine_port.js'
import { MetadataError } from './engine.js'
import type { MetadataEngine, MetadataStatus, ReadConsistency } from './engine.js'
import { LmdbReader } from './lmdb_view.js'
import { Published } from './published.js'
import { pack, unpack } from './record.js'
import { SnapshotReader } from './snapshot_reader.js'
import type { ViewSnapshot } from './view_store.js'

const MAX_WAITING = 4096

interface Waiting<T> {
  resolve: (value: T) => void
  reject: (error: MetadataError) => void
}

interface Call extends Waiting<never> {
  onProgress: ((done: number, total: number) => void) | undefined
}

export interface MetadataClientOptions {
  /** Proposals without a result at most (default 4096). */
  maxWaiting?: number
}

export class MetadataClient implements MetadataEngine {
  readonly reader: ClientReader
  readonly #port: MessagePort
  readonly #maxWaiting: number
  readonly #waiting = new Map<number, Waiting<CommandResult>>()
  readonly #calls = new Map<number, Call>()
  readonly #published: Published
  readonly #settling = new Map<number, Waiting<void>>()
  #asking: { id: number; level: ReadConsistency }[] = []
  #outgoing: Proposal[] = []
  /** Groups announced, and whether the engine was told of one. */
  #announced = 0
  #saidAnnounced = false
  #nextId = 1
  #closed = false

  constructor(connection: ClientConnection, options: MetadataClientOptions = {}) {
    this.#port = connection.port
    this.#maxWaiting = options.maxWaiting ?? MAX_WAITING
    this.#published = new Published(connection.published)
    this.reader = new ClientReader(this.#published, (generation, reason) => {
      this.#send({ doubt: { generation, reason } })
    })
    this.#port.on('message', (message: FromEngine) => { this.#receive(message) })
    this.#port.on('close', () => { this.#end() })
  }

  propose(command: Command, requestId?: string, fence?: Fence): Promise<CommandResult> {
    if (this.#closed) return Promise.reject(new MetadataError('unavailable', 'the metadata engine is gone'))
    if (requestId !== undefined && (requestId === '' || Buffer.byteLength(requestId) > MAX_REQUEST_ID)) {
      return Promise.reject(new MetadataError('unavailable', `a request id has 1 to ${String(MAX_REQUEST_ID)} bytes`))
    }
    if (this.#waiting.size >= this.#maxWaiting) {
      return Promise.reject(new MetadataError('overloaded', `${String(this.#waiting.size)} commands are waiting`))
    }
    return new Promise((resolve, reject) => {
      const id = this.#nextId++
      this.#waiting.set(id, { resolve, reject })
      if (this.#outgoing.push([id, encodeRequest(command, requestId, fence)]) === 1)
        setImmediate(() => {
          this.#sendProposals()
        })
    })
  }

  announce(): () => void {
    if (this.#announced++ === 0 && !this.#saidAnnounced) {
      this.#saidAnnounced = true
      this.#send({ announced: true })
    }
    let ended = false
    return () => {
      if (ended) return
      ended = true
      // What was proposed by now travels with it.
      if (--this.#announced === 0) this.#sendProposals()
    }
  }

  settled(level: ReadConsistency): Promise<void> {
    if (level === 'eventual' || !this.#published.replicated) return Promise.resolve()
    if (this.#closed) return Promise.reject(new MetadataError('unavailable', 'the metadata engine is gone'))
    if (this.#settling.size >= this.#maxWaiting) {
      return Promise.reject(new MetadataError('overloaded', `${String(this.#settling.size)} reads are waiting`))
    }
    return new Promise((resolve, reject) => {
      const id = this.#nextId++
      this.#settling.set(id, { resolve, reject })
      if (this.#asking.push({ id, level }) > 1) return
      setImmediate(() => {
        this.#send({ settle: this.#asking })
        this.#asking = []
      })
    })
  }

  status(): Promise<MetadataStatus> {
    return this.#call<MetadataStatus>((id) => ({ call: { id, what: 'status' } }))
  }

  backup(
    path: string,
    onProgress?: (done: number, total: number) => void,
  ): Promise<{ position: number; records: number }> {
    return this.#call((id) => ({ call: { id, what: 'backup', path } }), onProgress)
  }

  async close(): Promise<void> {
    this.#end()
    this.#port.close()
    await this.reader.close()
  }

  #call<T>(message: (id: number) => ToEngine, onProgress?: (done: number, total: number) => void): Promise<T> {
    if (this.#closed) return Promise.reject(new MetadataError('unavailable', 'the metadata engine is gone'))
    return new Promise<T>((resolve, reject) => {
      const id = this.#nextId++
      this.#calls.set(id, { resolve: resolve, reject, onProgress })
      this.#send(message(id))
    })
  }

  #sendProposals(): void {
    if (this.#closed) return
    const ended = this.#announced === 0 && this.#saidAnnounced
    if (this.#outgoing.length === 0) {
      if (ended) this.#send({ announced: false })
    } else {
      const bytes = new Uint8Array(pack(this.#outgoing))
      this.#outgoing = []
      const message: ToEngine = ended ? { announced: false, proposals: bytes } : { proposals: bytes }
      this.#port.postMessage(message, [bytes.buffer])
    }
    if (ended) this.#saidAnnounced = false
  }

  #send(message: ToEngine): void {
    if (!this.#closed) this.#port.postMessage(message)
  }

  #receive(message: FromEngine): void {
    if ('results' in message) {
      for (const one of unpack(message.results) as ProposalResult[]) {
        const waiting = this.#waiting.get(one.id)
        this.#waiting.delete(one.id)
        if ('result' in one) waiting?.resolve(one.result)
        else waiting?.reject(toError(one.error))
      }
    } else if ('settled' in message) {
      for (const { id, error } of message.settled) {
        const waiting = this.#settling.get(id)
        this.#settling.delete(id)
        if (error === undefined) waiting?.resolve()
        else waiting?.reject(toError(error))
      }
    } else if ('progress' in message) {
      this.#calls.get(message.progress.id)?.onProgress?.(message.progress.done, message.progress.total)
    } else {
      const call = this.#calls.get(message.answer.id)
      this.#calls.delete(message.answer.id)
      if ('error' in message.answer) call?.reject(toError(message.answer.error))
      else call?.resolve(message.answer.value as never)
    }
  }

  /** Nothing comes any more: what was sent may have happened. */
  #end(): void {
    if (this.#closed) return
    this.#closed = true
    for (const [id] of this.#outgoing) {
      this.#waiting.get(id)?.reject(new MetadataError('unavailable', 'the metadata engine is gone'))
      this.#waiting.delete(id)
    }
    this.#outgoing = []
    for (const { reject } of this.#waiting.values()) reject(new MetadataError('unknown', 'the metadata engine is gone'))
    for (const { reject } of this.#calls.values()) reject(new MetadataError('unknown', 'the metadata engine is gone'))
    const gone = new MetadataError('unavailable', 'the metadata engine is gone')
    for (const { reject } of this.#settling.values()) reject(gone)
    this.#waiting.clear()
    this.#calls.clear()
    this.#settling.clear()
  }
}

/** Reads LMDB from this thread, and follows the primary when it changes. */
class ClientReader extends SnapshotReader {
  readonly #published: Published
  readonly #report: (generation: number, reason: string) => void
  #view: { generation: number; reader: LmdbReader } | undefined
  #doubted = -1
  /** What a snapshot must have applied. */
  #least = 0

  constructor(published: Published, report: (generation: number, reason: string) => void) {
    super()
    this.#published = published
    this.#report = report
  }

  get publishedPosition(): number {
    return this.#published.applied
  }

  async close(): Promise<void> {
    this.release()
    await this.#view?.reader.close()
    this.#view = undefined
  }

  protected override current(): boolean {
    return this.#view?.generation === this.#published.generation
  }

  protected take(): ViewSnapshot & { release(): void } {
    // In this order: a primary named later has applied at least as much.
    this.#least = this.#published.applied
    const { generation, path } = this.#published.primary()
    if (this.#view?.generation !== generation) {
      void this.#view?.reader.close()
      this.#view = undefined
      try {
        this.#view = { generation, reader: new LmdbReader(path) }
      } catch (error) {
        throw new MetadataError('corrupt', `the view cannot be opened: ${String(error)}`, { cause: error })
      }
    }
    return this.#view.reader.snapshot()
  }

  protected override checkPosition(index: number): void {
    if (index >= this.#least) return
    throw new MetadataError('corrupt', `the view is at ${String(index)}, not ${String(this.#least)}`)
  }

  protected doubt(error: unknown): void {
    this.release()
    const generation = this.#view?.generation ?? this.#published.generation
    if (!(error instanceof MetadataError) || error.code !== 'corrupt' || this.#doubted === generation) return
    this.#doubted = generation
    this.#report(generation, error.message)
  }
}

function toError({ code, message }: ErrorMessage): MetadataError {
  return new MetadataError(code, message.replace(`metadata ${code}: `, ''))
}
