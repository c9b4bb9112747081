import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'

const HEAP = new URL('../../../ts/server/threads/heap.js', import.meta.url).href

/** A thread that keeps what it makes, until V8 has marked its heap more than once. */
const GROWING = `
  const kept = []
  for (let i = 0; i < 200; i++) kept.push(Array.from({ length: 32768 }, (_, j) => [i, j]))
`

/** The limits, in MiB, at which V8 began to mark the heap of that thread. */
function limits(raised: boolean): number[] {
  const program = `
    import { Worker } from 'node:worker_threads'
    import { raiseHeapFloor } from ${JSON.stringify(HEAP)}
    if (${String(raised)}) raiseHeapFloor()
    new Worker(${JSON.stringify(GROWING)}, { eval: true })
  `
  const args = ['--trace-incremental-marking', '--input-type=module', '--eval', program]
  const { stdout, status } = spawnSync(process.execPath, args, { encoding: 'utf8' })
  assert.equal(status, 0)
  return [...stdout.matchAll(/Start \(.*\): \(size\/limit\/slack\) v8: \d+MB \/ (\d+)MB/g)].map((at) => Number(at[1]))
}

test('no thread started under a raised floor collects at less', () => {
  const [usual, raised] = [limits(false), limits(true)]
  assert.ok(usual.length > 0 && raised.length > 0, 'V8 says at which limits it begins')
  assert.ok(Math.min(...usual) < 128, `${String(usual)} MiB without`)
  assert.ok(Math.min(...raised) >= 128, `${String(raised)} MiB with it`)
})
