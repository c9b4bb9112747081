/** Three nodes of one group, each a process of its own (node.ts) on loopback; the first leads. */
import { fork } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { fileURLToPath } from 'node:url'

import { interrupted } from '../lifetime.js'
import type { LoopPlan } from './closed_loop.js'
import type { LoadKind, Loaded, Reply, Status, Wish } from './node.js'
import { freePorts, until } from './waiting.js'

export class BenchNode {
  readonly #child: ChildProcess
  readonly #kill = (): void => { this.#child.kill('SIGKILL') }

  constructor() {
    this.#child = fork(fileURLToPath(new URL('./node.js', import.meta.url)), [], {
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    })
    process.once('exit', this.#kill)
    interrupted.addEventListener('abort', this.#kill)
  }

  /** One at a time. Rejects with the node's words, or when it ended. */
  #ask(wish: Wish): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const ended = (): void => {
        this.#child.off('message', answered)
        reject(new Error(`a node ended while it was asked to ${wish.what}`))
      }
      const answered = (reply: Reply): void => {
        this.#child.off('exit', ended)
        if ('error' in reply) reject(new Error(`${wish.what}: ${reply.error}`))
        else resolve(reply.value)
      }
      if (this.#child.exitCode !== null || this.#child.signalCode !== null) {
        ended()
        return
      }
      this.#child.once('exit', ended)
      this.#child.once('message', answered)
      this.#child.send(wish)
    })
  }

  /** Resolves with its address. */
  open(options: Omit<Extract<Wish, { what: 'open' }>, 'what'>): Promise<string> {
    return this.#ask({ what: 'open', ...options }) as Promise<string>
  }

  async found(): Promise<void> {
    await this.#ask({ what: 'found' })
  }

  add(name: string, address: string): Promise<number> {
    return this.#ask({ what: 'add', name, address }) as Promise<number>
  }

  async promote(node: number): Promise<void> {
    await this.#ask({ what: 'promote', node })
  }

  status(): Promise<Status> {
    return this.#ask({ what: 'status' }) as Promise<Status>
  }

  load(kind: LoadKind, plan: LoopPlan): Promise<Loaded> {
    return this.#ask({ what: 'load', kind, plan }) as Promise<Loaded>
  }

  async stop(): Promise<void> {
    const gone = new Promise<void>((resolve) => this.#child.once('exit', () => { resolve() }))
    const alive = this.#child.exitCode === null && this.#child.signalCode === null
    try {
      if (alive) await this.#ask({ what: 'stop' }).catch(() => undefined)
      this.#kill()
      if (alive) await gone
    } finally {
      process.off('exit', this.#kill)
      interrupted.removeEventListener('abort', this.#kill)
    }
  }
}

/** Runs `work` with as many voters as drives; the first leads. Ends them whatever happens. */
export async function withNodes<T>(
  drives: readonly string[],
  work: (nodes: readonly [BenchNode, ...BenchNode[]]) => Promise<T>,
): Promise<T> {
  const [firstDrive = '', ...others] = drives
  const shared = { clusterId: randomBytes(8).toString('hex'), secret: randomBytes(32).toString('hex') }
  const first = new BenchNode()
  const nodes: [BenchNode, ...BenchNode[]] = [first]
  try {
    const join = await first.open({ id: 1, port: 0, drive: firstDrive, ...shared, join: '' })
    await first.found()
    for (const [at, drive] of others.entries()) {
      const id = at + 2
      const node = new BenchNode()
      nodes.push(node)
      const [port = 0] = await freePorts(1)
      const given = await first.add(`node-${String(id)}`, `127.0.0.1:${String(port)}`)
      await node.open({ id: given, port, drive, ...shared, join })
      await until(`node ${String(given)} votes`, () => votes(first, given))
    }
    return await work(nodes)
  } finally {
    await Promise.all(nodes.map((node) => node.stop()))
  }
}

async function votes(first: BenchNode, id: number): Promise<boolean> {
  const { replica } = await first.status()
  if (replica.peers.find((peer) => peer.id === id)?.role === 'voter') return true
  // Refused until it has caught up.
  await first.promote(id).catch(() => undefined)
  return false
}
