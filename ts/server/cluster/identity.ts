/**
 * What a node of a replicated store keeps in the directory above its first drive: `node.json`, who it is, and the
 * cluster secret.
 *
 * Both are made once, exclusively, with mode 0600, and never overwritten. A node whose node.json is lost cannot join
 * again under its old id: it is removed, and joins as a new one.
 */
import { randomBytes } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { hostname } from 'node:os'
import { join, resolve } from 'node:path'

import { z } from 'zod'

import type { Security } from '../../rpc/transport.js'
import type { Config } from '../config/settings.js'
import { folderOfDrives } from '../control/drive_paths.js'
import { CredentialsError, createPrivateFile } from '../credentials.js'

/** The node that a store begins on. */
export const FIRST_NODE = 1

export interface NodeIdentity {
  nodeId: number
  clusterId: string
}

const identitySchema = z.strictObject({
  about: z.string(),
  nodeId: z.int().min(1),
  clusterId: z.string().min(1).max(200),
})

/** Of a secret: 32 random bytes as the first node makes it, or anything of at least 32 characters. */
const MIN_SECRET = 32

export class NodeIdentityError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'NodeIdentityError'
  }
}

export function nodeName(config: Config): string {
  return config.clusterName === '' ? hostname().slice(0, 63) : config.clusterName
}

function besideDrives(config: Config, name: string): string {
  return join(folderOfDrives(config), name)
}

/** Undefined before the node has founded or joined a replicated store. */
export function readIdentity(config: Config): NodeIdentity | undefined {
  const file = besideDrives(config, 'node.json')
  const text = readOrNothing(file)
  if (text === undefined) return undefined
  try {
    const { nodeId, clusterId } = identitySchema.parse(JSON.parse(text))
    return { nodeId, clusterId }
  } catch (error) {
    throw new NodeIdentityError(`${file} is not as it was written`, { cause: error })
  }
}

export function writeIdentity(config: Config, identity: NodeIdentity): void {
  const file = besideDrives(config, 'node.json')
  createPrivateFile(file, `${JSON.stringify({ about: 'Ostraka node. Do not edit or copy.', ...identity }, null, 2)}\n`)
  const found = readIdentity(config)
  if (found?.nodeId === identity.nodeId && found.clusterId === identity.clusterId) return
  throw new NodeIdentityError(
    `${file} says that this is node ${String(found?.nodeId)} of cluster ${found?.clusterId ?? ''}`,
  )
}

/** Secret and certificates. The secret is made when this node is the first, and no certificate is given. */
export function loadSecurity(config: Config, first: boolean): Security {
  const tls =
    config.clusterTlsCert === ''
      ? undefined
      : {
          cert: readNamed('cluster.tls.cert', config.clusterTlsCert),
          key: readNamed('cluster.tls.key', config.clusterTlsKey),
          ca: readNamed('cluster.tls.ca', config.clusterTlsCa),
        }
  if (tls !== undefined && config.clusterSecretFile === '') return { tls, secret: undefined }
  const named = config.clusterSecretFile !== ''
  const file = named ? resolve(config.clusterSecretFile) : besideDrives(config, 'cluster-secret')
  if (first && readOrNothing(file) === undefined) {
    createPrivateFile(file, `${randomBytes(32).toString('base64url')}\n`)
  }
  const text = readOrNothing(file)
  if (text === undefined) {
    throw new CredentialsError(`the cluster secret ${file} is missing: copy it from a node of the cluster`)
  }
  checkMode(file)
  const secret = text.trim()
  if (secret.length < MIN_SECRET) {
    throw new CredentialsError(
      `the cluster secret in ${file} is too short: expected at least ${String(MIN_SECRET)} characters`,
    )
  }
  return { tls, secret: Buffer.from(secret, 'utf8') }
}

function checkMode(file: string): void {
  const mode = statSync(file).mode & 0o777
  if ((mode & 0o077) === 0) return
  throw new CredentialsError(
    `the cluster secret ${file} can be read by others (mode ${mode.toString(8)}): expected 600; run chmod 600 on it`,
  )
}

function readNamed(setting: string, file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    throw new CredentialsError(`${setting}: ${file} cannot be read: ${(error as Error).message}`, { cause: error })
  }
}

function readOrNothing(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new CredentialsError(`${file} cannot be read: ${(error as Error).message}`, { cause: error })
  }
}
