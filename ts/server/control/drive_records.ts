/**
 * The drives of this node as metadata records them and as their format.json names them, kept in agreement: at the
 * first start, when the store gets more nodes, and when a drive is replaced.
 *
 * Replacing takes three steps, each of which a later start can go on from:
 *
 *   format.json 'initialising' (new id, number, epoch + 1) -> command replaceDrive -> format.json 'member'
 */
import { randomUUID } from 'node:crypto'

import type { DriveFormat } from '../../drive/format.js'
import { isMountPoint } from '../../drive/open_drives.js'
import type { OpenedDrives, OpenedPlace } from '../../drive/open_drives.js'
import { FEATURE_LEVEL } from '../../meta/command.js'
import type { MetadataEngine } from '../../meta/engine.js'
import type { ClusterRecord, DriveRecord } from '../../meta/schema.js'

/** What metadata says of the drives cannot be reconciled with what is there. */
export class DriveRefusal extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'DriveRefusal'
  }
}

/** Bytes of a stripe in a new cluster. */
export const STRIPE_SIZE: number = 1 << 20
/** The node that a store begins on. */
const FIRST_NODE = 1

export class DriveRecords {
  readonly #opened: OpenedDrives
  /** The cluster's number of this node's first set; format.json counts sets within the node. */
  #firstSet = 0

  constructor(opened: OpenedDrives) {
    this.#opened = opened
  }

  /** Rejects with DriveRefusal when metadata knows another cluster already. */
  async makeCluster(client: MetadataEngine): Promise<void> {
    const { clusterId, layout, places } = this.#opened
    const { setCount, setSize, parity: m } = layout
    const drives = places.map((place): DriveRecord => {
      const { number, driveId, pool, set, position, epoch } = formatOf(place)
      return { number, driveId, pool, set, position, epoch, state: 'member', healing: false }
    })
    const sets = Array.from({ length: setCount }, (_, number) => ({
      number,
      pool: 0,
      k: setSize - m,
      m,
      drives: drives.filter((drive) => drive.set === number).map((drive) => drive.number),
    }))
    const cluster = { clusterId, createdMs: Date.now(), featureLevel: FEATURE_LEVEL, stripeSize: STRIPE_SIZE }
    const result = await client.propose({ kind: 'initCluster', cluster, sets, drives }, `init ${clusterId}`)
    if (!result.ok) throw new DriveRefusal(`the cluster could not be made: ${result.detail}`)
  }

  /** Throws DriveRefusal unless this version may serve that cluster from these drives. */
  check(cluster: ClusterRecord): void {
    if (cluster.featureLevel > FEATURE_LEVEL) {
      throw new DriveRefusal(
        `the cluster has feature level ${String(cluster.featureLevel)}, this version knows ${String(FEATURE_LEVEL)}: ` +
          'use the newer version that raised it',
      )
    }
    if (cluster.clusterId !== this.#opened.clusterId) {
      throw new DriveRefusal(
        `the metadata is of cluster ${cluster.clusterId}, the drives are of ${this.#opened.clusterId}`,
      )
    }
  }

  /**
   * In a store of several nodes: the sets so far go to the first node, and this node's sets are looked up. Rejects
   * with DriveRefusal when metadata knows another number of them.
   */
  async claim(client: MetadataEngine, node: number): Promise<void> {
    client.reader.refresh()
    if (node === FIRST_NODE && client.reader.sets().some((set) => set.node === undefined)) {
      const result = await client.propose({ kind: 'claimSets', node }, `claim ${this.#opened.clusterId}`)
      if (!result.ok) throw new DriveRefusal(`the sets could not be claimed: ${result.detail}`)
      client.reader.refresh()
    }
    const own = client.reader.sets().filter((set) => set.node === node)
    if (own.length !== this.#opened.layout.setCount) {
      throw new DriveRefusal(
        `metadata knows ${String(own.length)} sets of node ${String(node)}, the drives form another number`,
      )
    }
    this.#firstSet = Math.min(...own.map((set) => set.number))
  }

  /** The record of the drive that belongs at a configured path. */
  recordAt(records: readonly DriveRecord[], opened: OpenedPlace): DriveRecord | undefined {
    const set = opened.set + this.#firstSet
    return records.find((r) => r.state === 'member' && r.set === set && r.position === opened.position)
  }

  /** The format.json of the drive that this record is of. */
  formatFor(record: DriveRecord, state: DriveFormat['state']): DriveFormat {
    const { number, driveId, pool, set, position, epoch } = record
    return {
      clusterId: this.#opened.clusterId,
      driveId,
      number,
      pool,
      set: set - this.#firstSet,
      position,
      epoch,
      ...this.#opened.layout,
      state,
    }
  }

  /** A replacement that was formatted, while the command was perhaps never given. Rejects with DriveRefusal. */
  async finishReplacement(client: MetadataEngine, opened: OpenedPlace, format: DriveFormat): Promise<void> {
    const records = client.reader.drives()
    if (records.some((record) => record.number === format.number)) return
    const old = this.recordAt(records, opened)
    if (old === undefined || format.epoch !== old.epoch + 1) return
    const refused = await this.replace(client, old, format)
    if (refused !== '') throw new DriveRefusal(refused)
    client.reader.refresh()
  }

  /** The middle step. '' when it was applied, now or before; else why not. */
  async replace(client: MetadataEngine, old: DriveRecord, format: DriveFormat): Promise<string> {
    const { number, driveId, pool, position, epoch } = format
    const set = format.set + this.#firstSet
    const drive: DriveRecord = { number, driveId, pool, set, position, epoch, state: 'member', healing: true }
    const command = { kind: 'replaceDrive', old: old.number, drive, nowMs: Date.now() } as const
    const result = await client.propose(command, `replace ${driveId}`)
    return result.ok ? '' : `replaceDrive was refused: ${result.refusal} ${result.detail}`
  }
}

/** A new drive in the place of an old one; numbers are never given twice. */
export function replacementOf(old: DriveRecord, records: readonly DriveRecord[]): DriveRecord {
  const number = Math.max(...records.map((record) => record.number)) + 1
  return { ...old, number, driveId: randomUUID(), epoch: old.epoch + 1, state: 'member', healing: true }
}

/** All other drives that are well are mount points, and this one is none. */
export async function seemsUnmounted(path: string, well: readonly string[]): Promise<boolean> {
  const mounted = await Promise.all(well.map(isMountPoint))
  return well.length > 0 && mounted.every(Boolean) && !(await isMountPoint(path))
}

function formatOf(place: OpenedPlace): DriveFormat {
  if (place.format === undefined) throw new DriveRefusal(`${place.path} has no format`)
  return place.format
}
