/**
 * Addresses to listen on.
 *
 * Workers share the S3 port through SO_REUSEPORT, each with a socket of its own made here and handed over as a file
 * descriptor. Since the kernel would let a second server of the same user join in, the address is first probed without
 * SO_REUSEPORT; a server that is already there is then seen. Where the platform lacks SO_REUSEPORT one worker accepts.
 */
import { lookup } from 'node:dns/promises'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'

import { bindReusePort } from '../native/socket.js'
import { showHostPort } from './config/units.js'
import type { HostPort } from './config/units.js'

export class ListenError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'ListenError'
  }
}

/** What a worker listens on: a bound socket, or an address when it is the only one. */
export type WorkerListen = { fd: number } | { host: string; port: number }

export class SharedAddress {
  readonly address: HostPort
  readonly #shared: boolean
  readonly #host: string

  private constructor(address: HostPort, host: string, shared: boolean) {
    this.address = address
    this.#host = host
    this.#shared = shared
  }

  /** Checks that the address is free, and settles the port when it is 0. */
  static async claim(wanted: HostPort): Promise<SharedAddress> {
    const { host } = { host: await resolveHost(wanted) }
    const port = await probe(wanted, host)
    return new SharedAddress({ host: wanted.host, port }, host, process.platform === 'linux')
  }

  /** Threads that can accept: 1 where the port cannot be shared. */
  acceptors(workers: number): number {
    return this.#shared ? workers : Math.min(1, workers)
  }

  /** A socket for one more worker, or one that was started again. */
  open(): WorkerListen {
    if (!this.#shared) return { host: this.#host, port: this.address.port }
    try {
      return { fd: bindReusePort(this.#host, this.address.port).fd }
    } catch (error) {
      throw explain(this.address, error)
    }
  }
}

async function resolveHost(address: HostPort): Promise<string> {
  try {
    return (await lookup(address.host)).address
  } catch (error) {
    throw new ListenError(`the host ${address.host} cannot be resolved`, { cause: error })
  }
}

function probe(wanted: HostPort, host: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', (error) => { reject(explain(wanted, error)) })
    server.listen({ host, port: wanted.port, exclusive: true }, () => {
      const { port } = server.address() as AddressInfo
      server.close(() => { resolve(port) })
    })
  })
}

export function explain(address: HostPort, error: unknown): ListenError {
  const code = (error as NodeJS.ErrnoException).code
  const why =
    code === 'EADDRINUSE' ? 'another process listens there'
    : code === 'EACCES' ? 'not allowed (ports below 1024 need CAP_NET_BIND_SERVICE)'
    : code === 'EADDRNOTAVAIL' ? 'this machine has no such address'
    : (error as Error).message
  return new ListenError(`cannot listen on ${showHostPort(address)}: ${why}`, { cause: error })
}
