/**
 * The metadata engine of a node that is a replica of a group.
 *
 *   commands ──> proposer ──> host (Raft) ──> log on the drive ──┐
 *                                 │  ^                           │ durable here and committed
 *              peers' messages ───┘  └── snapshots, read rounds  v
 *   results  <── sessions, requests <── state machine: apply to the LMDB view ──> published to all threads
 *
 * It runs in the thread of the metadata. Whatever node a command comes in at, its results are those of that node's own
 * `apply`, so that a reader there shows it. Reads say how new they must be (`settled`).
 *
 * Invariants:
 * - A result is given only after the command is durable on a majority, applied here and published.
 * - A damaged log or view, and any failed write, is the end of the engine: it stops acknowledging and says so.
 * - Members change one at a time; a node is added as a learner and promoted once it has caught up.
 */
import { encodeRequest } from '../../apply/apply.js'
import { MAX_REQUEST_ID } from '../../apply/requests.js'
import { writeBackup } from '../../backup.js'
import { GROUP_LEVEL } from '../../command.js'
import type { Command, CommandResult, Fence } from '../../command.js'
import { META, UNCLEAN } from '../../drive_files.js'
import { MetadataError } from '../../engine.js'
import type { MetadataEngine, MetadataStatus, ReadConsistency, ReplicaStatus } from '../../engine.js'
import type { ServedEngine } from '../../engine_port.js'
import { Published } from '../../published.js'
import { SnapshotReader } from '../../snapshot_reader.js'
import type { ViewSnapshot, ViewStore } from '../../view_store.js'
import type { ConfChangeOp } from '../core/confchange.js'
import { NO_DATA } from '../core/types.js'
import type { Message, NodeId } from '../core/types.js'
import { RaftHost } from '../host/host.js'
import { Histogram } from './engine_metrics.js'
import type { EngineMetrics } from './engine_metrics.js'
import { settle } from './engine_settings.js'
import type { EngineSettings, ReplicatedEngineOptions } from './engine_settings.js'
import { PeerWatch } from './peer_watch.js'
import { Proposer } from './proposer.js'
import { ReadLevels } from './read_levels.js'
import { Readiness } from './readiness.js'
import { openReplica } from './replica_files.js'
import type { OpenedReplica } from './replica_files.js'
import { ReplicaLog } from './replica_log.js'
import { ReplicaMachine } from './replica_machine.js'
import { SnapshotReceiver } from './snapshot_receiver.js'
import { decodeQuestion } from './snapshot_stream.js'

export type { ReplicatedEngineOptions } from './engine_settings.js'

/** A command may not be larger: it has to fit a frame. */
const MAX_COMMAND_BYTES = 8 << 20
const BEAT_MS = 25
/** Of log, in one transaction of the view: more would hold up messages and acknowledgements for tens of ms. */
const APPLY_BYTES = 16 << 10
/** Snapshots being sent at a time. */
const MAX_SENDING = 2
const CHANGE_TIMEOUT_MS = 15_000
const CHANGE_RETRY_MS = 500
const POLL_MS = 20
const HAND_OVER_MS = 1_000

export class ReplicatedEngine implements MetadataEngine, ServedEngine {
  readonly published: Published = new Published()
  readonly reader: EngineReader
  readonly id: NodeId
  readonly #settings: EngineSettings
  readonly #opened: OpenedReplica
  readonly #machine: ReplicaMachine
  readonly #log: ReplicaLog
  readonly #host: RaftHost
  readonly #proposer: Proposer
  readonly #reads: ReadLevels
  readonly #readiness: Readiness
  readonly #receiver: SnapshotReceiver
  readonly #watch: PeerWatch
  /** Told of every position, by those who wait for one. */
  readonly #awaited = new Set<(index: number) => void>()
  readonly #syncs = new Histogram()
  readonly #writes = new Histogram()
  readonly #linearizable = new Histogram()
  readonly #counts = { snapshotsSent: 0, snapshotsReceived: 0, snapshotBytesReceived: 0, lastSnapshotBytes: 0 }
  #releasable = 0
  #sending = 0
  #beat: NodeJS.Timeout | undefined
  #careTimer: NodeJS.Timeout | undefined
  #care: Promise<void> = Promise.resolve()
  #replacing: Promise<void> = Promise.resolve()
  #failure: MetadataError | undefined
  #closed = false
  #raising = false

