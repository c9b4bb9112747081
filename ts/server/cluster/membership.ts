/**
 * What this node is in a replicated store, settled at start before the drives are opened: the first node, a node that
 * has joined, or one that joins now.
 *
 *   first start of a joining node:  find the cluster -> drive formats with its id -> bring the drives (join) ->
 *   node.json
 *     -> formats with their numbers -> replica under the id that the cluster gave
 *
 * Every step is asked for again after a crash, with the same answer.
 */
import type { JoinCluster } from '../../drive/open_drives.js'
import type { Security } from '../../rpc/transport.js'
import type { Config } from '../config/settings.js'
import type { Logger } from '../log.js'
import type { ReplicaData } from '../threads/replica.js'
import { FIRST_NODE, NodeIdentityError, loadSecurity, nodeName, readIdentity, writeIdentity } from './identity.js'
import type { NodeIdentity } from './identity.js'
import { findCluster, joinCluster } from './join.js'

export class Membership {
  /** For the drives, when they are blank and this node is not the first. */
  readonly join: JoinCluster | undefined
  readonly #config: Config
  readonly #security: Security
  #identity: NodeIdentity | undefined
  #peers: ReplicaData['peers'] = []

  private constructor(
    config: Config,
    security: Security,
    identity: NodeIdentity | undefined,
    join: { clusterId: string; log: Logger; stopped: () => boolean } | undefined,
  ) {
    this.#config = config
    this.#security = security
    this.#identity = identity
    if (join === undefined) return
    const asking = {
      name: nodeName(config), addresses: config.clusterJoin, security, log: join.log, stopped: join.stopped,
    }
    this.join = {
      clusterId: join.clusterId,
      enlist: async ({ setSize, parity }, driveIds) => {
        const answer = await joinCluster(asking, { name: asking.name, driveIds: [...driveIds], setSize, parity })
        this.#identity = { nodeId: answer.nodeId, clusterId: answer.clusterId }
        this.#peers = answer.peers
        writeIdentity(config, this.#identity)
        return answer.firstDrive
      },
    }
  }

  /** Undefined with the local engine. Rejects with NodeIdentityError, CredentialsError or JoinRefused. */
  static async settle(config: Config, log: Logger, stopped: () => boolean): Promise<Membership | undefined> {
    const identity = readIdentity(config)
    if (config.metadataEngine === 'local') {
      if (identity === undefined) return undefined
      throw new NodeIdentityError(
        `this is node ${String(identity.nodeId)} of a replicated store: expected metadata.engine replicated, was given local`,
      )
    }
    const first = identity === undefined ? config.clusterJoin.length === 0 : identity.nodeId === FIRST_NODE
    const security = loadSecurity(config, first)
    if (first || config.clusterJoin.length === 0) return new Membership(config, security, identity, undefined)
    const asking = { name: nodeName(config), addresses: config.clusterJoin, security, log, stopped }
    const clusterId = identity?.clusterId ?? (await findCluster(asking))
    return new Membership(config, security, identity, { clusterId, log, stopped })
  }

  /** Once the drives are open: they say which cluster this is. */
  begin(clusterId: string): ReplicaData {
    if (this.#identity === undefined) {
      if (this.join !== undefined) {
        throw new NodeIdentityError(
          `the drives belong to cluster ${clusterId}, but node.json, which says which node this is, is gone`,
        )
      }
      this.#identity = { nodeId: FIRST_NODE, clusterId }
      writeIdentity(this.#config, this.#identity)
    }
    if (this.#identity.clusterId !== clusterId) {
      throw new NodeIdentityError(`node.json is of cluster ${this.#identity.clusterId}, the drives are of ${clusterId}`)
    }
    const { nodeId } = this.#identity
    return {
      nodeId,
      clusterId,
      name: nodeName(this.#config),
      listen: this.#config.clusterListen,
      advertise: this.#config.clusterAdvertise,
      security: this.#security,
      joins: nodeId !== FIRST_NODE,
      peers: this.#peers,
      logEntries: this.#config.metadataLogEntries,
    }
  }
}
