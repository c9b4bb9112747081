/** What goes wrong with a cluster of real processes, and the clients that work on it meanwhile. */
import assert from 'node:assert/strict'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'

import { PutObjectCommand } from '@aws-sdk/client-s3'

import { randomInteger, seededRandom } from '../../ts/util/random.js'
import type { Random } from '../../ts/util/random.js'
import { LONG, eventually, get, listAll, put } from './clients.js'
import type { ClusterNode, TestCluster } from './cluster.js'
import { Registers } from './registers.js'
import type { SmallDisk } from './small_disk.js'

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

/** Writes and lists through all nodes until stopped; remembers what was acknowledged, and the longest silence. */
export class Load {
  /** Keys, and the node that holds the object. */
  readonly acknowledged = new Map<string, ClusterNode>()
  longestGapMs = 0
  lists = 0
  problem: Error | undefined
  #stopped = false
  #lastAck = performance.now()
  readonly #padding: string
  readonly #work: Promise<unknown>

  /** `padding`: bytes of user metadata of each object, so that the metadata grows. */
  constructor(cluster: TestCluster, writers: number, padding = 0) {
    this.#padding = 'x'.repeat(padding)
    const lanes = Array.from({ length: writers }, (_, lane) => this.#write(cluster, lane))
    this.#work = Promise.all([...lanes, this.#list(cluster)])
  }

  async stop(): Promise<void> {
    this.#stopped = true
    await this.#work
  }

  async #write(cluster: TestCluster, lane: number): Promise<void> {
    for (let i = 0; !this.#stopped; i++) {
      const Key = `key-${String(lane)}-${String(i)}`
      const node = cluster.nodes[(lane + i) % cluster.nodes.length]!
      const command = new PutObjectCommand({
        Bucket: 'load', Key, Body: Key, Metadata: this.#padding === '' ? {} : { padding: this.#padding },
      })
      try {
        await node.s3.send(command, { abortSignal: AbortSignal.timeout(2_000) })
        this.acknowledged.set(Key, node)
        const now = performance.now()
        this.longestGapMs = Math.max(this.longestGapMs, now - this.#lastAck)
        this.#lastAck = now
      } catch {
        await sleep(20)
      }
    }
  }

  /** A listing shows everything that was acknowledged before it began, or is an error. */
  async #list(cluster: TestCluster): Promise<void> {
    for (let i = 0; !this.#stopped; i++) {
      const before = [...this.acknowledged.keys()]
      const { s3 } = cluster.nodes[i % cluster.nodes.length]!
      const keys = await listAll(s3, 'load').catch(() => undefined)
      if (keys !== undefined) {
        this.lists += 1
        const found = new Set(keys)
        const missing = before.filter((key) => !found.has(key))
        if (missing.length > 0)
          this.problem ??= new Error(`a listing lacks ${String(missing.length)}, ${missing[0] ?? ''}`)
      }
      await sleep(50 + before.length / 20)
    }
  }

  /** Everything acknowledged is listed by every node, and some of it read where it lies. */
  async check(cluster: TestCluster, random: Random): Promise<void> {
    if (this.problem !== undefined) throw this.problem
    for (const { s3, name } of cluster.nodes) {
      let keys = new Set<string>()
      await eventually(`${name} lists`, () =>
        listAll(s3, 'load').then((list) => { keys = new Set(list); return true }, () => false),
      )
      for (const key of this.acknowledged.keys())
        if (!keys.has(key)) throw new Error(`${name}: ${key} was acknowledged and is not there`)
    }
    const all = [...this.acknowledged]
    for (let i = 0; i < Math.min(200, all.length); i++) {
      const [key, { s3 }] = all[randomInteger(random, all.length)]!
      let body = ''
      await eventually(`${key} is read`, () =>
        get(s3, 'load', key).then((bytes) => { body = Buffer.from(bytes).toString(); return true }, () => false),
      )
      if (body !== key) throw new Error(`${key} holds ${body.slice(0, 100)}`)
    }
  }
}

/** How long this process itself was kept from running: a gap of that length says nothing of the cluster. */
export class Stalls {
  longestMs = 0
  #last = performance.now()
  readonly #timer = setInterval(() => {
    const now = performance.now()
    this.longestMs = Math.max(this.longestMs, now - this.#last - 20)
    this.#last = now
  }, 20)

  stop(): void {
    clearInterval(this.#timer)
  }
}

export interface World {
  readonly cluster: TestCluster
  readonly random: Random
  /** The last node lies on it. */
  readonly small: SmallDisk | undefined
  /** How often what was meant to happen did. */
  readonly counts: Map<string, number>
}