  private constructor(settings: EngineSettings, opened: OpenedReplica) {
    this.#settings = settings
    this.#opened = opened
    this.id = opened.identity.id
    const { clock } = settings
    this.#machine = this.#makeMachine()
    this.#log = new ReplicaLog(0, {
      append: (records) => opened.log.append(records),
      release: (index) => { this.#releasable = Math.max(this.#releasable, index) },
      onWritten: (ms) => { this.#syncs.observe(ms) },
    }, clock)
    this.reader = new EngineReader(this)
    this.published.setReplicated()
    this.#publishView()
    this.published.setApplied(this.#machine.applied.index)
    this.#receiver = new SnapshotReceiver({
      drive: opened.drive,
      views: settings.views,
      lane: settings.network.snapshots,
      clock,
      note: settings.note,
      onBytes: (bytes) => { this.#counts.snapshotBytesReceived += bytes },
      ready: (staged, message) => {
        this.#counts.snapshotsReceived++
        this.#machine.stage(staged)
        this.#host.receive([message])
      },
    })
    this.#host = this.#makeHost()
    this.#watch = new PeerWatch(this.#host, clock)
    this.#proposer = new Proposer({
      node: this.id,
      boot: opened.identity.boot,
      clock,
      stamp: settings.now,
      maxQueued: settings.maxQueued,
      maxQueuedBytes: settings.maxQueuedBytes,
      retryMs: settings.retryMs,
      giveUpMs: settings.commandTimeoutMs,
      propose: (data) => this.#host.propose(data),
      idle: () => this.#host.idle,
    })
    this.#reads = new ReadLevels({
      clock,
      timeoutMs: settings.readTimeoutMs,
      maxWaiting: settings.maxReads,
      confirm: (timeoutMs, done) => { this.#host.read(timeoutMs, done) },
      onRead: (ms) => { this.#linearizable.observe(ms) },
    })
    this.#readiness = new Readiness({
      clock,
      limitMs: settings.unreadyAfterMs,
      leader: () => this.leader,
      reads: this.#reads,
      waitingSince: () => this.#proposer.waitingSince,
    })
    this.#connect()
    this.#schedule()
  }

  /** Throws MetadataError: 'unavailable' (drives missing), 'corrupt' (this replica is lost). */
  static async open(given: ReplicatedEngineOptions): Promise<ReplicatedEngine> {
    const settings = settle(given)
    const opened = await openReplica({
      drives: settings.drives,
      views: settings.views,
      log: settings.log,
      deadlineMs: settings.deadlineMs,
      keepBytes: settings.releaseBytes,
      note: settings.note,
      ...(settings.join !== undefined && { join: settings.join }),
    })
    return new ReplicatedEngine(settings, opened)
  }

  #makeMachine(): ReplicaMachine {
    const { view, viewName, members, identity } = this.#opened
    return new ReplicaMachine({
      id: identity.id,
      view,
      viewName,
      members,
      now: () => this.#settings.clock.now(),
      onApplied: (index) => {
        this.published.setApplied(index)
        for (const look of [...this.#awaited]) look(index)
      },
      reaches: (index) => index + 1 >= this.#host.status().firstIndex,
      wanted: () => [...this.#host.status().progress.values()].some(({ state }) => state === 'StateSnapshot'),
      onBatch: (origin, results) => { this.#proposer.applied(origin, results) },
      onReplaced: (old) => {
        this.reader.release()
        this.#publishView()
        this.#replacing = this.#replacing.then(() => this.#removeView(old))
      },
    })
  }

  #makeHost(): RaftHost {
    const s = this.#settings
    return new RaftHost({
      id: this.id,
      clock: s.clock,
      random: s.random,
      network: s.network,
      log: this.#log,
      recovered: this.#opened.recovered,
      machine: this.#machine,
      tickMs: s.tickMs,
      stallMs: s.stallMs,
      maxQueuedWrites: 1_000,
      releaseEvery: s.releaseEvery,
      trailingEntries: s.trailingEntries,
      releaseBytes: s.releaseBytes,
      trailingBytes: s.trailingBytes,
      readRetryMs: s.retryMs >> 1,
      maxReads: 10_000,
      snapshotTimeoutMs: 30_000,
      hurry: true,
      core: {
        electionTick: s.electionTicks,
        heartbeatTick: 1,
        learnerMaxLag: s.learnerMaxLag,
        maxCommittedSizePerReady: APPLY_BYTES,
        ...s.core,
      },
      events: {
        onIdle: () => { this.#proposer.pumpSoon() },
        onRole: () => { setImmediate(() => { this.#onRole() }) },
        onStop: (error) => {
          if (error !== undefined) this.#fail(error)
        },
      },
    })
  }

  #connect(): void {
    const { network } = this.#settings
    this.#tellPeers()
    network.onMessages((messages) => { this.#receive(messages) })
    network.onUnreachable((peer) => { this.#host.reportUnreachable(peer) })
    network.snapshots.serve((asker, question) => this.#serve(asker, question))
    const { voters, votersOutgoing } = this.#host.members
    // Nobody else could be leader.
    if (voters.length === 1 && voters[0] === this.id && votersOutgoing.length === 0) this.#host.campaign()
  }

  // ---- commands

  /** Why the engine takes no commands any more; it stays so until it is opened anew. */
  get failure(): MetadataError | undefined {
    return this.#failure
  }

  propose(command: Command, requestId?: string, fence?: Fence): Promise<CommandResult> {
    if (requestId !== undefined && (requestId === '' || Buffer.byteLength(requestId) > MAX_REQUEST_ID)) {
      return Promise.reject(new MetadataError('unavailable', `a request id has 1 to ${String(MAX_REQUEST_ID)} bytes`))
    }
    return this.#propose(encodeRequest(command, requestId, fence))
  }

  proposeEncoded(request: Uint8Array, done: (outcome: CommandResult | MetadataError) => void): void {
    this.#propose(request).then(done, (error: unknown) => {
      done(error instanceof MetadataError ? error : new MetadataError('unavailable', String(error), { cause: error }))
    })
  }

  async #propose(request: Uint8Array): Promise<CommandResult> {
    this.#check()
    if (request.length > MAX_COMMAND_BYTES) throw new MetadataError('unavailable', 'the command is too large')
    const begun = performance.now()
    const result = await this.#proposer.propose(request)
    this.#writes.observe(performance.now() - begun)
    return result
  }

  expect(client: object, announced: boolean): void {
    this.#proposer.expect(client, announced)
  }

  async settled(consistency: ReadConsistency): Promise<void> {
    this.#check()
    return this.#reads.wait(consistency)
  }

  #check(): void {
    if (this.#failure !== undefined) throw stopped(this.#failure)
    if (this.#closed) throw new MetadataError('unavailable', 'the engine is closed')
  }

  /** A snapshot of the view that stays until released. */
  snapshot(): ViewSnapshot & { release(): void } {
    return this.#machine.view.snapshot()
  }

  /**
   * A snapshot of the view as of just this position, which stays until released. Undefined when several entries were
   * applied at once and it was passed over, or when it is not reached in time.
   */
  async snapshotAt(position: number, withinMs: number): Promise<(ViewSnapshot & { release(): void }) | undefined> {
    this.#check()
    if (this.applied >= position) return this.applied === position ? this.snapshot() : undefined
    return new Promise((resolve) => {
      const done = (found: (ViewSnapshot & { release(): void }) | undefined): void => {
        cancel()
        this.#awaited.delete(look)
        resolve(found)
      }
      const look = (index: number): void => {
        if (index >= position) done(index === position ? this.snapshot() : undefined)
      }
      const cancel = this.#settings.clock.after(withinMs, () => { done(undefined) })
      this.#awaited.add(look)
    })
  }

  /** A reader has found the view damaged: this replica cannot be trusted. */
  doubt(generation: number, reason: string): void {
    if (generation !== this.published.generation) return
    this.#fail(new MetadataError('corrupt', `the view is damaged: ${reason}`))
  }

  async backup(
    path: string,
    onProgress?: (done: number, total: number) => void,
  ): Promise<{ position: number; records: number }> {
    this.#check()
    const snapshot = this.snapshot()
    try {
      return await writeBackup(snapshot, path, this.#machine.view.count(), onProgress)
    } finally {
      snapshot.release()
    }
  }

  // ---- members

  /**
   * Gives a node its id and adds it as a learner. The same name again gives the same id. Rejects with MetadataError;
   * 'unknown' may be tried again.
   */
  async addNode(name: string, address: string): Promise<NodeId> {
    const result = await this.propose({ kind: 'registerNode', name, address })
    if (!result.ok) throw new MetadataError('unavailable', result.detail)
    const id = result.value.nodeId as NodeId
    await this.#change({ kind: 'add-learner', nodeId: id }, () => this.#isMember(id))
    return id
  }

  /** A learner becomes a voter. Rejects with 'unavailable' while it lacks too much. */
  async promote(id: NodeId): Promise<void> {
    if (!this.#isMember(id)) throw new MetadataError('unavailable', `node ${String(id)} is not a member`)
    await this.#change({ kind: 'add-node', nodeId: id }, () => this.#host.members.voters.includes(id))
  }

  /** For good: the id is not used again. The last voter stays. */
  async removeNode(id: NodeId): Promise<void> {
    const { voters } = this.#host.members
    if (voters.length === 1 && voters[0] === id) throw new MetadataError('unavailable', 'the last voter cannot go')
    await this.#change({ kind: 'remove-node', nodeId: id }, () => !this.#isMember(id))
    const result = await this.propose({ kind: 'removeNode', id })
    if (!result.ok && result.refusal !== 'Conflict') throw new MetadataError('unavailable', result.detail)
  }

  /** Resolves when `id` leads. */
  async transferLeadership(id: NodeId): Promise<void> {
    this.#check()
    if (!this.#host.members.voters.includes(id)) {
      throw new MetadataError('unavailable', `node ${String(id)} is not a voter`)
    }
    this.#host.transferLeader(id)
    const leads = (): boolean => this.#host.status().softState.lead === id
    if (await this.#until(leads, 3 * this.#settings.electionTicks * this.#settings.tickMs)) return
    throw new MetadataError('unavailable', `node ${String(id)} did not take over: is it behind, or away?`)
  }

  #isMember(id: NodeId): boolean {
    const { voters, votersOutgoing, learners, learnersNext } = this.#host.members
    return [voters, votersOutgoing, learners, learnersNext].some((ids) => ids.includes(id))
  }

  async #change(op: ConfChangeOp, reached: () => boolean): Promise<void> {
    const deadline = this.#settings.clock.now() + CHANGE_TIMEOUT_MS
    while (!reached()) {
      this.#check()
      const change = { version: 2, transition: 'auto', changes: [op], context: NO_DATA } as const
      if (this.#host.proposeConfChange(change) === 'learner-behind') {
        throw new MetadataError('unavailable', `node ${String(op.nodeId)} has not caught up yet`)
      }
      await this.#until(reached, CHANGE_RETRY_MS)
      if (this.#settings.clock.now() < deadline) continue
      throw new MetadataError('unknown', 'the change of members was proposed, and did not happen in time')
    }
  }

  async #until(reached: () => boolean, ms: number): Promise<boolean> {
    const { clock } = this.#settings
    const deadline = clock.now() + ms
    while (!reached()) {
      if (clock.now() >= deadline || this.#failure !== undefined) return false
      await new Promise<void>((resolve) => void clock.after(POLL_MS, resolve))
    }
    return true
  }

  // ---- what is known

  get isLeader(): boolean {
    return this.#host.status().softState.state === 'StateLeader'
  }

  /** 0 when none is known. */
  get leader(): NodeId {
    return this.#host.status().softState.lead
  }

  get applied(): number {
    return this.#machine.applied.index
  }

  /** Why it cannot serve reads and writes now, in words; empty when it can. */
  troubles(): string[] {
    return this.#failure === undefined ? this.#readiness.troubles() : [this.#failure.message]
  }

  status(): Promise<MetadataStatus> {
    const { hardState } = this.#host.status()
    const { log, drive } = this.#opened
    this.reader.refresh()
    const applied = this.#machine.applied.index
    const failed = this.#failure
    return Promise.resolve({
      engine: 'replicated',
      term: hardState.term,
      committed: hardState.commit,
      applied,
      queued: this.#proposer.queued,
      copies: [
        {
          drive: drive.number,
          state: failed === undefined ? 'online' : 'offline',
          reason: failed?.message ?? '',
          durable: log.lastIndex,
          applied,
          logBytes: log.bytes,
          viewBytes: this.#machine.view.sizeBytes(),
          primary: true,
        },
      ],
      replica: this.#replicaStatus(),
      featureLevel: this.reader.cluster()?.featureLevel ?? 0,
      collectionEnabled: this.reader.collectionEnabled(),
    })
  }

  #replicaStatus(): ReplicaStatus {
    const { softState, lastIndex, firstIndex } = this.#host.status()
    const learner = this.#host.members.learners.includes(this.id)
    const role =
      softState.state === 'StateLeader'
        ? 'leader'
        : softState.state === 'StateFollower'
          ? 'follower'
          : 'candidate'
    return {
      id: this.id,
      role: learner ? 'learner' : role,
      leader: softState.lead,
      lastIndex,
      snapshotIndex: firstIndex - 1,
      peers: this.#watch.peers(this.reader.nodes()),
    }
  }

  metrics(): EngineMetrics {
    const { hardState, softState, firstIndex, lastIndex } = this.#host.status()
    const { writes, machineTasks } = this.#host.queued
    return {
      isLeader: softState.state === 'StateLeader' ? 1 : 0,
      hasLeader: softState.lead === 0 ? 0 : 1,
      leader: softState.lead,
      term: hardState.term,
      committed: hardState.commit,
      applied: this.#machine.applied.index,
      lastIndex,
      snapshotIndex: firstIndex - 1,
      peers: this.#watch.figures(),
      elections: this.#watch.elections,
      leaderChanges: this.#watch.leaderChanges,
      ...this.#counts,
      queuedCommands: this.#proposer.queued,
      batchesUnderWay: this.#proposer.underWay,
      queuedWrites: writes,
      queuedApplies: machineTasks,
      waitingReads: this.#reads.waiting,
      logBytes: this.#opened.log.bytes,
      logBytesInMemory: this.#host.logBytes,
      viewBytes: this.#failure === undefined ? this.#machine.view.sizeBytes() : 0,
      writeMs: this.#writes.figures(),
      readMs: this.#linearizable.figures(),
      syncMs: this.#syncs.figures(),
    }
  }

  // ---- peers

  #receive(messages: readonly Message[]): void {
    if (this.#closed || this.#failure !== undefined) return
    const now: Message[] = []
    for (const message of messages) {
      const { snapshot, term } = message
      const { commit, term: current } = this.#host.status().hardState
      const wanted = message.type === 'MsgSnap' && snapshot !== undefined && snapshot.index > commit && term >= current
      if (wanted) this.#receiver.offer(message)
      else now.push(message)
    }
    if (now.length > 0) this.#host.receive(now)
  }

  async *#serve(asker: NodeId, bytes: Uint8Array): AsyncGenerator<Uint8Array> {
    const question = decodeQuestion(bytes)
    if (question === undefined || !this.#isMember(asker)) throw new Error('there is nothing to be had here')
    if (this.#sending >= MAX_SENDING) throw new Error('other snapshots are on their way')
    this.#sending++
    let sent = 0
    try {
      for (const chunk of this.#machine.read(question.id, question.after)) {
        this.#host.extendSnapshot(asker)
        sent += chunk.length
        yield chunk
      }
      this.#counts.snapshotsSent++
      this.#counts.lastSnapshotBytes = sent
    } finally {
      this.#sending--
    }
  }

  #onRole(): void {
    if (this.#closed || this.#failure !== undefined) return
    if (this.#watch.roleChanged()) this.#proposer.leaderChanged()
  }

  #tellPeers(): void {
    const known = new Map(this.#settings.peers.map(({ id, address }) => [id, address]))
    for (const { id, address, state } of this.reader.nodes()) {
      if (state === 'removed') known.delete(id)
      else known.set(id, address)
    }
    known.delete(this.id)
    this.#settings.network.setPeers([...known].map(([id, address]) => ({ id, address })))
  }

  // ---- care

  #schedule(): void {
    this.#beat = setInterval(() => {
      this.#proposer.tick()
      this.#watch.sample()
      this.#readiness.tick()
    }, BEAT_MS)
    this.#beat.unref()
    const again = (): void => {
      this.#careTimer = setTimeout(() => {
        this.#care = this.#takeCare().then(() => {
          if (!this.#closed && this.#failure === undefined) again()
        })
      }, this.#settings.flushEveryMs)
      this.#careTimer.unref()
    }
    again()
  }

  /** The regular work: flush the view, release the log, say who is here. Never rejects. */
  async #takeCare(): Promise<void> {
    try {
      await this.#machine.flushView()
      const upTo = Math.min(this.#releasable, this.#machine.view.flushedPosition)
      await this.#opened.log.release(upTo, this.#settings.trailingLogBytes)
      this.#machine.letGo()
      for (const stale of this.#machine.takeStale()) await this.#removeView(stale)
      this.reader.refresh()
      this.#tellPeers()
      await this.#introduce()
    } catch (error) {
      if (!this.#closed) this.#fail(error)
    }
  }

  /** The leader raises the feature level; every node says its address. */
  async #introduce(): Promise<void> {
    const level = this.reader.cluster()?.featureLevel ?? 0
    const { self } = this.#settings
    if (level === 0 || this.#raising || this.leader === 0) return
    const known = this.reader.nodes().find(({ id }) => id === this.id)
    const outdated = self !== undefined && known?.state !== 'removed' && known?.address !== self.address
    let command: Command | undefined
    if (level < GROUP_LEVEL && this.isLeader) command = { kind: 'raiseFeatureLevel', level: GROUP_LEVEL }
    else if (level >= GROUP_LEVEL && outdated) command = { kind: 'registerNode', id: this.id, ...self }
    if (command === undefined) return
    this.#raising = true
    try {
      const result = await this.propose(command)
      if (!result.ok) this.#settings.note(`${command.kind}: ${result.detail}`)
    } catch (error) {
      // The next round tries again.
      this.#settings.note(String(error))
    } finally {
      this.#raising = false
    }
  }

  #publishView(): void {
    const { drive } = this.#opened
    this.published.setPrimary(drive.number, this.#settings.views.path(drive, this.#machine.viewName))
  }

  async #removeView({ view, name }: { view: ViewStore; name: string }): Promise<void> {
    await view.close().catch(() => undefined)
    await this.#settings.views.remove(this.#opened.drive, name).catch((error: unknown) => {
      this.#settings.note(`${META}/${name} cannot be removed: ${String(error)}`)
    })
  }

  #fail(error: unknown): void {
    if (this.#failure !== undefined) return
    const text = error instanceof Error ? error.message : String(error)
    const failure = error instanceof MetadataError ? error : new MetadataError('unavailable', text, { cause: error })
    this.#failure = failure
    this.#settings.note(failure.message)
    this.#host.stop()
    this.#proposer.fail(stopped(failure))
    clearInterval(this.#beat)
    clearTimeout(this.#careTimer)
  }

  /** A leader hands over first. What is proposed and not done is 'unknown'. */
  async close(): Promise<void> {
    if (this.#closed) return
    await this.#handOver()
    this.#closed = true
    clearInterval(this.#beat)
    clearTimeout(this.#careTimer)
    this.#host.stop()
    this.#proposer.fail(new MetadataError('unavailable', 'the engine is closed'))
    await this.#receiver.close()
    await this.#log.close()
    await this.#care
    await this.#replacing
    this.reader.release()
    const clean = this.#failure === undefined
    try {
      if (clean) await this.#machine.flushView()
      await this.#machine.close()
      await this.#opened.log.close()
      const { io } = this.#opened.drive
      if (clean) await io.run([{ op: 'unlink', path: UNCLEAN }, { op: 'syncDir', path: META }])
    } catch (error) {
      this.#settings.note(`closing: ${String(error)}`)
    }
  }

  /** Ends without ceremony, as a crash does; for tests. */
  async abandon(): Promise<void> {
    this.#fail(new MetadataError('unavailable', 'abandoned'))
    await this.close()
  }

  async #handOver(): Promise<void> {
    if (this.#failure !== undefined || !this.isLeader) return
    const successor = this.#watch.successor()
    if (successor === undefined) return
    this.#host.transferLeader(successor)
    const { id } = this
    await this.#until(() => this.leader !== id && this.leader !== 0, HAND_OVER_MS)
  }
}

function stopped(cause: MetadataError): MetadataError {
  return new MetadataError('unavailable', `the engine has stopped: ${cause.message}`, { cause })
}

/** Reads in the engine's own thread. */
class EngineReader extends SnapshotReader {
  readonly #engine: ReplicatedEngine
  #generation = 0

  constructor(engine: ReplicatedEngine) {
    super()
    this.#engine = engine
  }

  get publishedPosition(): number {
    return this.#engine.published.applied
  }

  protected override current(): boolean {
    return this.#generation === this.#engine.published.generation
  }

  protected take(): ViewSnapshot & { release(): void } {
    this.#generation = this.#engine.published.generation
    return this.#engine.snapshot()
  }

  protected doubt(error: unknown): void {
    this.release()
    if (error instanceof MetadataError && error.code === 'corrupt') {
      this.#engine.doubt(this.#engine.published.generation, error.message)
    }
  }
}
