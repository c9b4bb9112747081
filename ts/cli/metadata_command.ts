/**
 * `ostraka admin metadata`: the log, its copies or replicas, the nodes of a replicated store, snapshots.
 *
 * With `--watch` a command that takes time shows how it goes on until it has ended.
 */
import { resolve } from 'node:path'

import type { Command } from 'commander'

import type { ClusterView, DigestReport, MetadataReport } from '../server/admin/api.js'
import type { PeerStatus } from '../meta/engine.js'
import type { AdminClient } from './admin_client.js'
import { follow, leaf } from './admin_command.js'
import type { Show } from './admin_command.js'
import { bar, bytes, table } from './render.js'
import { addSnapshotRestore } from './restore_command.js'

const ROUTE = '/admin/v1/metadata'
const DONE = (): string => 'done'
/** Entries a node may lack and still be shown as caught up. */
const CAUGHT_UP = 100

export function addMetadata(admin: Command): void {
  const metadata = admin.command('metadata').description('the command log, its copies, its nodes and its snapshots')
  leaf(metadata, 'status', 'positions, copies, nodes and connections', async (client, show) => {
    const report = await client.get<MetadataReport>(ROUTE)
    show(report, () => metadataText(report))
  })
  leaf(metadata, 'lag', 'how far each node is behind', async (client, show) => {
    const cluster = await clusterOf(client)
    const { replica } = cluster.status
    show(replica?.peers ?? [], () => lagText(replica?.peers ?? []))
  })
  leaf(
    metadata,
    'digest',
    'hash over all records of this node, to compare nodes at one position',
    async (client, show) => {
      const report = await client.get<DigestReport>(`${ROUTE}/digest`)
      show(
        report,
        () => `position ${String(report.position)}, ${String(report.records)} records, ${report.digest}`,
      )
    },
  )
  addMembers(metadata)
  const snapshot = metadata.command('snapshot').description('snapshots of all metadata')
  leaf(snapshot, 'create <directory>', 'write a snapshot to a directory of the server; shows the progress', snapshotTo)
  addSnapshotRestore(snapshot)
  leaf(metadata, 'backup <directory>', 'the same as snapshot create; shows the progress', snapshotTo)
  leaf(metadata, 'enable-collection', 'confirm a restored store: garbage is collected again', async (client, show) => {
    show(await client.post(ROUTE, { action: 'enableCollection' }), DONE)
  })
}

function addMembers(metadata: Command): void {
  leaf(
    metadata,
    'add-node <name> <address>',
    'let a node join; with --watch make it a voter once it has caught up, and show the progress',
    async (client, show, [name = '', address = ''], { watch }) => {
      const { node } = await client.post<{ node: number }>(ROUTE, { action: 'addNode', name, address })
      if (watch) await follow(true, async () => !(await promoteWhenReady(client, show, node)))
      else
        show(
          { node, role: 'learner' },
          () => `node ${String(node)} may join; \`promote ${String(node)}\` when it has`,
        )
    },
  )
  for (const [usage, action, about] of [
    ['remove-node <id>', 'removeNode', 'take a node out for good; refused while objects are stored on its drives'],
    ['promote <id>', 'promote', 'make a learner that has caught up a voter'],
    ['transfer-leadership <id>', 'transferLeadership', 'let another voter lead'],
  ] as const) {
    leaf(metadata, usage, about, async (client, show, [id]) => {
      show(await client.post(ROUTE, { action, node: Number(id) }), DONE)
    })
  }
}

/** True when the node votes. It is asked again with every look, since only the leader knows when it is ready. */
async function promoteWhenReady(client: AdminClient, show: Show, node: number): Promise<boolean> {
  const peer = (await clusterOf(client)).status.replica?.peers.find(({ id }) => id === node)
  const { progress } = peer ?? {}
  const ready =
    peer?.role === 'learner' && progress?.active === true && progress.match > 0 && progress.lagEntries <= CAUGHT_UP
  if (ready) await client.post(ROUTE, { action: 'promote', node })
  const voter = peer?.role === 'voter' || ready
  show({ node, role: voter ? 'voter' : 'learner', progress: progress ?? null }, () =>
    voter ? `node ${String(node)} is a voter` : `node ${String(node)} is a learner: ${lagOf(peer)}`,
  )
  return voter
}

