/**
 * Clients that write, create, delete and read a few keys through all nodes at once, and remember when each call began
 * and ended: a history that must be linearizable. A value is a user metadata entry, so that any node can be asked for
 * it.
 */
import { randomInt } from 'node:crypto'

import { DeleteObjectCommand, HeadObjectCommand, PutObjectCommand } from '@aws-sdk/client-s3'
import type { S3Client, S3ServiceException } from '@aws-sdk/client-s3'

import { checkByKey } from '../support/linearizability.js'
import type { Model, Operation, Verdict } from '../support/linearizability.js'
import type { TestCluster } from './cluster.js'

export interface Input {
  kind: 'put' | 'create' | 'delete' | 'read'
  key: string
  value: string
}

/** What was seen: a read's value ('' for none), whether a create found nothing, or that nobody knows. */
export type Output = { value: string } | 'ok' | 'exists' | 'unknown'

export const REGISTER: Model<string, Input, Output> = {
  initial: '',
  step(state, { kind, value }, output) {
    if (kind === 'read') return typeof output === 'object' && output.value === state ? state : undefined
    if (kind === 'delete') return ''
    if (kind === 'put') return value
    if (output === 'unknown') return state === '' ? value : state
    return (state === '') === (output === 'ok') ? (state === '' ? value : state) : undefined
  },
}

const CALL_MS = 2_000
const PAUSE_MS = 60
/** After an unknown outcome: few of them keep the search short. */
const AFTER_UNKNOWN_MS = 400

export class Registers {
  readonly history: Operation<Input, Output>[] = []
  /** Part of the keys: a new one after each fault, so that no key has a long history. */
  generation = 0
  readonly #cluster: TestCluster
  readonly #bucket: string
  #stopped = false
  #values = 0
  readonly #work: Promise<unknown>

  constructor(cluster: TestCluster, bucket: string, clients: number) {
    this.#cluster = cluster
    this.#bucket = bucket
    this.#work = Promise.all(Array.from({ length: clients }, () => this.#run()))
  }

  async stop(): Promise<void> {
    this.#stopped = true
    await this.#work
  }

  check(): Verdict & { key: string | undefined } {
    return checkByKey(REGISTER, this.history, ({ key }) => key)
  }

  async #run(): Promise<void> {
    while (!this.#stopped) {
      const { nodes } = this.#cluster
      const { s3 } = nodes[randomInt(nodes.length)]!
      const kind = (['put', 'put', 'create', 'delete', 'read', 'read', 'read'] as const)[randomInt(7)]!
      const input = { kind, key: `r${String(this.generation)}-${String(randomInt(2))}`, value: String(++this.#values) }
      const call = performance.now()
      const output = await this.#call(s3, input)
      // A failed read says nothing; a failed write may happen at any time from now on.
      const end = output === 'unknown' ? Infinity : performance.now()
      if (kind !== 'read' || output !== 'unknown') this.history.push({ call, return: end, input, output })
      await new Promise((resolve) => setTimeout(resolve, output === 'unknown' ? AFTER_UNKNOWN_MS : PAUSE_MS))
    }
  }

  async #call(s3: S3Client, { kind, key: Key, value }: Input): Promise<Output> {
    const at = { Bucket: this.#bucket, Key }
    const options = { abortSignal: AbortSignal.timeout(CALL_MS) }
    try {
      if (kind === 'read')
        return { value: (await s3.send(new HeadObjectCommand(at), options)).Metadata?.['value'] ?? '?' }
      if (kind === 'delete') await s3.send(new DeleteObjectCommand(at), options)
      else {
        const condition = kind === 'create' ? { IfNoneMatch: '*' } : {}
        await s3.send(new PutObjectCommand({ ...at, ...condition, Body: '', Metadata: { value } }), options)
      }
      return 'ok'
    } catch (error) {
      const status = (error as Partial<S3ServiceException>).$metadata?.httpStatusCode
      if (kind === 'read' && status === 404) return { value: '' }
      return kind === 'create' && status === 412 ? 'exists' : 'unknown'
    }
  }
}
