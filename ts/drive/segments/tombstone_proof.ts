/**
 * When a tombstone may go. It is final and outlives every copy of what it buries: as long as any file on the drive
 * holds a record of its id, it is carried from segment to segment. It goes when all of this is known:
 *
 * 1. No record of its id can still be on its way. The tombstone's segment has been sealed for longer than an append can
 *    take (`settleMs`), as this process has seen it: since the tombstone is in the index, no put of its id is begun.
 * 2. No segment that was made before then is still written to. Compaction asks for those to be sealed; one that is
 *    never used again after a failure holds tombstones back until the next start.
 * 3. No other segment has a record of its id, as their hints say; a copy that lost against the delete, a shard that a
 *    heal has replaced, another tombstone: all count. A segment whose hint does not hold, or a file that nobody has
 *    loaded, is a doubt, and keeps them all.
 *
 * What lies in the tombstone's own segment goes with it, in one unlink. Segments that were dropped earlier are gone
 * for good: their directory was synced.
 */
import type { DataId } from '../drive.js'
import type { LocalDrive } from '../local_drive.js'
import type { HintEntry } from './hint.js'
import { parseSegmentName, SEGMENTS_DIRECTORY } from './segment_file.js'
import { readHint } from './segment_loader.js'
import type { SegmentInfo } from './segment_table.js'

export interface TombstoneProofOptions {
  /** Longer than an append may take, all that may wait before it included. */
  settleMs: number
  now: () => number
  permit: (bytes: number) => Promise<void>
}

/** Bytes of hints that may be read for each tombstone that could go. */
const READ_FOR_EACH = 32 * 1024
const ENTRY_BYTES = 24
const NONE = (): boolean => false

export class TombstoneProof {
  readonly #drive: LocalDrive
  readonly #options: TombstoneProofOptions
  /** Sealed segments: since when they are known to be, and once they are settled, the next number at that time. */
  readonly #sealed = new Map<number, { since: number; next: number | undefined }>()
  /** Active ones, when last looked. */
  #active: number[] = []

  constructor(drive: LocalDrive, options: TombstoneProofOptions) {
    this.#drive = drive
    this.#options = options
  }

  /** Looks which segments of those that there are have been sealed. Time counts from when it is noticed. */
  notice(segments: readonly SegmentInfo[]): void {
    const { table } = this.#drive.segments
    const now = this.#options.now()
    const all = new Set<number>()
    this.#active = []
    for (const { number, state } of segments) {
      all.add(number)
      if (state === 'active') {
        this.#active.push(number)
        continue
      }
      const known = this.#sealed.get(number)
      if (known === undefined) this.#sealed.set(number, { since: now, next: undefined })
      else if (known.next === undefined && now - known.since >= this.#options.settleMs) known.next = table.nextNumber
    }
    for (const number of this.#sealed.keys()) if (!all.has(number)) this.#sealed.delete(number)
  }

  /** True when tombstones of the segment may be proved to be needless: conditions 1 and 2. */
  settled(number: number): boolean {
    return this.#sealed.get(number)?.next !== undefined && !this.#activeBefore(number, 0)
  }

  /** True when condition 1 holds, and active segments that nobody was asked to seal yet are in the way of 2. */
  wantsSealing(number: number): boolean {
    return this.#activeBefore(number, this.#drive.segments.table.sealBelow)
  }

  /** Some active segment from number `from` on was made before the tombstones of segment `number` had settled. */
  #activeBefore(number: number, from: number): boolean {
    const next = this.#sealed.get(number)?.next
    return next !== undefined && this.#active.some((other) => other < next && other >= from)
  }

  /** Tells of ids that have a tombstone in the segment whether they need it no more. */
  async prove(victim: number, tombstones: readonly HintEntry[]): Promise<(dataId: DataId) => boolean> {
    const others = this.#drive.segments.segments().filter(({ number }) => number !== victim)
    this.#active = others.flatMap(({ number, state }) => (state === 'active' ? [number] : []))
    if (!this.settled(victim)) return NONE
    const bytes = others.reduce((sum, { records, tombstones: buried }) => sum + (records + buried) * ENTRY_BYTES, 0)
    if (bytes > READ_FOR_EACH * tombstones.length || !(await this.#allLoaded())) return NONE
    // Two ids that share a key are one for this: a chance hit only keeps a tombstone longer.
    const candidates = new Set(tombstones.map(({ dataId }) => keyOf(dataId)))
    for (const { number, state, records, tombstones: buried } of others) {
      if (state === 'active') continue // newer than all that could concern us
      await this.#options.permit((records + buried) * ENTRY_BYTES)
      const found = await readHint(this.#drive, this.#drive.segments.driveId, number)
      if (found === undefined) return NONE
      for (let i = 0; i < found.hint.count; i++) candidates.delete(keyOf(found.hint.dataId(i)))
    }
    return (dataId) => candidates.has(keyOf(dataId))
  }

  /** No file on the drive but those that the table knows. */
  async #allLoaded(): Promise<boolean> {
    const { table } = this.#drive.segments
    const list = { op: 'list', path: SEGMENTS_DIRECTORY } as const
    const [names] = await this.#drive.run('read', [list], { background: true }) as [string[]]
    return names.every((name) => {
      const file = parseSegmentName(name)
      return file?.kind !== 'seg' || table.has(file.number)
    })
  }
}

/** 48 of the random bits of an id. */
function keyOf(dataId: DataId): number {
  return Buffer.from(dataId.buffer, dataId.byteOffset, dataId.byteLength).readUIntBE(10, 6)
}
