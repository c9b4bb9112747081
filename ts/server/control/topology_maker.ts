/** Makes the topology from what metadata says and what is known of the drives. Pure. */
import type { SegmentsMemory } from '../../drive/segments/segment_table.js'
import type { DriveRow } from '../../drive/drive_table.js'
import type { MonitoredDrive } from '../../drive/health_monitor.js'
import type { Target } from '../../layout/placement.js'
import type { DriveRecord, SetRecord } from '../../meta/schema.js'
import type { Topology } from '../threads/topology.js'
import type { Capacity, SharedLayout } from './layout_keeper.js'

/** A configured path and the drive that belongs there. */
export interface Place {
  path: string
  record: DriveRecord
  monitored: MonitoredDrive
  /** A blank directory lies there. */
  blank: boolean
  /** The record of a replacement that was begun: tried again with the same ids, so that it happens once. */
  candidate?: DriveRecord
}

export interface TopologyFacts {
  version: number
  clusterId: string
  stripeSize: number
  sets: SetRecord[]
  records: DriveRecord[]
  places: readonly Place[]
  rowOf(row: DriveRow): number
  layout?: SharedLayout | undefined
  segmentsOf(drive: number): SegmentsMemory | undefined
}

/** Weights are whole units of this, so that small changes of free space move nothing. */
const WEIGHT_UNIT = 16 * 2 ** 30

export function makeTopology(facts: TopologyFacts): Topology {
  const { version, clusterId, stripeSize, sets, records, places } = facts
  const byNumber = new Map(places.map((place) => [place.record.number, place]))
  const drives = records.map((record) => {
    const place = record.state === 'member' ? byNumber.get(record.number) : undefined
    return {
      ...record,
      path: place?.path ?? '',
      row: place === undefined ? 0 : facts.rowOf(place.monitored.row),
      segments: place === undefined ? undefined : facts.segmentsOf(record.number),
    }
  })
  const { layout } = facts
  const targets = targetsOf(sets, byNumber)
  return { version, clusterId, stripeSize, sets, drives, targets, ...(layout !== undefined && { layout }) }
}

/**
 * The weight of each set of which a drive could be asked; one that could not counts as the others of its set do on
 * average.
 */
export function capacitiesOf(sets: readonly SetRecord[], places: readonly Place[]): Map<number, Capacity> {
  const sizes = new Map(places.map(({ record, monitored }) => [record.number, monitored.row.health.totalBytes]))
  return new Map(
    sets.flatMap((set): [number, Capacity][] => {
      const known = set.drives.flatMap((number) => sizes.get(number) || [])
      if (known.length === 0) return []
      const total = (known.reduce((sum, size) => sum + size, 0) / known.length) * set.drives.length
      const weight = Math.max(1, Math.round(total / WEIGHT_UNIT))
      return [[set.number, { weight, whole: known.length === set.drives.length }]]
    }),
  )
}

/** A set that can take no data now is left out, as long as another can. */
function targetsOf(sets: readonly SetRecord[], places: ReadonlyMap<number, Place>): Target[] {
  const targets = sets.map((set): Target => {
    const rows = set.drives.flatMap((number) => places.get(number)?.monitored.row ?? [])
    const writable = rows.filter((row) => row.state === 'online').length
    const total = rows.reduce((sum, row) => sum + row.health.totalBytes, 0)
    const quorum = set.k === set.m ? set.k + 1 : set.k
    return {
      set: set.number,
      weight: Math.max(1, Math.round(total / WEIGHT_UNIT)),
      state: writable >= quorum ? 'active' : 'readOnly',
    }
  })
  if (targets.some((target) => target.state === 'active')) return targets
  return targets.map((target) => ({ ...target, state: 'active' }))
}
