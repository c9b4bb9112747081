/** Starting processes: ports for them, and waiting until they have come up. */
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'

import { interrupted } from '../lifetime.js'

const PATIENCE_MS = 30_000
const POLL_MS = 50

/** Ports that are free now. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(Array.from({ length: count }, async () => {
    const server = createServer()
    await new Promise<void>((resolve) => server.listen({ host: '127.0.0.1', port: 0 }, resolve))
    return server
  }))
  const ports = servers.map((server) => (server.address() as AddressInfo).port)
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
  return ports
}

export async function until(what: string, reached: () => Promise<boolean>): Promise<void> {
  for (const end = performance.now() + PATIENCE_MS; performance.now() < end;) {
    interrupted.throwIfAborted()
    if (await reached()) return
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
  throw new Error(`waited in vain: ${what}`)
}
