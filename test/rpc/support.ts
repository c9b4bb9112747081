/** Nodes that talk over loopback, for tests of the transport. */
import { readFileSync } from 'node:fs'

import { systemEnvironment } from '../../ts/rpc/environment.js'
import { Transport } from '../../ts/rpc/transport.js'
import type { Identity, TlsFiles, TransportHandlers, TransportOptions } from '../../ts/rpc/transport.js'

export const SECRET: Uint8Array = Buffer.alloc(32, 7)

export function fixture(name: string): string {
  return readFileSync(new URL(`../../../test/rpc/fixtures/${name}`, import.meta.url), 'utf8')
}

export function certificateOf(name: 'one' | 'two' | 'stranger'): TlsFiles {
  return { cert: fixture(`${name}.pem`), key: fixture(`${name}.key`), ca: fixture('ca.pem') }
}

export interface Node {
  transport: Transport
  /** [from, channel, text] */
  received: [number, number, string][]
  ups: string[]
}

export interface NodeOptions {
  id: number
  clusterId?: string
  secret?: Uint8Array | undefined
  tls?: TlsFiles
  limits?: TransportOptions['limits']
  handlers?: Partial<TransportHandlers>
  identity?: Partial<Identity>
}

export async function startNode(given: NodeOptions): Promise<Node> {
  const node: Omit<Node, 'transport'> = { received: [], ups: [] }
  const handlers: TransportHandlers = {
    admit: () => '',
    messages: (from, channel, payloads) => {
      for (const payload of payloads) node.received.push([from, channel, Buffer.from(payload).toString()])
    },
    call: async (_from, name, body) => Buffer.concat([Buffer.from(`${name}:`), body]),
    answer: async function* () {
      yield Buffer.from('no questions here')
    },
    peer: (id, up) => node.ups.push(`${up ? '+' : '-'}${String(id)}`),
    ...given.handlers,
  }
  const transport = await Transport.listen({
    listen: { host: '127.0.0.1', port: 0 },
    identity: {
      clusterId: given.clusterId ?? 'cluster-a', nodeId: given.id, name: `node-${String(given.id)}`, advertised: '',
      ...given.identity,
    },
    security: { secret: 'secret' in given ? given.secret : SECRET, tls: given.tls },
    handlers,
    environment: systemEnvironment,
    limits: { backoffMinMs: 10, backoffMaxMs: 50, pingMs: 50, deadMs: 300, ...given.limits },
  })
  return { ...node, transport }
}

/** Waits until it holds; the test runner's own limit ends a wait in vain. */
export async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 5))
}
