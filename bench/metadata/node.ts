/**
 * One node of the replicated metadata, in a process of its own: the metadata thread as the server runs it (transport,
 * Raft, log, view), and in the main thread what an S3 worker is to it: a MetadataClient, here with a closed loop of
 * clients in place of requests. There is no S3 and no object data.
 *
 * The parent speaks over IPC: one Wish at a time, one Reply for each. When the parent is gone the process ends.
 */
import { readFileSync } from 'node:fs'

import { encodeRequest } from '../../ts/meta/apply/apply.js'
import { MetadataClient } from '../../ts/meta/client.js'
import type { Command, CommandValue } from '../../ts/meta/command.js'
import type { ReplicaStatus } from '../../ts/meta/engine.js'
import { raiseHeapFloor } from '../../ts/server/threads/heap.js'
import { MetadataThread } from '../../ts/server/threads/metadata_thread.js'
import { WRITE_BYTES, closedLoop, keyOf } from './closed_loop.js'
import type { LoopPlan, Measured } from './closed_loop.js'

export type LoadKind = 'write' | 'put' | 'linearizable' | 'eventual'

export type Wish =
  | { what: 'open'; id: number; port: number; drive: string; clusterId: string; secret: string; join: string }
  | { what: 'found' }
  | { what: 'add'; name: string; address: string }
  | { what: 'promote'; node: number }
  | { what: 'status' }
  | { what: 'load'; kind: LoadKind; plan: LoopPlan }
  | { what: 'stop' }

export interface Status {
  replica: ReplicaStatus
  applied: number
}

export interface Loaded extends Measured {
  /** Of the followers, as the leader saw it during the window; NaN elsewhere. */
  mostLagMs: number
  /** Largest anonymous resident memory of the process. */
  anonymousBytes: number
  /** Synced writes of this node's log during the loop, over the commands that it took. */
  logWritesPerOperation: number
}

export type Reply = { value: unknown } | { error: string }

const BUCKET = 'bench'
const SAMPLE_MS = 50
/** Keys that reads choose from, all written before. */
const READ_KEYS = 1000

raiseHeapFloor()

let thread: MetadataThread | undefined
let client: MetadataClient | undefined
let bucketId = 0
let epoch = 0
let written = 0

function here<T>(part: T | undefined): T {
  if (part === undefined) throw new Error('the node is not open')
  return part
}

async function open(wish: Extract<Wish, { what: 'open' }>): Promise<string> {
  const { id, drive, clusterId, secret, join } = wish
  const dead = (error: Error | string): void => {
    process.stderr.write(`node ${String(id)}: ${typeof error === 'string' ? error : error.message}\n`)
    process.exit(1)
  }
  thread = await MetadataThread.start({
    drives: [{ number: 1, path: drive }],
    copies: 1, logLevel: 'error', deadlineMs: 10_000, replaceAfterMs: 3_600_000,
    replica: {
      nodeId: id, clusterId, name: `node-${String(id)}`, listen: { host: '127.0.0.1', port: wish.port }, advertise: '',
      security: { secret: Buffer.from(secret), tls: undefined },
      joins: join !== '', peers: join === '' ? [] : [{ id: 1, address: join }],
    },
  }, { ended: dead, broken: dead })
  client = new MetadataClient(await thread.connect())
  return (await thread.cluster()).address
}

async function ok(command: Command): Promise<CommandValue> {
  const result = await here(client).propose(command)
  if (!result.ok) throw new Error(`${command.kind}: ${result.refusal} ${result.detail}`)
  return result.value
}

/** What a new store has before its first object. */
async function found(): Promise<void> {
  const cluster = { clusterId: 'bench', createdMs: Date.now(), featureLevel: 3, stripeSize: 1 << 20 }
  await ok({ kind: 'initCluster', cluster, sets: [], drives: [] })
  epoch = (await ok({ kind: 'openEpoch', nowMs: Date.now(), worker: 'bench' })).epoch ?? 0
  await ok({ kind: 'createBucket', name: BUCKET, ownerId: 'owner', region: 'us-east-1', nowMs: Date.now() })
}

function putObject(key: string, padding: string): Command & { kind: 'putObject' } {
  return {
    kind: 'putObject', bucketId, key, versionId: 'null', ownerId: 'owner', etag: '', size: 0,
    modifiedMs: 1_700_000_000_000,
    attributes: { headers: {}, userMetadata: { pad: padding }, storageClass: 'STANDARD' },
  }
}

