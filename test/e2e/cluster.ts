/** Nodes of one replicated store as real processes, each behind a proxy that can cut it off from chosen others. */
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { copyFileSync } from 'node:fs'
import { join } from 'node:path'

import type { S3Client } from '@aws-sdk/client-s3'

import { ServerProcess, makeDrives } from '../../bench/load/server_process.js'
import type { ClusterView, DigestReport, MetadataReport } from '../../ts/server/admin/api.js'
import { TcpProxy } from '../support/tcp_proxy.js'
import { eventually, sdkClient } from './clients.js'

export type Place = ReturnType<typeof makeDrives>

export interface ClusterNode {
  id: number
  name: string
  place: Place
  port: number
  proxy: TcpProxy
  server: ServerProcess
  s3: S3Client
}

export class TestCluster {
  /** Clients use these. */
  readonly nodes: ClusterNode[] = []
  /** Members that hold no objects, and can be taken out again. */
  readonly guests: ClusterNode[] = []
  readonly #args: readonly string[]

  /** `args` are for every node. */
  constructor(args: readonly string[] = []) {
    this.#args = args
  }

  get all(): ClusterNode[] {
    return [...this.nodes, ...this.guests]
  }

  /** The last nodes are on the places that are given. */
  static async start(count: number, args: readonly string[] = [], places: readonly Place[] = []): Promise<TestCluster> {
    const cluster = new TestCluster(args)
    try {
      for (let i = 0; i < count; i++) await cluster.add(places[i - count + places.length])
    } catch (error) {
      await cluster.stop()
      throw error
    }
    return cluster
  }

  /** One more node, a voter when it resolves; the first may be on drives that hold a store. */
  async add(place: Place = makeDrives(2), among: ClusterNode[] = this.nodes): Promise<ClusterNode> {
    const port = await freePort()
    const proxy = await TcpProxy.to(() => ({ host: '127.0.0.1', port }))
    const [first] = this.nodes
    const name = among === this.nodes ? `node-${String(this.nodes.length + 1)}` : `guest-${String(port)}`
    const node = { id: 1, name, place, port, proxy } as ClusterNode
    if (first !== undefined) {
      copyFileSync(join(first.place.folder, 'cluster-secret'), join(place.folder, 'cluster-secret'))
      const { host, port: at } = proxy.address
      // The same name again gives the same id: an outcome that is not known does no harm.
      await eventually(`${name} is added`, async () => {
        const wish = { action: 'addNode', name, address: `${host}:${String(at)}` }
        const added = await this.member(wish).catch(() => undefined)
        node.id = (added as { node: number } | undefined)?.node ?? 0
        return node.id > 0
      })
    }
    node.server = await this.start(node)
    node.s3 = sdkClient(node.server)
    among.push(node)
    if (first !== undefined) await eventually(`${name} votes`, () => this.#promoted(node.id))
    return node
  }

  /** A guest leaves for good. */
  async remove(guest: ClusterNode): Promise<void> {
    const { id } = guest
    await eventually(`${guest.name} is taken out`, async () => {
      await this.member({ action: 'removeNode', node: id }).catch(() => undefined)
      const peers = (await this.report(await this.leader())).status.replica?.peers ?? []
      return peers.length > 0 && peers.every((peer) => peer.id !== id)
    })
    this.guests.splice(this.guests.indexOf(guest), 1)
    await end(guest)
  }

  async restart(node: ClusterNode): Promise<void> {
    node.s3.destroy()
    node.server = await this.start(node)
    node.s3 = sdkClient(node.server)
  }

  async report(node: ClusterNode): Promise<ClusterView> {
    const { cluster } = (await node.server.admin('GET', '/admin/v1/metadata')) as MetadataReport
    if (cluster === null) throw new Error('not replicated')
    return cluster
  }

  digest(node: ClusterNode): Promise<DigestReport> {
    return node.server.admin('GET', '/admin/v1/metadata/digest') as Promise<DigestReport>
  }

  /** The node that a majority follows; waits for one. */
  async leader(): Promise<ClusterNode> {
    let found: ClusterNode | undefined
    await eventually('a leader', async () => {
      const { all } = this
      const leaders = await Promise.all(all.map((node) => this.#leaderOf(node)))
      const most = leaders.find((id) => id > 0 && leaders.filter((one) => one === id).length * 2 > all.length)
      found = all.find(({ id }) => id === most)
      return found !== undefined
    })
    return found!
  }

  /** Nothing passes from the one to the other, and nothing is refused. */
  cut(from: ClusterNode, to: ClusterNode): void {
    to.proxy.blocked.there.add(from.id)
    from.proxy.blocked.back.add(to.id)
  }

  /** Cuts a node off from all others. */
  isolate(node: ClusterNode): void {
    for (const other of this.all) {
      if (other === node) continue
      this.cut(node, other)
      this.cut(other, node)
    }
  }

  heal(): void {
    for (const { proxy } of this.all) {
      proxy.blocked.there.clear()
      proxy.blocked.back.clear()
    }
  }

  /** Every node holds the same records, by hash, at the same position. */
  async equal(): Promise<boolean> {
    const digests = await Promise.all(this.nodes.map((node) => this.digest(node)))
    return new Set(digests.map(({ position, digest }) => `${String(position)} ${digest}`)).size === 1
  }

  async stop(): Promise<void> {
    this.heal()
    await Promise.all(this.all.map(end))
  }

  /** The process of a node; with a signal it can be ended before it is ready. */
  start({ name, place, port, proxy, id }: ClusterNode, signal?: AbortSignal): Promise<ServerProcess> {
    const { host, port: at } = proxy.address
    const others = this.nodes.filter((other) => other.id !== id).map((other) => other.proxy.address)
    return ServerProcess.start({
      drives: place.drives,
      ...(signal === undefined ? {} : { signal }),
      args: [
        '--workers', '1', '--metadata-engine', 'replicated', '--cluster-name', name,
        '--cluster-listen', `127.0.0.1:${String(port)}`, '--cluster-advertise', `${host}:${String(at)}`,
        ...(id === 1 ? [] : ['--cluster-join', others.map((other) => `${other.host}:${String(other.port)}`).join(',')]),
        ...this.#args,
      ],
    })
  }

  async #leaderOf(node: ClusterNode): Promise<number> {
    try {
      return (await this.report(node)).status.replica?.leader ?? 0
    } catch {
      return 0
    }
  }

  async #promoted(id: number): Promise<boolean> {
    const { status } = await this.report(await this.leader())
    const peer = status.replica?.peers.find((one) => one.id === id)
    if (peer?.role === 'voter') return true
    // Refused until it has caught up.
    await this.member({ action: 'promote', node: id }).catch(() => undefined)
    return false
  }

  async member(body: object): Promise<unknown> {
    return (await this.leader()).server.admin('POST', '/admin/v1/metadata', body)
  }
}

async function end({ server, s3, proxy, place }: ClusterNode): Promise<void> {
  s3.destroy()
  server.child.kill('SIGCONT')
  await server.stop('SIGKILL')
  await proxy.close()
  place.remove()
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen({ host: '127.0.0.1', port: 0 }, resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}
