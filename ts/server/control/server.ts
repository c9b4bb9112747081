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
}

export class Server {
  readonly endpoint: HostPort
  readonly admin: HostPort
  readonly credentials: Credentials
  readonly registry: DriveRegistry
  readonly #config: Config
  readonly #pools: Pools
  readonly #metadata: MetadataThread
  readonly #adminServer: AdminServer
  readonly #state: ServerState

  private constructor(parts: {
    config: Config
    endpoint: HostPort
    admin: HostPort
    credentials: Credentials
    registry: DriveRegistry
    pools: Pools
    metadata: MetadataThread
    adminServer: AdminServer
    state: ServerState
  }) {
    this.#config = parts.config
    this.endpoint = parts.endpoint
    this.admin = parts.admin
    this.credentials = parts.credentials
    this.registry = parts.registry
    this.#pools = parts.pools
    this.#metadata = parts.metadata
    this.#adminServer = parts.adminServer
    this.#state = parts.state
  }

  static async start(config: Config, hooks: ServerHooks): Promise<Server> {
    const { log, fatal, version } = hooks
    const paths = drivePaths(config)
    const credentials = loadCredentials(
      { accessKey: config.rootAccessKey, secretKey: config.rootSecretKey },
      credentialsPath(config),
    )
    const address = await SharedAddress.claim(config.listen)
    const registry = await DriveRegistry.open(paths, config, log)
    const metadata = await MetadataThread.start(
      {
        drives: registry.metadataDrives,
        copies: registry.metadataCopies,
        logLevel: config.logLevel,
        deadlineMs: config.driveDeadline,
      },
      (error) => {
        fatal('the metadata thread failed', error)
      },
    )
    const client = new MetadataClient(await metadata.connect())
    await registry.reconcile(client)
    const metrics = new MetricsAggregate()
    const pools = new Pools({
      config,
      address,
      metadata,
      metrics,
      log,
      credentials: { ...credentials, ownerId: ROOT_OWNER },
      driveTable: registry.driveTable.memory,
      topology: () => registry.topology,
      givenUp: (error) => {
        fatal('workers crash again and again', error)
      },
    })
    const state = new ServerState({
      version,
      config,
      endpoint: clientUrl(address.address),
      registry,
      client,
      metadata,
      pools,
    })
    await pools.start()
    registry.watch({
      changed: (topology) => {
        pools.tellTopology(topology)
      },
      returned: (set) => {
        pools.tellBackground('driveReturned', { set })
      },
      metadata,
    })
    const controlRegistry = new Registry()
    addControlMetrics(controlRegistry, state)
    const adminServer = new AdminServer({
      address: config.adminListen,
      verifier: new AdminVerifier(credentials),
      metrics: async () => ({
        contentType: Registry.PROMETHEUS_CONTENT_TYPE,
        text: await metrics.text(
          pools
            .snapshotSources()
            .set('metadata', () => metadata.metrics())
            .set('control', () => controlRegistry.getMetricsAsJSON()),
        ),
      }),
      notReady: () => state.notReady(),
      routes: adminRoutes(state),
      log,
    })
    const admin = await adminServer.listen()
    const server = new Server({
      config,
      endpoint: address.address,
      admin,
      credentials,
      registry,
      pools,
      metadata,
      adminServer,
      state,
    })
    server.#writeReadyFile()
    return server
  }

  /** Ends in order, in bounded time. Nothing is lost by a stop that is cut short. */
  async stop(): Promise<void> {
    this.#state.stopping = true
    this.registry.unwatch()
    await this.#pools.stop(this.#config.limitsDrainTimeout)
    this.#adminServer.close()
    await this.#metadata.stop(5000)
  }

  #writeReadyFile(): void {
    if (this.#config.readyFile === '') return
    const facts = { pid: process.pid, endpoint: clientUrl(this.endpoint), admin: clientUrl(this.admin) }
    // A reader polls for it: written whole, at once.
    writeFileSync(`${this.#config.readyFile}.tmp`, JSON.stringify(facts))
    renameSync(`${this.#config.readyFile}.tmp`, this.#config.readyFile)
  }
}
