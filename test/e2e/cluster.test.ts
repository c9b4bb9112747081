import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { execFile } from 'node:child_process'

import {
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListBucketsCommand,
  PutObjectCommand,
  UploadPartCommand,
} from '@aws-sdk/client-s3'
import type { S3ServiceException } from '@aws-sdk/client-s3'

import { EXIT } from '../../ts/server/exit_codes.js'
import { quickFaults, rampage } from './chaos.js'
import { eventually, get, listAll, makeBucket, put, randomBody } from './clients.js'
import { TestCluster } from './cluster.js'
import type { ClusterNode } from './cluster.js'
import { SmallDisk } from './small_disk.js'
import { ROOT_KEYS, ServerProcess, StartFailure, makeDrives } from '../../bench/load/server_process.js'

const main = fileURLToPath(new URL('../../ts/cli/main.js', import.meta.url))
let shared: TestCluster | undefined
const disk = SmallDisk.mount(256)
after(async () => {
  await shared?.stop()
  disk?.remove()
})

/** Three nodes, for all tests of this file. */
async function three(): Promise<{ cluster: TestCluster; nodes: [ClusterNode, ClusterNode, ClusterNode] }> {
  const places = disk === undefined ? [] : [makeDrives(2, disk.folder)]
  shared ??= await TestCluster.start(3, [], places)
  return { cluster: shared, nodes: shared.nodes as [ClusterNode, ClusterNode, ClusterNode] }
}

function statusOf(error: unknown): number {
  return (error as S3ServiceException).$metadata.httpStatusCode ?? 0
}

/** What the command prints and exits with, asked of one node. */
function admin(node: ClusterNode, ...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const address = new URL(node.server.adminEndpoint).host
  const env = {
    ...process.env, OSTRAKA_ROOT_ACCESS_KEY: ROOT_KEYS.accessKey, OSTRAKA_ROOT_SECRET_KEY: ROOT_KEYS.secretKey,
  }
  return new Promise((resolve) => {
    execFile(
      process.execPath,
      [main, 'admin', ...args, '--admin-listen', address],
      { env },
      (error, stdout, stderr) => {
        resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr })
      },
    )
  })
}

test('metadata goes through any node; data is on the node that took it, and others say so', async () => {
  const { nodes: [one, two, three_] } = await three()
  await makeBucket(two.s3, 'shared')
  const { Buckets } = await three_.s3.send(new ListBucketsCommand({}))
  assert.deepEqual(Buckets?.map(({ Name }) => Name), ['shared'])
  const body = randomBody(300_000)
  await put(one.s3, 'shared', 'object', body)
  assert.deepEqual(await listAll(three_.s3, 'shared'), ['object'])
  const head = await three_.s3.send(new HeadObjectCommand({ Bucket: 'shared', Key: 'object' }))
  assert.equal(head.ContentLength, body.length)
  assert.deepEqual(Buffer.from(await get(one.s3, 'shared', 'object')), body)
  await assert.rejects(three_.s3.send(new GetObjectCommand({ Bucket: 'shared', Key: 'object' })), (error: Error) => {
    assert.equal(statusOf(error), 503)
    assert.match(error.message, /lies on drives of node 1 .*erasure set 0/)
    return true
  })
  await three_.s3.send(new DeleteObjectCommand({ Bucket: 'shared', Key: 'object' }))
  assert.deepEqual(await listAll(one.s3, 'shared'), [])
})

test('of conditional writes through all nodes one succeeds', async () => {
  const { nodes } = await three()
  for (let round = 0; round < 3; round++) {
    const Key = `once-${String(round)}`
    const results = await Promise.allSettled(
      nodes.map(({ s3 }) => s3.send(new PutObjectCommand({ Bucket: 'shared', Key, Body: 'x', IfNoneMatch: '*' }))),
    )
    assert.equal(results.filter(({ status }) => status === 'fulfilled').length, 1)
    for (const result of results) if (result.status === 'rejected') assert.equal(statusOf(result.reason), 412)
  }
})

test('an upload takes its parts on the node that began it', async () => {
  const { nodes: [one, two] } = await three()
  const upload = { Bucket: 'shared', Key: 'upload' }
  const { UploadId } = await two.s3.send(new CreateMultipartUploadCommand(upload))
  const part = { ...upload, UploadId, PartNumber: 1, Body: randomBody(1000) }
  await assert.rejects(one.s3.send(new UploadPartCommand(part)), (error: Error) => {
    assert.equal(statusOf(error), 503)
    assert.match(error.message, /begun on node 2/)
    return true
  })
  const { ETag } = await two.s3.send(new UploadPartCommand(part))
  const MultipartUpload = { Parts: [{ PartNumber: 1, ETag }] }
  await one.s3.send(new CompleteMultipartUploadCommand({ ...upload, UploadId, MultipartUpload }))
  assert.equal((await get(two.s3, 'shared', 'upload')).length, 1000)
})

