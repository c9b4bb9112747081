/**
 * The log of a Raft host over the command log of a metadata copy.
 *
 *   entry                 record of type 1 (commands), 2 or 3 (membership) with its term and index
 *   term, vote, commit    one record of type 16
 *   reset                 a record of type 17
 *
 * All records of one write are one frame: after a crash it is there as a whole or not at all. One write at a time;
 * after a short silence an empty frame follows, which says that everything before it was durable, so that damage to
 * it is known as damage and not taken for the tail of a crash.
 *
 * A log that a local engine wrote is read as that of a group of one voter: its records are entries that are committed.
 */
import { encodeHardState, RECORD_CHANGE, RECORD_CHANGE_V1, RECORD_COMMANDS, RECORD_START } from '../../log/frame.js'
import type { LogRecord as FrameRecord } from '../../log/frame.js'
import { LogCorrupt } from '../../log/command_log.js'
import type { CommandLog } from '../../log/command_log.js'
import { NO_DATA } from '../core/types.js'
import type { Entry, EntryId, EntryType } from '../core/types.js'
import type { Clock, Done, DurableLog, LogRecord, RecoveredLog } from '../host/environment.js'

const types: Record<EntryType, number> = {
  EntryNormal: RECORD_COMMANDS,
  EntryConfChangeV2: RECORD_CHANGE,
  EntryConfChange: RECORD_CHANGE_V1,
}
const entryTypes = new Map(Object.entries(types).map(([name, type]) => [type, name as EntryType]))

/** The records of one write, in the order in which they take effect. */
export function toFrameRecords(group: number, records: readonly LogRecord[]): FrameRecord[] {
  const out: FrameRecord[] = []
  for (const { hardState, reset, entries } of records) {
    if (reset !== undefined) out.push({ type: RECORD_START, group, epoch: 0, ...reset, payload: NO_DATA })
    if (hardState !== undefined) out.push(encodeHardState(group, hardState))
    for (const { type, term, index, data } of entries) {
      out.push({ type: types[type], group, epoch: 0, term, index, payload: data })
    }
  }
  return out
}

export function toEntry({ type, term, index, payload }: FrameRecord): Entry {
  return { type: entryTypes.get(type) as EntryType, term, index, data: payload }
}

export interface RecoverOptions {
  /** What the state machine holds. */
  applied: EntryId
  /** Entries up to this one are not offered to others: the group's first members are not in the log. */
  after: number
  /** Bytes of applied entries to keep at hand for followers. */
  keepBytes: number
}

/** What a host is started with. Throws LogCorrupt when log and state machine do not fit together, IoError. */
export async function recoverLog(log: CommandLog, options: RecoverOptions): Promise<RecoveredLog> {
  const { applied } = options
  const hardState = log.hardState ?? { term: Math.max(log.lastTerm, applied.term), vote: 0, commit: applied.index }
  const term = (index: number): number | undefined => (index === applied.index ? applied.term : log.term(index))
  if (log.isEmpty || applied.index > log.lastIndex) {
    const start = log.isEmpty ? log.firstIndex - 1 : log.lastIndex
    const known = start < 0 || start === applied.index ? applied.term : log.term(start)
    if (known === undefined || start > applied.index) throw new LogCorrupt('the log does not reach back to the view')
    const before = { index: start < 0 ? applied.index : start, term: known }
    return { hardState, before, entries: [] }
  }
  if (applied.index + 1 < log.firstIndex) throw new LogCorrupt('the log does not reach back to the view')
  let before = log.firstIndex - 1
  const entries: Entry[] = []
  let dropped = 0
  let bytes = 0
  for await (const record of log.read(log.firstIndex)) {
    entries.push(toEntry({ ...record, payload: Uint8Array.from(record.payload) }))
    bytes += record.payload.length
    // The entry before the first has to be known by its term.
    const wanted = (): boolean =>
      term(before) === undefined || before < options.after || bytes > options.keepBytes
    while (before < applied.index && dropped < entries.length && wanted()) {
      bytes -= (entries[dropped++] as Entry).data.length
      before++
    }
    if (dropped > 1024) entries.splice(0, dropped, ...[])
    if (dropped > 1024) dropped = 0
  }
  const start = term(before)
  if (start === undefined) throw new LogCorrupt('the log does not reach back to the view')
  return { hardState, before: { index: before, term: start }, entries: entries.slice(dropped) }
}

export interface ReplicaLogHooks {
  /** Makes records durable as one frame. One call at a time. */
  append(records: readonly FrameRecord[]): Promise<void>
  /** Entries up to this one need not be kept for others. */
  release(index: number): void
  /** How long a write took, in milliseconds. */
  onWritten?(ms: number): void
}

const SEAL_AFTER_MS = 200

export class ReplicaLog implements DurableLog {
  readonly #group: number
  readonly #hooks: ReplicaLogHooks
  readonly #clock: Clock
  readonly #sealAfterMs: number
  #cancelSeal: () => void = () => undefined
  /** The append under way, a seal included; never rejects. */
  #going: Promise<void> = Promise.resolve()
  #closed = false

  constructor(group: number, hooks: ReplicaLogHooks, clock: Clock, sealAfterMs: number = SEAL_AFTER_MS) {
    this.#group = group
    this.#hooks = hooks
    this.#clock = clock
    this.#sealAfterMs = sealAfterMs
  }

  write(records: readonly LogRecord[], done: Done): void {
    this.#cancelSeal()
    const frame = toFrameRecords(this.#group, records)
    const begun = performance.now()
    this.#going = this.#going
      .then(() => this.#hooks.append(frame))
      .then(
        () => {
          this.#hooks.onWritten?.(performance.now() - begun)
          this.#sealLater()
          done(undefined)
        },
        (error: unknown) => {
          this.#closed = true
          done(error instanceof Error ? error : new Error(String(error)))
        },
      )
  }

  release(index: number): void {
    this.#hooks.release(index)
  }

  /** Ends what is under way; nothing is written afterwards. */
  async close(): Promise<void> {
    this.#closed = true
    this.#cancelSeal()
    await this.#going
  }

  #sealLater(): void {
    this.#cancelSeal()
    if (this.#closed) return
    this.#cancelSeal = this.#clock.after(this.#sealAfterMs, () => {
      if (this.#closed) return
      // A seal that fails is found out by the next write: the log has failed then.
      this.#going = this.#going.then(() => this.#hooks.append([])).catch(() => undefined)
    })
  }
}
