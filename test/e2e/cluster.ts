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

export interface ClusterNode {
  id: number
  name: string
  place: ReturnType<typeof makeDrives>
  port: number
  proxy: TcpProxy
  server: ServerProcess
  s3: S3Client
}

export class TestCluster {
  readonly nodes: ClusterNode[] = []

  static async start(count: number): Promise<TestCluster> {
    const cluster = new TestCluster()
    try {
      for (let i = 0; i < count; i++) await cluster.add()
    } catch (error) {
      await cluster.stop()
      throw error
    }
    return cluster
  }

  /** One more node, a voter when it resolves; the first may be on drives that hold a store. */
  async add(place: ReturnType<typeof makeDrives> = makeDrives(2)): Promise<ClusterNode> {
    const id = this.nodes.length + 1
    const port = await freePort()
    const proxy = await TcpProxy.to(() => ({ host: '127.0.0.1', port }))
    const name = `node-${String(id)}`
    const [first] = this.nodes
    if (first !== undefined) {
      copyFileSync(join(first.place.folder, 'cluster-secret'), join(place.folder, 'cluster-secret'))
      const { host, port: at } = proxy.address
      await this.member({ action: 'addNode', name, address: `${host}:${String(at)}` })
    }
    const node = { id, name, place, port, proxy } as ClusterNode
    node.server = await this.#run(node)
    node.s3 = sdkClient(node.server)
    this.nodes.push(node)
    if (first !== undefined) await eventually(`${name} votes`, () => this.#promoted(id))
    return node
  }

  async restart(node: ClusterNode): Promise<void> {
    node.s3.destroy()
    node.server = await this.#run(node)
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
      const leaders = await Promise.all(this.nodes.map((node) => this.#leaderOf(node)))
      const most = leaders.find((id) => id > 0 && leaders.filter((one) => one === id).length * 2 > this.nodes.length)
      found = this.nodes.find(({ id }) => id === most)
      return found !== undefined
    })
    return found!
  }

  /** Cuts a node off from all others: nothing passes, nothing is refused. */
  isolate(node: ClusterNode): void {
    for (const other of this.nodes) {
      if (other === node) for (const { id } of this.nodes) other.proxy.blocked.add(id)
      else other.proxy.blocked.add(node.id)
    }
  }

  heal(): void {
    for (const { proxy } of this.nodes) proxy.blocked.clear()
  }

  /** Every node holds the same records, by hash, at the same position. */
  async equal(): Promise<boolean> {
    const digests = await Promise.all(this.nodes.map((node) => this.digest(node)))
    return new Set(digests.map(({ position, digest }) => `${String(position)} ${digest}`)).size === 1
  }

  async stop(): Promise<void> {
    this.heal()
    await Promise.all(
      this.nodes.map(async ({ server, s3 }) => {
        s3.destroy()
        server.child.kill('SIGCONT')
        await server.stop('SIGKILL')
      }),
    )
    for (const { proxy, place } of this.nodes) {
      await proxy.close()
      place.remove()
    }
  }

  #run({ name, place, port, proxy, id }: ClusterNode): Promise<ServerProcess> {
    const { host, port: at } = proxy.address
    const first = this.nodes[0]?.proxy.address
    return ServerProcess.start({
      drives: place.drives,
      args: [
        '--workers', '1', '--metadata-engine', 'replicated', '--cluster-name', name,
        '--cluster-listen', `127.0.0.1:${String(port)}`, '--cluster-advertise', `${host}:${String(at)}`,
        ...(id === 1 || first === undefined ? [] : ['--cluster-join', `${first.host}:${String(first.port)}`]),
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
    const [first] = this.nodes
    if (first === undefined) return false
    const peer = (await this.report(first)).status.replica?.peers.find((one) => one.id === id)
    if (peer?.role === 'voter') return true
    // Refused until it has caught up.
    await this.member({ action: 'promote', node: id }).catch(() => undefined)
    return false
  }

  async member(body: object): Promise<unknown> {
    return (await this.leader()).server.admin('POST', '/admin/v1/metadata', body)
  }
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen({ host: '127.0.0.1', port: 0 }, resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}
