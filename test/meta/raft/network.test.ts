import assert from 'node:assert/strict'
import { test } from 'node:test'

import { encodeMessage } from '../../../ts/meta/raft/codec.js'
import { makeMessage } from '../../../ts/meta/raft/core/types.js'
import type { Message } from '../../../ts/meta/raft/core/types.js'
import { RaftNetwork, groupOf } from '../../../ts/meta/raft/network.js'

interface Heard {
  carried: [number, number][]
  messages: Message[]
  peers: Map<number, string>
  asked: Uint8Array[]
}

function network(sends = true): { network: RaftNetwork; heard: Heard } {
  const heard: Heard = { carried: [], messages: [], peers: new Map(), asked: [] }
  const made = new RaftNetwork(1, 4, {
    send: (to, channel) => {
      heard.carried.push([to, channel])
      return sends
    },
    setPeer: (id, address) => {
      heard.peers.set(id, address === undefined ? '' : `${address.host}:${String(address.port)}`)
    },
    removePeer: (id) => {
      heard.peers.delete(id)
    },
    ask: async function* (_to, question) {
      heard.asked.push(question)
      yield Buffer.from('answer')
    },
  })
  made.onMessages((messages) => heard.messages.push(...messages))
  return { network: made, heard }
}

test('messages travel on the channel of their group, and what is dropped is counted', () => {
  const { network: one, heard } = network(false)
  one.send(makeMessage('MsgHeartbeat', 2, { from: 1, term: 1 }))
  assert.deepEqual(heard.carried, [[2, 4]])
  assert.deepEqual([one.sent, one.dropped], [1, 1])
})

test('only what is meant for this node and speaks for its sender comes in', () => {
  const { network: one, heard } = network()
  const good = makeMessage('MsgVote', 1, { from: 2, term: 5 })
  const forwarded = makeMessage('MsgReadIndex', 1, { from: 3, requestId: 9 })
  const bad = [makeMessage('MsgVoteResp', 1, { from: 3, term: 5 }), makeMessage('MsgVote', 4, { from: 2, term: 5 })]
  one.receive(2, [...[good, forwarded, ...bad].map(encodeMessage), Buffer.from('noise')])
  assert.deepEqual(heard.messages, [good, forwarded])
  assert.equal(one.malformed, 3)
})

test('peers are those of the last list, without this node', () => {
  const { network: one, heard } = network()
  one.setPeers([{ id: 1, address: 'a:1' }, { id: 2, address: 'b:2' }, { id: 3, address: '' }])
  assert.deepEqual([...heard.peers], [[2, 'b:2'], [3, '']])
  heard.peers.set(99, 'a stranger that has come to join')
  one.setPeers([{ id: 2, address: 'c:3' }])
  assert.deepEqual([...heard.peers], [[2, 'c:3'], [99, 'a stranger that has come to join']])
})

test('questions carry their group, and reach who answers without it', async () => {
  const { network: one, heard } = network()
  for await (const chunk of one.snapshots.fetch(2, Buffer.from('which')))
    assert.equal(Buffer.from(chunk).toString(), 'answer')
  const question = heard.asked[0] ?? Buffer.alloc(0)
  assert.equal(groupOf(question), 4)
  assert.equal(groupOf(Buffer.alloc(3)), undefined)
  assert.throws(() => one.answer(2, question), /no snapshots/)
  const seen: [number, string][] = []
  one.snapshots.serve(async function* (asker, about) {
    seen.push([asker, Buffer.from(about).toString()])
    yield Buffer.from([1])
  })
  for await (const chunk of one.answer(2, question)) assert.deepEqual([...chunk], [1])
  assert.deepEqual(seen, [[2, 'which']])
})