test('a node asks for the level of a read that it is told, and refuses what it does not know', async () => {
  const { nodes: [one] } = await three()
  const ask = async (level: string): Promise<number> => {
    const command = new HeadObjectCommand({ Bucket: 'shared', Key: 'upload' })
    command.middlewareStack.add(
      (next) => (args) => {
        (args.request as { headers: Record<string, string> }).headers['x-ostraka-consistency'] = level
        return next(args)
      },
      { step: 'build' },
    )
    return one.s3.send(command).then(({ $metadata }) => $metadata.httpStatusCode ?? 0, statusOf)
  }
  for (const level of ['linearizable', 'eventual', 'bounded', 'bounded=250ms'])
    assert.equal(await ask(level), 200, level)
  assert.equal(await ask('whatever'), 400)
})

test('the command shows and steers the group; a node that holds data stays', async () => {
  const { cluster, nodes: [one, , last] } = await three()
  const status = await admin(one, 'metadata', 'status')
  assert.equal(status.code, EXIT.ok, status.stderr)
  for (const { name } of cluster.nodes) assert.match(status.stdout, new RegExp(`${name} .*voter`))
  assert.match(status.stdout, /node 1 \(node-1\) is a (leader|follower)/)
  const to = (await cluster.leader()) === last ? one : last
  const moved = await admin(one, 'metadata', 'transfer-leadership', String(to.id))
  assert.equal(moved.code, EXIT.ok, moved.stderr)
  assert.equal((await cluster.leader()).id, to.id)
  const lag = await admin(last, 'metadata', 'lag', '--json')
  assert.equal(lag.code, EXIT.ok, lag.stderr)
  const peers = JSON.parse(lag.stdout) as { id: number; progress?: { lagEntries: number } }[]
  assert.deepEqual(peers.map(({ id, progress }) => [id, typeof progress?.lagEntries]), [
    [1, 'number'], [2, 'number'], [3, 'number'],
  ])
  const removed = await admin(one, 'metadata', 'remove-node', '2')
  assert.equal(removed.code, EXIT.failure)
  assert.match(removed.stderr, /objects are stored on drives of node 2/)
  const { stdout } = await admin(one, 'metadata', 'status', '--json')
  assert.equal((JSON.parse(stdout) as { cluster: { nodes: unknown[] } }).cluster.nodes.length, 3)
  const text = await (await fetch(`${one.server.adminEndpoint}/metrics`)).text()
  for (const name of [
    'ostraka_raft_term',
    'ostraka_peer_up{peer="2"}',
    'ostraka_raft_write_seconds_bucket{le="+Inf"}',
  ]) {
    assert.ok(text.includes(`\n${name} `), name)
  }
})

test('under load, through crashes, pauses and partitions, nothing acknowledged is lost, and history is linearizable', async () => {
  const { cluster } = await three()
  await makeBucket(cluster.nodes[0]!.s3, 'load')
  await rampage({ cluster, small: disk, faults: quickFaults, padding: 0 })
})

test('the scrub of the leader compares the replicas with each other', async () => {
  const { cluster } = await three()
  await eventually('the leader says that the others hold the same', async () => {
    const leader = await cluster.leader()
    await leader.server.admin('POST', '/admin/v1/scrub', { action: 'start' })
    await new Promise((resolve) => setTimeout(resolve, 500))
    const text = await (await fetch(`${leader.server.adminEndpoint}/metrics`)).text()
    assert.doesNotMatch(text, /^ostraka_raft_replica_differs\{[^}]*\} 1$/m)
    return [...text.matchAll(/^ostraka_raft_replica_differs\{peer="\d+"\} 0$/gm)].length === 2
  })
})

test('a node of a replicated store refuses the local engine, and a restore', async () => {
  const { cluster, nodes: [, , last] } = await three()
  await last.server.stop('SIGKILL')
  try {
    await assert.rejects(ServerProcess.start({ drives: last.place.drives }), (error) => {
      assert.ok(error instanceof StartFailure && error.exit.code === EXIT.usage)
      assert.match(error.output, /expected metadata.engine replicated, was given local/)
      return true
    })
  } finally {
    await cluster.restart(last)
  }
})
