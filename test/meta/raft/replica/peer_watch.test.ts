import assert from 'node:assert/strict'
import { it } from 'node:test'
import { PeerWatch } from '../../../../ts/meta/raft/replica/peer_watch.js'

it('says how old the oldest is of what a follower lacks, also where it never has the newest', () => {
  let now = 0
  let commit = 0
  let match = 0
  const watch = new PeerWatch(
    {
      members: { voters: [1, 2], votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false },
      status: () => ({
        id: 1,
        hardState: { commit },
        progress: new Map([[2, { match, state: 'StateReplicate', recentActive: true }]]),
      }) as never,
    },
    { now: () => now, after: () => () => undefined },
  )
  const lag = (): number => watch.figures()[0]?.lagMs ?? NaN
  const pass = (ms: number, behind: number): void => {
    for (const end = now + ms; now < end;) {
      now += 25
      commit += 100
      match = Math.max(match, commit - behind)
      watch.sample()
    }
  }
  pass(1_000, 50)
  assert.equal(lag(), 25)
  pass(20_000, 150)
  assert.equal(lag(), 50)
  // It stands still, for longer than samples are kept.
  pass(30_000, Infinity)
  assert.equal(lag(), 30_050)
  match = commit
  assert.equal(lag(), 0)
  watch.sample()
  pass(25, 50)
  assert.equal(lag(), 25)
})
