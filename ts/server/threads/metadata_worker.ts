/**
 * The metadata thread: the engine with its log and views, and nothing else, so that neither requests nor drives that
 * are busy with data delay a commit.
 */
import { parentPort, workerData } from 'node:worker_threads'
import type { MessagePort } from 'node:worker_threads'

import { Gauge, Registry } from 'prom-client'

import { NativeDriveIo } from '../../drive/native_io.js'
import { serveMetadataPort } from '../../meta/engine_port.js'
import { MetadataError } from '../../meta/engine.js'
import type { MetadataStatus } from '../../meta/engine.js'
import { LocalEngine } from '../../meta/local_engine.js'
import type { ReplicatedEngine } from '../../meta/raft/replica/replicated_engine.js'
import type { MetaDrive } from '../../meta/drive_files.js'
import type { LogLevel } from '../config/settings.js'
import { createLogger } from '../log.js'
import type { Logger } from '../log.js'
import { compareReplica, digestOf } from './digest.js'
import { replicaMetrics } from '../metrics/replica_metrics.js'
import type { MetricsSnapshot } from '../metrics/worker_metrics.js'
import { addThreadMetrics } from '../metrics/worker_metrics.js'
import { Channel } from './channel.js'
import { changeMembers, compareWithOthers, groupStatus, openReplicaHere } from './replica.js'
import type { MemberAction } from '../rpc/node_calls.js'
import type { ClusterReport, Replica, ReplicaData } from './replica.js'

export interface MetadataDrive {
  number: number
  path: string
}

export interface MetadataWorkerData {
  control: MessagePort
  drives: MetadataDrive[]
  copies: number
  logLevel: LogLevel
  deadlineMs: number
  replaceAfterMs: number
  /** Of the replicated engine; undefined: the local one. */
  replica: ReplicaData | undefined
}

export type MetadataThreadCalls = {
  /** Serves one more client; answers with the memory in which the engine publishes its position. */
  connect: { takes: { port: MessagePort }; gives: { published: SharedArrayBuffer } }
  status: { takes: undefined; gives: MetadataStatus }
  metrics: { takes: undefined; gives: MetricsSnapshot }
  addDrive: { takes: MetadataDrive; gives: undefined }
  removeDrive: { takes: { number: number; reason: string }; gives: undefined }
  /** Compares the copies with each other and remakes bad ones; how many were bad. */
  compare: { takes: undefined; gives: { records: number; bad: { drive: number; reason: string }[] } }
  /** Of a replica: what it and its leader know of the group. */
  cluster: { takes: undefined; gives: ClusterReport }
  changeMembers: { takes: MemberAction; gives: number }
  /** Hash over all records of the view, and the position that it is of. */
  digest: { takes: undefined; gives: { position: number; records: number; digest: string } }
  stop: { takes: undefined; gives: undefined }
}

export type MetadataNotices = {
  /** Every HEALTH_MS, from before `opened` on: why the metadata cannot be read and written here; empty: it can. */
  health: { takes: { troubles: string[] }; gives: undefined }
  opened: { takes: undefined; gives: undefined }
  /** No copy is left: the engine has to be opened anew once drives are back. */
  broken: { takes: { message: string }; gives: undefined }
  /** The engine could not be opened. */
  failed: { takes: { code: string; message: string }; gives: undefined }
}

/** Between two slices of a comparison of the copies. */
const COMPARE_PAUSE_MS = 20
const HEALTH_MS = 250

