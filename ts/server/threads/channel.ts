/**
 * Calls between two threads over one MessagePort: each side offers some calls by name and makes those of the other.
 *
 * A call is answered once, or rejects: on its timeout, when the other side throws (with the message alone: errors do
 * not survive the crossing whole), and when the channel closes. At most MAX_CALLS wait at a time.
 */
import type { MessagePort, TransferListItem } from 'node:worker_threads'

/** Calls by name: what goes and what comes back. Both must survive a structured clone. */
export type Calls = Record<string, { takes: unknown; gives: unknown }>

export type Handlers<C extends Calls> = {
  [K in keyof C]: (argument: C[K]['takes']) => C[K]['gives'] | Promise<C[K]['gives']>
}

const MAX_CALLS = 4096

type Message =
  | { call: string; id: number; argument: unknown }
  | { answer: number; value: unknown }
  | { answer: number; error: string }

interface Waiting {
  resolve(value: unknown): void
  reject(error: Error): void
  timer: NodeJS.Timeout | undefined
}

export class ChannelError extends Error {
  readonly code: 'timeout' | 'closed' | 'busy' | 'failed'
  constructor(code: ChannelError['code'], detail: string) {
    super(detail)
    this.name = 'ChannelError'
    this.code = code
  }
}

export class Channel<Makes extends Calls, Offers extends Calls> {
  readonly #port: MessagePort
  readonly #handlers: Handlers<Offers>
  readonly #waiting = new Map<number, Waiting>()
  #next = 1
  #closed = false

  constructor(port: MessagePort, handlers: Handlers<Offers>) {
    this.#port = port
    this.#handlers = handlers
    port.on('message', (message: Message) => {
      void this.#receive(message)
    })
    port.on('close', () => {
      this.#fail()
    })
  }

  get closed(): boolean {
    return this.#closed
  }

  /** timeoutMs 0: waits as long as the channel lives. */
  call<K extends keyof Makes & string>(
    name: K,
    argument: Makes[K]['takes'],
    timeoutMs: number,
    transfer: readonly TransferListItem[] = [],
  ): Promise<Makes[K]['gives']> {
    return new Promise((resolve, reject) => {
      if (this.#closed) {
        reject(new ChannelError('closed', `${name}: the thread is gone`))
        return
      }
      if (this.#waiting.size >= MAX_CALLS) {
        reject(new ChannelError('busy', `${name}: too many calls wait`))
        return
      }
      const id = this.#next++
      const timer =
        timeoutMs === 0
          ? undefined
          : setTimeout(() => {
              this.#waiting.delete(id)
              reject(new ChannelError('timeout', `${name}: no answer in ${String(timeoutMs)} ms`))
            }, timeoutMs)
      timer?.unref()
      this.#waiting.set(id, { resolve: resolve, reject, timer })
      this.#port.postMessage({ call: name, id, argument } satisfies Message, transfer)
    })
  }

  /** A call whose answer nobody waits for. */
  tell<K extends keyof Makes & string>(name: K, argument: Makes[K]['takes']): void {
    if (!this.#closed) this.#port.postMessage({ call: name, id: 0, argument } satisfies Message)
  }

  close(): void {
    this.#port.close()
    this.#fail()
  }

  async #receive(message: Message): Promise<void> {
    if ('answer' in message) {
      this.#settle(message)
      return
    }
    const handler = this.#handlers[message.call]
    let answer: Message
    try {
      if (handler === undefined) throw new Error(`no such call: ${message.call}`)
      answer = { answer: message.id, value: await handler(message.argument) }
    } catch (error) {
      answer = { answer: message.id, error: error instanceof Error ? error.message : String(error) }
    }
    if (message.id !== 0 && !this.#closed) this.#port.postMessage(answer)
  }

  #settle(message: Extract<Message, { answer: number }>): void {
    const waiting = this.#waiting.get(message.answer)
    if (waiting === undefined) return
    this.#waiting.delete(message.answer)
    clearTimeout(waiting.timer)
    if ('error' in message) waiting.reject(new ChannelError('failed', message.error))
    else waiting.resolve(message.value)
  }

  #fail(): void {
    if (this.#closed) return
    this.#closed = true
    for (const waiting of this.#waiting.values()) {
      clearTimeout(waiting.timer)
      waiting.reject(new ChannelError('closed', 'the thread is gone'))
    }
    this.#waiting.clear()
  }
}