export interface Fault {
  readonly name: string
  /** Of the leader: acknowledged writes may pause. */
  readonly ofLeader?: true
  cause(world: World): Promise<void>
}

function count({ counts }: World, what: string): void {
  counts.set(what, (counts.get(what) ?? 0) + 1)
}

async function kill(node: ClusterNode): Promise<void> {
  process.kill(node.server.pid, 'SIGKILL')
  await node.server.exited
}

async function follower({ cluster, random }: World): Promise<ClusterNode> {
  const leader = await cluster.leader()
  const others = cluster.nodes.filter((node) => node !== leader)
  return others[randomInteger(random, others.length)]!
}

async function while_(ms: number, cluster: TestCluster, cut: () => void): Promise<void> {
  cut()
  await sleep(ms)
  cluster.heal()
}

const killLeader: Fault = {
  name: 'kill -9 of the leader',
  ofLeader: true,
  cause: async ({ cluster }) => {
    const leader = await cluster.leader()
    await kill(leader)
    await cluster.restart(leader)
  },
}

const pauseLeader: Fault = {
  name: 'a pause of the leader',
  ofLeader: true,
  cause: async ({ cluster }) => {
    const { server } = await cluster.leader()
    process.kill(server.pid, 'SIGSTOP')
    await sleep(2_500)
    process.kill(server.pid, 'SIGCONT')
  },
}

const isolateLeader: Fault = {
  name: 'a leader cut off from all others',
  ofLeader: true,
  cause: async ({ cluster }) => {
    const leader = await cluster.leader()
    await while_(2_500, cluster, () => { cluster.isolate(leader) })
  },
}

const muteLeader: Fault = {
  name: 'a leader that hears the others and is not heard',
  ofLeader: true,
  cause: async ({ cluster }) => {
    const leader = await cluster.leader()
    await while_(3_000, cluster, () => {
      for (const other of cluster.all) if (other !== leader) cluster.cut(leader, other)
    })
  },
}

const cutPair: Fault = {
  name: 'a leader and a follower that do not reach each other',
  cause: async (world) => {
    const { cluster } = world
    const leader = await cluster.leader()
    const other = await follower(world)
    await while_(3_000, cluster, () => {
      cluster.cut(leader, other)
      cluster.cut(other, leader)
    })
  },
}

const powerCut: Fault = {
  name: 'kill -9 of all nodes',
  cause: async ({ cluster }) => {
    await Promise.all(cluster.all.map(kill))
    await Promise.all(cluster.all.map((node) => cluster.restart(node)))
  },
}

/** Views of the metadata on a node's drives: a second one while a snapshot is being received. */
function views({ place }: ClusterNode): number {
  return place.drives
    .map((drive) => join(drive, 'meta'))
    .filter((folder) => existsSync(folder))
    .flatMap((folder) => readdirSync(folder).filter((name) => name.startsWith('view-'))).length
}

const killInSnapshot: Fault = {
  name: 'kill -9 in the middle of a snapshot',
  cause: async (world) => {
    const { cluster, random } = world
    const node = await follower(world)
    const { applied } = (await cluster.report(node)).status
    await kill(node)
    // Until the log of whoever leads no longer reaches back to what the node has.
    await eventually('the log is released', async () => {
      const text = await (await fetch(`${(await cluster.leader()).server.adminEndpoint}/metrics`)).text()
      return Number(/^ostraka_raft_snapshot_index (\d+)$/m.exec(text)?.[1]) > applied + 1
    })
    const before = views(node)
    const ended = new AbortController()
    const starting = cluster.start(node, ended.signal).then((server) => server.stop('SIGKILL'), () => undefined)
    const until = performance.now() + 10_000
    while (views(node) <= before && performance.now() < until) await sleep(2)
    const seen = views(node) > before
    // Now and then the one who sends it, too.
    if (random() < 0.3) {
      const leader = await cluster.leader()
      await kill(leader)
      await cluster.restart(leader)
    } else {
      await sleep(randomInteger(random, 40))
    }
    if (seen && views(node) > before) count(world, 'killed in the middle of a snapshot')
    ended.abort()
    await starting
    await cluster.restart(node)
    await eventually('the node has caught up', async () => {
      const here = await cluster.report(node)
      return here.status.applied > applied && (here.status.replica?.leader ?? 0) > 0
    })
  },
}

