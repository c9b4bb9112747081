/**
 * The server as a whole, in the control thread. Start, in this order, each step undone by nothing but the end of the
 * process (every state on the drives is one that a later start accepts):
 *
 *   credentials -> address free -> drives locked and read -> metadata thread -> cluster made or checked
 *     -> topology -> workers and background thread -> admin address -> ready
 *
 * Stop: workers drain, the background thread ends its slices, the metadata is flushed and closed.
 */
import { renameSync, writeFileSync } from 'node:fs'

import { Registry } from 'prom-client'

import { AdminServer } from '../admin/admin_server.js'
import { adminRoutes } from '../admin/routes.js'
import { AdminVerifier } from '../admin/signature.js'
import type { Config } from '../config/settings.js'
import type { HostPort } from '../config/units.js'
import { loadCredentials } from '../credentials.js'
import type { Credentials } from '../credentials.js'
import { SharedAddress } from '../listen.js'
import type { Logger } from '../log.js'
import { MetricsAggregate } from '../metrics/aggregate.js'
import { addControlMetrics } from '../metrics/control_metrics.js'
import { MetadataThread } from '../threads/metadata_thread.js'
import { MetadataClient } from '../../meta/client.js'
import { MetadataError } from '../../meta/engine.js'
import { Again } from '../../util/again.js'
import { FIRST_NODE } from '../cluster/identity.js'
import { JoinRefused } from '../cluster/join.js'
import { Membership } from '../cluster/membership.js'
import type { ReplicaData } from '../threads/replica.js'
import { clientUrl } from './banner.js'
import { DriveRegistry } from './drive_registry.js'
import { credentialsPath, drivePaths } from './drive_paths.js'
import { Pools } from './pools.js'
import { ServerState } from './state.js'

/** Names the root identity in metadata; it does not change with the keys. */
const ROOT_OWNER = 'root'

export interface ServerHooks {
  log: Logger
  version: string
  /** Something failed that cannot be mended while the process runs. */
  fatal: (what: string, error: unknown) => void
  /** The process was asked to stop. */
  stopping: () => boolean
}

/** What stands on one opening of the metadata: replaced as a whole when no copy was left and drives came back. */
interface Running {
  metadata: MetadataThread
  client: MetadataClient
  pools: Pools
}

const RETRY_MS = 1000

export class Server {
  readonly credentials: Credentials
  readonly registry: DriveRegistry
  readonly #config: Config
  readonly #hooks: ServerHooks
  readonly #address: SharedAddress
  readonly #replica: ReplicaData | undefined
  readonly #metrics = new MetricsAggregate()
  #running: Running | undefined
  #state: ServerState | undefined
  #adminServer: AdminServer | undefined
  #admin: HostPort
  /** What was opened anew may be broken before all that stands on it has begun. */
  readonly #renewal: Again<string> = new Again((message) => this.#renew(message))

  private constructor(
    config: Config,
    hooks: ServerHooks,
    parts: {
      credentials: Credentials
      address: SharedAddress
      registry: DriveRegistry
      replica: ReplicaData | undefined
    },
  ) {
    this.#config = config
    this.#hooks = hooks
    this.credentials = parts.credentials
    this.#address = parts.address
    this.registry = parts.registry
    this.#replica = parts.replica
    this.#admin = config.adminListen
  }

  static async start(config: Config, hooks: ServerHooks): Promise<Server> {
    const paths = drivePaths(config)
    const credentials = loadCredentials(
      { accessKey: config.rootAccessKey, secretKey: config.rootSecretKey },
      credentialsPath(config),
    )
    const address = await SharedAddress.claim(config.listen)
    const membership = await Membership.settle(config, hooks.log, hooks.stopping)
    const registry = await DriveRegistry.open(paths, config, hooks.log, membership?.join)
    const replica = membership?.begin(registry.clusterId)
    const server = new Server(config, hooks, { credentials, address, registry, replica })
    const { metadata, client } = await server.#openMetadata()
    await server.#awaitMetadata(client)
    await registry.reconcile(client, replica?.nodeId)
    const running = server.#use({ metadata, client, pools: server.#makePools(metadata) })
    const state = new ServerState({
      version: hooks.version,
      config,
      endpoint: clientUrl(address.address),
      registry,
      ...running,
    })
    server.#state = state
    await running.pools.start()
    server.#watchDrives()
    await server.#openAdmin(state)
    server.#writeReadyFile()
    return server
  }

  get endpoint(): HostPort {
    return this.#address.address
  }

  get admin(): HostPort {
    return this.#admin
  }

  /** Ends in order, in bounded time. Nothing is lost by a stop that is cut short. */
  async stop(): Promise<void> {
    if (this.#state !== undefined) this.#state.stopping = true
    this.registry.unwatch()
    await this.#running?.pools.stop(this.#config.limitsDrainTimeout)
    this.#adminServer?.close()
    await this.#running?.metadata.stop(5000)
  }

  get #stopping(): boolean {
    return this.#state?.stopping === true
  }

