/**
 * Receiving a snapshot: the state is fetched into a new view beside the one in use, over the lane for snapshots, while
 * this node goes on as a follower: it votes, acknowledges, and serves what it has. Only when the state is whole and
 * proved does the leader's message reach the core, which then switches in one step.
 *
 * An interruption costs nothing but what was under way: the next question goes on behind the last record. An offer of
 * another snapshot replaces this one. What cannot be fetched is given up; the leader offers again.
 */
import { LAST_OPENED } from '../../../drive/io.js'
import { META } from '../../drive_files.js'
import type { MetaDrive } from '../../drive_files.js'
import { MetadataError } from '../../engine.js'
import type { ViewStore } from '../../view_store.js'
import { nextViewName } from '../../views.js'
import type { ViewFactory } from '../../views.js'
import type { Message, Snapshot } from '../core/types.js'
import type { Clock, SnapshotLane } from '../host/environment.js'
import { isStateOf } from './replica_machine.js'
import type { StagedView } from './replica_machine.js'
import { ChunkChecker, decodeOffer, encodeQuestion } from './snapshot_stream.js'
import type { Offer } from './snapshot_stream.js'

const RETRY_MS = 200
/** Questions in a row that bring nothing new. */
const MAX_FAILURES = 20

export interface ReceiverHooks {
  readonly drive: MetaDrive
  readonly views: ViewFactory
  readonly lane: SnapshotLane
  readonly clock: Clock
  readonly note: (message: string) => void
  /** Takes a whole state for the state machine, and then the message that goes with it. */
  readonly ready: (staged: StagedView, message: Message) => void
  readonly onBytes: (bytes: number) => void
}

interface Fetch {
  readonly offer: Offer
  readonly snapshot: Snapshot
  message: Message
  cancelled: boolean
}

export class SnapshotReceiver {
  readonly #hooks: ReceiverHooks
  #current: Fetch | undefined
  #running: Promise<void> = Promise.resolve()

  constructor(hooks: ReceiverHooks) {
    this.#hooks = hooks
  }

  /** The snapshot that is being received. */
  get receiving(): number | undefined {
    return this.#current?.snapshot.index
  }

  /** A message with a snapshot came. One that is being fetched already goes on. */
  offer(message: Message): void {
    const { snapshot } = message
    const offer = snapshot === undefined ? undefined : decodeOffer(snapshot.data)
    if (snapshot === undefined || offer === undefined) return
    if (this.#current?.offer.id === offer.id) {
      this.#current.message = message
      return
    }
    if (this.#current !== undefined) this.#current.cancelled = true
    const fetch: Fetch = { offer, snapshot, message, cancelled: false }
    this.#current = fetch
    this.#running = this.#running.then(() => this.#run(fetch))
  }

  async close(): Promise<void> {
    if (this.#current !== undefined) this.#current.cancelled = true
    await this.#running
  }

  /** Never rejects. */
  async #run(fetch: Fetch): Promise<void> {
    if (fetch.cancelled) return
    const { drive, views, note, ready } = this.#hooks
    const { index } = fetch.snapshot
    let name: string | undefined
    let view: ViewStore | undefined
    try {
      name = nextViewName(await views.list(drive))
      view = await views.create(drive, name)
      await this.#fetch(fetch, view)
      if (!isStateOf(view, fetch.snapshot)) throw new MetadataError('corrupt', 'the state is not what was offered')
      await this.#syncAhead(name)
      if (fetch.cancelled) throw new Error('it is not wanted any more')
      if (this.#current === fetch) this.#current = undefined
      ready({ id: fetch.offer.id, view, name }, fetch.message)
    } catch (error) {
      note(`snapshot ${String(index)} was not received: ${error instanceof Error ? error.message : String(error)}`)
      if (this.#current === fetch) this.#current = undefined
      await view?.close().catch(() => undefined)
      if (name !== undefined) await views.remove(drive, name).catch(() => undefined)
    }
  }

  async #fetch(fetch: Fetch, view: ViewStore): Promise<void> {
    const { clock, lane, onBytes } = this.#hooks
    const checker = new ChunkChecker()
    let failures = 0
    for (;;) {
      try {
        const { id, from } = fetch.offer
        checker.restart()
        for await (const chunk of lane.fetch(from, encodeQuestion({ id, after: checker.after }))) {
          if (fetch.cancelled) throw new MetadataError('corrupt', 'it is not wanted any more')
          view.commit(checker.take(chunk))
          onBytes(chunk.length)
          failures = 0
          if (checker.done) return
          await new Promise((resolve) => setImmediate(resolve))
        }
        throw new Error('the answer ended early')
      } catch (error) {
        // Damage is not for the way only: what was received cannot be built on.
        if (error instanceof MetadataError || fetch.cancelled || ++failures > MAX_FAILURES) throw error
        await new Promise<void>((resolve) => void clock.after(RETRY_MS, resolve))
        if (fetch.cancelled) throw error
      }
    }
  }

  /** So that the switch has little left to sync. A view that is no file has nothing to sync. */
  async #syncAhead(name: string): Promise<void> {
    const { drive } = this.#hooks
    await drive.io
      .run([
        { op: 'open', path: `${META}/${name}/data.mdb`, mode: 'write' },
        { op: 'sync', file: LAST_OPENED },
        { op: 'close', file: LAST_OPENED },
      ])
      .catch(() => undefined)
  }
}

