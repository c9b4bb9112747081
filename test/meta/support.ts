/** A machine for tests: applies commands to a simulated view; makes commands and data ids from a seeded source. */
import assert from 'node:assert/strict'
import type { PartLocation } from '../../ts/erasure/erasure_set.js'
import { applyBatch } from '../../ts/meta/apply/apply.js'
import type { Batch } from '../../ts/meta/apply/apply.js'
import { CheckedView, emptyView } from '../../ts/meta/chain.js'
import type { StateReader } from '../../ts/meta/chain.js'
import type { Command, CommandResult, CommandValue } from '../../ts/meta/command.js'
import { pack, unpack } from '../../ts/meta/record.js'
import type { ObjectAttributes, PartRecord } from '../../ts/meta/schema.js'
import { SimulatedView, SimulatedViewMedium } from '../../ts/meta/simulated_view.js'
import { ViewReader } from '../../ts/meta/view_reader.js'
import type { ViewStore } from '../../ts/meta/view_store.js'

export const ATTRIBUTES: ObjectAttributes = { headers: {}, userMetadata: {}, storageClass: 'STANDARD' }

export class TestReader extends ViewReader {
  readonly #view: ViewStore
  doubts = 0

  constructor(view: ViewStore) {
    super()
    this.#view = view
  }

  protected state(): StateReader {
    return new CheckedView(this.#view)
  }

  protected doubt(): void {
    this.doubts++
  }

  refresh(): void {
    // Every read is of the newest state.
  }

  get publishedPosition(): number {
    return this.position
  }
}

export class Machine {
  readonly view: ViewStore
  readonly reader: TestReader
  index = 0

  constructor(view: ViewStore = new SimulatedView(new SimulatedViewMedium())) {
    this.view = view
    this.view.commit(emptyView())
    this.reader = new TestReader(view)
  }

  batch(requests: Batch['requests'], timeMs = 1000): CommandResult[] {
    this.index++
    const batch = unpack(pack({ timeMs, requests })) as Batch
    const { results, writes } = applyBatch(this.view, { index: this.index, term: 1 }, batch)
    this.view.commit(writes)
    return results
  }

  propose(command: Command, requestId?: string): CommandResult {
    const [result] = this.batch([{ command, ...(requestId !== undefined && { requestId }) }])
    return result as CommandResult
  }

  ok(command: Command): CommandValue {
    const result = this.propose(command)
    assert.ok(result.ok, JSON.stringify(result))
    return result.value
  }

  refused(command: Command): string {
    const result = this.propose(command)
    assert.ok(!result.ok, 'was not refused')
    return result.refusal
  }
}

let made = 0

export function dataId(epoch: number, n: number = ++made): Buffer {
  const id = Buffer.alloc(16)
  id.writeUIntBE(epoch, 0, 6)
  id.writeUInt32BE(n, 12)
  return id
}

export function location(id: Uint8Array, size: number, drives: number[] = [1, 2, 3, 4]): PartLocation {
  return { dataId: id, set: 1, geometry: { k: 2, m: 2, stripeSize: 1 << 20, partSize: size }, drives }
}

export function part(id: Uint8Array, size: number, fill = 1): PartRecord {
  return { location: location(id, size), size, md5: Buffer.alloc(16, fill) }
}

export function putObject(
  bucketId: number,
  key: string,
  from?: PartRecord,
  etag = 'e',
): Command & { kind: 'putObject' } {
  return {
    kind: 'putObject',
    bucketId,
    key,
    versionId: 'null',
    ownerId: 'owner',
    etag,
    size: from?.size ?? 0,
    modifiedMs: 5,
    attributes: ATTRIBUTES,
    ...(from && { part: from }),
  }
}

export function createBucket(name: string, ownerId = 'owner'): Command {
  return { kind: 'createBucket', name, ownerId, region: 'r', nowMs: 1 }
}

/** A machine with an epoch (1) and a bucket (1). */
export function machineWithBucket(view?: ViewStore): Machine {
  const machine = new Machine(view)
  machine.ok({ kind: 'openEpoch', nowMs: 1, worker: 'w' })
  machine.ok(createBucket('b'))
  return machine
}
