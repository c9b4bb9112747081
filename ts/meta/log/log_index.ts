/**
 * What a log holds, in memory: which entries are in force and in which files they lie, term and vote, without I/O.
 *
 * Records come in the order of the log. An entry (commands, membership) has the index behind the last one, or, in a
 * replicated log, replaces everything at and after its index; a start replaces everything. Terms of the entries in
 * force do not descend, so they are kept as runs; term and index together name an entry for good, and two records
 * with both the same are the same.
 */
import { decodeVote, RECORD_CHANGE_V1, RECORD_COMMANDS, RECORD_HARD_STATE, RECORD_START } from './frame.js'
import type { LogRecord } from './frame.js'

/** Term and vote of a replica, and the index up to which it knows the log to be committed. */
export interface LogHardState {
  term: number
  vote: number
  commit: number
}

export interface FileInfo {
  number: number
  bytes: number
  /** Index of the first and last entry in force that lies here, 0 when none does. */
  first: number
  last: number
}

interface TermRun {
  from: number
  term: number
}

/** Acknowledged records of this copy are damaged. */
export class LogCorrupt extends Error {}

export function isEntry({ type }: LogRecord): boolean {
  return type >= RECORD_COMMANDS && type <= RECORD_CHANGE_V1
}

export class LogIndex {
  readonly replicated: boolean
  files: FileInfo[] = []
  /** Index of the first entry kept, of the next one when there is none; 0 when nothing is known. */
  first = 0
  last = 0
  hardState: LogHardState | undefined
  /** The entry before the first, as far as the log says it. */
  start: { index: number; term: number } | undefined
  #runs: TermRun[] = []

  constructor(replicated: boolean) {
    this.replicated = replicated
  }

  get isEmpty(): boolean {
    return this.first === 0 || this.last < this.first
  }

  get lastTerm(): number {
    return this.isEmpty ? (this.start?.term ?? 0) : (this.#runs.at(-1)?.term ?? 0)
  }

  /** The term of an entry in force, or of the one before the first where that is known. */
  term(index: number): number | undefined {
    if (index === this.start?.index) return this.start.term
    if (this.first === 0 || index < this.first || index > this.last) return undefined
    let low = 0
    let high = this.#runs.length - 1
    while (low < high) {
      const middle = (low + high + 1) >> 1
      if ((this.#runs[middle] as TermRun).from <= index) low = middle
      else high = middle - 1
    }
    return this.#runs[low]?.term
  }

  startAt(index: number): void {
    if (!this.isEmpty) throw new Error('the log has records')
    this.first = index
    this.last = index - 1
  }

  /** Why a record cannot come next, in words; undefined when it can. */
  refusal(record: LogRecord): string | undefined {
    if (!isEntry(record)) {
      const known = record.type === RECORD_HARD_STATE || record.type === RECORD_START
      return this.replicated && known ? undefined : `a record has the unknown type ${String(record.type)}`
    }
    if (this.first === 0 || record.index === this.last + 1) return undefined
    if (this.replicated && record.index >= this.first && record.index <= this.last) return undefined
    return `record ${String(record.index)} is out of order`
  }

  /**
   * Takes a record of the newest file. At opening, with earlier files released, what is replaced may begin before
   * anything that is still here.
   */
  take(record: LogRecord): void {
    if (record.type === RECORD_HARD_STATE) {
      this.hardState = { term: record.term, vote: decodeVote(record), commit: record.index }
    } else if (record.type === RECORD_START) {
      for (const file of this.files) file.first = file.last = 0
      this.#runs = []
      this.first = record.index + 1
      this.last = record.index
      this.start = { index: record.index, term: record.term }
    } else {
      this.#takeEntry(record)
    }
  }

  /** Forgets files from the front. */
  drop(count: number): void {
    this.files = this.files.slice(count)
    const first = this.files.find((file) => file.first !== 0)?.first ?? this.last + 1
    if (first > this.first) {
      const term = this.term(first - 1)
      this.start = term === undefined ? undefined : { index: first - 1, term }
      this.first = first
    }
    const past = this.#runs.findLastIndex(({ from }) => from <= first)
    if (past > 0) this.#runs = this.#runs.slice(past)
  }

  #takeEntry({ index, term }: LogRecord): void {
    if (this.first === 0) this.first = index
    else if (index <= this.last) this.#truncate(index)
    const run = this.#runs.at(-1)
    if (run?.term !== term) this.#runs.push({ from: index, term })
    const file = this.files.at(-1) as FileInfo
    if (file.first === 0) file.first = index
    file.last = index
    this.last = index
  }

  #truncate(index: number): void {
    for (const file of this.files) {
      if (file.first >= index) file.first = file.last = 0
      else if (file.last >= index) file.last = index - 1
    }
    while ((this.#runs.at(-1)?.from ?? -1) >= index) this.#runs.pop()
    if (index < this.first) {
      this.first = index
      this.start = undefined
    }
    this.last = index - 1
  }
}