  #use(running: Running): Running {
    this.#running = running
    return running
  }

  async #openMetadata(): Promise<{ metadata: MetadataThread; client: MetadataClient }> {
    const metadata = await MetadataThread.start(
      {
        drives: this.registry.metadataDrives,
        copies: this.registry.metadataCopies,
        logLevel: this.#config.logLevel,
        deadlineMs: this.#config.driveDeadline,
        replaceAfterMs: this.#config.metadataReplaceAfter,
        replica: this.#replica,
      },
      {
        ended: (error) => {
          this.#hooks.fatal('the metadata thread failed', error)
        },
        broken: (message) => {
          this.#renewal.ask(message)
        },
      },
    )
    return { metadata, client: new MetadataClient(await metadata.connect()) }
  }

  /** A node that has joined first gets the metadata from the others: its sets are in it. */
  async #awaitMetadata(client: MetadataClient): Promise<void> {
    const node = this.#replica?.nodeId
    if (node === undefined || node === FIRST_NODE) return
    for (let waited = 0; ; waited += RETRY_MS) {
      if (holdsSets(client, node)) return
      if (this.#hooks.stopping()) throw new JoinRefused('stopped before it had joined')
      if (waited % 10_000 === 0) this.#hooks.log.info('waiting for the metadata of the cluster')
      await sleep(RETRY_MS / 5)
    }
  }

  #makePools(metadata: MetadataThread): Pools {
    return new Pools({
      config: this.#config,
      address: this.#address,
      metadata,
      node: this.#replica?.nodeId,
      metrics: this.#metrics,
      log: this.#hooks.log,
      credentials: { ...this.credentials, ownerId: ROOT_OWNER },
      driveTable: this.registry.driveTable.memory,
      topology: () => this.registry.topology,
      givenUp: (error) => {
        this.#hooks.fatal('workers crash again and again', error)
      },
    })
  }

  #watchDrives(): void {
    this.registry.watch({
      changed: (topology) => this.#running?.pools.tellTopology(topology),
      returned: (set) => this.#running?.pools.tellBackground('driveReturned', { set }),
      metadata: {
        addDrive: (drive) => this.#running?.metadata.addDrive(drive),
        removeDrive: (number, reason) => this.#running?.metadata.removeDrive(number, reason),
      },
    })
  }

  /**
   * No metadata copy is left. Requests are refused (503) until enough drives are back; then everything that has LMDB's
   * files open is ended, the metadata is opened anew as after a restart, and workers are started on it.
   */
  async #renew(message: string): Promise<void> {
    const { log } = this.#hooks
    const { registry } = this
    const old = this.#running
    const state = this.#state
    if (old === undefined || state === undefined) return
    log.error({ reason: message }, 'no metadata copy is left; waiting for drives to come back')
    state.metadataBroken = 'no metadata copy is online'
    while (!registry.readable && !this.#stopping) await sleep(RETRY_MS)
    if (this.#stopping) return
    await old.pools.stop(RETRY_MS)
    await old.pools.destroy()
    await old.client.close()
    await old.metadata.stop(RETRY_MS)
    await old.metadata.terminate()
    for (;;) {
      if (this.#stopping) return
      try {
        const { metadata, client } = await this.#openMetadata()
        const running = this.#use({ metadata, client, pools: this.#makePools(metadata) })
        state.use(running)
        registry.use(client)
        await running.pools.start()
        state.metadataBroken = ''
        for (const { number } of registry.topology.sets)
          running.pools.tellBackground('driveReturned', { set: number })
        log.info('the metadata was opened anew')
        return
      } catch (error) {
        log.warn({ err: error }, 'the metadata cannot be opened yet')
        await sleep(RETRY_MS)
      }
    }
  }

  async #openAdmin(state: ServerState): Promise<void> {
    const { log } = this.#hooks
    const registry = new Registry()
    addControlMetrics(registry, state)
    this.#adminServer = new AdminServer({
      address: this.#config.adminListen,
      verifier: new AdminVerifier(this.credentials),
      metrics: async () => ({
        contentType: Registry.PROMETHEUS_CONTENT_TYPE,
        text: await this.#metrics.text(
          state.pools
            .snapshotSources()
            .set('metadata', () => state.metadataMetrics())
            .set('control', () => registry.getMetricsAsJSON()),
        ),
      }),
      notReady: () => state.notReady(),
      routes: adminRoutes(state),
      log,
    })
    this.#admin = await this.#adminServer.listen()
  }

  #writeReadyFile(): void {
    if (this.#config.readyFile === '') return
    const facts = { pid: process.pid, endpoint: clientUrl(this.endpoint), admin: clientUrl(this.admin) }
    // A reader polls for it: written whole, at once.
    writeFileSync(`${this.#config.readyFile}.tmp`, JSON.stringify(facts))
    renameSync(`${this.#config.readyFile}.tmp`, this.#config.readyFile)
  }
}

function holdsSets(client: MetadataClient, node: number): boolean {
  try {
    client.reader.refresh()
    return client.reader.sets().some((set) => set.node === node)
  } catch (error) {
    // The view is being replaced by what the others sent.
    if (error instanceof MetadataError) return false
    throw error
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms)
  })
}
