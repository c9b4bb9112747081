/** A task for the worker pool's tests: does what its control thread asks for. */
import { Channel } from '../../ts/server/threads/channel.js'
import type { PoolTask } from '../../ts/server/threads/worker_pool.js'

export type TaskCalls = {
  echo: { takes: string; gives: string }
  refuse: { takes: string; gives: string }
  hang: { takes: undefined; gives: undefined }
  crash: { takes: undefined; gives: undefined }
  end: { takes: undefined; gives: undefined }
}

export type ControlCalls = { started: { takes: { slot: number; generation: number }; gives: undefined } }

export default async function run(task: PoolTask): Promise<void> {
  await new Promise<void>((resolve) => {
    const channel: Channel<ControlCalls, TaskCalls> = new Channel<ControlCalls, TaskCalls>(task.control, {
      echo: (text) => `${text} from ${String(task.slot)}`,
      refuse: (text) => { throw new Error(`refused: ${text}`) },
      hang: () => new Promise(() => undefined),
      crash: () => { setImmediate(() => { throw new Error('crashed as asked') }); return undefined },
      end: () => { setImmediate(() => { channel.close(); resolve() }); return undefined },
    })
    channel.tell('started', { slot: task.slot, generation: task.generation })
  })
}
