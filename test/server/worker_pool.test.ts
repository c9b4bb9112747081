import assert from 'node:assert/strict'
import { once, EventEmitter } from 'node:events'
import { fileURLToPath } from 'node:url'
import { test } from 'node:test'

import { createLogger } from '../../ts/server/log.js'
import { ChannelError } from '../../ts/server/threads/channel.js'
import { WorkerPool } from '../../ts/server/threads/worker_pool.js'
import type { ControlCalls, TaskCalls } from './endless_task.js'

const log = createLogger('error', 'test')
log.level = 'silent'

function makePool(threads: number): {
  pool: WorkerPool<TaskCalls, ControlCalls>
  events: EventEmitter
  crashed: number[]
  run: (slot: number) => Promise<number>
} {
  const events = new EventEmitter()
  const crashed: number[] = []
  const generations = new Map<number, number>()
  const pool = new WorkerPool<TaskCalls, ControlCalls>({
    filename: fileURLToPath(new URL('./endless_task.js', import.meta.url)),
    name: 'test',
    threads,
    prepare: () => ({ task: {}, transfer: [] }),
    handlers: () => ({
      started: ({ slot, generation }) => {
        generations.set(slot, generation)
        events.emit('started', slot)
        return undefined
      },
    }),
    crashed: (slot) => {
      crashed.push(slot)
    },
    givenUp: (error) => {
      events.emit('givenUp', error)
    },
    log,
  })
  const run = async (slot: number): Promise<number> => {
    while (generations.get(slot) === undefined) await once(events, 'started')
    return generations.get(slot) ?? -1
  }
  return { pool, events, crashed, run }
}

async function stop(pool: WorkerPool<TaskCalls, ControlCalls>): Promise<void> {
  pool.stopRestarts()
  for (const channel of pool.channels()) channel?.tell('end', undefined)
  await pool.ended()
  await pool.destroy()
}

test('every slot runs its task, and calls reach it and are answered', async () => {
  const { pool, run } = makePool(2)
  pool.start()
  await Promise.all([run(0), run(1)])
  const answers = await Promise.all(pool.channels().map(async (channel) => channel?.call('echo', 'hello', 10_000)))
  assert.deepEqual(answers, ['hello from 0', 'hello from 1'])
  await stop(pool)
})

test('an error in a handler, a missed deadline and a closed channel each reject the call', async () => {
  const { pool, run } = makePool(1)
  pool.start()
  await run(0)
  const [channel] = pool.channels()
  assert.ok(channel !== undefined)
  await assert.rejects(
    channel.call('refuse', 'this', 10_000),
    (e) => e instanceof ChannelError && e.code === 'failed' && e.message === 'refused: this',
  )
  await assert.rejects(channel.call('hang', undefined, 20), (e) => e instanceof ChannelError && e.code === 'timeout')
  const hanging = assert.rejects(
    channel.call('hang', undefined, 0),
    (e) => e instanceof ChannelError && e.code === 'closed',
  )
  await stop(pool)
  await hanging
})

test('a task that crashes is reported and run again, alone', async () => {
  const { pool, events, crashed, run } = makePool(2)
  pool.start()
  await Promise.all([run(0), run(1)])
  pool.channels()[1]?.tell('crash', undefined)
  const [slot] = (await once(events, 'started')) as [number]
  assert.equal(slot, 1)
  assert.deepEqual(crashed, [1])
  assert.equal(await run(1), 1)
  assert.equal(await run(0), 0)
  assert.equal(await pool.channels()[1]?.call('echo', 'again', 10_000), 'again from 1')
  await stop(pool)
})
