/**
 * What a load job asks for, request by request. A job has one operation, or MIXED: of 20 requests 9 are GET, 6 HEAD,
 * 3 PUT and 2 DELETE, always in the same order.
 *
 * Keys are <prefix>/00000000 and so on. GET and HEAD jump about among the first `objects` keys, which must be there.
 * PUT and DELETE take the next key each time: PUT goes on for ever with new keys, DELETE ends when `objects` are
 * gone. MIXED reads the same keys, puts new ones under <prefix>/new/, and deletes what it has put. LIST asks for pages
 * of at most 1,000 keys that begin at different places.
 */
import type { Address } from './connection.js'
import type { SignerKeys } from './signer.js'
import { Signer, sha256Hex } from './signer.js'

export const OPERATIONS = ['PUT', 'GET', 'HEAD', 'LIST', 'DELETE', 'MIXED'] as const
export type Operation = (typeof OPERATIONS)[number]
type Method = 'PUT' | 'GET' | 'HEAD' | 'LIST' | 'DELETE'

export interface Job {
  address: Address
  /** Absent: unsigned requests. */
  keys?: SignerKeys
  operation: Operation
  bucket: string
  prefix: string
  objects: number
  /** Bytes of each object. */
  size: number
  connections: number
  warmUpMs: number
  /** 0: each of the `objects` keys once, and all requests count. */
  measureMs: number
  /** Processes of this machine whose CPU time is counted with the job's. */
  pids?: readonly number[]
}

export interface LoadRequest {
  method: Method
  head: string
  body: Uint8Array | undefined
  /** Status that says it worked. */
  expected: number
  /** Bytes of the answer's body when known. */
  bodyBytes: number | undefined
  /** Bytes of object data moved when it worked. */
  moved: number
  /** To be called when it worked. */
  done: (() => void) | undefined
}

const MIX: readonly Method[] = [
  'GET', 'HEAD', 'GET', 'PUT', 'GET', 'HEAD', 'GET', 'HEAD', 'DELETE', 'GET',
  'HEAD', 'GET', 'PUT', 'GET', 'HEAD', 'GET', 'PUT', 'DELETE', 'HEAD', 'GET',
]
const EMPTY_HASH = sha256Hex('')
/** Heads of requests that come again are kept this long: a signature holds for fifteen minutes. */
const HEAD_AGE_MS = 60_000
const MAX_HEADS = 8192

export class Workload {
  readonly #job: Job
  readonly #signer: Signer | undefined
  readonly #body: Uint8Array
  readonly #bodyHash: string
  readonly #host: string
  readonly #heads = new Map<string, { head: string; made: number }>()
  /** Keys that MIXED has put and not yet deleted, in the order in which they were put. */
  readonly #put: string[] = []
  #requests = 0
  #puts = 0

  constructor(job: Job) {
    this.#job = job
    this.#signer = job.keys === undefined ? undefined : new Signer(job.keys)
    this.#body = patternOf(job.operation === 'PUT' || job.operation === 'MIXED' ? job.size : 0)
    this.#bodyHash = sha256Hex(this.#body)
    this.#host = hostHeader(job.address)
  }

  /** Keys used by PUT or DELETE so far. */
  get used(): number {
    return this.#puts
  }

  /** The next request; undefined when the job has nothing more to ask for. */
  next(): LoadRequest | undefined {
    const { operation, objects, measureMs } = this.#job
    const n = this.#requests++
    switch (operation) {
      case 'PUT':
        if (measureMs === 0 && n >= objects) return undefined
        return this.#request('PUT', this.#key(this.#puts++))
      case 'DELETE':
        if (n >= objects) return undefined
        return this.#request('DELETE', this.#key(this.#puts++))
      case 'GET':
      case 'HEAD':
        if (measureMs === 0 && n >= objects) return undefined
        return this.#request(operation, this.#key(jump(n, objects)))
      case 'LIST':
        if (measureMs === 0 && n >= objects) return undefined
        return this.#request('LIST', '', this.#key(jump(n, objects)))
      case 'MIXED':
        return this.#mixed(n)
    }
  }

