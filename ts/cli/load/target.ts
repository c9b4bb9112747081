/** An S3 endpoint under load: its address and keys, and a bucket on it that holds nothing but what the load makes. */
import { randomBytes } from 'node:crypto'

import { Connection } from './connection.js'
import type { Address, Answer } from './connection.js'
import { Signer } from './signer.js'
import type { SignerKeys } from './signer.js'
import { hostHeader, requestHead } from './workload.js'

export interface S3Target {
  /** As tables and metrics name it. */
  name: string
  address: Address
  keys?: SignerKeys
  /** It keeps nothing, and so needs neither buckets nor objects: a server made for scale. */
  forgets?: boolean
  /** Its processes, where they are of this machine and known. */
  pids?: readonly number[]
}

/** Throws a sentence for the user when `url` is not the root of an http(s) server. */
export function parseEndpoint(url: string, insecure = false): Address {
  const parsed = URL.canParse(url) ? new URL(url) : undefined
  if (parsed === undefined || !['http:', 'https:'].includes(parsed.protocol))
    throw new Error(`${url} is not an http or https URL`)
  if (parsed.pathname !== '/' || parsed.search !== '' || parsed.username !== '')
    throw new Error(`${url}: an endpoint has no path, query or user`)
  const tls = parsed.protocol === 'https:'
  const port = parsed.port === '' ? (tls ? 443 : 80) : Number(parsed.port)
  return { host: parsed.hostname.replace(/^\[|\]$/g, ''), port, tls, insecure }
}

/** A bucket name that nobody else uses. */
export function freshBucket(): string {
  return `ostraka-bench-${randomBytes(6).toString('hex')}`
}

/** Rejects with what the server said. */
export async function makeBucket(target: S3Target, bucket: string): Promise<void> {
  await withClient(target, async (ask) => {
    const answer = await ask('PUT', `/${bucket}`, '')
    if (answer.status !== 200) throw new Error(`${target.name}: making a bucket: ${said(answer)}`)
  })
}

const LISTED = 1000
const DELETERS = 16

/** Deletes a bucket of `freshBucket` with all that is in it. */
export async function removeBucket(target: S3Target, bucket: string): Promise<void> {
  for (;;) {
    const keys = await withClient(target, async (ask) => {
      const answer = await ask('GET', `/${bucket}`, `list-type=2&max-keys=${String(LISTED)}`)
      if (answer.status === 404) return undefined
      if (answer.status !== 200) throw new Error(`${target.name}: listing: ${said(answer)}`)
      // Our own keys: nothing in them needs escaping.
      return [...answer.body.toString().matchAll(/<Key>([^<]+)<\/Key>/g)].map((match) => match[1] ?? '')
    })
    if (keys === undefined) return
    if (keys.length === 0) break
    await Promise.all(Array.from({ length: Math.min(DELETERS, keys.length) }, () => {
      return withClient(target, async (ask) => {
        for (let key = keys.pop(); key !== undefined; key = keys.pop()) {
          const answer = await ask('DELETE', `/${bucket}/${key}`, '')
          if (answer.status !== 204 && answer.status !== 200)
            throw new Error(`${target.name}: deleting: ${said(answer)}`)
        }
      })
    }))
  }
  await withClient(target, async (ask) => {
    const answer = await ask('DELETE', `/${bucket}`, '')
    if (![200, 204, 404].includes(answer.status)) throw new Error(`${target.name}: deleting a bucket: ${said(answer)}`)
  })
}

type Ask = (method: 'GET' | 'PUT' | 'DELETE', path: string, query: string) => Promise<Answer>

async function withClient<T>(target: S3Target, work: (ask: Ask) => Promise<T>): Promise<T> {
  const host = hostHeader(target.address)
  const signer = target.keys === undefined ? undefined : new Signer(target.keys)
  const connection = new Connection(target.address)
  try {
    await connection.open()
    return await work((method, path, query) => {
      const more = method === 'PUT' ? 'content-length: 0\r\n' : ''
      return connection.send(requestHead(method, host, path, query, signer, { more }), undefined, { keep: true })
    })
  } finally {
    connection.close()
  }
}

function said(answer: Answer): string {
  const code = /<Code>([^<]*)<\/Code>/.exec(answer.body.toString())?.[1]
  return `${String(answer.status)}${code === undefined ? '' : ` ${code}`}`
}
