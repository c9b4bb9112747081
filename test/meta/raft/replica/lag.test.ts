import { after, it } from 'node:test'
import { Cluster, ok, put } from './cluster.js'

const LONG = process.env.OSTRAKA_TEST_LONG !== undefined
const CLIENTS = 32
const WRITES = LONG ? 500 : 30

const cluster = new Cluster({ tickMs: 50, electionTicks: 20 })
after(() => cluster.end())

it('goes on where one message of a hundred is lost, and says how far followers fell behind', { timeout: 120_000 }, async (t) => {
  await cluster.grow(3)
  const leader = await cluster.agreed()
  cluster.network.loss = 10
  const lags: number[] = []
  const sampling = setInterval(() => {
    for (const { lagMs } of leader.metrics().peers) lags.push(lagMs)
  }, 10)
  try {
    await Promise.all(Array.from({ length: CLIENTS }, async (_, client) => {
      for (let i = 0; i < WRITES; i++) await ok(leader.propose(put(`k${String(client)}-${String(i)}`)))
    }))
  } finally {
    clearInterval(sampling)
    cluster.network.loss = 0
  }
  lags.sort((a, b) => a - b)
  const share = (of: number): string => String(lags[Math.floor((lags.length - 1) * of)] ?? NaN)
  t.diagnostic(`lag of followers: median ${share(0.5)} ms, p99 ${share(0.99)} ms, most ${share(1)} ms`)
  await cluster.equal()
})