function lagOf(peer: PeerStatus | undefined): string {
  const { progress } = peer ?? {}
  if (progress === undefined) return 'its progress is not known, no leader answers'
  if (!progress.active || progress.match === 0) return 'not heard of yet; start it with cluster.join'
  return `${String(progress.lagEntries)} entries behind${progress.state === 'snapshot' ? ', a snapshot is on its way' : ''}`
}

async function clusterOf(client: AdminClient): Promise<ClusterView> {
  const { cluster } = await client.get<MetadataReport>(ROUTE)
  if (cluster === null) throw new Error('this store is not replicated: metadata.engine is local')
  return cluster
}

async function snapshotTo(
  client: AdminClient,
  show: Show,
  [path]: readonly string[],
  { watch }: { watch: boolean },
): Promise<void> {
  await client.post(ROUTE, { action: 'backup', path: resolve(path ?? '') })
  await follow(watch, async () => {
    const { backup } = await client.get<MetadataReport>(ROUTE)
    show(backup, () =>
      `snapshot in ${backup.path}: ${backup.state} ${bar(backup.done, backup.total)} ${backup.error}`.trimEnd(),
    )
    if (backup.state === 'failed') throw new Error(backup.error)
    return backup.state === 'running'
  })
}

function metadataText({ status, cluster, backup }: MetadataReport): string {
  const rows = status.copies.map((copy) => [
    String(copy.drive),
    copy.primary ? `${copy.state}, primary` : copy.state,
    String(copy.durable),
    String(copy.applied),
    bytes(copy.logBytes),
    bytes(copy.viewBytes),
    copy.reason,
  ])
  const positions = `term ${String(status.term)}, committed ${String(status.committed)}, applied ${String(status.applied)}`
  return [
    `engine ${status.engine}, ${positions}, queued ${String(status.queued)}`,
    `collection is ${status.collectionEnabled ? 'on' : 'off'}`,
    ...(backup.state === 'idle' ? [] : [`snapshot in ${backup.path}: ${backup.state} ${backup.error}`.trimEnd()]),
    ...(cluster === null ? [] : clusterLines(cluster)),
    '',
    table([['DRIVE', 'STATE', 'DURABLE', 'APPLIED', 'LOG', 'VIEW', ''], ...rows]),
  ].join('\n')
}

function clusterLines({ nodeId, name, status, connections, nodes }: ClusterView): string[] {
  const { replica } = status
  if (replica === undefined) return []
  const leader = replica.leader === 0 ? 'no leader is known' : `node ${String(replica.leader)} leads`
  const rows = replica.peers.map((peer) => {
    const connection = connections.find(({ id }) => id === peer.id)
    const sets = nodes.find(({ id }) => id === peer.id)?.sets ?? []
    return [
      String(peer.id),
      peer.name,
      peer.address,
      peer.id === replica.leader ? `${peer.role}, leader` : peer.role,
      peer.id === nodeId ? 'this node' : connection?.connected === true ? 'connected' : 'away',
      peer.progress === undefined ? '' : `${String(peer.progress.lagEntries)} / ${peer.progress.lagMs.toFixed(0)} ms`,
      sets.join(' '),
      connection?.trouble ?? '',
    ]
  })
  return [
    `node ${String(nodeId)} (${name}) is a ${replica.role}; ${leader}`,
    '',
    table([['NODE', 'NAME', 'ADDRESS', 'ROLE', 'STATE', 'LAG', 'SETS', ''], ...rows]),
  ]
}

function lagText(peers: readonly PeerStatus[]): string {
  const rows = peers.map((peer) => {
    const { progress } = peer
    if (progress === undefined) return [String(peer.id), peer.name, peer.role, '?', '?', 'no leader answers']
    const state = progress.active ? progress.state : 'not heard of'
    return [String(peer.id), peer.name, peer.role, String(progress.lagEntries), progress.lagMs.toFixed(0), state]
  })
  return table([['NODE', 'NAME', 'ROLE', 'ENTRIES', 'MS', 'STATE'], ...rows])
}
