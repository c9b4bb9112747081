/** What the server knows of itself, gathered for the admin API, health and metrics. */
import { MetadataError } from '../../meta/engine.js'
import type { MetadataEngine, MetadataStatus } from '../../meta/engine.js'
import type { BackgroundProgress } from '../../store/background/progress.js'
import type { BackupReport, ClusterView, DigestReport, DriveReport, SetReport, StatusReport } from '../admin/api.js'
import type { Config } from '../config/settings.js'
import type { MetricsSnapshot } from '../metrics/worker_metrics.js'
import type { MetadataThread } from '../threads/metadata_thread.js'
import type { MemberAction } from '../rpc/node_calls.js'
import type { DriveRegistry } from './drive_registry.js'
import type { Pools } from './pools.js'

export interface StateParts {
  version: string
  config: Config
  endpoint: string
  registry: DriveRegistry
  client: MetadataEngine
  metadata: MetadataThread
  pools: Pools
}

export class ServerState {
  stopping = false
  readonly startedMs: number = Date.now()
  /** Why no metadata can be written; '' while it can. */
  metadataBroken = ''
  readonly #parts: StateParts
  #counts: StatusReport['counts'] = { buckets: 0, objects: 0, bytes: 0, garbage: 0, heals: 0 }
  #backup: BackupReport = { state: 'idle', path: '', done: 0, total: 0, position: 0, error: '' }

  constructor(parts: StateParts) {
    this.#parts = parts
  }

  /** After the metadata was opened anew. */
  use(parts: Pick<StateParts, 'client' | 'metadata' | 'pools'>): void {
    Object.assign(this.#parts, parts)
  }

  get pools(): Pools {
    return this.#parts.pools
  }

  get registry(): DriveRegistry {
    return this.#parts.registry
  }

  /** Empty when S3 requests can be served. */
  notReady(): string[] {
    const reasons: string[] = []
    if (this.stopping) reasons.push('the server is stopping')
    if (this.metadataBroken !== '') reasons.push(this.metadataBroken)
    else reasons.push(...this.#parts.metadata.troubles())
    if (this.pools.readyWorkers === 0) reasons.push('no worker is ready')
    for (const set of this.sets()) {
      if (set.readableDrives < set.k) {
        reasons.push(
          `set ${String(set.number)} has ${String(set.readableDrives)} readable drives, needs ${String(set.k)}`,
        )
      }
    }
    if (this.sets().every((set) => set.writableDrives < writeQuorum(set)))
      reasons.push('no set can take new data')
    return reasons
  }

  drives(): DriveReport[] {
    const { registry } = this.#parts
    const copies = new Set(registry.metadataDrives.map((drive) => drive.number))
    const healing = registry.healingDrives()
    return registry.topology.drives
      .filter((drive) => drive.state === 'member')
      .map(({ number, driveId, path, set, position, epoch, row }) => ({
        number,
        driveId,
        path,
        set,
        position,
        epoch,
        healing: healing.has(number),
        health: registry.driveTable.row(row).health,
        metadataCopy: copies.has(number),
        segments: registry.segments.totals(number) ?? null,
      }))
  }

  sets(): SetReport[] {
    const { topology, driveTable } = this.#parts.registry
    const rows = new Map(
      topology.drives.map((drive) => [
        drive.number,
        drive.path === '' ? undefined : driveTable.row(drive.row),
      ]),
    )
    const layout = this.#parts.registry.layoutReport()
    return topology.sets.map(({ number, k, m, drives }) => {
      const states = drives.map((drive) => rows.get(drive)?.state ?? 'offline')
      const readable = states.filter(
        (state) => state === 'online' || state === 'full' || state === 'readOnly',
      ).length
      const writable = states.filter((state) => state === 'online').length
      return {
        number,
        k,
        m,
        readableDrives: readable,
        writableDrives: writable,
        toleratedLosses: Math.max(0, readable - k),
        state: layout?.states.get(number) ?? 'active',
        share: layout?.shares.get(number) ?? 1 / topology.sets.length,
      }
    })
  }

  /** The last known ones while no metadata copy can be read. */
  counts(): StatusReport['counts'] {
    const { reader } = this.#parts.client
    for (let attempt = 0; attempt < 2; attempt++) {
      try {
        reader.refresh()
        this.#counts = reader.counts()
        break
      } catch (error) {
        if (!(error instanceof MetadataError)) throw error
      }
    }
    return this.#counts
  }

  metadataMetrics(): Promise<MetricsSnapshot> {
    return this.#parts.metadata.metrics()
  }

  metadataStatus(): Promise<MetadataStatus> {
    return this.#parts.metadata.status()
  }

  get replicated(): boolean {
    return this.#parts.config.metadataEngine === 'replicated'
  }

  /** null with the local engine. */
  async cluster(): Promise<ClusterView | null> {
    const { client, metadata, config } = this.#parts
    if (config.metadataEngine === 'local') return null
    const report = await metadata.cluster()
    client.reader.refresh()
    const sets = client.reader.sets()
    const nodes = client.reader.nodes().map(({ id }) => ({
      id,
      sets: sets.flatMap((set) => (set.node === id ? [set.number] : [])),
    }))
    return { ...report, nodes }
  }

  changeMembers(wish: MemberAction): Promise<number> {
    return this.#parts.metadata.changeMembers(wish)
  }

  digest(): Promise<DigestReport> {
    return this.#parts.metadata.digest()
  }

  async background(): Promise<BackgroundProgress | null> {
    return (await this.pools.progress().catch(() => undefined)) ?? null
  }

  async status(): Promise<StatusReport> {
    const { version, endpoint, registry, pools } = this.#parts
    const [metadata, background] = await Promise.all([this.metadataStatus(), this.background()])
    const copies = new Set(
      metadata.copies.filter((copy) => copy.state === 'online').map((copy) => copy.drive),
    )
    return {
      version,
      endpoint,
      metadata,
      background,
      startedMs: this.startedMs,
      clusterId: registry.topology.clusterId,
      notReady: this.notReady(),
      workers: { configured: pools.workers, restarts: pools.restarts },
      counts: this.counts(),
      sets: this.sets(),
      drives: this.drives().map((drive) => ({ ...drive, metadataCopy: copies.has(drive.number) })),
    }
  }

  get backup(): BackupReport {
    return this.#backup
  }

  /** Starts a backup; false when one is running. */
  startBackup(path: string): boolean {
    if (this.#backup.state === 'running') return false
    const report: BackupReport = { state: 'running', path, done: 0, total: 0, position: 0, error: '' }
    this.#backup = report
    this.#parts.client
      .backup(path, (done, total) => {
        Object.assign(report, { done, total })
      })
      .then(
        ({ position }) => {
          Object.assign(report, { state: 'done', position })
        },
        (error: unknown) => {
          Object.assign(report, {
            state: 'failed',
            error: error instanceof Error ? error.message : String(error),
          })
        },
      )
    return true
  }

  async enableCollection(): Promise<void> {
    await this.#parts.client.propose({ kind: 'setCollection', enabled: true })
  }
}

/** As the erasure layer counts it. */
function writeQuorum(set: { k: number; m: number }): number {
  return set.k === set.m ? set.k + 1 : set.k
}
