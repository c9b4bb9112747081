/** A hash over everything a replica holds: replicas that have applied the same commands have the same hash. */
import { createHash } from 'node:crypto'

import { CheckedView } from '../../meta/chain.js'
import { readApplied } from '../../meta/apply/apply.js'
import { MetadataError } from '../../meta/engine.js'
import type { ViewSnapshot } from '../../meta/view_store.js'
import type { ReplicatedEngine } from '../../meta/raft/replica/replicated_engine.js'

/** Reads all of a replica's view; damage is the end of the replica, as when a reader finds it. */
export async function compareReplica(
  engine: ReplicatedEngine,
): Promise<{ records: number; bad: { drive: number; reason: string }[] }> {
  const { generation } = engine.published
  try {
    return { records: (await digestOf(engine)).records, bad: [] }
  } catch (error) {
    if (!(error instanceof MetadataError) || error.code !== 'corrupt') throw error
    const { copies } = await engine.status()
    engine.doubt(generation, error.message)
    return { records: 0, bad: copies.map(({ drive }) => ({ drive, reason: error.message })) }
  }
}

/** Records of one slice; between two the thread does its other work. */
const SLICE = 2_000

export interface Digest {
  position: number
  records: number
  digest: string
}

export function digestOf(engine: ReplicatedEngine): Promise<Digest> {
  return digestOfSnapshot(engine.snapshot())
}

/** Releases the snapshot. */
export async function digestOfSnapshot(snapshot: ViewSnapshot & { release(): void }): Promise<Digest> {
  try {
    const view = new CheckedView(snapshot)
    const hash = createHash('sha256')
    let records = 0
    // Every step is checked against the chain, so damage is an error and not another hash.
    for (const { key, payload } of view.scan(Buffer.alloc(0), undefined)) {
      hash.update(key).update(payload)
      records += 1
      if (records % SLICE === 0) await new Promise((resolve) => setImmediate(resolve))
    }
    return { position: readApplied(view).index, records, digest: hash.digest('hex') }
  } finally {
    snapshot.release()
  }
}
