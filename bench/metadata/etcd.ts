/**
 * Three members of etcd on loopback, each a process with a data directory of its own, and a client: gRPC over node's
 * HTTP/2, a request framed by hand. It speaks to the leader, over as many connections as clients but 8 at most.
 *
 * gRPC: POST <service>/<method>; the body is u8 0, u32 BE length, protobuf; the outcome is the trailer `grpc-status`.
 * Protobuf of what is needed: PutRequest { 1: key, 2: value }, RangeRequest { 1: key, 7: serializable }.
 */
import { execFile, spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { connect } from 'node:http2'
import type { IncomingHttpHeaders } from 'node:http'
import type { ClientHttp2Session } from 'node:http2'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

import { interrupted } from '../lifetime.js'
import { WRITE_BYTES, closedLoop, keyOf } from './closed_loop.js'
import type { LoopPlan, Measured } from './closed_loop.js'
import { freePorts, until } from './waiting.js'

const MAX_CONNECTIONS = 8
const READ_KEYS = 1000

export type EtcdKind = 'write' | 'linearizable' | 'eventual'

/** The path of the program, unpacked when need be; rejects with the reason when it cannot be had. */
export async function etcdProgram(): Promise<string> {
  const script = fileURLToPath(new URL('../../../scripts/lib/etcd.mjs', import.meta.url))
  try {
    const { stdout } = await promisify(execFile)(process.execPath, [script], { signal: interrupted })
    return stdout.trim()
  } catch (error) {
    interrupted.throwIfAborted()
    const { stderr } = error as { stderr?: string }
    throw new Error(stderr?.trim().split('\n')[0] ?? String(error), { cause: error })
  }
}

export class Etcd {
  readonly #members: ChildProcess[]
  readonly #leader: string
  #written = 0

  private constructor(members: ChildProcess[], leader: string) {
    this.#members = members
    this.#leader = leader
  }

  /** A member for each folder; ends them whatever happens. */
  static async with<T>(program: string, folders: readonly string[], work: (etcd: Etcd) => Promise<T>): Promise<T> {
    const ports = await freePorts(2 * folders.length)
    const url = (at: number): string => `http://127.0.0.1:${String(ports[at])}`
    const cluster = folders.map((_, i) => `m${String(i)}=${url(2 * i)}`).join(',')
    const members = folders.map((folder, i) => spawn(program, [
      '--name', `m${String(i)}`, '--data-dir', `${folder}/etcd`, '--log-level', 'error',
      '--listen-peer-urls', url(2 * i), '--initial-advertise-peer-urls', url(2 * i),
      '--listen-client-urls', url(2 * i + 1), '--advertise-client-urls', url(2 * i + 1),
      '--initial-cluster', cluster, '--initial-cluster-state', 'new',
    ], { stdio: 'ignore' }))
    const kill = (): void => { for (const member of members) member.kill('SIGKILL') }
    for (const member of members) member.once('error', () => undefined)
    process.once('exit', kill)
    interrupted.addEventListener('abort', kill)
    try {
      let leader: string | undefined
      await until('etcd has a leader', async () => {
        for (let i = 0; i < folders.length; i++) if (await leads(url(2 * i + 1))) leader = url(2 * i + 1)
        return leader !== undefined
      })
      return await work(new Etcd(members, leader ?? ''))
    } finally {
      process.off('exit', kill)
      interrupted.removeEventListener('abort', kill)
      const gone = members.map((member) => new Promise<void>((resolve) => {
        if (member.pid === undefined || member.exitCode !== null || member.signalCode !== null) resolve()
        else member.once('exit', () => { resolve() })
      }))
      kill()
      await Promise.all(gone)
    }
  }

  async load(kind: EtcdKind, plan: LoopPlan): Promise<Measured> {
    if (this.#members.some(({ exitCode }) => exitCode !== null)) throw new Error('a member of etcd has ended')
    const sessions = Array.from({ length: Math.min(plan.clients, MAX_CONNECTIONS) }, () => connect(this.#leader))
    for (const session of sessions) session.on('error', () => undefined)
    let next = 0
    try {
      return await closedLoop(plan, (client) => {
        const session = sessions[client % sessions.length] as ClientHttp2Session
        if (kind === 'write') return call(session, 'Put', putRequest(keyOf(this.#written++)))
        return call(session, 'Range', rangeRequest(keyOf(next++ % READ_KEYS), kind === 'eventual'))
      })
    } finally {
      for (const session of sessions) session.destroy()
    }
  }
}

async function leads(url: string): Promise<boolean> {
  try {
    const response = await fetch(`${url}/metrics`, { signal: AbortSignal.timeout(2_000) })
    return /^etcd_server_is_leader 1$/m.test(await response.text())
  } catch {
    return false
  }
}

/** Fields of at most 16 KiB. */
function field(number: number, bytes: Buffer): Buffer {
  const { length } = bytes
  const head = length < 128 ? [length] : [(length & 127) | 128, length >> 7]
  return Buffer.concat([Buffer.from([(number << 3) | 2, ...head]), bytes])
}

const VALUE = field(2, Buffer.alloc(WRITE_BYTES - keyOf(0).length, 'x'))
const SERIALIZABLE = Buffer.from([(7 << 3) | 0, 1])

const putRequest = (key: string): Buffer => Buffer.concat([field(1, Buffer.from(key)), VALUE])

function rangeRequest(key: string, serializable: boolean): Buffer {
  return Buffer.concat([field(1, Buffer.from(key)), ...(serializable ? [SERIALIZABLE] : [])])
}

function call(session: ClientHttp2Session, method: 'Put' | 'Range', message: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    const head = Buffer.alloc(5)
    head.writeUInt32BE(message.length, 1)
    const stream = session.request({
      ':method': 'POST', ':path': `/etcdserverpb.KV/${method}`, 'content-type': 'application/grpc', te: 'trailers',
    })
    let status = ''
    stream.on('trailers', (trailers: IncomingHttpHeaders) => { status = String(trailers['grpc-status']) })
    stream.on('error', reject)
    stream.on('close', () => {
      if (status === '0') resolve()
      else reject(new Error(`etcd answered ${status}`))
    })
    stream.resume()
    stream.end(Buffer.concat([head, message]))
  })
}
