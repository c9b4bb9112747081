/** A group of engines in one process, over LMDB in temporary directories. */
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import type { CommandResult, Command } from '../../../../ts/meta/command.js'
import type { MetaDrive } from '../../../../ts/meta/drive_files.js'
import { MetadataError } from '../../../../ts/meta/engine.js'
import type { NodeId } from '../../../../ts/meta/raft/core/types.js'
import { ReplicatedEngine } from '../../../../ts/meta/raft/replica/replicated_engine.js'
import type { ReplicatedEngineOptions } from '../../../../ts/meta/raft/replica/replicated_engine.js'
import { verifyView } from '../../../../ts/meta/verify.js'
import { FileIo } from '../../file_io.js'
import { createBucket, dataId, part, putObject } from '../../support.js'
import { MemoryNetwork } from './memory_network.js'

export const QUICK: Partial<ReplicatedEngineOptions> = {
  tickMs: 15,
  electionTicks: 20,
  flushEveryMs: 50,
  log: { fileSize: 1 << 16 },
  trailingLogBytes: 1 << 16,
  stallMs: 5_000,
}

export class Cluster {
  readonly root: string = mkdtempSync(`${tmpdir()}/ostraka-replica-`)
  readonly network = new MemoryNetwork()
  readonly engines = new Map<NodeId, ReplicatedEngine>()
  readonly notes: string[] = []
  readonly #options: Partial<ReplicatedEngineOptions>

  constructor(options: Partial<ReplicatedEngineOptions> = {}) {
    this.#options = { ...QUICK, ...options }
  }

  drive(id: NodeId): MetaDrive {
    const path = `${this.root}/${String(id)}`
    mkdirSync(path, { recursive: true })
    return { number: id, io: new FileIo(path), path }
  }

  async start(id: NodeId, options: Partial<ReplicatedEngineOptions> = {}): Promise<ReplicatedEngine> {
    const engine = await ReplicatedEngine.open({
      drives: [this.drive(id)],
      network: this.network.connect(id),
      self: { name: `node-${String(id)}`, address: `host-${String(id)}:7000` },
      note: (text) => this.notes.push(`${String(id)}: ${text}`),
      ...this.#options,
      ...options,
    })
    this.engines.set(id, engine)
    return engine
  }

  /** Without ceremony: nothing is handed over, flushed or marked clean. */
  async kill(id: NodeId): Promise<void> {
    this.network.door(id)?.close()
    await this.engine(id).abandon()
    this.engines.delete(id)
  }

  async stop(id: NodeId): Promise<void> {
    await this.engine(id).close()
    this.network.door(id)?.close()
    this.engines.delete(id)
  }

  engine(id: NodeId): ReplicatedEngine {
    const engine = this.engines.get(id)
    assert.ok(engine !== undefined, `node ${String(id)} is not running`)
    return engine
  }

  /** One node, with a cluster record, an epoch and a bucket. */
  async first(): Promise<ReplicatedEngine> {
    const engine = await this.start(1)
    await begin(engine)
    return engine
  }

  /** Grown online from one node. */
  async grow(to: number): Promise<void> {
    await this.first()
    for (let id = 2; id <= to; id++) await this.add(id)
  }

  async add(id: NodeId): Promise<ReplicatedEngine> {
    const leader = this.leader() ?? this.engine(1)
    assert.equal(await leader.addNode(`node-${String(id)}`, `host-${String(id)}:7000`), id)
    const engine = await this.start(id, { join: { id } })
    await until(`node ${String(id)} is a learner`, () => engine.applied >= leader.applied)
    await retry(() => leader.promote(id))
    return engine
  }

  leader(): ReplicatedEngine | undefined {
    return [...this.engines.values()].find((engine) => engine.isLeader && engine.failure === undefined)
  }

  async agreed(): Promise<ReplicatedEngine> {
    await until('a leader that all know', () => {
      const leader = this.leader()
      return leader !== undefined && [...this.engines.values()].every((engine) => engine.leader === leader.id)
    })
    return this.leader() as ReplicatedEngine
  }

  /** All have applied the same, to equal states. */
  async equal(): Promise<void> {
    const engines = [...this.engines.values()]
    const position = (): number => Math.max(...engines.map((engine) => engine.applied))
    await until('equal positions', () => engines.every((engine) => engine.applied === position()))
    const states = engines.map((engine) => {
      const snapshot = engine.snapshot()
      const { records, digest } = verifyView(snapshot)
      snapshot.release()
      return `${String(records)} ${digest}`
    })
    assert.equal(new Set(states).size, 1, states.join('\n'))
  }

  async end(): Promise<void> {
    if (process.env.NOTES !== undefined) console.error(this.notes.join('\n'))
    for (const engine of this.engines.values()) await engine.abandon()
    rmSync(this.root, { recursive: true, force: true })
  }
}

export async function begin(engine: { propose(command: Command): Promise<CommandResult> }): Promise<void> {
  const cluster = { clusterId: 'c', createdMs: 1, featureLevel: 3, stripeSize: 1 << 20 }
  await ok(engine.propose({ kind: 'initCluster', cluster, sets: [], drives: [] }))
  await ok(engine.propose({ kind: 'openEpoch', nowMs: 1, worker: 'w' }))
  await ok(engine.propose(createBucket('b')))
}

export async function ok(proposed: Promise<CommandResult>): Promise<CommandResult & { ok: true }> {
  const result = await proposed
  assert.ok(result.ok, JSON.stringify(result))
  return result
}

export function put(key: string, etag = 'e'): Command {
  return putObject(1, key, part(dataId(1), 10), etag)
}

export function has(engine: ReplicatedEngine, key: string): boolean {
  engine.reader.refresh()
  return engine.reader.object(1, key) !== undefined
}

export async function until(what: string, reached: () => boolean, ms = 30_000): Promise<void> {
  const deadline = Date.now() + ms
  while (!reached()) {
    assert.ok(Date.now() < deadline, `waited in vain for ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

export async function retry<T>(work: () => Promise<T>, ms = 30_000): Promise<T> {
  const deadline = Date.now() + ms
  for (;;) {
    try {
      return await work()
    } catch (error) {
      if (!(error instanceof MetadataError) || Date.now() > deadline) throw error
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }
}