const fullDisk: Fault = {
  name: 'a full disk',
  cause: async (world) => {
    const { cluster, small } = world
    const node = cluster.nodes[cluster.nodes.length - 1]!
    if (small === undefined) return
    const lead = { action: 'transferLeadership', node: node.id }
    if (world.random() < 0.5) await cluster.member(lead).catch(() => undefined)
    for (const until = performance.now() + (LONG ? 10_000 : 1_500); performance.now() < until;) {
      small.fill()
      await sleep(100)
    }
    const text = await (await fetch(`${node.server.adminEndpoint}/health/ready`)).text().catch(() => 'gone')
    if (!text.includes('ok')) count(world, 'full, and not ready')
    count(world, 'filled up')
    small.free()
    if (node.server.child.exitCode === null) return
    count(world, 'full, and ended')
    await cluster.restart(node)
  },
}

const guest: Fault = {
  name: 'a member comes and goes',
  cause: async (world) => {
    const { cluster, random } = world
    await Promise.all([
      cluster.add(undefined, cluster.guests),
      random() < 0.5 ? killLeader.cause(world) : undefined,
    ])
    await sleep(1_000)
    await cluster.remove(cluster.guests[0]!)
  },
}

const transfer: Fault = {
  name: 'a transfer of leadership',
  cause: async (world) => {
    const { id } = await follower(world)
    await world.cluster.member({ action: 'transferLeadership', node: id }).catch(() => undefined)
  },
}

/** For every run of the tests. */
export const quickFaults: readonly Fault[] = [killLeader, pauseLeader, isolateLeader, fullDisk]
export const allFaults: readonly Fault[] = [
  ...quickFaults, killInSnapshot, muteLeader, cutPair, powerCut, guest, transfer,
]

/** The fault is over when a write through each node is acknowledged again. */
export async function serves({ nodes }: TestCluster, what: string): Promise<void> {
  for (const node of nodes) {
    await eventually(`${node.name} serves after ${what}`, () =>
      put(node.s3, 'load', `probe-${node.name}`, Buffer.from('x')).then(() => true, () => false),
    )
  }
}

export interface Rampage {
  readonly cluster: TestCluster
  readonly small: SmallDisk | undefined
  /** One after the other; then at random, until the time is over. */
  readonly faults: readonly Fault[]
  readonly minutes?: number
  readonly padding: number
}

/** How long acknowledged writes may pause when something befalls the leader; asked for on a machine that is idle. */
const MOST_MS = Number(process.env.OSTRAKA_TEST_GAP_MS ?? Infinity)

/** Faults under load, and what must be true after them. The bucket `load` exists. */
export async function rampage({ cluster, small, faults, minutes = 0, padding }: Rampage): Promise<void> {
  const seed = Number(process.env.OSTRAKA_SEED ?? randomInteger(Math.random, 2 ** 31))
  process.stdout.write(`# seed ${String(seed)}\n`)
  const world: World = { cluster, small, random: seededRandom(seed), counts: new Map() }
  const load = new Load(cluster, 4, padding)
  const registers = new Registers(cluster, 'load', 3)
  const gaps = new Map<string, number>()
  const stalls = new Stalls()
  const end = performance.now() + minutes * 60_000
  for (let i = 0; i < faults.length || performance.now() < end; i++) {
    const fault = faults[i] ?? faults[randomInteger(world.random, faults.length)]!
    load.longestGapMs = stalls.longestMs = 0
    registers.generation += 1
    const begun = performance.now()
    await fault.cause(world)
    await serves(cluster, fault.name)
    count(world, fault.name)
    const [took, gap, stall] = [performance.now() - begun, load.longestGapMs, stalls.longestMs].map(Math.round)
    gaps.set(fault.name, Math.max(gaps.get(fault.name) ?? 0, gap!))
    process.stdout.write(
      `# ${fault.name}: ${String(took)} ms, longest gap of acknowledged writes ${String(gap)} ms, ` +
        `this process stood still for ${String(stall)} ms\n`,
    )
    if (load.problem !== undefined) break
  }
  stalls.stop()
  await Promise.all([load.stop(), registers.stop()])
  for (const [what, times] of world.counts) process.stdout.write(`# ${what}: ${String(times)}\n`)
  process.stdout.write(`# ${String(load.acknowledged.size)} acknowledged, ${String(load.lists)} listings\n`)
  const { verdict, key, steps } = registers.check()
  process.stdout.write(
    `# ${String(registers.history.length)} calls on registers, ${verdict} (${String(steps)} steps)\n`,
  )
  assert.notEqual(verdict, 'not-linearizable', `the history of ${key ?? ''}`)
  assert.ok(load.acknowledged.size > 10 && load.lists > 2, 'there was load')
  await load.check(cluster, world.random)
  await eventually('all replicas are equal', () => cluster.equal())
  for (const { name, ofLeader } of faults) {
    const gap = gaps.get(name) ?? 0
    assert.ok(ofLeader !== true || gap <= MOST_MS, `${name}: no write was acknowledged for ${gap.toFixed(0)} ms`)
  }
}