async function main(data: MetadataWorkerData): Promise<void> {
  const log = createLogger(data.logLevel, 'metadata')
  const open = (drive: MetadataDrive): MetaDrive => ({ ...drive, io: new NativeDriveIo(drive.path) })
  let engine: LocalEngine | ReplicatedEngine
  let replica: Replica | undefined
  const needReplica = (): Replica => {
    if (replica === undefined) throw new Error('this store is not replicated: metadata.engine is local')
    return replica
  }
  const waiting = new Registry()
  const commit = addMetrics(waiting)
  const channel: Channel<MetadataNotices, MetadataThreadCalls> = new Channel<
    MetadataNotices,
    MetadataThreadCalls
  >(data.control, {
    connect: ({ port }) => {
      serveMetadataPort(engine, port)
      return { published: engine.published.buffer }
    },
    status: () => engine.status(),
    metrics: async () => {
      commit.update(await engine.status())
      const own = await waiting.getMetricsAsJSON()
      return replica === undefined ? own : [...own, ...replicaMetrics(replica)]
    },
    // A replica stays on the drive that it was made on.
    addDrive: (drive) => {
      if (engine instanceof LocalEngine) engine.addDrive(open(drive))
      return undefined
    },
    removeDrive: ({ number, reason }) => {
      if (engine instanceof LocalEngine) engine.removeDrive(number, reason)
      return undefined
    },
    cluster: async () => {
      const { transport, address } = needReplica()
      const { nodeId, name } = transport.identity
      return { nodeId, name, address, status: await groupStatus(needReplica()), connections: transport.state() }
    },
    changeMembers: (wish) => changeMembers(needReplica(), wish),
    digest: () => digestOf(needReplica().engine),
    compare: async () => {
      if (!(engine instanceof LocalEngine)) {
        const own = await compareReplica(engine)
        if (own.bad.length === 0) await compareOthers(needReplica(), log)
        return own
      }
      const { records, bad } = await engine.compareCopies(
        () => new Promise((resolve) => setTimeout(resolve, COMPARE_PAUSE_MS)),
      )
      return { records, bad }
    },
    stop: async () => {
      await engine.close()
      await replica?.transport.close()
      return undefined
    },
  })
  try {
    const drives = data.drives.map(open)
    if (data.replica === undefined) {
      engine = await LocalEngine.open({
        drives,
        copies: data.copies,
        deadlineMs: data.deadlineMs,
        replaceAfterMs: data.replaceAfterMs,
        note: (message) => {
          log.warn(message)
        },
      })
    } else {
      replica = await openReplicaHere(data.replica, { drives, deadlineMs: data.deadlineMs }, log)
      engine = replica.engine
    }
  } catch (error) {
    const code = error instanceof MetadataError ? error.code : 'failed'
    channel.tell('failed', { code, message: error instanceof Error ? error.message : String(error) })
    if (!(error instanceof MetadataError)) throw error
    return
  }
  const tellHealth = (): void => {
    channel.tell('health', { troubles: engine instanceof LocalEngine ? [] : engine.troubles() })
  }
  tellHealth()
  channel.tell('opened', undefined)
  let broken = false
  setInterval(() => {
    tellHealth()
    if (engine.failure === undefined || broken) return
    broken = true
    channel.tell('broken', { message: engine.failure.message })
  }, HEALTH_MS)
}

/** Which of the two that differ is right, nobody can tell from here: an operator decides. */
async function compareOthers(replica: Replica, log: Logger): Promise<void> {
  const found = await compareWithOthers(replica)
  if (found === undefined) return
  if (found.different.length > 0) log.error(found, 'replicas hold different metadata at one position')
  else log.info(found, 'replicas were compared')
}

/** Figures of the log and its copies, set from the engine's status at every scrape. */
function addMetrics(registry: Registry): { update(status: MetadataStatus): void } {
  addThreadMetrics(registry, 'metadata')
  const gauge = (name: string, help: string, labelNames: string[] = []): Gauge =>
    new Gauge({ name, help, labelNames, registers: [registry] })
  const applied = gauge('ostraka_metadata_applied', 'Newest log index applied')
  const committed = gauge('ostraka_metadata_committed', 'Newest log index committed')
  const queued = gauge('ostraka_metadata_queued', 'Commands waiting for the log')
  const online = gauge('ostraka_metadata_copy_online', '1 while the copy on this drive is online', ['drive'])
  const logBytes = gauge('ostraka_metadata_log_bytes', 'Bytes of command log kept', ['drive'])
  const viewBytes = gauge('ostraka_metadata_view_bytes', 'Bytes of the view', ['drive'])
  return {
    update: (status) => {
      applied.set(status.applied)
      committed.set(status.committed)
      queued.set(status.queued)
      for (const metric of [online, logBytes, viewBytes]) metric.reset()
      for (const copy of status.copies) {
        const drive = String(copy.drive)
        online.set({ drive }, copy.state === 'online' ? 1 : 0)
        logBytes.set({ drive }, copy.logBytes)
        viewBytes.set({ drive }, copy.viewBytes)
      }
    },
  }
}

if (parentPort !== null) await main(workerData as MetadataWorkerData)
