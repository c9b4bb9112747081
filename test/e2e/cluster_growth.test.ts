import assert from 'node:assert/strict'
import { after, test } from 'node:test'

import { DeleteObjectCommand } from '@aws-sdk/client-s3'

import { ServerProcess, makeDrives } from '../../bench/load/server_process.js'
import { eventually, get, listAll, makeBucket, put, randomBody, sdkClient } from './clients.js'
import { TestCluster } from './cluster.js'

const cluster = new TestCluster()
after(() => cluster.stop())

/** What the command says when it is refused. */
async function refusal(call: Promise<unknown>): Promise<string> {
  return call.then(() => assert.fail('was not refused'), (error: Error) => error.message)
}

test('a store of one node becomes the first of several in place, and keeps what it holds', async () => {
  const place = makeDrives(2)
  const alone = await ServerProcess.start({ drives: place.drives })
  const s3 = sdkClient(alone)
  await makeBucket(s3, 'kept')
  const bodies = Array.from({ length: 20 }, () => randomBody(5_000))
  for (const [i, body] of bodies.entries()) await put(s3, 'kept', `object-${String(i).padStart(2, '0')}`, body)
  s3.destroy()
  await alone.stop()

  const one = await cluster.add(place)
  for (const [i, body] of bodies.entries()) {
    assert.deepEqual(Buffer.from(await get(one.s3, 'kept', `object-${String(i).padStart(2, '0')}`)), body)
  }
  const two = await cluster.add()
  assert.equal((await listAll(two.s3, 'kept')).length, 20)
  await put(two.s3, 'kept', 'from-two', randomBody(100_000))
  assert.equal((await listAll(one.s3, 'kept')).length, 21)
  assert.equal((await get(two.s3, 'kept', 'from-two')).length, 100_000)
  await eventually('replicas are equal', () => cluster.equal())
})

test('after a power cut of all nodes everything is there again', async () => {
  const { nodes } = cluster
  for (const { server } of nodes) process.kill(server.pid, 'SIGKILL')
  await Promise.all(nodes.map(({ server }) => server.exited))
  await Promise.all(nodes.map((node) => cluster.restart(node)))
  for (const { s3 } of nodes) {
    await eventually('it lists', () => listAll(s3, 'kept').then((keys) => keys.length === 21, () => false))
  }
  assert.equal((await get(nodes[1]!.s3, 'kept', 'from-two')).length, 100_000)
})

test('changes of members are refused with the reason, through any node', async () => {
  const [one, two] = cluster.nodes
  for (const node of [one!, two!]) {
    const ask = (body: object): Promise<unknown> => node.server.admin('POST', '/admin/v1/metadata', body)
    assert.match(await refusal(ask({ action: 'promote', node: 9 })), /409.*node 9 is not a member/)
    assert.match(await refusal(ask({ action: 'removeNode', node: 2 })), /409.*objects are stored on drives of node 2/)
    assert.match(await refusal(ask({ action: 'addNode', name: 'x', address: 'nowhere' })), /400.*expected host:port/)
    assert.match(await refusal(ask({ action: 'transferLeadership', node: 9 })), /409.*node 9 is not a voter/)
  }
  // One that has never been heard of does not vote, however little it lacks.
  const { node: absent } = (await cluster.member({ action: 'addNode', name: 'absent', address: '127.0.0.1:9' })) as {
    node: number
  }
  assert.match(await refusal(cluster.member({ action: 'promote', node: absent })), /409.*has not caught up/)
  await cluster.member({ action: 'removeNode', node: absent })
})

test('a node without objects can be taken out, and is not let in again', async () => {
  const [one, two] = cluster.nodes
  await two!.s3.send(new DeleteObjectCommand({ Bucket: 'kept', Key: 'from-two' }))
  await cluster.member({ action: 'transferLeadership', node: 1 })
  await one!.server.admin('POST', '/admin/v1/metadata', { action: 'removeNode', node: 2 })
  const { status, nodes } = await cluster.report(one!)
  assert.deepEqual(status.replica?.peers.map(({ id }) => id), [1])
  assert.deepEqual(nodes.map(({ sets }) => sets).flat(), [0])
  await put(one!.s3, 'kept', 'alone again', randomBody(10))
  assert.equal((await listAll(one!.s3, 'kept')).length, 21)
  await eventually('the removed node hears of it', () =>
    two!.server.output.includes('node 2 was removed from the cluster'),
  )
  const ready = async ({ server }: typeof one & object): Promise<{ status: number; text: string }> => {
    const response = await fetch(`${server.adminEndpoint}/health/ready`)
    return { status: response.status, text: await response.text() }
  }
  await eventually('it says that it cannot serve', async () => (await ready(two!)).status === 503)
  assert.match((await ready(two!)).text, /no leader of the metadata has been known for|the metadata here is behind/)
  const { notReady } = (await two!.server.admin('GET', '/admin/v1/status')) as { notReady: string[] }
  assert.match(notReady.join(), /no leader|behind/)
  assert.deepEqual(await ready(one!), { status: 200, text: '{"ready":true,"reasons":[]}\n' })
})