/** Padding with which a command has WRITE_BYTES once it is encoded. */
function paddingFor(bytes: number): string {
  for (let length = 0; length <= bytes; length++) {
    const padding = 'x'.repeat(length)
    if (encodeRequest(putObject(keyOf(0), padding), undefined, undefined).length === bytes) return padding
  }
  throw new Error(`no command has ${String(bytes)} bytes`)
}

/** As the S3 layer makes it for an object on four drives: about twice the bytes, and seven records of the view. */
function wholePut(n: number): Command {
  const dataId = Buffer.alloc(16)
  dataId.writeUIntBE(epoch, 0, 6)
  dataId.writeUInt32BE(n, 12)
  const geometry = { k: 2, m: 2, stripeSize: 1 << 20, partSize: 4096 }
  const part = { location: { dataId, set: 1, geometry, drives: [1, 2, 3, 4] }, size: 4096, md5: Buffer.alloc(16, n) }
  return { ...putObject(keyOf(n), ''), etag: 'd41d8cd98f00b204e9800998ecf8427e', size: 4096, part }
}

function operationOf(kind: LoadKind): () => Promise<void> {
  const { reader } = here(client)
  reader.refresh()
  bucketId = reader.bucket(BUCKET)?.id ?? bucketId
  if (bucketId === 0) throw new Error('the bucket is not known here')
  const padding = paddingFor(WRITE_BYTES)
  switch (kind) {
    case 'write':
      return async () => { await ok(putObject(keyOf(written++), padding)) }
    case 'put':
      return async () => { await ok(wholePut(written++)) }
    case 'linearizable':
    case 'eventual': {
      let next = 0
      return async () => {
        await here(client).settled(kind)
        reader.refresh()
        if (reader.object(bucketId, keyOf(next++ % READ_KEYS)) === undefined) throw new Error('a key is missing')
      }
    }
  }
}

function anonymousBytes(): number {
  return Number(/^RssAnon:\s+(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? NaN) * 1024
}

/** Synced writes of the log so far. */
async function logWrites(): Promise<number> {
  const found = (await here(thread).metrics()).find(({ name }) => name === 'ostraka_raft_sync_seconds')
  const values = (found?.values ?? []) as { metricName?: string; value: number }[]
  return values.find(({ metricName }) => metricName === 'ostraka_raft_sync_seconds_count')?.value ?? NaN
}

async function load(kind: LoadKind, plan: LoopPlan): Promise<Loaded> {
  const operation = operationOf(kind)
  let mostLagMs = NaN
  let mostBytes = 0
  let operations = 0
  let ended = false
  const sample = async (): Promise<void> => {
    while (!ended) {
      const { replica } = await here(thread).status()
      const lags = (replica?.peers ?? []).flatMap(({ id, progress }) => {
        return progress === undefined || id === replica?.id ? [] : [progress.lagMs]
      })
      if (lags.length > 0) mostLagMs = Math.max(Number.isNaN(mostLagMs) ? 0 : mostLagMs, ...lags)
      mostBytes = Math.max(mostBytes, anonymousBytes())
      await new Promise((resolve) => setTimeout(resolve, SAMPLE_MS))
    }
  }
  const before = await logWrites()
  const sampling = sample()
  let measured: Measured
  try {
    measured = await closedLoop(plan, async () => {
      await operation()
      operations++
    })
  } finally {
    ended = true
    await sampling
  }
  const writes = (await logWrites()) - before
  return { ...measured, mostLagMs, anonymousBytes: mostBytes, logWritesPerOperation: writes / operations }
}

async function status(): Promise<Status> {
  const { replica, applied } = await here(thread).status()
  if (replica === undefined) throw new Error('the node is no replica')
  return { replica, applied }
}

async function fulfil(wish: Wish): Promise<unknown> {
  switch (wish.what) {
    case 'open':
      return open(wish)
    case 'found':
      return found()
    case 'add':
      return here(thread).changeMembers({ action: 'addNode', name: wish.name, address: wish.address })
    case 'promote':
      return here(thread).changeMembers({ action: 'promote', node: wish.node })
    case 'status':
      return status()
    case 'load':
      return load(wish.kind, wish.plan)
    case 'stop':
      await client?.close()
      await thread?.stop(5_000)
      await thread?.terminate()
      return undefined
  }
}

process.on('disconnect', () => process.exit(0))
process.on('message', (wish: Wish) => {
  const reply = (what: Reply): void => { process.send?.(what) }
  fulfil(wish).then(
    (value) => { reply({ value }) },
    (error: unknown) => { reply({ error: error instanceof Error ? error.message : String(error) }) },
  )
})