  #mixed(n: number): LoadRequest {
    const method = MIX[n % MIX.length] ?? 'GET'
    if (method === 'GET' || method === 'HEAD') return this.#request(method, this.#key(jump(n, this.#job.objects)))
    const gone = method === 'DELETE' ? this.#put.shift() : undefined
    if (gone !== undefined) return this.#request('DELETE', gone)
    const key = `${this.#job.prefix}/new/${number(this.#puts++)}`
    return { ...this.#request('PUT', key), done: () => this.#put.push(key) }
  }

  #key(n: number): string {
    return `${this.#job.prefix}/${number(n)}`
  }

  #request(method: Method, key: string, startAfter = ''): LoadRequest {
    const put = method === 'PUT'
    const known = method === 'GET' ? this.#job.size : undefined
    return {
      method,
      head: put || method === 'DELETE' ? this.#head(method, key, '') : this.#knownHead(method, key, startAfter),
      body: put ? this.#body : undefined,
      expected: method === 'DELETE' ? 204 : 200,
      bodyBytes: known,
      moved: put ? this.#body.length : known ?? 0,
      done: undefined,
    }
  }

  #knownHead(method: Method, key: string, startAfter: string): string {
    const name = `${method} ${key}${startAfter}`
    const now = Date.now()
    const known = this.#heads.get(name)
    if (known !== undefined && now - known.made < HEAD_AGE_MS) return known.head
    const head = this.#head(method, key, startAfter)
    if (this.#heads.size >= MAX_HEADS) this.#heads.clear()
    this.#heads.set(name, { head, made: now })
    return head
  }

  #head(method: Method, key: string, startAfter: string): string {
    const { bucket, prefix } = this.#job
    const path = method === 'LIST' ? `/${bucket}` : `/${bucket}/${key}`
    const folder = encodeURIComponent(`${prefix}/`)
    const after = encodeURIComponent(startAfter)
    const query = method === 'LIST' ? `list-type=2&max-keys=1000&prefix=${folder}&start-after=${after}` : ''
    const verb = method === 'LIST' ? 'GET' : method
    const length = method === 'PUT' ? `content-length: ${String(this.#body.length)}\r\n` : ''
    return requestHead(verb, this.#host, path, query, this.#signer, {
      hash: method === 'PUT' ? this.#bodyHash : EMPTY_HASH, more: length,
    })
  }
}

/** The Host header as signatures want it: without a standard port. */
export function hostHeader({ host, port, tls }: Address): string {
  const shown = host.includes(':') ? `[${host}]` : host
  return port === (tls ? 443 : 80) ? shown : `${shown}:${String(port)}`
}

/** A whole request head. `more`: further header lines, each with its line end. */
export function requestHead(
  method: string,
  host: string,
  path: string,
  query: string,
  signer: Signer | undefined,
  payload: { hash?: string; more?: string } = {},
): string {
  const signed = signer?.headers(method, host, path, query, payload.hash ?? EMPTY_HASH, new Date())
  const target = query === '' ? path : `${path}?${query}`
  return `${method} ${target} HTTP/1.1\r\n${signed ?? `host: ${host}\r\n`}${payload.more ?? ''}\r\n`
}

/** A number below `objects`; successive ones are far apart, and all come up. */
function jump(n: number, objects: number): number {
  return objects % 7919 === 0 ? n % objects : (n * 7919) % objects
}

function number(n: number): string {
  return String(n).padStart(8, '0')
}

/** Bytes that no server can make small, the same each time. */
function patternOf(size: number): Uint8Array {
  const words = new Uint32Array(Math.ceil(size / 4))
  let state = 0x9e3779b9
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    words[i] = state
  }
  return new Uint8Array(words.buffer, 0, size)
}
