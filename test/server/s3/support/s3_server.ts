/**
 * The S3 handler on a real HTTP server in this process, over the real object engine, erasure set and metadata rules;
 * drives and the metadata view are in memory, so tests can look at what is left behind.
 */
import assert from 'node:assert/strict'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { S3Client, type S3ClientConfig } from '@aws-sdk/client-s3'
import { WeightedPlacement } from '../../../../ts/layout/weighted_placement.js'
import { fixedCredentials } from '../../../../ts/server/auth/credentials.js'
import {
  DEFAULT_S3_LIMITS, type RequestSummary, type S3Limits, createS3Handler, createS3Server,
} from '../../../../ts/server/s3/handler.js'
import type { StoreLimits } from '../../../../ts/store/context.js'
import { DataIds } from '../../../../ts/store/data_ids.js'
import { PinBoard, Pins } from '../../../../ts/store/pins.js'
import { Store } from '../../../../ts/store/store.js'
import { type TestSet, memorySet } from '../../../support/sets.js'
import { SimulatedMetadata, SimulatedMetadataStore } from '../../../support/simulated_metadata.js'
import { ACCESS_KEY, SECRET_KEY } from '../../auth/support.js'

export const REGION = 'us-east-1'
export const OWNER = 'owner-id'

export interface S3TestOptions {
  limits?: Partial<S3Limits>
  storeLimits?: Partial<StoreLimits>
  domains?: readonly string[]
  region?: string
}

export class S3TestServer {
  readonly store: Store
  readonly drives: TestSet
  readonly summaries: RequestSummary[] = []
  readonly errors: object[]
  readonly #options: S3TestOptions
  readonly #pins: Pins
  readonly #servers: Server[] = []
  readonly #clients: S3Client[] = []
  port = 0

  private constructor(options: S3TestOptions, parts: { store: Store; drives: TestSet; pins: Pins; errors: object[] }) {
    this.#options = options
    this.store = parts.store
    this.drives = parts.drives
    this.#pins = parts.pins
    this.errors = parts.errors
  }

  static async start(options: S3TestOptions = {}): Promise<S3TestServer> {
    const drives = memorySet(2, 2, { stripeSize: 65_536 })
    const errors: object[] = []
    const { store, pins } = await makeStore(drives, errors, options.storeLimits)
    const server = new S3TestServer(options, { store, drives, pins, errors })
    server.port = await server.listen()
    return server
  }

  /** Opens a port with a handler of its own, over the same store. */
  async listen(more: Partial<S3Limits> = {}): Promise<number> {
    const limits = { ...DEFAULT_S3_LIMITS, ...this.#options.limits, ...more }
    const handler = createS3Handler({
      store: this.store,
      credentials: fixedCredentials([{ accessKey: ACCESS_KEY, secretKey: SECRET_KEY, ownerId: OWNER }]),
      region: this.#options.region ?? REGION, domains: this.#options.domains ?? ['s3.test'], limits,
      log: {
        debug: () => undefined, info: () => undefined, warn: () => undefined,
        error: (fields) => { this.errors.push(fields) },
      },
      metrics: { requestStarted: () => undefined, requestEnded: (summary) => { this.summaries.push(summary) } },
      nowMs: Date.now, ownerId: OWNER, ownerDisplayName: 'owner', hostId: 'test-host',
    })
    const server = createS3Server(limits, handler)
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    this.#servers.push(server)
    return (server.address() as AddressInfo).port
  }

  get endpoint(): string {
    return `http://127.0.0.1:${this.port}`
  }

  /** A client of the AWS SDK; no retries, so that tests see what the server said. */
  sdk(config: S3ClientConfig = {}): S3Client {
    const client = new S3Client({
      endpoint: this.endpoint, region: REGION, forcePathStyle: true, maxAttempts: 1,
      credentials: { accessKeyId: ACCESS_KEY, secretAccessKey: SECRET_KEY }, ...config,
    })
    this.#clients.push(client)
    return client
  }

  /** Waits for what the server does on its own time. */
  async until(holds: () => boolean): Promise<void> {
    for (let turn = 0; turn < 4000 && !holds(); turn++) await new Promise((resolve) => setTimeout(resolve, 5))
    assert.ok(holds(), 'what was waited for came to pass')
  }

  /** Waits for requests that the client has given up but the server still works on. */
  async idle(): Promise<void> {
    for (let turn = 0; turn < 1000; turn++) {
      if (this.drives.slabs.stats.usedBytes === 0 && await this.drives.set.settled(10_000)) return
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    assert.fail('the server does not come to rest')
  }

  /** Shards on all drives, and nothing half-written. */
  async shardCount(): Promise<number> {
    await this.idle()
    let count = 0
    for (const drive of this.drives.drives) {
      assert.equal(drive.temporary, 0, 'no temporary file')
      assert.equal(drive.openReaders, 0, 'no open reader')
      count += drive.shards.size
    }
    return count
  }

  /** No read holds a pin: what is garbage could be collected. */
  get pinned(): boolean {
    return this.#pins.openCount > 0
  }

  async stop(): Promise<void> {
    for (const client of this.#clients) client.destroy()
    for (const server of this.#servers) {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    }
  }
}

async function makeStore(
  drives: TestSet, errors: object[], limits: Partial<StoreLimits> = {},
): Promise<{ store: Store; pins: Pins }> {
  const metadata = new SimulatedMetadata(new SimulatedMetadataStore(), Math.random).client()
  const board = PinBoard.create(1)
  board.claim(0)
  const pins = new Pins(board, 0)
  const numbers = drives.drives.map((drive) => drive.number)
  const result = await metadata.propose({
    kind: 'initCluster',
    cluster: { clusterId: 'test', createdMs: Date.now(), featureLevel: 1, stripeSize: 65_536 },
    sets: [{ number: 1, pool: 0, k: 2, m: 2, drives: numbers }],
    drives: numbers.map((number, position) => ({
      number, driveId: `drive-${number}`, pool: 0, set: 1, position, epoch: 1, state: 'member', healing: false,
    })),
  })
  assert.ok(result.ok)
  const store = new Store({
    metadata, pins,
    dataIds: new DataIds(metadata, board, 0, { worker: 'test' }),
    set: (number) => (number === 1 ? drives.set : undefined),
    placement: new WeightedPlacement([{ set: 1, weight: 1, state: 'active' }], 101),
    limits,
    onError: (what, error) => { errors.push({ what, error }) },
  })
  return { store, pins }
}
